"""k-medoids: each cluster has one of its layers as its centre, and no square makes an outlier heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.metrics import pairwise_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KMedoids"]


class KMedoids(ClusterMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Partitioning around medoids (Kaufman and Rousseeuw 1990): greedy build, then the best swap while one helps.

    Nothing in it is random. Distances are Euclidean, not squared.

    Args:
        n_clusters: how many clusters.

    Example:
        >>> points = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.9]])
        >>> found = KMedoids(2).fit(points)
        >>> found.labels_.tolist(), found.medoid_indices_.tolist()
        ([0, 0, 0, 1, 1, 1], [1, 4])
    """

    def __init__(self, n_clusters: int = 8) -> None:
        self.n_clusters = n_clusters

    def fit(self, X: Any, y: Any = None) -> KMedoids:  # noqa: N803, as scikit-learn names it
        """Find the medoids of the rows of `X`."""
        distances: NDArray[np.float64] = pairwise_distances(X)
        medoids: list[int] = []
        nearest = np.full(len(distances), np.inf)
        for _ in range(min(self.n_clusters, len(distances))):
            gain = np.minimum(distances, nearest).sum(axis=1)
            gain[medoids] = np.inf
            medoids.append(int(gain.argmin()))
            nearest = np.minimum(nearest, distances[medoids[-1]])
        while len(medoids) > 1:
            best, swap = nearest.sum() * (1 - 1e-12), None
            for place in range(len(medoids)):
                without = distances[medoids[:place] + medoids[place + 1 :]].min(axis=0)
                costs = np.minimum(distances, without).sum(axis=1)
                if costs.min() < best:
                    best, swap = costs.min(), (place, int(costs.argmin()))
            if swap is None:
                break
            medoids[swap[0]] = swap[1]
            nearest = distances[medoids].min(axis=0)
        self.medoid_indices_ = np.sort(medoids)
        self.labels_ = distances[self.medoid_indices_].argmin(axis=0)
        return self
