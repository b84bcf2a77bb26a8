"""From runs to a report: one page, one JSON, one table.

`wstrack.report` is at once this package and, to its callers, the function below; so nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from wstrack.report.result import Report
    from wstrack.run import Run

__all__ = ["report"]


def report(
    runs: Run | Sequence[Run],
    *,
    metric: str | None = None,
    reduce: Any = "pca",
    cluster: Any = "kmeans",
    k: int | Literal["auto"] = "auto",
    cluster_on: Literal["plane", "curves"] = "plane",
    scale: Literal["log10", "linear"] | None = None,
    outliers: Literal["2sd"] | None = None,
    preset: Literal["weightscale"] | None = None,
    seed: int = 0,
) -> Report:
    """Which layers of a run move together, and how sure one can be of it.

    Args:
        runs: one run, or several of the same layers, which are averaged step by step (as the paper averages seeds).
        metric: what to report on; by default `rwc`, or the first metric of the run where there is no `rwc`.
        reduce: "pca", "svd" or a scikit-learn transformer: how a layer's curve becomes a point on the plane.
        cluster: "kmeans" or a scikit-learn clusterer.
        k: the number of clusters; "auto" takes the largest mean silhouette.
        cluster_on: "plane" clusters the two components, "curves" the whole curves.
        scale: "log10" or "linear"; by default log10 where the metric allows it and no preset is asked for.
        outliers: "2sd" replaces what is further than two standard deviations from its layer's mean.
        preset: "weightscale" is the published procedure of WeightScale (arXiv 2107.07005).
        seed: of everything that is random; the same seed gives the same report.

    Raises:
        ValueError: an argument that cannot be; the message names the remedy.
        WstrackError: the runs do not fit together, or hold too little to report on.

    Example:
        >>> import numpy as np
        >>> from wstrack.run import Layer, Manifest, Run
        >>> layers = tuple(Layer(f"{name}.weight") for name in "abcdef")
        >>> values = np.geomspace(1e-3, 1e-1, 6) * np.linspace(2, 1, 20)[:, None]
        >>> run = Run.from_values(Manifest("demo", layers, ("rwc",), every=10), range(10, 210, 10), {"rwc": values})
        >>> found = report(run, k=2)
        >>> [cluster["layers"] for cluster in found.to_dict()["clusters"]]
        [['a.weight', 'b.weight', 'c.weight'], ['d.weight', 'e.weight', 'f.weight']]
    """
    from wstrack import analysis
    from wstrack.report.result import Report
    from wstrack.report.series import average, choose_metric, suited_scale
    from wstrack.run import Run

    chosen = (runs,) if isinstance(runs, Run) else tuple(runs)
    if not chosen:
        raise ValueError("runs=[] holds no run; pass at least one")
    if cluster_on not in ("plane", "curves"):
        raise ValueError(f"unknown cluster_on {cluster_on!r}; pass cluster_on= (--cluster-on) one of: plane, curves")
    metric = choose_metric(chosen, metric)
    series = average(chosen, metric)
    if scale is None and preset is None:
        scale = suited_scale(series, metric)

    prepared = analysis.prepare(series, scale=scale, outliers=outliers, preset=preset)
    reduction = analysis.reduce(prepared.values, reduce, seed=seed)
    space = reduction.points if cluster_on == "plane" else prepared.values
    clustering = analysis.cluster(space, cluster, k=k, seed=seed)
    stability = analysis.stability(
        prepared.values, on=cluster_on, reduce=reduce, cluster=cluster, k=clustering.k, seed=seed
    )
    intervals = chosen[0].intervals if len(chosen) == 1 and len(chosen[0].intervals) else None
    return Report(
        runs=chosen,
        metric=metric,
        series=series,
        prepared=prepared,
        reduction=reduction,
        clustering=clustering,
        stability=stability,
        findings=analysis.findings(series, clustering, stability, metric=metric, intervals=intervals),
        settings={
            "metric": metric,
            **prepared.settings,
            "preset": preset,
            "reduce": str(reduce),
            "cluster": str(cluster),
            "cluster_on": cluster_on,
            "k": k,
            "seed": seed,
        },
    )
