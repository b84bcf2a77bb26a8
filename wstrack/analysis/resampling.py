"""The same procedure on halves of the data, and on data without clusters: what a clustering is held against.

A procedure always finds clusters, in a cloud too, and in a long cloud it finds the same ones again and again. So each
number is judged by what the procedure gives on *null data*: one cloud with the same mean curve and the same
covariance between steps, its principal components drawn uniformly and independently (the reference of the gap
statistic, Tibshirani, Walther and Hastie 2001), sent through the same reduction, clustering and halving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from wstrack.analysis.clustering import K
from wstrack.analysis.estimators import one_thread
from wstrack.analysis.measures import rand_index, separation, silhouette, within
from wstrack.analysis.procedure import Procedure
from wstrack.analysis.reduction import COMPONENTS, planes_of_factors

__all__ = ["Resampling", "block_bootstrap", "block_length", "halved", "null_data", "resample"]

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]

PointsAt = Callable[[Labels], Matrix]  # from steps to points, as `Procedure.points_at`

_SOME = 200  # layers, drawn once and for all
_NULLS = {60: 99, 200: 39}  # by up to how many layers; the smallest p is 0.01, 0.025
_FEWEST_NULLS = 19  # and 0.05 of more layers, where one stands for many


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
        smallest: by k, the layers in the smallest cluster of all steps (of the layers that were looked at).
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
    smallest: Labels

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
        procedure: what is tried; its seed has no say, so that k is one for the data.
        ks: the numbers of clusters; ("auto",) for a method that finds its own.
        splits: of the data's steps at random into halves.
        nulls: how many null data sets; None = 99 for up to 60 layers, 39 for up to 200, else 19.
    """
    # Of very many layers some tell how many clusters there are; and nothing of it follows the seed of a report.
    some = np.sort(np.random.default_rng(0).permutation(len(values))[:_SOME])
    matrix = values.to_numpy(dtype=np.float64)[some]
    procedure = replace(procedure, seed=0)
    rng = np.random.default_rng(0)
    if nulls is None:
        nulls = next((count for most, count in _NULLS.items() if len(values) <= most), _FEWEST_NULLS)
    with one_thread():
        ours, agreement, divided, smallest = _tried(
            [procedure.points_at(matrix)], matrix.shape[1], procedure, ks, splits, rng
        )
        simulated = _null_points(matrix, procedure, rng)
        # On the plane all null data go through the clustering together; whole curves would take too much memory.
        at_once = max(nulls, 1) if procedure.cluster_on == "plane" else 1
        rows = [
            _tried(
                [next(simulated) for _ in range(min(at_once, nulls - first))], matrix.shape[1], procedure, ks, 1, rng
            )[:2]
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
        smallest=smallest,
    )


def _tried(
    sets: Sequence[PointsAt], steps: int, procedure: Procedure, ks: Sequence[K], splits: int, rng: np.random.Generator
) -> tuple[Matrix, Matrix, NDArray[np.bool_], Labels]:
    """What each k gives: (inertia, silhouette, separation) by set and k, and agreement by set, split and k.

    And by k whether anything was divided, and the size of the smallest cluster of the first set.
    """
    whole, halves = [], []
    for at in sets:
        whole.append(at(np.arange(steps)))
        for _ in range(splits):
            halves += [at(half) for half in halved(steps, rng)]
    between = [squareform(pdist(points)) for points in whole]
    measures = np.empty((3, len(sets), len(ks)))
    agreement = np.empty((len(sets), splits, len(ks)))
    divided, smallest = np.zeros(len(ks), dtype=bool), np.zeros(len(ks), dtype=np.int64)
    for column, k in enumerate(ks):
        labels = procedure.labels([*whole, *halves], k)
        pairs = labels[len(sets) :].reshape(len(sets), splits, 2, -1)
        divided[column] = bool((pairs != pairs[..., :1]).any())
        sizes = np.bincount(labels[0] + 1)[1:]  # without noise
        smallest[column] = sizes[sizes > 0].min(initial=len(labels[0]))
        agreement[:, :, column] = [[rand_index(*pair) for pair in one] for one in pairs]
        for place, (points, one) in enumerate(zip(whole, labels, strict=False)):
            found = within(points, one), silhouette(between[place], one), separation(points, one)
            measures[:, place, column] = found
    return measures, agreement, divided, smallest


def halved(steps: int, rng: np.random.Generator, *, block: int = 1) -> tuple[Labels, Labels]:
    """Two random halves of the positions 0 .. steps - 1, made of whole blocks of neighbours."""
    starts = np.arange(0, steps, block)
    order = rng.permutation(len(starts))
    middle = (len(starts) + 1) // 2 if block > 1 else steps // 2
    first, second = (
        (np.sort(starts[part])[:, None] + np.arange(block)).ravel() for part in (order[:middle], order[middle:])
    )
    return first[first < steps], second[second < steps]


def null_data(matrix: Matrix, rng: np.random.Generator) -> Iterator[tuple[Matrix, Matrix, Matrix]]:
    """One cloud after the other with the mean curve and the covariance of `matrix` (layers x steps), without end.

    Yields:
        The mean curve, and scores and spread: a cloud is `middle + scores @ spread`.
    """
    middle = matrix.mean(axis=0)
    _, lengths, directions = np.linalg.svd(matrix - middle, full_matrices=False)
    spread = lengths[:, None] / np.sqrt(len(matrix)) * directions
    edge = np.sqrt(3.0)  # uniform from -edge to edge has variance 1
    while True:
        yield middle, rng.uniform(-edge, edge, size=(len(matrix), len(lengths))), spread


def _null_points(matrix: Matrix, procedure: Procedure, rng: np.random.Generator) -> Iterator[PointsAt]:
    """What `Procedure.points_at` makes of each of the `null_data`."""
    for middle, scores, spread in null_data(matrix, rng):
        if procedure.cluster_on == "plane" and procedure.reduce == "pca":
            yield planes_of_factors(scores[:, :COMPONENTS], spread[:COMPONENTS])
        else:
            yield procedure.points_at(middle + scores @ spread)


def block_bootstrap(steps: int, rng: np.random.Generator) -> Labels:
    """As many positions as there are steps, in blocks of neighbours drawn with replacement, in order."""
    length = block_length(steps)
    starts = rng.integers(0, steps - length + 1, size=-(-steps // length))
    return np.asarray(np.sort((starts[:, None] + np.arange(length)).ravel()[:steps]))


def block_length(steps: int) -> int:
    """The length of a block that grows with the number of steps as it should (Hall, Horowitz and Jing 1995)."""
    return max(1, round(float(np.cbrt(steps))))


def _standard(rows: Matrix) -> Matrix:
    """In standard deviations from the mean of each column; differences below 0.02 are not made large."""
    standard: Matrix = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 0.02)
    return standard
