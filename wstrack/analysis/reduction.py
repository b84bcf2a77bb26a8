"""From curves to points on a plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.decomposition import NMF, PCA, TruncatedSVD
from sklearn.manifold import TSNE, Isomap
from sklearn.utils.extmath import randomized_svd

from wstrack.analysis.estimators import run, seeded_copy

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "COMPONENTS",
    "REDUCTIONS",
    "Planes",
    "Reduction",
    "check_reduction",
    "planes",
    "planes_of_factors",
    "reduce",
]

Planes = Callable[["NDArray[np.int64]"], "NDArray[np.float64]"]  # from steps to points of shape (layers, components)
REDUCTIONS = {"pca": "PCA", "svd": "SVD", "nmf": "NMF", "isomap": "Isomap", "tsne": "t-SNE", "umap": "UMAP"}
COMPONENTS = 60  # of a large matrix; what comes after them has no say in its first two
_EXACT_UP_TO = 200_000  # cells; above it ARPACK gives the same two components in a fraction of the time


@dataclass(frozen=True)
class Reduction:
    """Layers as points.

    Attributes:
        points: rows = layers in model order, columns `component_1` and `component_2`, float64.
        explained: the share of the variance that each component explains, or None where the method does not say.
        method: its name, for people.
    """

    points: pd.DataFrame
    explained: tuple[float, ...] | None
    method: str


def reduce(values: pd.DataFrame, method: Any = "pca", *, seed: int = 0) -> Reduction:
    """Reduce each layer's curve to two components; the second is zero where the data carry only one.

    Args:
        values: rows = layers, columns = steps, finite (`Prepared.values`).
        method: "pca" (unscaled, as the paper has it), "svd" (PCA without taking off the mean), "nmf" (of the values
            above their smallest), "isomap", "tsne", "umap" (an extra), or an instance of any scikit-learn transformer,
            of which the first two output columns are used. t-SNE and UMAP keep neighbours, not distances.
        seed: of what is random in the method; the same seed gives the same points.

    Raises:
        ValueError: an unknown name, or a transformer that fails or returns no finite matrix with a row a layer.
        TypeError: an object without `fit_transform`.
        ModuleNotFoundError: "umap" without the extra.

    Example:
        >>> values = pd.DataFrame([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]], index=["a", "b", "c"])
        >>> reduction = reduce(values)
        >>> reduction.points["component_1"].abs().round(6).tolist()
        [5.0, 0.0, 5.0]
        >>> [round(share, 6) for share in reduction.explained]
        [1.0, 0.0]
    """
    matrix = values.to_numpy(dtype=np.float64)
    name = type(method).__name__
    if isinstance(method, str):
        check_reduction(method)
        name = REDUCTIONS[method]
        if (matrix == matrix[0]).all():  # no direction is better than another, and rounding must not choose one
            return Reduction(_plane(np.zeros((len(matrix), 2)), values.index), None, name)
        if method == "nmf":
            matrix = matrix - matrix.min()
        method = _named(method, matrix)
    fitted = seeded_copy(method, "fit_transform", seed)
    points = run(fitted, "fit_transform", matrix)
    if points.ndim != 2 or len(points) != len(matrix) or not points.shape[1] or points.dtype.kind not in "fiu":
        raise ValueError(
            f"{name} must return numbers in a row for each of the {len(matrix)} layers, got {points.shape}"
        )
    if not np.isfinite(points).all():
        raise ValueError(f"{name} returned values that are not finite; choose another method: reduce= (--reduce)")
    shares = getattr(fitted, "explained_variance_ratio_", None)
    return Reduction(
        points=_plane(points.astype(np.float64), values.index),
        explained=None if shares is None else tuple(float(share) for share in [*shares, 0.0][:2]),
        method=name,
    )


def check_reduction(method: str) -> None:
    """Refuse a name that is none of `REDUCTIONS`."""
    if method not in REDUCTIONS:
        raise ValueError(
            f"unknown reduction {method!r}; pass reduce= (--reduce) one of: {', '.join(REDUCTIONS)}; "
            "or, in Python, a scikit-learn transformer"
        )


def _named(method: str, matrix: NDArray[np.float64]) -> Any:
    """The estimator behind a name."""
    components = min(2, *matrix.shape)
    if method == "svd":
        return TruncatedSVD(components, n_iter=20)
    if method == "nmf":
        return NMF(components, init="nndsvda", max_iter=1000)
    if method == "isomap":
        return Isomap(n_neighbors=min(10, len(matrix) - 1), n_components=components)
    if method == "tsne":
        return TSNE(perplexity=min(30.0, (len(matrix) - 1) / 3), init="pca" if min(matrix.shape) > 1 else "random")
    if method == "umap":
        try:
            from umap import UMAP
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("reduce='umap' needs umap-learn: pip install 'wstrack[umap]'") from error
        # One thread, as a seed asks for: else each reduction warns.
        start = "random" if len(matrix) < 5 else "pca"
        return UMAP(n_neighbors=min(15, len(matrix) - 1), n_components=2, init=start, n_jobs=1)
    large = matrix.size > _EXACT_UP_TO and min(matrix.shape) > components
    return PCA(components, svd_solver="arpack" if large else "full")


def _plane(points: NDArray[np.float64], layers: pd.Index) -> pd.DataFrame:
    """The first two columns of `points`, zeros where there is no second."""
    padded = np.hstack([points, np.zeros((len(points), 1))])[:, :2]
    return pd.DataFrame(padded, index=layers, columns=["component_1", "component_2"])


def planes(matrix: NDArray[np.float64], method: Any = "pca", *, seed: int = 0, components: int = 2) -> Planes:
    """The points of `reduce` from any of the steps, without its names: what resampling asks for hundreds of times.

    Of "pca" they come from the matrix's first 60 components, of which there are no more with up to 60 layers or steps;
    of other methods, with two components, from the method itself.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> matrix = rng.normal(size=(6, 9))
        >>> first = planes(matrix, "pca")(np.arange(5))
        >>> again = reduce(pd.DataFrame(matrix[:, :5])).points.to_numpy()
        >>> bool(np.allclose(np.abs(first), np.abs(again)))
        True
    """
    if method != "pca":
        return lambda steps: reduce(pd.DataFrame(matrix[:, steps]), method, seed=seed).points.to_numpy()
    centred = matrix - matrix.mean(axis=0)
    if min(matrix.shape) > 2 * COMPONENTS:
        left, lengths, right = randomized_svd(centred, COMPONENTS, n_iter=3, random_state=0)
    else:
        left, lengths, right = np.linalg.svd(centred, full_matrices=False)
    return _of_factors(left, lengths[:, None] * right, components)


def planes_of_factors(scores: NDArray[np.float64], spread: NDArray[np.float64]) -> Planes:
    """`planes` by "pca" of the matrix `scores @ spread`, which is never made."""
    left, rest = np.linalg.qr(scores - scores.mean(axis=0))
    return _of_factors(left, rest @ spread, 2)


def _of_factors(left: NDArray[np.float64], right: NDArray[np.float64], components: int) -> Planes:
    """Of a centred matrix `left @ right`, where the columns of `left` are orthonormal."""

    def plane(steps: NDArray[np.int64]) -> NDArray[np.float64]:
        some = right[:, steps]
        squares, turned = np.linalg.eigh(some @ some.T)
        points = np.zeros((len(left), components))
        most = min(components, len(squares))
        lengths = np.sqrt(np.maximum(squares[::-1][:most], 0.0))
        points[:, :most] = left @ (turned[:, ::-1][:, :most] * lengths)
        return points

    return plane
