"""The finding on layers in which few parts do most of the learning, though all are made alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from wstrack.analysis.called import noun_of, place_of, weight_of
from wstrack.analysis.cutoffs import FINDING_P
from wstrack.analysis.findings.words import Finding, Numbers, batches, chance, holm, names, number
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
    would have it (binomial test, times the number of parts, Holm over layers).

    Args:
        parts: of a run.
        told: parts that are idle, which is told of them.
    """
    found: dict[str, pd.Series[float]] = {}  # by layer, the mean change of each part, the largest first
    p = []
    for layer in map(str, parts.table.index):
        inside = [part for part in parts.inside(layer) if part not in told]
        values = parts.series[inside].where(np.isfinite(parts.series[inside])).dropna(how="all")
        numbered = all(parts.label(part).isdecimal() for part in inside)
        if numbered and len(inside) >= _FEWEST_PARTS and len(values) >= _FEWEST:
            found[layer] = values.mean().dropna().sort_values(ascending=False)
            p.append(_chance(batches(values)))
    beyond = dict(zip(found, holm(np.array(p)), strict=True))
    those = {layer: gini(means.to_numpy()) for layer, means in found.items() if beyond[layer] < FINDING_P}
    those = {layer: coefficient for layer, coefficient in those.items() if coefficient >= _FAR}
    if not those:
        return None
    everywhere = list(map(str, parts.table.index))
    said = [_said(parts, layer, found[layer], coefficient, everywhere) for layer, coefficient in those.items()]
    p_most = float(max(beyond[layer] for layer in those))
    numbers: Numbers = {"unequal": len(those), "layers": len(found), "gini": max(those.values()), "p": p_most}
    text = (
        f"Few parts have most of the change in {len(those):,} of {len(found):,} layers with parts that are made alike: "
        f"{names(said)} (binomial test of how many stretches of samples one of them is ahead in, Holm over layers, "
        f"{chance(p_most)} at most)."
    )
    return Finding("unequal", text, "parts", numbers, tuple(those))


def _chance(stretches: pd.DataFrame) -> float:
    """The chance that any of the parts is ahead of all others in so many stretches."""
    known = stretches.dropna(how="all")
    if known.empty:
        return 1.0
    ahead = int(known.idxmax(axis="columns").value_counts().iloc[0])
    parts = known.shape[1]
    return min(1.0, parts * float(stats.binom.sf(ahead - 1, len(known), 1 / parts)))


def _said(parts: Parts, layer: str, means: pd.Series[float], coefficient: float, everywhere: Sequence[str]) -> str:
    """Which of its parts have at least half of the change."""
    share = (means / means.sum()).cumsum()
    most = int((share < _MOST).sum()) + 1
    labels = sorted(map(parts.label, map(str, means.index[:most])), key=int)
    where = place_of(layer, everywhere)
    return (
        f"in {where} ({weight_of(layer)}) {most} of {len(means)} {noun_of(layer)}s "
        f"({names(labels)}) {'have' if most > 1 else 'has'} {100 * float(share.iloc[most - 1]):.0f} % of it "
        f"(Gini coefficient {number(coefficient)})"
    )
