"""What the curves say, in sentences: each only when the data carry it, with its numbers and the test behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import stats

from wstrack.analysis.cluster import NOISE, Clustering

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wstrack.analysis.stability import Stability

__all__ = ["Finding", "findings"]

# Of each test: two of them speak up on pure noise in fewer than one run of twenty, and seven layers can pass.
ALPHA = 0.016
_SMALLEST_RHO = 0.3
_SMALLEST_RATIO = 1.2  # with a thousand layers a change of 2 % is beyond chance and still not worth a sentence
_STOPPED = 0.01
_SHORTEST_THIRD = 4  # samples; with fewer a layer seems to have stopped by chance
_MOST_NAMED = 8
_EXACT_FROM = 20  # layers; below it the usual approximation of the p-value of a rank correlation is too bold

Figure = Literal["heatmap", "curves", "plane", "k"]
Numbers = dict[str, float | str | int]

_VERDICTS = {
    "stable": ", and they are stable",
    "shaky": ", but they are shaky",
    "not stable": ", but they are not stable",
}


@dataclass(frozen=True)
class Finding:
    """One thing to know about a run.

    Attributes:
        kind: "depth", "spread", "course", "clusters" or "stopped".
        text: for people; plain text with layer names as they are, lines separated by newlines.
        figure: the figure that shows it: "heatmap", "curves", "plane" or "k".
        numbers: the numbers of the text, unrounded.
    """

    kind: str
    text: str
    figure: Figure
    numbers: Numbers


def findings(
    series: pd.DataFrame,
    clustering: Clustering,
    stability: Stability | None,
    *,
    metric: str,
    intervals: pd.Series[int] | None = None,
) -> list[Finding]:
    """What can be said about the layers of a run, in the order: depth, spread, course, clusters, stopped.

    Early and late are the first and the last third of the samples; a layer's level is its median. On pure noise the
    depth, course and stopped findings stay silent in at least 95 % of runs.

    Args:
        series: as it was logged (`Run.series[metric]`): index = step, columns = layers in model order.
        clustering: of these layers.
        stability: of the clustering, or None where it could not be told.
        metric: its name; for the `rwc` metrics the texts say "change", for others "value".
        intervals: by step, how many optimizer steps the sample spans (`Run.intervals`). Where they differ between
            early and late, the `rwc` of the two cannot be compared, and the course is not judged.

    Example:
        >>> from wstrack.analysis import cluster, prepare
        >>> steps = np.arange(1, 13)
        >>> series = pd.DataFrame({f"layer{depth}": 10.0**depth / steps for depth in range(8)}, index=steps)
        >>> found = findings(series, cluster(prepare(series).values, k=2), None, metric="rwc")
        >>> [finding.kind for finding in found]
        ['depth', 'spread', 'course', 'clusters']
        >>> print(found[0].text.partition(":")[0])
        The change grows with depth
    """
    values = series.where(np.isfinite(series)).dropna(axis="columns", how="all")
    if values.empty:
        return []
    noun = "change" if metric.startswith("rwc") else "value"
    comparable = (values.min() >= 0).all() and _same_intervals(series.index, metric, intervals)
    course = _early_and_late(values) if comparable else None
    found = [
        _depth(values, noun),
        _spread(values, noun),
        None if course is None else _course(course, noun),
        _clusters(values, course, clustering, stability, noun),
        None if course is None else _stopped(values, course, noun),
    ]
    return [finding for finding in found if finding]


def _depth(values: pd.DataFrame, noun: str) -> Finding | None:
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
        f"(Spearman rank correlation {_number(rho)} over {layers} layers, {_chance(p)}).",
        "heatmap",
        {"rho": rho, "p": p, "layers": layers},
    )


def _spread(values: pd.DataFrame, noun: str) -> Finding | None:
    """Which layers have the highest and the lowest level."""
    level = values.median()
    most, least = level.max(), level.min()
    if most == least or (least > 0 and most / least < _SMALLEST_RATIO):
        return None
    p = float(stats.kruskal(*(column[~np.isnan(column)] for column in values.to_numpy().T)).pvalue)
    if p >= ALPHA:
        return None
    top, bottom = str(level.idxmax()), str(level.idxmin())
    numbers: Numbers = {"most": top, "most_median": most, "least": bottom, "least_median": least, "p": p}
    apart = ""
    if least > 0:
        numbers["ratio"] = most / least
        apart = f", {_number(most / least)} times apart"
    return Finding(
        "spread",
        f"The {noun} is largest in {top} (median {_number(most)}) and smallest in {bottom} ({_number(least)}){apart}; "
        f"the layers differ beyond chance (Kruskal-Wallis test, {_chance(p)}).",
        "heatmap",
        numbers,
    )


def _course(course: pd.DataFrame, noun: str) -> Finding | None:
    """Whether the layers on the whole slow down or speed up."""
    early, late = course["early"], course["late"]
    ratio = float(course["ratio"].dropna().median())
    if not 0 < ratio < np.inf or max(ratio, 1 / ratio) < _SMALLEST_RATIO:
        return None
    difference = ((late - early) / (late + early)).dropna()  # of the same order as the ratio, and defined for zeros
    p = float(stats.wilcoxon(difference).pvalue)
    if p >= ALPHA:
        return None
    falls, layers = ratio < 1, len(difference)
    count = int((difference < 0 if falls else difference > 0).sum())
    return Finding(
        "course",
        f"The {noun} {'falls' if falls else 'grows'} in the course of training: in the last third of the samples it is "
        f"{_times(ratio)} than in the first (median over layers); {count} of {layers} layers went "
        f"{'down' if falls else 'up'} (Wilcoxon signed-rank test, {_chance(p)}).",
        "curves",
        {"late_to_early": ratio, "layers_with_it": count, "layers": layers, "p": p},
    )


def _clusters(
    values: pd.DataFrame, course: pd.DataFrame | None, clustering: Clustering, stability: Stability | None, noun: str
) -> Finding | None:
    """How many clusters there are, how far to trust them, and what marks each."""
    if clustering.k < 2:
        return None
    numbers: Numbers = {"k": clustering.k}
    lines = [f"The layers form {clustering.k} clusters; how stable they are could not be tested."]
    if stability:
        numbers |= {"agreement": stability.median, "verdict": stability.verdict}
        lines[0] = (
            f"The layers form {clustering.k} clusters{_VERDICTS[stability.verdict]}: clustered anew from two random "
            f"halves of the samples, they agree to {_number(stability.median)} "
            "(adjusted Rand index: 1 = the same clusters, 0 = chance)."
        )
    if np.isfinite(clustering.silhouette):
        numbers["silhouette"] = clustering.silhouette
        lines[0] += f" Silhouette {_number(clustering.silhouette)} (1 = far apart, 0 = touching)."
    level = values.median()
    for cluster in range(1, min(clustering.k, _MOST_NAMED) + 1):
        members = clustering.labels.index[clustering.labels == cluster]
        median = float(level[members].median())
        numbers |= {f"cluster_{cluster}_layers": len(members), f"cluster_{cluster}_median": median}
        line = f"Cluster {cluster}: {members[0]}"
        if len(members) > 1:
            line = f"Cluster {cluster}: {len(members)} layers between {members[0]} and {members[-1]}"
        line += f", median {noun} {_number(median)}"
        ratio = float(course["ratio"][members].dropna().median()) if course is not None else np.nan
        if 0 < ratio < np.inf:
            numbers[f"cluster_{cluster}_late_to_early"] = ratio
            line += ", about the same late as early" if 0.9 < ratio < 1.1 else f", {_times(ratio)} late than early"
        lines.append(f"{line}.")
    if clustering.k > _MOST_NAMED:
        lines.append(f"And {clustering.k - _MOST_NAMED} clusters more.")
    noise = int((clustering.labels == NOISE).sum())
    if noise:
        numbers["noise_layers"] = noise
        lines.append(f"{noise} layers belong to none (noise).")
    return Finding("clusters", "\n".join(lines), "plane", numbers)


def _stopped(values: pd.DataFrame, course: pd.DataFrame, noun: str) -> Finding | None:
    """Which layers stay next to zero from some step on to the end."""
    limit = _STOPPED * course["early"]
    large = (values >= limit).to_numpy()
    samples = len(values)
    # The sample after the last large one.
    since = pd.Series(samples - np.argmax(large[::-1], axis=0), index=values.columns)
    small = (limit > 0) & course["late"].notna() & (since <= samples - samples // 3)
    if not small.any():
        return None
    steps = values.index.to_numpy()[since[small]]
    named = [f"{name} (since step {step})" for name, step in zip(values.columns[small], steps, strict=True)]
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    what = "all but stopped" if noun == "change" else "all but vanished"
    return Finding(
        "stopped",
        f"{len(named)} of {len(small)} layers {what}: to the end, the {noun} stays below 1 % of the layer's own median "
        f"in the first third of the samples: {', '.join(named[:_MOST_NAMED])}{more}.",
        "curves",
        {"stopped": len(named), "layers": len(small), "first_step": int(steps.min())},
    )


def _early_and_late(values: pd.DataFrame) -> pd.DataFrame | None:
    """By layer, the median of the first and of the last third of the samples, and late / early; None if too few."""
    third = len(values) // 3
    if third < _SHORTEST_THIRD:
        return None
    course = pd.DataFrame({"early": values.iloc[:third].median(), "late": values.iloc[-third:].median()})
    return course.assign(ratio=course["late"] / course["early"])


def _same_intervals(steps: pd.Index, metric: str, intervals: pd.Series[int] | None) -> bool:
    """Whether early and late samples span as many steps: a k-step change is not k one-step changes."""
    if intervals is None or not metric.startswith("rwc"):
        return True
    spans = intervals.reindex(steps).dropna()
    third = len(steps) // 3
    return bool(spans.empty or spans.iloc[:third].median() == spans.iloc[-third:].median())


def _permutation_p(level: NDArray[np.float64]) -> float:
    """Two-sided p-value of a rank correlation with depth, from random orders of the layers."""
    ranks = stats.rankdata(level) - (len(level) + 1) / 2
    depth = np.arange(len(level)) - (len(level) - 1) / 2
    orders = np.random.default_rng(0).permuted(np.tile(ranks, (9999, 1)), axis=1)
    observed = abs(depth @ ranks) - 1e-9  # less than any difference between two orders
    return float((1 + (np.abs(orders @ depth) >= observed).sum()) / (1 + len(orders)))


def _times(ratio: float) -> str:
    """A ratio in words."""
    return f"{_number(1 / ratio)} times smaller" if ratio < 1 else f"{_number(ratio)} times larger"


def _number(value: float) -> str:
    return f"{value:.3g}"


def _chance(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {_number(p)}"
