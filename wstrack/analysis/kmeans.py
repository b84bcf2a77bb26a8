"""k-means on many small sets of points at once: what resampling needs hundreds of times over.

scikit-learn's k-means (which makes the clusters of a report) takes a millisecond a start however few the points; here
the starts of all sets go through the same few array operations. With many points scikit-learn's is the faster.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["kmeans_labels"]

_STARTS = 4
_GREEDY_STARTS = 3  # scikit-learn's k-means++ tries several points for each centre, and takes fewer starts for that
_MOST_ROUNDS = 100
_CELLS_AT_ONCE = 500_000
_MANY = 250  # points


def kmeans_labels(sets: NDArray[np.float64], k: int, *, seed: int = 0) -> NDArray[np.int64]:
    """The labels of k-means in every set: Lloyd's algorithm from k-means++ starts, the best of 4.

    Args:
        sets: finite, of shape (sets, points, dimensions).
        k: the number of clusters; a set with fewer distinct points gets fewer.
        seed: of the starts.

    Returns:
        Labels from 0, of shape (sets, points).

    Example:
        >>> sets = np.array([[[0.0], [0.1], [9.0], [9.1]], [[5.0], [0.1], [5.2], [0.0]]])
        >>> labels = kmeans_labels(sets, 2)
        >>> [len(set(row)) for row in labels], bool(labels[1, 0] == labels[1, 2] != labels[1, 1])
        ([2, 2], True)
    """
    count, points, dimensions = sets.shape
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, points), dtype=np.int64)
    if k < 2:
        return labels
    if points > _MANY:
        method = KMeans(min(k, points), n_init=_GREEDY_STARTS, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of sets with fewer distinct points than k
            return np.array([method.fit_predict(one) for one in sets], dtype=np.int64)
    at_once = max(1, _CELLS_AT_ONCE // (_STARTS * points * max(k, dimensions)))
    for first in range(0, count, at_once):
        chunk = sets[first : first + at_once]
        repeated = np.repeat(chunk - chunk.mean(axis=1, keepdims=True), _STARTS, axis=0)
        found, inertia = _lloyd(repeated, _starts(repeated, k, rng))
        best = inertia.reshape(-1, _STARTS).argmin(axis=1) + np.arange(len(chunk)) * _STARTS
        labels[first : first + at_once] = found[best]
    return labels


def _starts(sets: NDArray[np.float64], k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """k-means++ (Arthur and Vassilvitskii 2007): each centre a point drawn by its squared distance to those before."""
    rows = np.arange(len(sets))
    chosen = [sets[rows, rng.integers(sets.shape[1], size=len(sets))]]
    nearest = np.full(sets.shape[:2], np.inf)
    for _ in range(k - 1):
        nearest = np.minimum(nearest, ((sets - chosen[-1][:, None]) ** 2).sum(axis=2))
        reach = nearest.cumsum(axis=1)
        drawn = (reach < rng.random((len(sets), 1)) * reach[:, -1:]).sum(axis=1)
        chosen.append(sets[rows, np.minimum(drawn, sets.shape[1] - 1)])
    return np.stack(chosen, axis=1)


def _lloyd(sets: NDArray[np.float64], centres: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and inertia of each set; those that have settled are not touched again."""
    squares = (sets**2).sum(axis=2)
    labels = np.full(sets.shape[:2], -1, dtype=np.int64)
    inertia = np.zeros(len(sets))
    moving = np.arange(len(sets))
    for _ in range(_MOST_ROUNDS):
        points, middle = sets[moving], centres[moving]
        distances = (middle**2).sum(axis=2)[:, None] - 2 * points @ middle.transpose(0, 2, 1)
        now = distances.argmin(axis=2)
        inertia[moving] = (distances.min(axis=2) + squares[moving]).sum(axis=1)
        settled = (now == labels[moving]).all(axis=1)
        labels[moving] = now
        moving, points, now, middle = moving[~settled], points[~settled], now[~settled], middle[~settled]
        if not len(moving):
            break
        member = (now[:, :, None] == np.arange(centres.shape[1])).astype(np.float64)
        sizes = member.sum(axis=1)[:, :, None]
        # An empty cluster keeps its centre: the start with the fewest of them has the lowest inertia.
        centres[moving] = np.where(sizes > 0, member.transpose(0, 2, 1) @ points / np.maximum(sizes, 1), middle)
    return labels, inertia
