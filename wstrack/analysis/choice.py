"""How many clusters, by stability, by the gap statistic or by silhouette; and the clusters then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist, squareform

from wstrack.analysis.clustering import CLUSTERINGS, Clustering, cluster, labels_of, takes_k
from wstrack.analysis.cutoffs import CLUSTERS_P, STABLE_FROM
from wstrack.analysis.measures import rand_index, silhouette
from wstrack.analysis.procedure import By, Procedure
from wstrack.analysis.reduction import Reduction, reduce
from wstrack.analysis.resampling import Resampling, resample

__all__ = ["Choice", "Clustered", "choose", "cluster_layers", "compare_clusterings"]

_SAME_AGREEMENT = 0.02  # the halves of k and k + 1 clusters are not worth telling apart below it
_LEAST = 2  # layers; a layer alone is far from the others, and no cluster
_UP_TO = 10  # more clusters than that are not an overview


@dataclass(frozen=True)
class Choice:
    """A number of clusters, and what every other number would have given.

    Attributes:
        k: the choice; 1 where nothing shows that there is more than one cluster.
        best: `k`, or where that is 1 the k of two or more at which halves agree best; 1 where none could be tried.
        by: "stability", "gap" or "silhouette".
        words: why, for people.
        table: by k from 2, `agreement` (mean adjusted Rand index between random halves of the steps) and
            `agreement_null` (on data without clusters); `separation` (distance of neighbouring clusters in standard
            deviations, of the least separate pair) and `separation_null`; `silhouette` and `silhouette_null`; `gap` and
            `gap_error` (of log inertia below that of the null data); `p` (the chance that data without clusters stand
            out as far at any k).
        resampling: what `measure_stability` takes instead of resampling again.
    """

    k: int
    best: int
    by: By
    words: str
    table: pd.DataFrame
    resampling: Resampling | None


def choose(
    values: pd.DataFrame,
    procedure: Procedure | None = None,
    *,
    up_to: int = _UP_TO,
    splits: int = 20,
    nulls: int | None = None,
) -> Choice:
    """Choose the number of clusters.

    By "stability" those k count at which two things together stand out from data without clusters: how well random
    halves of the steps agree, and how far apart neighbouring clusters are. Of these the largest k is taken at which
    halves agree best (within 0.02). If data without clusters stand out as far in more than one case of twenty at every
    k, or halves agree to less than 0.8 at those that stand out, or these hold a cluster of a single layer, there is one
    cluster. "gap" takes the smallest k whose gap statistic (Tibshirani, Walther and Hastie 2001) is within a standard
    error of the largest, which can be 1 too; "silhouette" takes the largest mean silhouette, and always finds two or
    more.

    Args:
        values: rows = layers, columns = steps, finite (`Prepared.values`).
        procedure: how layers are clustered, by a method that takes a number of clusters; its `k` says by what to
            choose, "auto" being "stability". None = `Procedure()`.
        up_to: the largest k to try; never more than half the layers.
        splits, nulls: as in `wstrack.analysis.resampling.resample`.

    Raises:
        ValueError: a procedure with a number of clusters, or one that finds its own.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> level = np.repeat([0.0, 5.0, 9.0], 6)[:, None]
        >>> choice = choose(pd.DataFrame(level + rng.normal(size=(18, 40))))
        >>> choice.k, bool(choice.table["p"].loc[3] < 0.05)
        (3, True)
        >>> choose(pd.DataFrame(rng.normal(size=(18, 40)))).k
        1
    """
    procedure = procedure or Procedure()
    rule = procedure.k
    if not procedure.takes_k or not isinstance(rule, str):
        raise ValueError(f"k={rule!r} with cluster={procedure.cluster!r} leaves no number of clusters to choose")
    by: By = "stability" if rule == "auto" else rule
    distinct = len(np.unique(procedure.points(values.to_numpy(dtype=np.float64)).round(12), axis=0))
    ks = range(2, min(up_to, len(values) // 2, distinct) + 1)
    if not ks or values.shape[1] < 4:
        few = "steps" if ks else "distinct layers"
        return Choice(1, 1, by, f"too few {few} to tell clusters from one cloud", _table(None), None)
    tried = resample(values, procedure, list(ks), splits=splits, nulls=nulls)
    table = _table(tried)
    if by == "silhouette":
        k = ks[int(table["silhouette"].to_numpy().argmax())]
        return Choice(k, k, by, f"highest silhouette of k = 2 to {ks[-1]}", table, tried)
    agreement = table["agreement"].to_numpy()
    steadiest = ks[int(agreement.argmax())]
    if by == "gap":
        k, words = _by_gap(tried), "smallest k whose gap is within one standard error of the largest gap"
        return Choice(k, k if k > 1 else steadiest, by, words, table, tried)
    best = int(tried.score[0].argmax())
    p = float(tried.p[best])
    if p > CLUSTERS_P:
        words = (
            f"no k from 2 to {ks[-1]} stands out from one cloud (k = {ks[best]} does most: in {p:.0%} of data sets "
            f"without clusters some k stands out as far; halves agree best at k = {steadiest})"
        )
        return Choice(1, steadiest, by, words, table, tried)
    beyond = tried.p <= CLUSTERS_P
    stable = beyond & (np.median(tried.agreement, axis=0) >= STABLE_FROM)
    if not stable.any():
        words = (
            f"k = {ks[best]} stands out from one cloud, but halves of the samples do not agree on its clusters "
            f"({agreement[best]:.2f}; halves agree best at k = {steadiest})"
        )
        return Choice(1, steadiest, by, words, table, tried)
    stable &= tried.smallest >= _LEAST
    if not stable.any():
        words = f"k = {ks[best]} stands out from one cloud, but only with clusters of a single layer"
        return Choice(1, steadiest, by, words, table, tried)
    # The most of those that hold equally well: fewer are some of the same clusters put together.
    best = int(np.flatnonzero(stable & (agreement >= agreement[stable].max() - _SAME_AGREEMENT))[-1])
    p = float(tried.p[best])
    words = f"of the k from 2 to {ks[-1]} that stand out from one cloud, the one at which halves agree best"
    least = 1 / (1 + len(tried.null_agreement))
    words += f" (p = {p:.2g}{', the least it can be' if p == least else ''})"
    return Choice(ks[best], ks[best], by, words, table, tried)


@dataclass(frozen=True)
class Clustered:
    """Layers as points, and the clusters that they form.

    Attributes:
        reduction: the points.
        clustering: the clusters.
        choice: how many there are, and why; None where that was not to be chosen.
    """

    reduction: Reduction
    clustering: Clustering
    choice: Choice | None


def cluster_layers(values: pd.DataFrame, procedure: Procedure) -> Clustered:
    """Reduce the curves of layers, choose a number of clusters where that is left open, and cluster.

    Args:
        values: rows = layers, columns = steps, finite (`Prepared.values`).
        procedure: how.

    Raises:
        ValueError: as `reduce`, `choose` and `cluster` raise it.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> level = np.repeat([0.0, 5.0], 6)[:, None]
        >>> cluster_layers(pd.DataFrame(level + rng.normal(size=(12, 40))), Procedure(cluster="ward")).clustering.k
        2
    """
    reduction = reduce(values, procedure.reduce, seed=procedure.seed)
    points = reduction.points if procedure.cluster_on == "plane" else values
    choice = choose(values, procedure) if procedure.chooses_k else None
    k = choice.k if choice else procedure.number
    clustering = cluster(points, procedure.cluster, k=k, seed=procedure.seed)
    return Clustered(reduction, replace(clustering, chosen=choice.words) if choice else clustering, choice)


def compare_clusterings(
    values: pd.DataFrame,
    procedure: Procedure | None = None,
    *,
    methods: tuple[str, ...] = tuple(CLUSTERINGS),
    splits: int = 5,
) -> pd.DataFrame:
    """Every clustering method on the same data.

    Args:
        values: as in `choose`.
        procedure: of which the method is replaced by each in turn; its `k` is for the methods that take one, and is
            chosen with k-means where it is not a number. None = `Procedure()`.
        methods: names of `wstrack.analysis.cluster`.
        splits: how many times the steps are halved.

    Returns:
        By method: `k` found, `noise` (layers in no cluster), `smallest` (layers in the smallest cluster),
        `silhouette`, `agreement` (mean adjusted Rand index between random halves of the steps), and `with_<method>`
        (adjusted Rand index with the first method).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> level = np.repeat([0.0, 9.0], 8)[:, None]
        >>> table = compare_clusterings(pd.DataFrame(level + rng.normal(size=(16, 40))), Procedure(k=2))
        >>> table.loc["ward", ["k", "noise", "agreement", "with_kmeans"]].tolist()
        [2.0, 0.0, 1.0, 1.0]
    """
    given = procedure or Procedure()
    rule = given.k if given.takes_k else "auto"
    k = choose(values, replace(given, cluster="kmeans", k=rule)).k if isinstance(rule, str) else rule
    points = reduce(values, given.reduce, seed=given.seed).points if given.cluster_on == "plane" else values
    between = squareform(pdist(points))
    rows: dict[str, dict[str, float]] = {}
    first = None
    for method in methods:
        this = replace(given, cluster=method, k=k if takes_k(method) else "auto")
        labels = labels_of(points, method, k=this.number, seed=given.seed)
        first = labels if first is None else first
        sizes = np.bincount(labels[labels >= 0])
        halves = resample(values, this, [this.number], splits=splits, nulls=0)
        rows[method] = {
            "k": len(sizes),
            "noise": int((labels < 0).sum()),
            "smallest": int(sizes.min(initial=len(labels))) if len(sizes) else 0,
            "silhouette": silhouette(between, labels) if len(sizes) > 1 else np.nan,
            "agreement": float(halves.agreement.mean()) if halves.divided[0] else np.nan,
            f"with_{methods[0]}": rand_index(first, labels),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def _table(tried: Resampling | None) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    if tried:
        gap = np.log(np.maximum(tried.null_inertia, 1e-300)) - np.log(np.maximum(tried.inertia, 1e-300))
        columns = {
            "agreement": tried.agreement.mean(axis=0),
            "agreement_null": tried.null_agreement.mean(axis=0),
            "separation": np.exp(tried.separation),
            "separation_null": np.exp(tried.null_separation.mean(axis=0)),
            "silhouette": tried.silhouette,
            "silhouette_null": tried.null_silhouette.mean(axis=0),
            "gap": gap.mean(axis=0),
            "gap_error": gap.std(axis=0) * np.sqrt(1 + 1 / len(gap)),
            "p": tried.p,
        }
    ks = [int(k) for k in tried.ks] if tried else []
    names = [
        "agreement", "agreement_null", "separation", "separation_null", "silhouette", "silhouette_null", "gap",
        "gap_error", "p",
    ]  # fmt: skip
    return pd.DataFrame(columns, index=pd.Index(ks, name="k", dtype=np.int64), columns=names, dtype=np.float64)


def _by_gap(tried: Resampling) -> int:
    """The smallest k within a standard error of the largest gap; at k = 1 data and null data spread alike."""
    table = _table(tried)
    ks = [1, *(int(k) for k in tried.ks)]
    gap = np.array([0.0, *table["gap"]])
    error = np.array([0.0, *table["gap_error"]])
    top = int(gap.argmax())
    return ks[int((gap >= gap[top] - error[top]).argmax())]
