"""k-means on many small sets of points at once: what resampling needs hundreds of times over.

scikit-learn's k-means (which makes the clusters of a report) takes a millisecond a start however few the points; here
the starts of all sets go through the same few array operations. Of many points some find where the clusters are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["kmeans_labels"]

_STARTS = 4
_FIRST_ROUNDS = 4  # of every start; the best goes on
_MOST_ROUNDS = 100
_CELLS_AT_ONCE = 500_000
_MANY = 300  # points


def kmeans_labels(sets: NDArray[np.float64], k: int, *, seed: int = 0) -> NDArray[np.int64]:
    """The labels of k-means in every set: Lloyd's algorithm from k-means++ starts, the best of 4 after some rounds.

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
        some = np.sort(rng.permutation(points)[:_MANY])
        return _settled(sets, kmeans_labels(sets[:, some], k, seed=seed), some)
    at_once = max(1, _CELLS_AT_ONCE // (_STARTS * points * max(k, dimensions)))
    for first in range(0, count, at_once):
        chunk = sets[first : first + at_once]
        chunk = chunk - chunk.mean(axis=1, keepdims=True)
        repeated = np.repeat(chunk, _STARTS, axis=0)
        _, inertia, centres = _lloyd(repeated, _starts(repeated, k, rng), rounds=_FIRST_ROUNDS)
        best = inertia.reshape(-1, _STARTS).argmin(axis=1) + np.arange(len(chunk)) * _STARTS
        labels[first : first + at_once] = _lloyd(chunk, centres[best])[0]
    return labels


def _settled(sets: NDArray[np.float64], labels: NDArray[np.int64], some: NDArray[np.int64]) -> NDArray[np.int64]:
    """The labels of all points, from the clusters of some of them: Lloyd's algorithm goes on from their middles."""
    found = np.empty(sets.shape[:2], dtype=np.int64)
    for place, (points, known) in enumerate(zip(sets, labels, strict=True)):
        middles = np.array([points[some][known == label].mean(axis=0) for label in np.unique(known)])
        found[place] = _lloyd(points[None], middles[None])[0][0]
    return found


def _starts(sets: NDArray[np.float64], k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """k-means++ (Arthur and Vassilvitskii 2007): each centre a point drawn by its squared distance to those before."""
    rows = np.arange(len(sets))
    along = np.ascontiguousarray(np.moveaxis(sets, -1, 0))  # (dimensions, sets, points): sums run along memory
    chosen = [sets[rows, rng.integers(sets.shape[1], size=len(sets))]]
    nearest = np.full(sets.shape[:2], np.inf)
    for _ in range(k - 1):
        away = along - chosen[-1].T[:, :, None]
        away *= away
        nearest = np.minimum(nearest, away.sum(axis=0))
        reach = nearest.cumsum(axis=1)
        drawn = (reach < rng.random((len(sets), 1)) * reach[:, -1:]).sum(axis=1)
        chosen.append(sets[rows, np.minimum(drawn, sets.shape[1] - 1)])
    return np.stack(chosen, axis=1)


def _lloyd(
    sets: NDArray[np.float64], centres: NDArray[np.float64], *, rounds: int = _MOST_ROUNDS
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Labels, inertia and centres of each set; those that have settled are not touched again."""
    labels = np.full(sets.shape[:2], -1, dtype=np.int16)  # as short as clusters allow: memory is what takes the time
    inertia = np.zeros(len(sets))
    centres = centres.copy()
    moving = np.arange(len(sets))
    for _ in range(rounds):
        points, middle = sets[moving], centres[moving]
        # (sets, k, points): with the points last, each operation runs along memory.
        distances = -2 * middle @ points.transpose(0, 2, 1)
        distances += (middle**2).sum(axis=2)[:, :, None]
        least, now = distances[:, 0].copy(), np.zeros(points.shape[:2], dtype=labels.dtype)
        for place in range(1, middle.shape[1]):
            nearer = distances[:, place] < least
            np.maximum(now, np.multiply(nearer, place, dtype=now.dtype), out=now)
            np.minimum(least, distances[:, place], out=least)
        inertia[moving] = least.sum(axis=1) + (points**2).sum(axis=(1, 2))
        settled = (now == labels[moving]).all(axis=1)
        labels[moving] = now
        moving, points, now, middle = moving[~settled], points[~settled], now[~settled], middle[~settled]
        if not len(moving):
            break
        member = (now[:, None, :] == np.arange(centres.shape[1], dtype=now.dtype)[:, None]).astype(np.float64)
        sizes = member.sum(axis=2)[:, :, None]
        # An empty cluster keeps its centre: the start with the fewest of them has the lowest inertia.
        centres[moving] = np.where(sizes > 0, member @ points / np.maximum(sizes, 1), middle)
    return labels.astype(np.int64), inertia, centres
