"""The whole analysis of one or several runs: from their series to what is found in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from wstrack.analysis.alignment import Align, Bands, average
from wstrack.analysis.alignment import align as aligned
from wstrack.analysis.choice import Choice, cluster_layers, compare_clusterings
from wstrack.analysis.clustering import Clustering
from wstrack.analysis.comparison import Comparison
from wstrack.analysis.comparison import compare as compared
from wstrack.analysis.components import Component, describe_components
from wstrack.analysis.cut import Cut, cut_layers
from wstrack.analysis.cutoffs import SMALLEST_RATIO
from wstrack.analysis.equilibrium import Equilibrium, equilibrium_of
from wstrack.analysis.findings import Finding, collect_findings
from wstrack.analysis.findings.expected import expected
from wstrack.analysis.findings.health import incomplete
from wstrack.analysis.findings.saved import of_checkpoints
from wstrack.analysis.findings.swallowed import swallowed
from wstrack.analysis.findings.twins import of_twins
from wstrack.analysis.groups import Groups, group_layers, grouped, kinds
from wstrack.analysis.intervals import comparable_steps
from wstrack.analysis.layers import describe_layers
from wstrack.analysis.measures import agreement
from wstrack.analysis.odd import odd_runs
from wstrack.analysis.parts import Parts, on_one_level, parts_of
from wstrack.analysis.phases import Phases, cluster_phases, find_phases
from wstrack.analysis.preparation import Prepared
from wstrack.analysis.procedure import Procedure
from wstrack.analysis.reduction import Reduction
from wstrack.analysis.schedule import Schedule, schedule_of
from wstrack.analysis.series import aggregated, choose_metric, encodable, matched, names_of, settings_of
from wstrack.analysis.slopes import Slopes, level_of, numbers_of, slopes
from wstrack.analysis.stability import Stability, measure_stability
from wstrack.analysis.thirds import early_and_late
from wstrack.analysis.tree import Tree, grow
from wstrack.errors import WstrackError
from wstrack.metrics import suited_scale
from wstrack.runs.run import Run

__all__ = ["Analysis", "analyse"]


@dataclass(frozen=True, repr=False)
class Analysis:
    """What was analysed and what was found: the numbers behind a report, each computed once.

    Attributes:
        runs: what was analysed; several are averaged. Where layers are cut into parts, these stand in their place, or
            there are whole layers only (`settings["parts"]` says which, and why).
        metric: the metric of `series`.
        series: index = step, columns = layers in model order, before preparation; the mean of several runs.
        procedure: how curves became clusters, with any estimators that the user passed.
        prepared, reduction, clustering: what each of its stages gave.
        cut: the division of the layers that figures show: the clusters, or else the best that can be had.
        tree: the layers joined by likeness, with what holds of it and what stands apart.
        choice: why there are so many clusters; None where their number was given, or found by the method itself.
        stability: how far the clusters hold; None with one cluster or fewer than four steps.
        components: what each of the two components means, in words.
        schedule: the learning rates of the runs; None where they are not known, or not alike.
        equilibrium: the change that weight decay brings normalised layers; None where it is not known to.
        phases: where the courses break off; None where no samples can be held against each other.
        phase_clusters: by layer, a column a phase: its cluster there, numbered as those of the whole; no column with
            one phase or one cluster.
        phase_agreement: by phase, the adjusted Rand index of its clusters with those of the whole.
        parts: what the parts of layers do, beside each other; None where no layer is cut.
        groups: the layers in groups, and with a `group` that was asked for the clusters inside each.
        comparison: with `compare`, what differs between settings.
        slopes: with `by`, how layers go with a setting that has numbers.
        odd: with `by`, the runs that are unlike all others, by name: what is odd about each.
        bands: with several runs, their mean and spread by step and layer.
        methods: with `methods`, every clustering method on the same data.
        table: a row a layer, in model order: kind, shape, numel, depth, block; `cluster`, which is -1 for noise and
            missing for a layer that was not clustered (`left_out` says why); `cut`, likewise; `component_1` and
            `component_2`; `median`, of the finite values; `late_early_ratio`, of the median of the last third of the
            samples over that of the first; `stays`, the share of bootstraps in which it stays with its cluster; with
            groups `group`, and `cluster_in_group` where clusters were looked for.
        findings: what can be said, in words.
        settings: every choice behind the analysis, for people.
        title: what it is called for people; empty where that is the names of the runs.
    """

    runs: tuple[Run, ...]
    metric: str
    series: pd.DataFrame
    procedure: Procedure
    prepared: Prepared
    reduction: Reduction
    clustering: Clustering
    cut: Cut
    tree: Tree
    choice: Choice | None
    stability: Stability | None
    components: list[Component]
    schedule: Schedule | None
    equilibrium: Equilibrium | None
    phases: Phases | None
    phase_clusters: pd.DataFrame
    phase_agreement: pd.Series[float]
    parts: Parts | None
    groups: Groups | None
    comparison: Comparison | None
    slopes: Slopes | None
    odd: dict[str, str]
    bands: Bands | None
    methods: pd.DataFrame | None
    table: pd.DataFrame
    findings: list[Finding]
    settings: dict[str, Any]
    title: str = ""

    @property
    def name(self) -> str:
        """The names of the runs, for people."""
        return ", ".join(run.name for run in self.runs)

    @property
    def logarithmic(self) -> bool:
        """Whether figures show the metric on a log scale."""
        published = self.procedure.preset is not None and bool((self.prepared.values > 0).all(axis=None))
        return self.prepared.settings["scale"] == "log10" or published

    @property
    def marks(self) -> tuple[tuple[int, str], ...]:
        """The named steps that all runs have, among those of the samples; none where runs are stretched."""
        if self.settings["align"] != "step":
            return ()
        shared = set.intersection(*(set(run.marks) for run in self.runs))
        first, last = int(self.series.index[0]), int(self.series.index[-1])
        # One before the first sample is where training begins, or what went before it.
        return tuple(sorted(mark for mark in shared if first <= mark[0] <= last))

    @cached_property
    def curves(self) -> pd.DataFrame:
        """The prepared values back on the metric's own scale: rows = layers, columns = steps."""
        values = self.prepared.values
        return 10.0**values if self.prepared.settings["scale"] == "log10" else values


