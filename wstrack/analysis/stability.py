"""How far clusters can be trusted: as a whole, each cluster, each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans

from wstrack.analysis.choice import choose
from wstrack.analysis.clustering import K, labels_of, ordered_labels
from wstrack.analysis.cutoffs import CLUSTERS_P, HOLDS_FROM, SHAKY_FROM, STABLE_FROM
from wstrack.analysis.estimators import one_thread
from wstrack.analysis.measures import rand_index
from wstrack.analysis.procedure import Procedure
from wstrack.analysis.resampling import Resampling, block_bootstrap, block_length, halved, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Stability", "Verdict", "measure_stability"]

Verdict = Literal["stable", "shaky", "not stable", "continuous"]

_STARTS = 10


@dataclass(frozen=True)
class Stability:
    """How far the clusters come back when something that should not matter is changed.

    Attributes:
        method: what `agreement` is of, for people.
        agreement: for each split, the adjusted Rand index between its halves (1 = the same, about 0 = chance).
        median: of `agreement`; `low` and `high` are its 10th and 90th percentile.
        verdict: "not stable" below a median of 0.5; else "continuous" where data without clusters stand out as far
            (`p` above 0.05: one cloud was cut into pieces); else "shaky" below 0.8, "stable" from there.
        null: the mean and the 95th percentile of the same agreement on data without clusters; None if not tried.
        p: how often data without clusters stand out as far; None if not tried.
        perturbations: by what is changed, the `median`, `low` and `high` agreement, how `many` times it was done, and
            in words what it `says`.
        clusters: by cluster (the ids of `Clustering.labels`), its number of `layers`; `jaccard`, the median over
            bootstraps of its overlap with the cluster most like it, and `low`, the 10th percentile; `verdict` "holds"
            from 0.75, "shaky" from 0.5, "dissolves" below.
        layers: by layer, the share of bootstraps in which it stays with its cluster.
        consensus: by layer, the cluster in which most bootstraps agree (-1 and 1, 2, ... as in `Clustering.labels`).
    """

    method: str
    agreement: tuple[float, ...]
    median: float
    low: float
    high: float
    verdict: Verdict
    null: tuple[float, float] | None = None
    p: float | None = None
    perturbations: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)
    clusters: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)
    layers: pd.Series[float] = field(default_factory=lambda: pd.Series(dtype=np.float64), compare=False)
    consensus: pd.Series[int] = field(default_factory=lambda: pd.Series(dtype=np.int64), compare=False)


def measure_stability(
    values: pd.DataFrame,
    procedure: Procedure | None = None,
    *,
    halves: int = 20,
    bootstraps: int = 30,
    nulls: int | None = None,
    runs: Sequence[pd.DataFrame] = (),
    resampling: Resampling | None = None,
) -> Stability | None:
    """Cluster again after changing what should not matter, and see what stays.

    The steps are split at random into halves, which asks whether the clusters are more than the noise of single
    samples; into halves of whole blocks of neighbouring samples, for these are not independent; into the first and the
    last half, which asks whether the clusters last. Blocks of samples are drawn with replacement (a moving block
    bootstrap, Kunsch 1989), the method starts elsewhere, and where there are several runs each is clustered alone. That
    the halves agree does not show that there are clusters; so the same is done to data without any (`resample`).

    Args:
        values: rows = layers, columns = steps, finite (`Prepared.values`).
        procedure: how the clusters are made; with a `k` that is yet to be chosen, it is chosen once, on all steps. A
            clusterer that takes no number finds its own in each half. None = `Procedure()`.
        halves: how many times the steps are split.
        bootstraps: how many times blocks of steps are drawn, at least once.
        nulls: how many data sets without clusters are tried (as in `resample`); 0 = none, and no verdict "continuous".
        runs: the prepared values of single runs with the same layers, where `values` is their mean.
        resampling: `Choice.resampling`, to save doing it again.

    Returns:
        None where there is nothing to compare: fewer than four steps, one cluster everywhere, or only noise.

    Raises:
        ValueError: as `reduce` and `cluster` raise it, or `halves` or `bootstraps` below 1.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> level = np.repeat([0.0, 5.0], 6)[:, None]
        >>> found = measure_stability(pd.DataFrame(level + rng.normal(size=(12, 40))), Procedure(k=2))
        >>> found.median, found.verdict, found.clusters["verdict"].tolist()
        (1.0, 'stable', ['holds', 'holds'])
    """
    procedure = procedure or Procedure()
    if halves < 1:
        raise ValueError(f"halves={halves} is no number of splits; pass halves= at least 1")
    if bootstraps < 1:
        raise ValueError(f"bootstraps={bootstraps} is no number of bootstraps; pass bootstraps= at least 1")
    if values.shape[1] < 4:
        return None
    matrix = values.to_numpy(dtype=np.float64)
    if procedure.chooses_k:
        choice = choose(values, procedure)
        procedure, resampling = procedure.with_k(choice.k), choice.resampling
    k = procedure.number
    if resampling is None or k not in resampling.ks:
        resampling = resample(values, procedure, [k], splits=halves, nulls=nulls)
        chance = resampling.single_p
    else:
        chance = resampling.p
    column = resampling.ks.index(k)
    if not resampling.divided[column]:
        return None
    rng = np.random.default_rng([procedure.seed, 1])
    with one_thread():
        at = procedure.points_at(matrix)
        points = pd.DataFrame(at(np.arange(matrix.shape[1])), index=values.index)
        labels = ordered_labels(points, procedure.cluster, k=k, seed=procedure.seed)
        if (labels < 0).all():
            return None
        drawn = procedure.labels([at(block_bootstrap(matrix.shape[1], rng)) for _ in range(bootstraps)], k)
        perturbations = _perturbations(procedure, points, at, matrix.shape[1], k, labels, drawn, runs, rng)
    agreement = tuple(float(one) for one in resampling.agreement[:, column])
    median = float(np.median(agreement))
    perturbations = pd.concat(
        [_perturbation("random halves", agreement, "more than the noise of single samples"), perturbations]
    )
    null = resampling.null_agreement[:, column]
    p = float(chance[column]) if len(null) else None
    clusters, kept = _held(labels, drawn)
    return Stability(
        method="split-half over steps",
        agreement=agreement,
        median=median,
        low=float(np.quantile(agreement, 0.1)),
        high=float(np.quantile(agreement, 0.9)),
        verdict=_verdict(median, p),
        null=(float(null.mean()), float(np.quantile(null, 0.95))) if len(null) else None,
        p=p,
        perturbations=perturbations,
        clusters=clusters,
        layers=pd.Series(kept, index=values.index, name="stays"),
        consensus=pd.Series(list(_consensus(labels, drawn)), index=values.index, name="cluster"),
    )


def _verdict(median: float, p: float | None) -> Verdict:
    if median < SHAKY_FROM:
        return "not stable"
    if p is not None and p > CLUSTERS_P:
        return "continuous"
    return "stable" if median >= STABLE_FROM else "shaky"


def _perturbations(
    procedure: Procedure,
    points: pd.DataFrame,
    at: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    steps: int,
    k: K,
    labels: NDArray[np.int64],
    drawn: NDArray[np.int64],
    runs: Sequence[pd.DataFrame],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """The rows of `Stability.perturbations` after the first."""
    rows = []

    def between_halves(pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> list[float]:
        found = procedure.labels([at(half) for pair in pairs for half in pair], k)
        return [rand_index(first, second) for first, second in zip(found[::2], found[1::2], strict=True)]

    if block_length(steps) > 1:
        blocks = between_halves([halved(steps, rng, block=block_length(steps)) for _ in range(10)])
        rows.append(_perturbation("halves of blocks", blocks, "more than what neighbouring samples share"))
    ends = np.arange(steps // 2), np.arange(steps // 2, steps)
    rows.append(_perturbation("first and last half", between_halves([ends]), "the clusters last over the training"))
    rows.append(
        _perturbation(
            "bootstrap of blocks",
            [rand_index(labels, one) for one in drawn],
            "a second run would have the same",
        )
    )
    started = []
    for start in range(_STARTS):
        method = KMeans(init="k-means++", n_init=1) if procedure.cluster == "kmeans" else procedure.cluster
        started.append(rand_index(labels, labels_of(points, method, k=k, seed=start)))
    rows.append(_perturbation("starts", started, "the method finds the same from another start"))
    if len(runs) > 1:
        alone = procedure.labels([procedure.points(run.to_numpy(dtype=np.float64)) for run in runs], k)
        pairs = [(a, b) for a in range(len(runs)) for b in range(a)]
        chosen = rng.permutation(len(pairs))[:1000]
        rows.append(
            _perturbation(
                "runs", [rand_index(*alone[list(pairs[i])]) for i in chosen], "each run alone has the same clusters"
            )
        )
    return pd.concat(rows)


def _perturbation(name: str, agreement: Sequence[float], says: str) -> pd.DataFrame:
    low, median, high = np.quantile(agreement, [0.1, 0.5, 0.9])
    row = {"median": median, "low": low, "high": high, "many": len(agreement), "says": says}
    return pd.DataFrame(row, index=pd.Index([name], name="perturbation"))


def _held(labels: NDArray[np.int64], drawn: NDArray[np.int64]) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """How each cluster and each layer fares over the bootstraps; clusters are matched by their common layers."""
    names = [int(name) for name in np.unique(labels) if name > 0]
    overlaps = np.zeros((len(drawn), len(names)))
    kept = np.zeros(len(labels))
    ours = np.array([labels == name for name in names])
    for row, other in enumerate(drawn):
        theirs = np.array([other == name for name in np.unique(other) if name >= 0]).reshape(-1, len(labels))
        common = ours.astype(float) @ theirs.T.astype(float)
        union = ours.sum(axis=1)[:, None] + theirs.sum(axis=1) - common
        jaccard = common / union
        overlaps[row] = jaccard.max(axis=1, initial=0.0)
        for mine, its in zip(*linear_sum_assignment(-common), strict=True):
            kept += ours[mine] & theirs[its]
        kept += (labels < 0) & (other < 0)
    median, low = np.quantile(overlaps, [0.5, 0.1], axis=0)
    verdicts = ["holds" if one >= HOLDS_FROM else "shaky" if one >= SHAKY_FROM else "dissolves" for one in median]
    return (
        pd.DataFrame(
            {"layers": ours.sum(axis=1), "jaccard": median, "low": low, "verdict": verdicts},
            index=pd.Index(names, name="cluster"),
        ),
        kept / len(drawn),
    )


def _consensus(labels: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Average linkage on how often two layers are together (Monti et al. 2003), cut into as many clusters.

    A layer that most bootstraps call noise is noise. The numbers are those of the clusters with most layers in common.
    """
    noise = (drawn < 0).mean(axis=0) > 0.5
    kept = np.flatnonzero(~noise)
    names = np.unique(labels[labels > 0])
    result = np.full(len(labels), -1, dtype=np.int64)
    if len(kept) < 2 or len(names) < 2:
        result[kept] = 1
        return result
    # By layer, in which cluster of which bootstrap it is; noise is in none.
    member = (drawn[:, kept].T[:, :, None] == np.arange(drawn.max() + 1)).reshape(len(kept), -1).astype(np.float32)
    apart = len(drawn) - member @ member.T
    np.fill_diagonal(apart, 0)
    found = fcluster(linkage(squareform(apart, checks=False), "average"), len(names), "maxclust")
    common = np.array([[(found[labels[kept] == name] == other).sum() for other in np.unique(found)] for name in names])
    mine, its = linear_sum_assignment(-common)
    number = dict(zip(np.unique(found)[its], names[mine], strict=True))
    result[kept] = [number.get(one, -1) for one in found]
    return result
