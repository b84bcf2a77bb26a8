"""The same procedure on halves of the data, and on data without clusters: what a clustering is held against.

A procedure always finds clusters, in a cloud too, and in a long cloud it finds the same ones again and again. So each
number is judged by what the procedure gives on *null data*: one cloud with the same mean curve and the same
covariance between steps, its principal components drawn uniformly and independently (the reference of the gap
statistic, Tibshirani, Walther and Hastie 2001), sent through the same reduction, clustering and halving.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from wstrack.analysis.clustering import K, rand_index, within
from wstrack.analysis.estimators import one_thread
from wstrack.analysis.procedure import Procedure

__all__ = ["Resampling", "halved", "null_data", "resample", "separation", "silhouette"]

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]

_SOME = 300  # layers, evenly over the depth, from which a silhouette is taken: all distances of many are too many
_LEAST = 3  # layers; one or two beside the others are outliers, not a cluster that shows there are several


@dataclass(frozen=True)
class Resampling:
    """How a procedure fares on the data and on null data; a column for each k.

    Attributes:
        ks: the numbers of clusters tried, or ("auto",) for a method that finds its own.
        agreement: between random halves of the steps, adjusted Rand index, of shape (splits, ks).
        inertia, silhouette, separation: on all steps, of shape (ks,).
        null_agreement, null_inertia, null_silhouette, null_separation: the same on null data, (null data sets, ks);
            agreement is of one split each.
        p: by k, the chance that null data stand out as far at any k (see `score`).
        single_p: by k, the chance that they do at this k, for a k that nobody searched for.
        divided: by k, whether any half had more than one cluster.
    """

    ks: tuple[K, ...]
    agreement: Matrix
    inertia: Matrix
    silhouette: Matrix
    separation: Matrix
    null_agreement: Matrix
    null_inertia: Matrix
    null_silhouette: Matrix
    null_separation: Matrix
    divided: NDArray[np.bool_]

    @property
    def score(self) -> Matrix:
        """How far data stand out from null data, (1 + null data sets, ks): the data first.

        Separation and agreement, each in standard deviations over data and null data together, added. Data and null
        data are treated alike, so that the rank of the data among them is an exact test.
        """
        separations = np.vstack([self.separation, self.null_separation])
        agreements = np.vstack([self.agreement.mean(axis=0), self.null_agreement])
        score: Matrix = _standard(separations) + _standard(agreements)
        return score

    @property
    def p(self) -> Matrix:
        """By k, adjusted for the search over k (the largest score of each data set is the reference)."""
        score = self.score
        return np.asarray((1 + (score[1:].max(axis=1)[:, None] >= score[0]).sum(axis=0)) / len(score))

    @property
    def single_p(self) -> Matrix:
        """By k, for a k that was fixed beforehand."""
        return np.asarray((1 + (self.score[1:] >= self.score[0]).sum(axis=0)) / len(self.score))


def resample(
    values: pd.DataFrame,
    procedure: Procedure,
    ks: Sequence[K],
    *,
    splits: int = 20,
    nulls: int | None = None,
) -> Resampling:
    """Try a procedure with every k on the data, on halves of its steps, and on null data.

    Args:
        values: rows = layers, columns = steps, finite; at least four steps.
        procedure: what is tried; its seed is that of the splits and of the null data too.
        ks: the numbers of clusters; ("auto",) for a method that finds its own.
        splits: of the data's steps at random into halves.
        nulls: how many null data sets; None = 39, or 19 for more than 300 layers: the smallest p is 0.025, or 0.05.
    """
    matrix = values.to_numpy(dtype=np.float64)
    rng = np.random.default_rng(procedure.seed)
    if nulls is None:
        nulls = 39 if len(matrix) <= _SOME else 19
    with one_thread():
        ours, agreement, divided = _tried([matrix], procedure, ks, splits, rng)
        simulated = null_data(matrix, rng)
        # On the plane all null data go through the clustering together; whole curves would take too much memory.
        at_once = max(nulls, 1) if procedure.cluster_on == "plane" else 1
        rows = [
            _tried([next(simulated) for _ in range(min(at_once, nulls - first))], procedure, ks, 1, rng)[:2]
            for first in range(0, nulls, at_once)
        ]
    null = np.concatenate([row[0] for row in rows], axis=1) if rows else np.zeros((3, 0, len(ks)))
    null_agreement = np.concatenate([row[1][:, 0] for row in rows]) if rows else np.zeros((0, len(ks)))
    inertia, shape, apart = ours[:, 0]
    null_inertia, null_shape, null_apart = null
    return Resampling(
        ks=tuple(ks),
        agreement=agreement[0],
        inertia=inertia,
        silhouette=shape,
        separation=apart,
        null_agreement=null_agreement,
        null_inertia=null_inertia,
        null_silhouette=null_shape,
        null_separation=null_apart,
        divided=divided,
    )


def _tried(
    sets: Sequence[Matrix], procedure: Procedure, ks: Sequence[K], splits: int, rng: np.random.Generator
) -> tuple[Matrix, Matrix, NDArray[np.bool_]]:
    """(inertia, silhouette, separation) by set and k; agreement by set, split and k; whether anything was divided."""
    whole, halves = [], []
    for matrix in sets:
        whole.append(procedure.points(matrix))
        for _ in range(splits):
            halves += [procedure.points(matrix.take(half, axis=1)) for half in halved(matrix.shape[1], rng)]
    layers = len(sets[0])
    some = np.arange(layers) if layers <= _SOME else np.linspace(0, layers - 1, _SOME).astype(np.int64)
    between = [squareform(pdist(points[some])) for points in whole]
    measures = np.empty((3, len(sets), len(ks)))
    agreement = np.empty((len(sets), splits, len(ks)))
    divided = np.zeros(len(ks), dtype=bool)
    for column, k in enumerate(ks):
        labels = procedure.labels([*whole, *halves], k)
        pairs = labels[len(sets) :].reshape(len(sets), splits, 2, -1)
        divided[column] = bool((pairs != pairs[..., :1]).any())
        agreement[:, :, column] = [[rand_index(*pair) for pair in one] for one in pairs]
        for place, (points, one) in enumerate(zip(whole, labels, strict=False)):
            found = within(points, one), silhouette(between[place], one[some]), separation(points, one)
            measures[:, place, column] = found
    return measures, agreement, divided


def halved(steps: int, rng: np.random.Generator, *, block: int = 1) -> tuple[Labels, Labels]:
    """Two random halves of the positions 0 .. steps - 1, made of whole blocks of neighbours."""
    starts = np.arange(0, steps, block)
    order = rng.permutation(len(starts))
    middle = (len(starts) + 1) // 2 if block > 1 else steps // 2
    first, second = (
        np.sort(np.concatenate([np.arange(s, min(s + block, steps)) for s in starts[part]]))
        for part in (order[:middle], order[middle:])
    )
    return first, second


def null_data(matrix: Matrix, rng: np.random.Generator) -> Any:
    """One cloud after the other with the mean curve and the covariance of `matrix` (layers x steps), without end."""
    middle = matrix.mean(axis=0)
    _, lengths, directions = np.linalg.svd(matrix - middle, full_matrices=False)
    spread = lengths[:, None] / np.sqrt(len(matrix)) * directions
    edge = np.sqrt(3.0)  # uniform from -edge to edge has variance 1
    while True:
        yield middle + rng.uniform(-edge, edge, size=(len(matrix), len(lengths))) @ spread


def silhouette(distances: Matrix, labels: Labels) -> float:
    """The mean silhouette (Rousseeuw 1987) of what is not noise, from all distances; 0 with fewer than two clusters."""
    kept = labels >= 0
    names, numbers = np.unique(labels[kept], return_inverse=True)
    if len(names) < 2:
        return 0.0
    member = np.eye(len(names))[numbers]
    sums, sizes, rows = distances[np.ix_(kept, kept)] @ member, member.sum(axis=0), np.arange(len(numbers))
    inside = sums[rows, numbers] / np.maximum(sizes[numbers] - 1, 1)
    others = sums / sizes
    others[rows, numbers] = np.inf
    outside = others.min(axis=1)
    largest = np.maximum(inside, outside)
    values = np.divide(outside - inside, largest, out=np.zeros_like(largest), where=largest > 0)
    return float(np.where(sizes[numbers] > 1, values, 0.0).mean())


def separation(points: Matrix, labels: Labels) -> float:
    """How far apart the two least separate neighbours are: the log of distance / (spread + spread).

    Each cluster of three or more layers is held against each other one along the line through their middles; spread is
    the standard deviation along it. A cloud that is cut in two gives log 1.73 if it is uniform, less if it thins out
    towards its ends, bent or not; a gap gives more. 0 with fewer than two such clusters.
    """
    members = [points[labels == label] for label in np.unique(labels[labels >= 0])]
    members = [one for one in members if len(one) >= _LEAST]
    if len(members) < 2:
        return 0.0
    middles = [one.sum(axis=0) / len(one) for one in members]
    around = [(one - middle) / np.sqrt(len(one) - 1) for one, middle in zip(members, middles, strict=True)]
    least = np.inf
    for one in range(len(members)):
        for other in range(one):
            line = middles[one] - middles[other]
            apart = math.sqrt(line @ line)
            first, second = around[one] @ line, around[other] @ line
            spread = (math.sqrt(first @ first) + math.sqrt(second @ second)) / max(apart, 1e-300)
            least = min(least, apart / max(spread, 1e-9 * apart, 1e-300))
    return float(np.log(max(least, 1e-3)))


def _standard(rows: Matrix) -> Matrix:
    """In standard deviations from the mean of each column; differences below 0.02 are not made large."""
    standard: Matrix = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 0.02)
    return standard
