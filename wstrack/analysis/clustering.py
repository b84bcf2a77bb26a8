"""From points to clusters of layers."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import (
    DBSCAN,
    HDBSCAN,
    AgglomerativeClustering,
    KMeans,
    MeanShift,
    SpectralClustering,
    estimate_bandwidth,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from wstrack.analysis.estimators import run, seeded_copy
from wstrack.analysis.kmedoids import KMedoids
from wstrack.analysis.measures import silhouette, within

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CLUSTERINGS",
    "NOISE",
    "Clustering",
    "K",
    "by_depth",
    "check_name",
    "cluster",
    "labels_of",
    "ordered_labels",
    "own_k",
    "takes_k",
]

K = int | Literal["auto"]
CLUSTERINGS = {
    "kmeans": "k-means",
    "kmedoids": "k-medoids",
    "ward": "Ward",
    "gmm": "Gaussian mixture",
    "spectral": "spectral clustering",
    "dbscan": "DBSCAN",
    "hdbscan": "HDBSCAN",
    "meanshift": "mean shift",
}
_OWN_K = ("dbscan", "hdbscan", "meanshift")
NOISE = -1
_CURVE_UP_TO = 17  # the k that the WeightScale authors show
_AUTO_UP_TO = 10  # more clusters than that are not an overview
_DISTANCES_UP_TO = 500  # layers
_FEW_STARTS_FROM = 300  # layers; for the other k of the curve
_K_PARAMETERS = ("n_clusters", "n_components")


@dataclass(frozen=True)
class Clustering:
    """Which layers belong together.

    Attributes:
        labels: by layer, the cluster's number from 1 in the order of the clusters' mean depth; -1 is noise.
        k: how many clusters there are, noise not counted.
        curve: for a named method that takes k, by k, `inertia` (sum of squared distances to the centres) and
            `silhouette` (NaN at 1); empty for other methods. With more than 300 layers, k-means has 3 starts for the k
            that are not the one asked for.
        silhouette: mean silhouette of the layers that are not noise, of more than 500 by every so many over the depth
            (-1..1, higher = better apart); NaN where it is undefined: fewer than two clusters, or a cluster for each
            layer.
        method: its name, for people.
        chosen: how k was chosen, in words.
    """

    labels: pd.Series[int]
    k: int
    curve: pd.DataFrame
    silhouette: float
    method: str
    chosen: str


def cluster(points: pd.DataFrame, method: Any = "kmeans", *, k: K = "auto", seed: int = 0) -> Clustering:
    """Group layers that lie close together.

    Args:
        points: rows = layers in model order, columns = coordinates, finite: `Reduction.points`, or `Prepared.values`
            for the curves themselves.
        method: "kmeans" (k-means++, 10 starts, at most 300 iterations, as the WeightScale authors have it),
            "kmedoids", "ward", "gmm" (a Gaussian mixture), "spectral"; "dbscan", "hdbscan", "meanshift", which find
            their own number of clusters, the first two with noise; or an instance of any scikit-learn clusterer.
        k: the number of clusters; "auto" takes the highest silhouette from 2 to 10 clusters where the method has a
            name and takes a number, and leaves any other method as it is set. (`choose` has better ways.)
        seed: of what is random in the method; the same seed gives the same clusters.

    Raises:
        ValueError: an unknown name, a k that the layers or the method cannot have, or a clusterer that fails.
        TypeError: an object without `fit_predict`, or a k that is not a whole number.

    Example:
        >>> points = pd.DataFrame({"x": [0.0, 0.1, 9.0, 9.1, 0.2]}, index=["a", "b", "c", "d", "e"])
        >>> clustering = cluster(points)
        >>> clustering.labels.to_dict(), clustering.k
        ({'a': 1, 'b': 1, 'c': 2, 'd': 2, 'e': 1}, 2)
    """
    _check_k(k, len(points))
    if isinstance(method, str):
        check_name(method)
    if not isinstance(method, str) or method in _OWN_K:
        labels = labels_of(points, method, k=k, seed=seed)
        name = CLUSTERINGS[method] if isinstance(method, str) else type(method).__name__
        chosen = f"by {name}, as it is set" if k == "auto" else "as asked for"
        return _clustering(points, labels, _curve({}), name, chosen)

    matrix = points.to_numpy(dtype=np.float64)
    fits = {}
    for count in range(1, max(1, min(_CURVE_UP_TO, len(matrix) - 1)) + 1):
        few = method == "kmeans" and k not in ("auto", count) and len(matrix) > _FEW_STARTS_FROM
        labels = labels_of(points, KMeans(n_init=3) if few else method, k=count, seed=seed)
        if len(np.unique(labels)) < count:
            break
        fits[count] = labels
    shown = _shown(matrix)
    between = squareform(pdist(matrix[shown]))
    silhouettes = {count: _silhouette(between, labels[shown]) for count, labels in fits.items()}
    if k == "auto":
        candidates = [count for count in silhouettes if 2 <= count <= _AUTO_UP_TO]
        wanted = max(candidates, key=silhouettes.__getitem__, default=1)  # the smallest of equals
        chosen = (
            f"highest silhouette of k = 2 to {candidates[-1]}" if candidates else "too few distinct layers to choose"
        )
    else:
        wanted, chosen = int(k), "as asked for"
    labels = fits[wanted] if wanted in fits else ordered_labels(points, method, k=wanted, seed=seed)
    curve = _curve({count: (within(matrix, labels), silhouettes[count]) for count, labels in fits.items()})
    return _clustering(points, labels, curve, CLUSTERINGS[method], chosen)


def ordered_labels(points: pd.DataFrame, method: Any = "kmeans", *, k: K, seed: int = 0) -> NDArray[np.int64]:
    """The labels of `cluster` with a `k` that is chosen, without the curve over all others.

    Raises:
        ValueError, TypeError: as `cluster` raises them.
    """
    _check_k(k, len(points))
    labels = labels_of(points, method, k=k, seed=seed)
    found = len(np.unique(labels))
    if isinstance(method, str) and k != "auto" and found < k:
        raise ValueError(f"k={k} is more than the {found} distinct layers there are; pass k= (--k) at most {found}")
    return by_depth(labels)


def labels_of(points: pd.DataFrame, method: Any = "kmeans", *, k: K, seed: int = 0) -> NDArray[np.int64]:
    """Only the labels, as the method itself gives them: the part of `cluster` that resampling needs many times over.

    A named method that takes k needs a number for it, and finds fewer clusters where there are fewer distinct points.
    """
    matrix = points.to_numpy(dtype=np.float64)
    name = method if isinstance(method, str) else type(method).__name__
    if isinstance(method, str):
        check_name(method)
        if method not in _OWN_K and k != "auto":
            k = min(int(k), len(np.unique(matrix, axis=0)))
            if k == 1:
                return np.zeros(len(matrix), dtype=np.int64)
        method = _named(method, matrix)
    clusterer = seeded_copy(method, "fit_predict", seed)
    if k != "auto":
        parameter = next((name for name in _K_PARAMETERS if name in clusterer.get_params()), None)
        if parameter is None:
            raise ValueError(
                f"{name} takes no number of clusters, so k={k} cannot be met; "
                "leave out k= (--k) or choose another method: cluster= (--cluster)"
            )
        clusterer.set_params(**{parameter: int(k)})
    with warnings.catch_warnings():
        # They warn where there are fewer distinct points than clusters, or several clouds; the callers see the labels.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "Graph is not fully connected", UserWarning)
        labels = run(clusterer, "fit_predict", matrix)
    if labels.shape != (len(matrix),) or labels.dtype.kind not in "iu":
        raise ValueError(f"{name} must return a whole number for each of the {len(matrix)} layers, got {labels!r:.200}")
    return labels.astype(np.int64)


def takes_k(method: Any) -> bool:
    """Whether the method is set to make a given number of clusters, rather than to find its own."""
    if isinstance(method, str):
        return method not in _OWN_K
    return any(getattr(method, name, None) is not None for name in _K_PARAMETERS)


def own_k(method: Any) -> int | None:
    """The number of clusters that a user gave an estimator; None for its default, and for a method by name.

    Example:
        >>> own_k(KMeans(4)), own_k(KMeans()), own_k("kmeans")
        (4, None, None)
    """
    if isinstance(method, str):
        return None
    for name in _K_PARAMETERS:
        number = getattr(method, name, None)
        default = inspect.signature(type(method)).parameters.get(name)
        if isinstance(number, Integral) and default is not None and number != default.default:
            return int(number)
    return None


def _named(method: str, matrix: NDArray[np.float64]) -> Any:
    """The estimator behind a name; what it needs beside k comes from the distances between neighbours."""
    neighbours = min(4, len(matrix) - 1)
    if method == "kmeans":
        return KMeans(init="k-means++", n_init=10, max_iter=300)
    if method == "kmedoids":
        return KMedoids()
    if method == "ward":
        return AgglomerativeClustering()
    if method == "gmm":
        spread = float(matrix.var(axis=0).max()) or 1.0
        return GaussianMixture(n_init=3, reg_covar=1e-4 * spread)
    if method == "spectral":
        return SpectralClustering(affinity="nearest_neighbors", n_neighbors=min(10, len(matrix) - 1))
    if method == "hdbscan":
        return HDBSCAN(min_cluster_size=max(3, len(matrix) // 20), allow_single_cluster=False, copy=True)
    if method == "meanshift":
        return MeanShift(bandwidth=float(estimate_bandwidth(matrix, quantile=0.2)) or None)
    reach = NearestNeighbors(n_neighbors=neighbours + 1).fit(matrix).kneighbors(matrix)[0][:, -1]
    return DBSCAN(eps=2 * float(np.median(reach)) or 1e-12, min_samples=neighbours)


def _clustering(
    points: pd.DataFrame, labels: NDArray[np.int64], curve: pd.DataFrame, method: str, chosen: str
) -> Clustering:
    """The labels numbered by depth, and what follows from them."""
    matrix = points.to_numpy(dtype=np.float64)
    shown = _shown(matrix)
    numbered = by_depth(labels)
    return Clustering(
        labels=pd.Series(numbered, index=points.index, name="cluster"),
        k=len(set(numbered) - {NOISE}),
        curve=curve,
        silhouette=_silhouette(squareform(pdist(matrix[shown])), numbered[shown]),
        method=method,
        chosen=chosen,
    )


def by_depth(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels numbered from 1 in the order of the clusters' mean depth; noise stays -1.

    Example:
        >>> by_depth(np.array([7, 7, -1, 2])).tolist()
        [1, 1, -1, 2]
    """
    depth = np.arange(len(labels))
    found = [int(label) for label in np.unique(labels) if label >= 0]
    found.sort(key=lambda label: (depth[labels == label].mean(), depth[labels == label][0]))
    numbered = np.full(len(labels), NOISE, dtype=np.int64)
    for number, label in enumerate(found, start=1):
        numbered[labels == label] = number
    return numbered


