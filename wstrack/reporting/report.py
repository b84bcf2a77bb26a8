"""From runs to a report: one page, one JSON, one table.

`wstrack.report` is at once this package and, to its callers, the function below; so nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from wstrack.reporting.result import Report
    from wstrack.runs.run import Run

__all__ = ["report"]


def report(
    runs: Run | Sequence[Run],
    *,
    metric: str | None = None,
    reduce: Any = "pca",
    cluster: Any = "kmeans",
    k: int | Literal["auto", "stability", "gap", "silhouette"] = "auto",
    cluster_on: Literal["plane", "curves"] = "plane",
    group: str | None = None,
    aggregate: str | None = None,
    compare: str | Callable[[Run], str] | None = None,
    align: Literal["step", "share"] = "step",
    scale: Literal["log10", "linear"] | None = None,
    outliers: Literal["2sd", "spikes"] | None = None,
    preset: Literal["weightscale"] | None = None,
    seed: int = 0,
) -> Report:
    """Which layers of a run move together, and how sure one can be of it.

    Args:
        runs: one run, or several, which are averaged step by step (as the paper averages seeds).
        metric: what to report on; by default `rwc`, or the first metric of the run where there is no `rwc`.
        reduce: "pca", "svd", "nmf", "isomap", "tsne", "umap" or a scikit-learn transformer: how a layer's curve becomes
            a point on the plane.
        cluster: "kmeans", "kmedoids", "ward", "gmm", "spectral", "dbscan", "hdbscan", "meanshift", or a scikit-learn
            clusterer.
        k: the number of clusters. "auto" is "stability": the k that stands out furthest from data without clusters, or
            one cluster if none does; or "gap", or "silhouette" (`wstrack.analysis.choose`).
        cluster_on: "plane" clusters the two components, "curves" the whole curves.
        group: also look at the layers by "kind", "block", "stage" or a regular expression, and cluster inside each
            group (`wstrack.analysis.group_layers`).
        aggregate: report on blocks instead of layers: likewise "block", "stage", "kind" or a regular expression. What
            changed in all layers of a block over what they all were, exactly, from the raw sums of the recording;
            runs without one are refused.
        compare: also hold the runs against each other: by the name of a fact (`Run.facts`), such as a data set; by
            "run", each by itself; or by a function of the run that names its setting. The first run's setting is the
            reference; runs of one setting are its seeds. Layers that not all runs have are left out, and named.
        align: "step", or "share" stretches runs of different length onto the longest (`wstrack.analysis.align`).
        scale: "log10" or "linear"; by default log10 where the metric allows it and no preset is asked for.
        outliers: "2sd" replaces what is further than two standard deviations from its layer's mean, "spikes" single
            samples far from their neighbours.
        preset: "weightscale" is the published procedure of WeightScale (arXiv 2107.07005).
        seed: of everything that is random; the same seed gives the same report.

    Raises:
        TypeError: a `group` or `aggregate` that is no text.
        ValueError: an argument that cannot be; the message names the remedy.
        WstrackError: the runs do not fit together, or hold too little to report on.

    Example:
        >>> import numpy as np
        >>> from wstrack.runs.run import Layer, Manifest, Run
        >>> layers = tuple(Layer(f"{name}.weight") for name in "abcdef")
        >>> values = np.geomspace(1e-3, 1e-1, 6) * np.linspace(2, 1, 20)[:, None]
        >>> run = Run.from_values(Manifest("demo", layers, ("rwc",), every=10), range(10, 210, 10), {"rwc": values})
        >>> found = report(run, k=2)
        >>> [cluster["layers"] for cluster in found.to_dict()["clusters"]]
        [['a.weight', 'b.weight', 'c.weight'], ['d.weight', 'e.weight', 'f.weight']]
    """
    import pandas as pd

    from wstrack import analysis
    from wstrack.analysis.resampling import Procedure
    from wstrack.analysis.series import aggregated, choose_metric, matched, settings_of, suited_scale
    from wstrack.errors import WstrackError
    from wstrack.reporting.result import Report
    from wstrack.runs.run import Run

    chosen = (runs,) if isinstance(runs, Run) else tuple(runs)
    if not chosen:
        raise ValueError("runs=[] holds no run; pass at least one")
    if cluster_on not in ("plane", "curves"):
        raise ValueError(f"unknown cluster_on {cluster_on!r}; pass cluster_on= (--cluster-on) one of: plane, curves")
    for argument, given in (("group", group), ("aggregate", aggregate)):
        if given is not None and not isinstance(given, str):
            raise TypeError(
                f"{argument}={given!r} is no text; pass {argument}= (--{argument}) kind, block, stage or a regular "
                "expression; wstrack.analysis.group_layers takes mappings and functions"
            )
    chosen = tuple(_encodable(run) for run in chosen)
    metric = choose_metric(chosen, metric)
    if aggregate is not None:
        chosen = tuple(aggregated(run, aggregate, metric) for run in chosen)
    frames, unmatched = matched(chosen, metric, common=compare is not None)
    frames = analysis.align(frames, align)
    bands = analysis.average(frames) if len(chosen) > 1 else None
    series = bands.mean if bands else frames[0]
    if scale is None and preset is None:
        scale = suited_scale(pd.concat(frames), metric)

    try:
        prepared = analysis.prepare(series, scale=scale, outliers=outliers, preset=preset)
    except WstrackError as error:
        raise WstrackError(f"{', '.join(run.name for run in chosen)}: {error}") from None
    reduction = analysis.reduce(prepared.values, reduce, seed=seed)
    space = reduction.points if cluster_on == "plane" else prepared.values
    choice = None
    wanted: int | Literal["auto"] = "auto"
    if isinstance(k, int):
        wanted = k
    elif analysis.takes_k(cluster):
        by: Literal["stability", "gap", "silhouette"] = "stability" if k == "auto" else k
        choice = analysis.choose(prepared.values, by=by, on=cluster_on, reduce=reduce, cluster=cluster, seed=seed)
        wanted = choice.k
    elif k != "auto":
        raise ValueError(f"k={k!r}: {cluster!r} finds its own number of clusters; leave out k= (--k)")
    clustering = analysis.cluster(space, cluster, k=wanted, seed=seed)
    if choice:
        clustering = dataclasses.replace(clustering, chosen=choice.words)
    each = []
    for one in frames if len(frames) > 1 else ():
        with contextlib.suppress(WstrackError):  # what is too little to be clustered alone is in the mean all the same
            alone = analysis.prepare(one, scale=scale, outliers=outliers, preset=preset).values
            if set(prepared.values.index) <= set(alone.index):
                each.append(alone.reindex(prepared.values.index))
    stability = analysis.stability(
        prepared.values, on=cluster_on, reduce=reduce, cluster=cluster, k=clustering.k,
        runs=each, tried=choice.trial if choice else None, seed=seed,
    )  # fmt: skip
    intervals = chosen[0].intervals if len(chosen) == 1 and len(chosen[0].intervals) else None
    comparable = analysis.comparable_steps(series.index, metric, intervals)
    phases = analysis.phases(prepared.values[comparable], seed=seed) if len(comparable) else None
    groups = None
    if group is not None:
        groups = analysis.grouped(
            prepared.values, analysis.group_layers(chosen[0].layers, group), by=group, series=series, on=cluster_on,
            reduce=reduce, cluster=cluster, seed=seed,
        )  # fmt: skip
    comparison = None
    if compare is not None:
        comparison = analysis.compare(
            settings_of(chosen, frames, compare), k=clustering.k, reduce=reduce, cluster=cluster, seed=seed
        )
        comparison = dataclasses.replace(comparison, unmatched=tuple(unmatched))
    return Report(
        runs=chosen,
        metric=metric,
        series=series,
        prepared=prepared,
        reduction=reduction,
        clustering=clustering,
        stability=stability,
        procedure=Procedure(reduce, cluster, cluster_on, seed),
        choice=choice,
        phases=phases,
        groups=groups,
        comparison=comparison,
        bands=bands,
        findings=analysis.findings(
            series,
            clustering,
            stability,
            metric=metric,
            intervals=intervals,
            phases=phases,
            groups=groups,
            comparison=comparison,
        ),
        settings={
            "metric": metric,
            **prepared.settings,
            "preset": preset,
            "reduce": str(reduce),
            "cluster": str(cluster),
            "cluster_on": cluster_on,
            "k": k,
            "group": group,
            "aggregate": aggregate,
            "compare": compare if compare is None or isinstance(compare, str) else "a function of the run",
            "align": align,
            "seed": seed,
        },
    )


def _encodable(run: Run) -> Run:
    """The run with halves of surrogate pairs in its names as JSON writes them, for pandas takes no such text."""
    import pandas as pd

    def escaped(values: Iterable[Any]) -> list[Any]:
        return [v.encode(errors="backslashreplace").decode() if isinstance(v, str) else v for v in values]

    def renamed(frame: pd.DataFrame, axis: Literal["index", "columns"]) -> pd.DataFrame:
        names: pd.Index[Any] = getattr(frame, axis)
        return frame.set_axis(pd.Index(escaped(names), dtype=object, name=names.name), axis=axis)

    layers = renamed(run.layers, "index")
    for column in ("kind", "block"):
        layers[column] = pd.Series(escaped(layers[column]), index=layers.index, dtype=object)
    return dataclasses.replace(
        run,
        layers=layers,
        facts=dict(zip(run.facts, escaped(run.facts.values()), strict=True)),
        series={metric: renamed(frame, "columns") for metric, frame in run.series.items()},
        sums={name: renamed(frame, "columns") for name, frame in run.sums.items()},
    )
