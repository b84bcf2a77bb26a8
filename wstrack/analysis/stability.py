"""How far clusters can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from sklearn.metrics import adjusted_rand_score

from wstrack.analysis.cluster import K, labels_of, takes_k
from wstrack.analysis.cluster import cluster as clustered
from wstrack.analysis.reduce import reduce as reduced

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["SHAKY_FROM", "STABLE_FROM", "Space", "Stability", "stability"]

Space = Literal["plane", "curves"]

STABLE_FROM = 0.8  # with the two halves in this agreement, nearly every layer keeps its companions
SHAKY_FROM = 0.5  # below it, chance has as much say as the run


@dataclass(frozen=True)
class Stability:
    """How far two halves of a run lead to the same clusters.

    Attributes:
        method: what was done, for people.
        agreement: for each split, the adjusted Rand index between its halves (1 = the same, about 0 = chance).
        median: of `agreement`; `low` and `high` are its 10th and 90th percentile.
        verdict: "stable" from a median of 0.8, "shaky" from 0.5, "not stable" below.
    """

    method: str
    agreement: tuple[float, ...]
    median: float
    low: float
    high: float
    verdict: Literal["stable", "shaky", "not stable"]


def stability(
    values: pd.DataFrame,
    *,
    on: Space = "plane",
    reduce: Any = "pca",
    cluster: Any = "kmeans",
    k: K = "auto",
    halves: int = 10,
    seed: int = 0,
) -> Stability | None:
    """Split the steps at random into two halves, cluster the layers in each, and see whether they agree.

    Args:
        values: rows = layers, columns = steps, finite (`Prepared.values`).
        on: cluster the reduced "plane", or the "curves" themselves.
        reduce: as in `wstrack.analysis.reduce`.
        cluster: as in `wstrack.analysis.cluster`.
        k: the number of clusters in every half (`Clustering.k`); "auto" chooses it once, on all steps. A clusterer
            that takes no number finds its own in each half.
        halves: how many times the steps are split.
        seed: of the splits and of the methods.

    Returns:
        None where there is nothing to compare: fewer than four steps, or one cluster everywhere.

    Raises:
        ValueError: as `reduce` and `cluster` raise it, an unknown `on`, or `halves` below 1.

    Example:
        >>> import pandas as pd
        >>> rng = np.random.default_rng(0)
        >>> level = np.repeat([0.0, 5.0], 6)[:, None]
        >>> found = stability(pd.DataFrame(level + rng.normal(size=(12, 40))), k=2)
        >>> found.median, found.verdict
        (1.0, 'stable')
    """
    if on not in get_args(Space):
        raise ValueError(f"unknown space {on!r}; pass cluster_on= (--cluster-on) one of: {', '.join(get_args(Space))}")
    if halves < 1:
        raise ValueError(f"halves={halves} is no number of splits; pass halves= at least 1")
    if values.shape[1] < 4:
        return None

    def points(part: pd.DataFrame) -> pd.DataFrame:
        return reduced(part, reduce, seed=seed).points if on == "plane" else part

    if not takes_k(cluster):
        k = "auto"
    elif k == "auto" and isinstance(cluster, str):
        k = clustered(points(values), cluster, seed=seed).k

    def labels(columns: NDArray[np.int64]) -> NDArray[np.int64]:
        return labels_of(points(values.iloc[:, np.sort(columns)]), cluster, k=k, seed=seed)

    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(values.shape[1]) for _ in range(halves)]
    pairs = [(labels(order[: len(order) // 2]), labels(order[len(order) // 2 :])) for order in shuffled]
    if all((half == half[0]).all() for pair in pairs for half in pair):
        return None
    agreement = tuple(float(adjusted_rand_score(first, second)) for first, second in pairs)
    median = float(np.median(agreement))
    return Stability(
        method="split-half over steps",
        agreement=agreement,
        median=median,
        low=float(np.quantile(agreement, 0.1)),
        high=float(np.quantile(agreement, 0.9)),
        verdict="stable" if median >= STABLE_FROM else "shaky" if median >= SHAKY_FROM else "not stable",
    )