def _shown(matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    """The layers that a silhouette is taken of: all distances of very many take too much memory."""
    most = min(len(matrix), _DISTANCES_UP_TO)
    return np.linspace(0, len(matrix) - 1, most).astype(np.int64)


def _silhouette(between: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean silhouette (Rousseeuw 1987) of the layers that are not noise; NaN where it is undefined."""
    clustered = labels >= 0
    if not 2 <= len(np.unique(labels[clustered])) < clustered.sum():
        return float("nan")
    return silhouette(between, labels)


def _curve(rows: dict[int, tuple[float, float]]) -> pd.DataFrame:
    """`Clustering.curve` from inertia and silhouette by k."""
    index = pd.Index(list(rows), name="k", dtype=np.int64)
    return pd.DataFrame(list(rows.values()), index=index, columns=["inertia", "silhouette"], dtype=np.float64)


def check_name(method: str) -> None:
    """Refuse a name that is none of `CLUSTERINGS`."""
    if method not in CLUSTERINGS:
        raise ValueError(
            f"unknown clustering {method!r}; pass cluster= (--cluster) one of: {', '.join(CLUSTERINGS)}; "
            "or, in Python, a scikit-learn clusterer"
        )


def _check_k(k: K, layers: int) -> None:
    remedy = f"pass k= (--k) 'auto' or a whole number from 1 to {layers}"
    if k == "auto":
        return
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise TypeError(f"k={k!r} is not a number of clusters; {remedy}")
    if k < 1:
        raise ValueError(f"k={k} is not a number of clusters; {remedy}")
    if k > layers:
        raise ValueError(f"k={k} is more than the {layers} layers there are; pass k= (--k) at most {layers}")
