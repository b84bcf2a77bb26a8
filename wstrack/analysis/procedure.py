"""From the series of layers to clusters of them: every choice that decides the outcome, in one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wstrack.analysis.clustering import K, check_name, labels_of, own_k, takes_k
from wstrack.analysis.kmeans import kmeans_labels
from wstrack.analysis.preparation import Outliers, Prepared, Preset, Scale, check_preparation, prepare
from wstrack.analysis.reduction import check_reduction, planes

__all__ = ["By", "ChooseK", "Procedure", "Space"]

Space = Literal["plane", "curves"]
By = Literal["stability", "gap", "silhouette"]
ChooseK = Literal["auto", "stability", "gap", "silhouette"]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Procedure:
    """How series become clusters; the same object from a report's arguments to its last number.

    So the clusters of single settings, groups of layers and phases of the training are those that a report on them
    alone would find.

    Attributes:
        reduce: how a layer's curve becomes a point, as in `wstrack.analysis.reduce`.
        cluster: how points become clusters, as in `wstrack.analysis.cluster`.
        k: the number of clusters, or how to choose it, as in `wstrack.analysis.choose`; "auto" is the number of an
            estimator that was made with one other than its default (`KMeans(4)`), and else "stability".
        cluster_on: "plane" clusters the two components, "curves" the whole curves.
        scale, outliers, preset: what is done before, as in `wstrack.analysis.prepare`.
        seed: of everything that is random.

    Raises:
        ValueError: an unknown setting, settings that contradict each other, or a `k` for a method that finds its own
            number of clusters.

    Example:
        >>> Procedure(cluster="ward").with_k(3)
        Procedure(reduce='pca', cluster='ward', k=3, cluster_on='plane', scale=None, outliers=None, preset=None, seed=0)
    """

    reduce: Any = "pca"
    cluster: Any = "kmeans"
    k: int | ChooseK = "auto"
    cluster_on: Space = "plane"
    scale: Scale | None = None
    outliers: Outliers | None = None
    preset: Preset | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_preparation(self.scale, self.outliers, self.preset)
        if isinstance(self.reduce, str):
            check_reduction(self.reduce)
        if isinstance(self.cluster, str):
            check_name(self.cluster)
        if self.cluster_on not in get_args(Space):
            raise ValueError(
                f"unknown cluster_on {self.cluster_on!r}; pass cluster_on= (--cluster-on) one of: "
                f"{', '.join(get_args(Space))}"
            )
        if not self.takes_k and self.k != "auto":
            raise ValueError(
                f"k={self.k!r}: {self.cluster!r} finds its own number of clusters; leave out k= (--k), or choose "
                "another method: cluster= (--cluster)"
            )
        if self.k == "auto" and (number := own_k(self.cluster)) is not None:
            object.__setattr__(self, "k", number)
        if not isinstance(self.k, Integral) and self.k not in get_args(ChooseK):
            raise ValueError(f"unknown k={self.k!r}; pass k= (--k) a number, or one of: {', '.join(get_args(ChooseK))}")
        if isinstance(self.k, Integral) and self.k < 1:
            raise ValueError(f"k={self.k!r} is no number of clusters; pass k= (--k) at least 1, or auto")

    @property
    def takes_k(self) -> bool:
        """Whether the method makes a given number of clusters, rather than to find its own."""
        return takes_k(self.cluster)

    @property
    def chooses_k(self) -> bool:
        """Whether a number of clusters has to be chosen before layers can be clustered."""
        return self.takes_k and isinstance(self.k, str)

    @property
    def number(self) -> K:
        """The k to cluster with, once none is to be chosen any more: a number, or "auto" if the method finds its own.

        Raises:
            ValueError: a number must be chosen first.
        """
        if not self.takes_k:
            return "auto"
        if isinstance(self.k, str):
            raise ValueError(f"k={self.k!r} is not chosen yet; pass k= a number")
        return int(self.k)

    def with_k(self, k: int) -> Procedure:
        """The same with a number of clusters that was chosen; a method that finds its own goes on doing so."""
        return replace(self, k=k) if self.takes_k else self

    def at_most(self, layers: int) -> Procedure:
        """The same with no more clusters than that, for a part of the data in which fewer layers differ."""
        return self.with_k(min(int(self.number), layers)) if self.takes_k else self

    def prepare(self, series: pd.DataFrame) -> Prepared:
        """What is reduced and clustered, of series (index = step, columns = layers)."""
        return prepare(series, scale=self.scale, outliers=self.outliers, preset=self.preset)

    def points_at(self, values: Matrix) -> Callable[[NDArray[np.int64]], Matrix]:
        """What is clustered, from any of the steps of curves of shape (layers, steps); for resampling."""
        if self.cluster_on == "plane":
            return planes(values, self.reduce, seed=self.seed)
        return lambda steps: values.take(steps, axis=1)

    def points(self, values: Matrix) -> Matrix:
        """What is clustered, from all steps."""
        return self.points_at(values)(np.arange(values.shape[1]))

    def labels(self, sets: Sequence[Matrix], k: K) -> NDArray[np.int64]:
        """The labels of several sets of points of the same layers, of shape (sets, layers)."""
        if self.cluster != "kmeans" or k == "auto":
            return np.array([labels_of(pd.DataFrame(one), self.cluster, k=k, seed=self.seed) for one in sets])
        found = np.empty((len(sets), len(sets[0])), dtype=np.int64)
        for width in {one.shape[1] for one in sets}:
            those = [place for place, one in enumerate(sets) if one.shape[1] == width]
            found[those] = kmeans_labels(np.stack([sets[place] for place in those]), int(k), seed=self.seed)
        return found
