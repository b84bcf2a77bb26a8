"""Findings on how large the values are: over the depth, between layers, between groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from wstrack.analysis.cutoffs import FINDING_P, SMALLEST_RATIO
from wstrack.analysis.findings.words import Finding, Numbers, batches, beyond_slow_noise, chance, names, number, times
from wstrack.analysis.medians import medians, quantiles, ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wstrack.analysis.groups import Groups

__all__ = ["depth", "groups", "spread"]

_SMALLEST_RHO, _ORDERED = 0.3, 0.9  # of a tendency; of layers that are in order but for a few
_FEWEST_STRETCHES = 5
_FAR = 2.0  # times the median layer
_EXACT_FROM = 20  # layers; below it the usual approximation of the p-value of a rank correlation is too bold


def depth(values: pd.DataFrame, noun: str) -> Finding | None:
    """Whether the level grows or falls from the first layer to the last; frozen layers have none."""
    level = np.asarray(medians(values), dtype=np.float64)
    level = level[level > 0] if noun == "change" else level
    layers = len(level)
    if layers < 4 or np.ptp(level) == 0:
        return None
    rho, p = (float(number) for number in stats.spearmanr(np.arange(layers), level))
    if layers < _EXACT_FROM:
        p = _permutation_p(level)
    if p >= FINDING_P or abs(rho) < _SMALLEST_RHO or _turns(level, rho):
        return None
    trend, size = ("grow", "larger") if rho > 0 else ("fall", "smaller")
    text = f"The {noun} tends to {trend} with depth: later layers more often than not have a {size} median {noun}"
    if abs(rho) >= _ORDERED:
        text = f"The {noun} {trend}s with depth: the later a layer, the {size} its median {noun}"
    return Finding(
        "depth",
        f"{text} (Spearman rank correlation {number(rho)} over {layers} layers, {chance(p)}).",
        "heatmap",
        {"rho": rho, "p": p, "layers": layers},
    )


def spread(values: pd.DataFrame, noun: str) -> Finding | None:
    """Which layers have the highest and the lowest level, and which others are far from the most."""
    level = medians(values)
    most, least = level.max(), level.min()
    if most == least or (least > 0 and most / least < SMALLEST_RATIO):
        return None
    test, p = _differ(batches(values))
    if not p < FINDING_P:
        test, p = "the two against noise that remembers 98 % from sample to sample", _apart(values, level)
    if not p < FINDING_P:
        return None
    top, bottom = str(level.idxmax()), str(level.idxmin())
    numbers: Numbers = {"most": top, "most_median": most, "least": bottom, "least_median": least, "p": p}
    apart = ""
    if least > 0:
        numbers["ratio"] = most / least
        apart = f", {number(most / least)} times apart"
    far = _far(values)
    named = names(f"{layer} ({times(ratio)})" for layer, ratio in far.items())
    those = f" Twice or more away from the median layer, in three samples of four: {named}." if len(far) else ""
    return Finding(
        "spread",
        f"The {noun} is largest in {top} (median {number(most)}) and smallest in {bottom} ({number(least)}){apart}; "
        f"the layers differ beyond chance ({test}, {chance(p)}).{those}",
        "heatmap",
        numbers | {"far": len(far)},
        tuple(str(layer) for layer in far.index),
    )


def _far(values: pd.DataFrame) -> pd.Series[float]:
    """How many times the median layer of a sample those layers are that are far from it; none if they are the most."""
    moving = values.where(values > 0)
    against = moving.div(medians(moving, "columns"), axis="index")
    low, high = quantiles(against.to_numpy().T, [0.25, 0.75])
    far = (high <= 1 / _FAR) | (low >= _FAR)
    return medians(against)[far] if far.mean() < 0.5 else medians(against)[:0]


def _differ(stretches: pd.DataFrame) -> tuple[str, float]:
    """Whether layers differ in level, the test and its p-value.

    Layers share their course: a decay by a factor of a hundred hides a difference of three in the pooled values, but
    not in the order of the layers stretch by stretch. What stretches still remember of each other, which are few and
    short in a short run, is taken off that test's statistic (the variance of a mean of AR(1) noise).
    """
    complete = stretches.dropna()
    if complete.shape[1] >= 3 and len(complete) >= _FEWEST_STRETCHES:
        ranked = ranks(complete, "columns")
        order = ranked - ranked.mean(axis=0)
        memory = (order[1:] * order[:-1]).sum() / max((order**2).sum(), 1e-300)
        memory = min(max(memory + (1 + 4 * memory) / len(order), 0.0), 0.9)  # Kendall 1954
        statistic = _friedman(ranked) * (1 - memory) / (1 + memory)
        return "Friedman test over stretches of samples", float(stats.chi2.sf(statistic, complete.shape[1] - 1))
    known = (column[~np.isnan(column)] for column in stretches.to_numpy().T)
    return "Kruskal-Wallis test", float(stats.kruskal(*known).pvalue)


def _apart(values: pd.DataFrame, level: pd.Series[float]) -> float:
    """The chance that any two of as many layers of slow noise lie as far apart as the highest and the lowest do."""
    two = values[[level.idxmax(), level.idxmin()]]
    logs = np.log10(two[(two > 0).all(axis="columns")].to_numpy(dtype=np.float64))
    p = beyond_slow_noise(logs[:, 0] - logs[:, 1], np.full(len(logs), 1 / max(len(logs), 1)))
    return min(1.0, p * len(level) * (len(level) - 1) / 2)


def _friedman(ranks: NDArray[np.float64]) -> float:
    """The statistic of Friedman's test from the ranks in each row; SciPy's takes its columns as arguments."""
    rows, columns = ranks.shape
    # Ranks from 1 to n have a variance of n (n + 1) / 12; what ties take of it is the correction for them.
    untied = ((ranks - (columns + 1) / 2) ** 2).sum() / (rows * columns * (columns**2 - 1) / 12)
    between = (ranks.sum(axis=0) ** 2).sum()
    return float((12 / (columns * rows * (columns + 1)) * between - 3 * rows * (columns + 1)) / untied)


def groups(found: Groups, noun: str) -> Finding | None:
    """Which group of layers has the highest and the lowest level."""
    level = found.table["median"].dropna()
    if not found.p < FINDING_P or len(level) < 2:
        return None
    most, least = level.max(), level.min()
    if least > 0 and most / least < SMALLEST_RATIO:
        return None
    top, bottom = str(level.idxmax()), str(level.idxmin())
    sizes = {group: f"{size:,} layer{'' if size == 1 else 's'}" for group, size in found.table["layers"].items()}
    return Finding(
        "groups",
        f"Of the {len(level)} groups (by {found.by}), {top} has the largest {noun} (median {number(most)}, "
        f"{sizes[top]}) and {bottom} the smallest ({number(least)}, {sizes[bottom]}); the groups differ "
        f"beyond chance (Kruskal-Wallis test over layers, {chance(found.p)}).",
        "curves",
        {"most": top, "most_median": most, "least": bottom, "least_median": least, "p": found.p, "groups": len(level)},
    )


def _turns(level: NDArray[np.float64], rho: float) -> bool:
    """Whether the first or the last half of the layers goes the other way: then there is no one trend over all."""
    halves = [level[: len(level) // 2], level[len(level) // 2 :]]
    tests = [stats.spearmanr(np.arange(len(half)), half) for half in halves if len(half) >= 4 and np.ptp(half) > 0]
    return any(other * rho < 0 and p < 0.05 for other, p in tests)


def _permutation_p(level: NDArray[np.float64]) -> float:
    """Two-sided p-value of a rank correlation with depth, from random orders of the layers."""
    ranks = stats.rankdata(level) - (len(level) + 1) / 2
    depth = np.arange(len(level)) - (len(level) - 1) / 2
    orders = np.random.default_rng(0).permuted(np.tile(ranks, (9999, 1)), axis=1)
    observed = abs(depth @ ranks) - 1e-9  # less than any difference between two orders
    return float((1 + (np.abs(orders @ depth) >= observed).sum()) / (1 + len(orders)))
