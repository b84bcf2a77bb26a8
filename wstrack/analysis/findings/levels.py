"""Findings on how large the values are: over the depth, between layers, between groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from wstrack.analysis.findings.words import ALPHA, Finding, Numbers, batches, chance, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wstrack.analysis.groups import Groups

__all__ = ["SMALLEST_RATIO", "depth", "groups", "spread"]

SMALLEST_RATIO = 1.2  # with a thousand layers a change of 2 % is beyond chance and still not worth a sentence
_SMALLEST_RHO = 0.3
_EXACT_FROM = 20  # layers; below it the usual approximation of the p-value of a rank correlation is too bold


def depth(values: pd.DataFrame, noun: str) -> Finding | None:
    """Whether the level grows or falls from the first layer to the last."""
    level = values.median().to_numpy()
    layers = len(level)
    if layers < 4 or np.ptp(level) == 0:
        return None
    rho, p = (float(number) for number in stats.spearmanr(np.arange(layers), level))
    if layers < _EXACT_FROM:
        p = _permutation_p(level)
    if p >= ALPHA or abs(rho) < _SMALLEST_RHO:
        return None
    trend, size = ("grows", "larger") if rho > 0 else ("falls", "smaller")
    return Finding(
        "depth",
        f"The {noun} {trend} with depth: the later a layer, the {size} its median {noun} "
        f"(Spearman rank correlation {number(rho)} over {layers} layers, {chance(p)}).",
        "heatmap",
        {"rho": rho, "p": p, "layers": layers},
    )


def spread(values: pd.DataFrame, noun: str) -> Finding | None:
    """Which layers have the highest and the lowest level."""
    level = values.median()
    most, least = level.max(), level.min()
    if most == least or (least > 0 and most / least < SMALLEST_RATIO):
        return None
    p = float(stats.kruskal(*(column[~np.isnan(column)] for column in batches(values).to_numpy().T)).pvalue)
    if p >= ALPHA:
        return None
    top, bottom = str(level.idxmax()), str(level.idxmin())
    numbers: Numbers = {"most": top, "most_median": most, "least": bottom, "least_median": least, "p": p}
    apart = ""
    if least > 0:
        numbers["ratio"] = most / least
        apart = f", {number(most / least)} times apart"
    return Finding(
        "spread",
        f"The {noun} is largest in {top} (median {number(most)}) and smallest in {bottom} ({number(least)}){apart}; "
        f"the layers differ beyond chance (Kruskal-Wallis test, {chance(p)}).",
        "heatmap",
        numbers,
    )


def groups(found: Groups, noun: str) -> Finding | None:
    """Which group of layers has the highest and the lowest level."""
    level = found.table["median"].dropna()
    if not found.p < ALPHA or len(level) < 2:
        return None
    most, least = level.max(), level.min()
    if least > 0 and most / least < SMALLEST_RATIO:
        return None
    top, bottom = str(level.idxmax()), str(level.idxmin())
    sizes = found.table["layers"]
    return Finding(
        "groups",
        f"Of the {len(level)} groups (by {found.by}), {top} has the largest {noun} (median {number(most)}, "
        f"{sizes[top]} layers) and {bottom} the smallest ({number(least)}, {sizes[bottom]} layers); the groups differ "
        f"beyond chance (Kruskal-Wallis test over layers, {chance(found.p)}).",
        "curves",
        {"most": top, "most_median": most, "least": bottom, "least_median": least, "p": found.p, "groups": len(level)},
    )


def _permutation_p(level: NDArray[np.float64]) -> float:
    """Two-sided p-value of a rank correlation with depth, from random orders of the layers."""
    ranks = stats.rankdata(level) - (len(level) + 1) / 2
    depth = np.arange(len(level)) - (len(level) - 1) / 2
    orders = np.random.default_rng(0).permuted(np.tile(ranks, (9999, 1)), axis=1)
    observed = abs(depth @ ranks) - 1e-9  # less than any difference between two orders
    return float((1 + (np.abs(orders @ depth) >= observed).sum()) / (1 + len(orders)))