def analyse(
    runs: Run | Sequence[Run],
    procedure: Procedure | None = None,
    *,
    metric: str | None = None,
    group: str | None = "auto",
    aggregate: str | None = None,
    compare: str | Callable[[Run], str] | None = None,
    by: str | None = None,
    align: Align = "step",
    methods: bool = False,
) -> Analysis:
    """Analyse one run, or the mean of several; `wstrack.report` says what each argument is for.

    Args:
        runs: one run or several.
        procedure: how layers are clustered; its `scale` is chosen by the values where neither it nor a preset says one.
        metric, group, aggregate, compare, by, align, methods: as in `wstrack.report`.

    Raises:
        TypeError: a `group` or `aggregate` that is no text.
        ValueError: an argument that cannot be; the message names the remedy.
        WstrackError: the runs do not fit together, or hold too little to analyse.
    """
    procedure = procedure or Procedure()
    chosen = (runs,) if isinstance(runs, Run) else tuple(runs)
    if not chosen:
        raise ValueError("runs=[] holds no run; pass at least one")
    for argument, given in (("group", group), ("aggregate", aggregate)):
        if given is not None and not isinstance(given, str):
            raise TypeError(
                f"{argument}={given!r} is no text; pass {argument}= (--{argument}) kind, block, stage or a regular "
                "expression; wstrack.analysis.group_layers takes mappings and functions"
            )
    chosen = tuple(encodable(run) for run in chosen)
    metric = choose_metric(chosen, metric)
    parts = parts_of(chosen, metric, align)
    chosen, level = on_one_level(chosen, whole=aggregate is not None)
    if aggregate is not None:
        chosen = tuple(aggregated(run, aggregate, metric) for run in chosen)
    frames, unmatched = matched(chosen, metric, common=compare is not None or by is not None)
    trend, odd = None, dict[str, str]()
    if by is not None:
        values = numbers_of([run.settings for run in chosen], names_of(chosen), by)
        told = chosen[0].layers[["kind", "block"]].reindex(frames[0].columns).fillna("").astype(str)
        levels = pd.DataFrame([level_of(frame) for frame in frames], index=names_of(chosen))
        trend = slopes(levels, values, by=by, kinds=told["kind"].tolist(), blocks=told["block"].tolist())
        odd = odd_runs(levels, [np.log10(values) if trend.logarithmic else values])
    frames = aligned(frames, align)
    bands = average(frames) if len(chosen) > 1 else None
    series = bands.mean if bands else frames[0]
    if procedure.scale is None and procedure.preset is None:
        procedure = replace(procedure, scale=suited_scale(pd.concat(frames).to_numpy(), metric))

    try:
        prepared = procedure.prepare(series)
    except WstrackError as error:
        raise WstrackError(f"{', '.join(run.name for run in chosen)}: {error}") from None
    clustered = cluster_layers(prepared.values, procedure)
    clustering, choice = clustered.clustering, clustered.choice
    # From here on the number of clusters is known: what clusters parts of the same data makes as many.
    fixed = procedure.with_k(clustering.k)
    stability = measure_stability(
        prepared.values,
        fixed,
        runs=_each_alone(frames, procedure, prepared),
        resampling=choice.resampling if choice else None,
    )

    worth_telling = np.log10(SMALLEST_RATIO) if prepared.settings["scale"] == "log10" else 0.0
    tree = grow(prepared.values, least=float(worth_telling))
    cut = cut_layers(prepared.values, procedure, clustered, stability, tree)

    intervals = chosen[0].intervals if len(chosen) == 1 and len(chosen[0].intervals) else None
    analysed = series.index[series.index.isin(prepared.values.columns)]
    comparable = comparable_steps(analysed, metric, intervals)
    finite = series.where(np.isfinite(series))
    thirds = early_and_late(finite.loc[comparable])
    phases = find_phases(prepared.values[comparable], seed=procedure.seed) if len(comparable) else None
    clusters_parts = clustering.k > 1 or not procedure.takes_k
    phase_clusters = pd.DataFrame(index=prepared.values.index)
    if phases is not None and clusters_parts:
        phase_clusters = cluster_phases(prepared.values, phases, clustering.labels, fixed)
    phase_agreement = {str(name): agreement(clustering.labels, column) for name, column in phase_clusters.items()}
    groups = None
    if group == "auto":
        groups = kinds(prepared.values, chosen[0].layers, procedure, series=series, comparable=comparable)
    elif group is not None:
        labels = group_layers(chosen[0].layers, group)
        groups = grouped(prepared.values, labels, procedure, by=group, series=series, comparable=comparable)
    schedule = schedule_of(chosen, series.index) if metric != "lr" else None
    comparison = None
    if compare is not None:
        comparison = compared(settings_of(chosen, frames, compare), fixed if clusters_parts else None)
        comparison = replace(comparison, unmatched=tuple(unmatched))
    all_methods = None
    if methods:
        all_methods = compare_clusterings(prepared.values, replace(fixed, cluster="kmeans", k=max(clustering.k, 2)))
    return Analysis(
        runs=chosen,
        metric=metric,
        series=series,
        procedure=procedure,
        prepared=prepared,
        reduction=clustered.reduction,
        clustering=clustering,
        cut=cut,
        tree=tree,
        choice=choice,
        stability=stability,
        components=describe_components(
            prepared.values, clustered.reduction.points, explained=clustered.reduction.explained
        ),
        schedule=schedule,
        equilibrium=equilibrium_of(chosen, metric, series.index),
        phases=phases,
        phase_clusters=phase_clusters,
        phase_agreement=pd.Series(phase_agreement, dtype=np.float64),
        parts=parts,
        groups=groups,
        comparison=comparison,
        slopes=trend,
        odd=odd,
        bands=bands,
        methods=all_methods,
        table=describe_layers(
            chosen[0].layers, finite, thirds["ratio"], clustered, cut, stability, groups, prepared.dropped
        ),
        findings=[
            *filter(None, [incomplete(chosen), *of_twins(chosen), *of_checkpoints(chosen)]),
            *filter(None, [swallowed(chosen), expected(chosen)]),
            *collect_findings(
                series, clustering, stability, metric=metric, thirds=thirds, intervals=intervals, phases=phases,
                groups=groups, comparison=comparison, slopes=trend, odd=odd, cut=cut, tree=tree,
                runs=[(run.name, frame) for run, frame in zip(chosen, frames, strict=True)], schedule=schedule,
                marks=chosen[0].marks if len(chosen) == 1 else (), parts=parts,
            ),
        ],
        settings={
            "metric": metric,
            "parts": level or None,
            **prepared.settings,
            "preset": procedure.preset,
            "reduce": str(procedure.reduce),
            "cluster": str(procedure.cluster),
            "cluster_on": procedure.cluster_on,
            "k": procedure.k,
            "group": group,
            "aggregate": aggregate,
            "compare": compare if compare is None or isinstance(compare, str) else "a function of the run",
            "by": by,
            "align": align,
            "seed": procedure.seed,
        },
    )  # fmt: skip


def _each_alone(frames: Sequence[pd.DataFrame], procedure: Procedure, prepared: Prepared) -> list[pd.DataFrame]:
    """The values of each of several runs, of those that hold enough to be clustered alone."""
    layers = prepared.values.index
    alone = []
    for frame in frames if len(frames) > 1 else ():
        try:
            values = procedure.prepare(frame).values
        except WstrackError:  # it is in the mean all the same
            continue
        if set(layers) <= set(values.index) and values.shape[1] > 1:
            alone.append(values.reindex(layers))
    return alone
