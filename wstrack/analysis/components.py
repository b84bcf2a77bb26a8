"""What a component of a reduction means, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from wstrack.analysis.medians import middles

__all__ = ["Component", "describe_components"]

_CLEAR = 0.7  # half of the variance in common
_SLIGHT = 0.01  # of the variance: what has less is the rest, whatever it goes along with


@dataclass(frozen=True)
class Component:
    """One axis of the plane.

    Attributes:
        name: "component_1" or "component_2".
        explained: the share of the variance, or None where the method does not say.
        meaning: the plain quantity that it follows most closely, or "" if none does with a rank correlation of 0.7, or
            if the component has less than 1 % of the variance.
        correlation: the Spearman rank correlation with that quantity (with the closest, where `meaning` is empty).
        correlations: with every quantity.
    """

    name: str
    explained: float | None
    meaning: str
    correlation: float
    correlations: dict[str, float]


def describe_components(
    values: pd.DataFrame, points: pd.DataFrame, *, explained: tuple[float, ...] | None = None
) -> list[Component]:
    """Say what each component of the points follows: the level of a layer's curve, its slope, a late rise, ...

    Thirds are of the samples; a curve's fluctuation is the median distance between neighbouring samples.

    Args:
        values: rows = layers in model order, columns = steps, finite (`Prepared.values`).
        points: of the same layers (`Reduction.points`).
        explained: `Reduction.explained`.

    Example:
        >>> values = pd.DataFrame(np.arange(6.0)[:, None] + np.zeros((6, 9)))
        >>> points = pd.DataFrame({"component_1": -np.arange(6.0), "component_2": np.zeros(6)})
        >>> [(one.meaning, one.correlation) for one in describe_components(values, points)]
        [('level', -1.0), ('', 0.0)]
    """
    third = -(-values.shape[1] // 3)
    curves = values.to_numpy(dtype=np.float64)
    early, late = curves[:, :third].mean(axis=1), curves[:, -third:].mean(axis=1)
    middle = curves[:, third:-third].mean(axis=1) if values.shape[1] > 2 * third else (early + late) / 2
    quantities = {
        "level": curves.mean(axis=1),
        "slope (late above early)": late - early,
        "late rise (last third above the middle)": late - middle,
        "early height (first third above the middle)": early - middle,
        "hump (middle above both ends)": middle - (early + late) / 2,
        "fluctuation": middles(np.abs(np.diff(curves, axis=1))) if values.shape[1] > 1 else 0 * early,
        "depth": np.arange(len(curves), dtype=np.float64),
    }
    ranks = pd.DataFrame(quantities, index=values.index).round(12).rank()
    found = []
    for place, name in enumerate(points.columns):
        ours = points[name].round(12).rank()
        known = {q: 0.0 if ours.std() == 0 or ranks[q].std() == 0 else float(ours.corr(ranks[q])) for q in quantities}
        # Of quantities that go together the first, and plainest, speaks.
        best = max(known, key=lambda quantity: round(abs(known[quantity]), 2))
        share = explained[place] if explained and place < len(explained) else None
        clear = abs(known[best]) >= _CLEAR and (share is None or share >= _SLIGHT)
        found.append(Component(str(name), share, best if clear else "", known[best], known))
    return found
