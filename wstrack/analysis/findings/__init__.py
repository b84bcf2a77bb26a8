"""What the curves say, in sentences: each only when the data carry it, with its numbers and the test behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from wstrack.analysis.findings import (
    apart,
    bursts,
    clusters,
    course,
    expected,
    health,
    idle,
    kin,
    layout,
    levels,
    oddities,
    rates,
    saved,
    swallowed,
    unequal,
)
from wstrack.analysis.findings.alerts import alerted
from wstrack.analysis.findings.runs import differences, trends, unlike_others
from wstrack.analysis.findings.words import Finding
from wstrack.analysis.intervals import comparable_steps
from wstrack.analysis.parts import on_one_level, parts_of
from wstrack.analysis.thirds import early_and_late

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wstrack.analysis.clustering import Clustering
    from wstrack.analysis.comparison import Comparison
    from wstrack.analysis.cut import Cut
    from wstrack.analysis.groups import Groups
    from wstrack.analysis.parts import Parts
    from wstrack.analysis.phases import Phases
    from wstrack.analysis.schedule import Schedule
    from wstrack.analysis.slopes import Slopes
    from wstrack.analysis.stability import Stability
    from wstrack.analysis.tree import Tree
    from wstrack.runs.run import Run

__all__ = ["Finding", "collect_findings", "collect_first", "collect_of_parts"]


def collect_findings(
    series: pd.DataFrame,
    clustering: Clustering,
    stability: Stability | None,
    *,
    metric: str,
    thirds: pd.DataFrame | None = None,
    intervals: pd.Series[int] | None = None,
    phases: Phases | None = None,
    groups: Groups | None = None,
    comparison: Comparison | None = None,
    slopes: Slopes | None = None,
    odd: Mapping[str, str] | None = None,
    cut: Cut | None = None,
    tree: Tree | None = None,
    runs: Sequence[tuple[str, pd.DataFrame]] = (),
    schedule: Schedule | None = None,
    marks: Sequence[tuple[int, str]] = (),
    parts: Parts | None = None,
) -> list[Finding]:
    """What can be said about the layers of a run.

    In this order: what must not be missed (alerts of rules, no finite values from some step on, nothing or a layer
    that does not learn, parts that do not or are cut wrong, layers that stopped or only decay, layers beyond the
    1e-3 rule); the clusters and how far to trust them, branches that stand apart or share a name; differences
    between settings, what goes with one that has numbers, runs unlike the others; phases, what follows the learning
    rate, periods, course, layers against it; depth, spread, groups; unsteady layers, shared spikes, gaps.

    Early and late are the first and the last third of the samples; a layer's level is its median. Each kind is tested
    at 0.005, adjusted for the layers or steps that it looks through; so on pure noise nothing at all is said in at
    least 95 % of runs. Tests over samples take medians of stretches of neighbouring ones, which are not independent.

    Args:
        series: as it was logged (`Run.series[metric]`): index = step, columns = layers in model order.
        clustering: of these layers.
        stability: of the clustering, or None where it could not be told.
        metric: its name; for the `rwc` metrics the texts say "change", for others "value".
        thirds: late over early by layer (`early_and_late`) of the `comparable_steps`; None = told from `series`.
        intervals: by step, how many optimizer steps the sample spans (`Run.intervals`). What is said of the course
            over time and of spikes is from `comparable_steps` alone.
        phases: of `comparable_steps` too.
        groups, comparison, slopes, odd, cut, tree: what those functions gave, where they were asked.
        runs: the name and the series of each of several runs, of which `series` is the mean.
        marks: named steps (`Run.marks`): jumps at one distance that fall on them are told as such.
        parts: the parts of layers (`parts_of`): what is said of them is not said again of layers.
        schedule: the learning rates (`schedule_of`): what of changes follows them is told as such.

    Example:
        >>> from wstrack.analysis import cluster, prepare
        >>> steps = np.arange(1, 31)
        >>> series = pd.DataFrame({f"layer{depth}": 10.0**depth / steps for depth in range(9)}, index=steps)
        >>> found = collect_findings(series, cluster(prepare(series).values, k=2), None, metric="rwc")
        >>> [finding.kind for finding in found]
        ['clusters', 'course', 'depth', 'spread']
        >>> print(found[2].text.partition(":")[0])
        The change grows with depth
    """
    values, over_time, thirds, noun = _told(series, metric, intervals, thirds)
    if values.empty:
        return []
    positive = bool((values.min() >= 0).all())
    schedule = schedule if noun == "change" else None
    general = course.course(over_time, thirds, noun, schedule) if thirds is not None else None
    period = course.period(over_time, phases, noun, schedule, marks)
    turns = rates.turns(over_time, phases, schedule)
    found = [
        *_first(series, metric=metric, intervals=intervals, thirds=thirds, runs=runs, marks=marks, parts=parts),
        clusters.clusters(values, thirds, clustering, stability, noun),
        apart.apart(values, tree, cut, noun) if tree and cut else None,
        kin.kin(values, tree, cut, noun) if tree and cut else None,
        *(differences(comparison, noun) if comparison else ()),
        *(trends(slopes, noun) if slopes else ()),
        unlike_others(odd) if odd else None,
        course.phases(phases, noun, [turn.step for turn in turns]) if phases and len(over_time) else None,
        rates.followed(turns, noun),
        period,
        general,
        course.against(over_time, thirds, general, noun) if thirds is not None else None,
        levels.depth(_by_layer(values, parts, "median"), noun),
        levels.spread(values, noun),
        levels.groups(groups, noun) if groups else None,
        oddities.unstable(values) if positive else None,
        bursts.spikes(over_time, noun, periodic=period is not None),
        oddities.missing(series),
    ]
    return [finding for finding in found if finding]


def collect_first(run: Run, metric: str) -> list[Finding]:
    """What must not be missed of one run, told without a look for clusters, in a tenth of the time.

    Args:
        run: with the metric.
        metric: its name.
    """
    found = [
        health.incomplete([run]),
        *saved.of_checkpoints([run]),
        swallowed.swallowed([run]),
        expected.expected([run]),
    ]
    parts = parts_of([run], metric)
    (run,), _ = on_one_level([run])
    intervals = run.intervals if len(run.intervals) else None
    found += _first(run.series[metric], metric=metric, intervals=intervals, marks=run.marks, parts=parts)
    return [finding for finding in found if finding]


def _told(
    series: pd.DataFrame, metric: str, intervals: pd.Series[int] | None, thirds: pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None, Literal["change", "value"]]:
    """The finite values, those of samples that can be held against each other, their thirds, and the word for one."""
    values = series.where(np.isfinite(series)).dropna(axis="columns", how="all").dropna(how="all")
    noun: Literal["change", "value"] = "change" if metric.startswith("rwc") else "value"
    positive = not values.empty and bool((values.min() >= 0).all())
    over_time = values.loc[comparable_steps(values.index, metric, intervals)] if positive else values[:0]
    if len(over_time) // 3 < course.SHORTEST_THIRD:
        return values, over_time, None, noun
    return values, over_time, early_and_late(over_time) if thirds is None else thirds.loc[values.columns], noun


def _first(
    series: pd.DataFrame,
    *,
    metric: str,
    intervals: pd.Series[int] | None,
    thirds: pd.DataFrame | None = None,
    runs: Sequence[tuple[str, pd.DataFrame]] = (),
    marks: Sequence[tuple[int, str]] = (),
    parts: Parts | None = None,
) -> list[Finding | None]:
    """What must not be missed."""
    values, over_time, thirds, noun = _told(series, metric, intervals, thirds)
    if values.empty:
        return []
    of_parts = collect_of_parts(parts) if parts is not None and parts.each and noun == "change" else []
    # Of layers that are cut these are told as whole ones: which part of them does not learn is told of the parts.
    most = _by_layer(values, parts, "max")
    most_over_time = most.loc[over_time.index]
    ends = thirds if most is values or thirds is None else early_and_late(most_over_time)
    return [
        alerted(marks, list(map(str, series.columns))),
        health.not_finite(runs or [("", series)]),
        saved.changes(values, noun) or health.still(most, noun),
        *of_parts,
        course.stopped(most_over_time, ends, noun) if ends is not None else None,
        health.decay(most_over_time, noun),
        *oddities.rule(_moving(values, parts), intervals, metric),
    ]


def collect_of_parts(parts: Parts) -> list[Finding]:
    """What can be said of the changes of parts: which do not learn, where few do most, where q, k and v are cut wrong.

    Args:
        parts: all of a run (`Parts.each`).
    """
    found = idle.idle(parts)
    told = {part for one in found for part in one.layers}
    return [*found, *filter(None, [unequal.unequal(parts, told), layout.layout(parts, told)])]


def _by_layer(values: pd.DataFrame, parts: Parts | None, how: Literal["max", "median"]) -> pd.DataFrame:
    """With one column for the parts of a layer."""
    layers = [parts.of.get(name, name) for name in values.columns] if parts is not None else values.columns
    return values if len(set(layers)) == len(layers) else values.T.groupby(layers, sort=False).agg(how).T


def _moving(values: pd.DataFrame, parts: Parts | None) -> pd.DataFrame:
    """Without the samples in which a part does not change: that a router did not choose it is no small change."""
    of = values.columns.isin(parts.of.index) if parts is not None else np.zeros(values.shape[1], dtype=bool)
    return values.where((values != 0) | ~of) if of.any() else values
