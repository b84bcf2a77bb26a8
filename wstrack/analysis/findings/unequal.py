"""The finding on layers in which few parts do most of the learning, though all are made alike."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
from scipy import stats

from wstrack.analysis.called import noun_of, place_of, weight_of
from wstrack.analysis.cutoffs import FINDING_P
from wstrack.analysis.findings.words import Finding, Numbers, batches, chance, names, number
from wstrack.analysis.parts import Parts, gini

__all__ = ["unequal"]

_FAR = (
    0.85  # Gini coefficient; in sound trainings, also with SGD, single steps and 32 unbalanced experts, it comes to 0.8
)
_MOST = 0.8  # of the change, that the parts which are named have
_FEWEST_PARTS, _FEWEST = 4, 12  # parts; samples


def unequal(parts: Parts, told: Collection[str] = ()) -> Finding | None:
    """In which layers few of the experts (or of other numbered parts) have most of the change.

    Parts that are numbered are made alike and differ by what reaches them; q, k and v do not. The Gini coefficient of
    their mean changes must be 0.85 or more, and one of them must have the most in more stretches of samples than chance
    would have it (binomial test, Bonferroni over parts and layers).

    Args:
        parts: of a run.
        told: parts that are idle, which is told of them.
    """
    alike = {layer: [part for part in parts.inside(layer) if part not in told] for layer in map(str, parts.table.index)}
    alike = {
        layer: inside
        for layer, inside in alike.items()
        if len(inside) >= _FEWEST_PARTS and all(parts.label(part).isdecimal() for part in inside)
    }
    said: dict[str, str] = {}
    p, largest = 0.0, 0.0
    for layer, inside in alike.items():
        values = parts.series[inside].where(np.isfinite(parts.series[inside])).dropna(how="all")
        means = values.mean().dropna().sort_values(ascending=False)
        coefficient = gini(means.to_numpy())
        if not coefficient >= _FAR or len(values) < _FEWEST:
            continue
        chance_of_it = len(alike) * _chance(batches(values))
        if chance_of_it < FINDING_P:
            said[layer] = _said(parts, layer, means, coefficient)
            p, largest = max(p, chance_of_it), max(largest, coefficient)
    if not said:
        return None
    numbers: Numbers = {"unequal": len(said), "layers": len(alike), "gini": largest, "p": p}
    text = (
        f"Few parts have most of the change in {len(said):,} of {len(alike):,} layers with parts that are made alike: "
        f"{names(said.values())} (binomial test of how many stretches of samples one of them is ahead in, Bonferroni "
        f"over layers, {chance(p)} at most)."
    )
    return Finding("unequal", text, "parts", numbers, tuple(said))


def _chance(stretches: pd.DataFrame) -> float:
    """The chance that any of the parts is ahead of all others in so many stretches."""
    known = stretches.dropna(how="all")
    if known.empty:
        return 1.0
    ahead = int(known.idxmax(axis="columns").value_counts().iloc[0])
    parts = known.shape[1]
    return min(1.0, parts * float(stats.binom.sf(ahead - 1, len(known), 1 / parts)))


def _said(parts: Parts, layer: str, means: pd.Series[float], coefficient: float) -> str:
    """Which of its parts have at least half of the change."""
    share = (means / means.sum()).cumsum()
    most = int((share < _MOST).sum()) + 1
    labels = sorted(map(parts.label, map(str, means.index[:most])), key=int)
    where = place_of(layer, map(str, parts.table.index))
    return (
        f"in {where} ({weight_of(layer)}) {most} of {len(means)} {noun_of(layer)}s "
        f"({names(labels)}) {'have' if most > 1 else 'has'} {100 * float(share.iloc[most - 1]):.0f} % of it "
        f"(Gini coefficient {number(coefficient)})"
    )
