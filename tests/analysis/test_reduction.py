from __future__ import annotations

import importlib.util
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF, FastICA
from sklearn.feature_selection import VarianceThreshold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.random_projection import GaussianRandomProjection
from threadpoolctl import threadpool_limits

from wstrack.analysis import reduce


def frame(layers: int, steps: int, seed: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=(layers, steps)).cumsum(axis=1)
    return pd.DataFrame(values, index=[f"l{number}" for number in range(layers)])


def distances(points: pd.DataFrame) -> Any:
    matrix = points.to_numpy()
    return np.linalg.norm(matrix[:, None] - matrix[None], axis=2)


@pytest.mark.parametrize("shape", [(30, 25), (5, 200), (200, 3), (3000, 340)])
def test_pca_is_the_centred_svd(shape: tuple[int, int]) -> None:
    values = frame(*shape)
    reduction = reduce(values)
    with threadpool_limits(1):
        u, s, _ = np.linalg.svd(values.to_numpy() - values.to_numpy().mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(reduction.points), np.abs(u[:, :2] * s[:2]), rtol=1e-6, atol=1e-8)
    assert reduction.explained is not None
    np.testing.assert_allclose(reduction.explained, s[:2] ** 2 / (s**2).sum())
    assert reduction.method == "PCA"


def test_svd_does_not_centre() -> None:
    values = frame(40, 60) + 5
    reduction = reduce(values, "svd")
    u, s, _ = np.linalg.svd(values.to_numpy(), full_matrices=False)
    np.testing.assert_allclose(np.abs(reduction.points), np.abs(u[:, :2] * s[:2]), rtol=1e-6, atol=1e-8)
    assert reduction.points.columns.tolist() == ["component_1", "component_2"]
    assert reduction.points.index.equals(values.index)


@pytest.mark.parametrize(
    "method", ["pca", "svd", FastICA(2), make_pipeline(StandardScaler(), GaussianRandomProjection(2))]
)
def test_same_seed_same_points(method: object) -> None:
    values = frame(20, 15)
    pd.testing.assert_frame_equal(reduce(values, method, seed=3).points, reduce(values, method, seed=3).points)


def test_seed_reaches_what_is_random_and_leaves_what_is_set() -> None:
    values = frame(20, 15)
    free, fixed = GaussianRandomProjection(2), GaussianRandomProjection(2, random_state=1)
    assert not reduce(values, free, seed=1).points.equals(reduce(values, free, seed=2).points)
    pd.testing.assert_frame_equal(reduce(values, fixed, seed=1).points, reduce(values, fixed, seed=2).points)
    assert free.random_state is None
    assert not hasattr(free, "components_")


@pytest.mark.parametrize("method", ["pca", "svd"])
def test_one_dimension_is_padded(method: str) -> None:
    line = pd.DataFrame(np.outer([1.0, 2.0, 4.0], [1.0, 3.0]), index=list("abc"))
    points = reduce(line, method).points
    np.testing.assert_allclose(points["component_2"], 0, atol=1e-12)
    np.testing.assert_allclose(distances(points), distances(line))
    narrow = reduce(line, FunctionTransformer(lambda values: values[:, :1]))
    assert narrow.points["component_2"].tolist() == [0, 0, 0]
    assert narrow.explained is None
    assert narrow.method == "FunctionTransformer"


def test_two_layers_make_a_line() -> None:
    reduction = reduce(frame(2, 9))
    assert reduction.points.shape == (2, 2)
    assert reduction.explained is not None
    assert reduction.explained[0] == pytest.approx(1)


@pytest.mark.parametrize("method", ["pca", "svd"])
def test_equal_layers_are_one_point(method: str) -> None:
    reduction = reduce(pd.DataFrame(np.full((7, 11), 0.1)), method)
    assert (reduction.points == 0).all(axis=None)
    assert reduction.explained is None


def test_wide_output_keeps_the_first_two_columns() -> None:
    values = frame(6, 5)
    points = reduce(values, StandardScaler()).points
    np.testing.assert_allclose(points, StandardScaler().fit_transform(values.to_numpy())[:, :2])


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        ("lda", ValueError, r"unknown reduction 'lda'; pass reduce= \(--reduce\) one of: pca, svd"),
        (FastICA, TypeError, "expected an instance .* fit_transform.*, got the class FastICA"),
        (7, TypeError, r"fit_transform\(\), got 7"),
        (NMF(2), ValueError, "NMF failed on 6 layers: Negative values"),
        (VarianceThreshold(1e9), ValueError, "VarianceThreshold failed on 6 layers"),
        (
            FunctionTransformer(lambda values: values[0]),
            ValueError,
            r"FunctionTransformer must return .* 6 layers, got \(5,\)",
        ),
        (
            FunctionTransformer(lambda values: values * np.nan),
            ValueError,
            "FunctionTransformer returned values that are not",
        ),
    ],
)
def test_wrong_methods(method: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        reduce(frame(6, 5), method)


def test_a_clusterer_that_transforms_is_welcome() -> None:
    assert reduce(frame(6, 5), KMeans(3)).points.shape == (6, 2)


@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="the extra wstrack[umap] is not installed")
def test_umap_keeps_two_groups_apart() -> None:
    level = np.repeat([0.0, 5.0], 12)
    values = pd.DataFrame(level[:, None] + np.random.default_rng(0).normal(size=(24, 30)))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "n_jobs")
        reduction = reduce(values, "umap", seed=3)
    assert (reduction.method, reduction.explained, reduction.points.shape) == ("UMAP", None, (24, 2))
    assert np.isfinite(reduction.points).all(axis=None)
    together = level[:, None] == level
    between = distances(reduction.points)
    assert between[together].max() < between[~together].min()
    pd.testing.assert_frame_equal(reduction.points, reduce(values, "umap", seed=3).points)
    assert not reduction.points.equals(reduce(values, "umap", seed=4).points)
    assert np.isfinite(reduce(values.head(3), "umap").points).all(axis=None)


def test_umap_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ModuleNotFoundError, match=r"reduce='umap' needs umap-learn: pip install 'wstrack\[umap\]'"):
        reduce(frame(6, 5), "umap")
