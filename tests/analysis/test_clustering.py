from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN, AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

from wstrack.analysis import agreement, cluster, prepare, reduce
from wstrack.analysis.clustering import labels_of
from wstrack.analysis.measures import within

if TYPE_CHECKING:
    from pathlib import Path


def planted(*centres: float, each: int = 12, seed: int = 0) -> pd.DataFrame:
    """Layers around each centre, one group after the other."""
    middle = np.repeat(centres, each)[:, None]
    values = middle + np.random.default_rng(seed).normal(scale=0.1, size=(len(middle), 2))
    return pd.DataFrame(values, index=[f"l{number}" for number in range(len(middle))])


@pytest.mark.parametrize(
    ("name", "k", "plane", "curves"),
    [
        ("resnet50-cifar100", 4, 1.0, None),
        ("efficientnet_b4-cifar100", 3, 1.0, 1.0),
        ("resnet50-cifar10", 4, 0.93, 1.0),
        ("efficientnet_b4-cifar10", 3, 0.82, None),
    ],
)
def test_published_clusters(weightscale: Path, name: str, k: int, plane: float, curves: float | None) -> None:
    series = pd.read_csv(weightscale / f"{name}.csv", index_col=0).T.set_axis(range(1, 26))
    groups = json.loads((weightscale / f"{name}.published-clusters.json").read_text())["clusters"]
    published = pd.Series({layer: number for number, layers in enumerate(groups) for layer in layers})
    values = prepare(series, preset="weightscale").values
    assert set(values.index) == set(published.index)
    assert agreement(cluster(reduce(values).points, k=k).labels, published) >= plane
    if curves is not None:
        assert agreement(cluster(values, k=k).labels, published) >= curves


def test_planted_clusters_are_found_and_counted() -> None:
    clustering = cluster(planted(0, 9, 4))
    assert clustering.k == 3
    assert clustering.labels.tolist() == [1] * 12 + [2] * 12 + [3] * 12
    assert clustering.chosen == "highest silhouette of k = 2 to 10"
    assert clustering.method == "k-means"


def test_numbers_follow_mean_depth() -> None:
    points = pd.DataFrame({"x": [5.0, 0.0, 5.1, 9.0, 0.1, 9.1]}, index=list("abcdef"))
    assert cluster(points, k=3).labels.to_dict() == {"a": 1, "b": 2, "c": 1, "d": 3, "e": 2, "f": 3}


def test_curve_is_inertia_and_silhouette() -> None:
    points = planted(0, 9, 4)
    clustering = cluster(points, k=3)
    curve = clustering.curve
    assert curve.index.tolist() == list(range(1, 18))
    assert curve["inertia"].loc[1] == pytest.approx(((points - points.mean()) ** 2).to_numpy().sum())
    assert curve["inertia"].is_monotonic_decreasing
    assert np.isnan(curve["silhouette"].loc[1])
    assert curve["silhouette"].loc[3] == pytest.approx(silhouette_score(points, np.repeat([0, 1, 2], 12)))
    assert clustering.silhouette == curve["silhouette"].loc[3]
    assert len(cluster(planted(0, 1, each=3)).curve) == 5


def test_same_seed_same_clusters() -> None:
    points = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)))
    first, second = cluster(points, k=7, seed=5), cluster(points, k=7, seed=5)
    pd.testing.assert_series_equal(first.labels, second.labels)
    pd.testing.assert_frame_equal(first.curve, second.curve)


@pytest.mark.parametrize("k", [1, 2, 12])
def test_every_possible_k(k: int) -> None:
    clustering = cluster(planted(0, 5, each=6), k=k)
    assert clustering.k == clustering.labels.nunique() == k
    assert np.isnan(clustering.silhouette) == (k != 2)
    assert clustering.chosen == "as asked for"


def test_too_few_layers_to_choose_make_one_cluster() -> None:
    for points in (pd.DataFrame({"x": [0.0, 9.0]}), pd.DataFrame(np.zeros((8, 2)))):
        clustering = cluster(points)
        assert clustering.k == 1
        assert clustering.chosen == "too few distinct layers to choose"
        assert clustering.curve.index.tolist() == [1]


@pytest.mark.filterwarnings("error")
def test_duplicates_bound_k() -> None:
    points = pd.DataFrame({"x": np.repeat([0.1, 0.7, 3.3], 5)})
    clustering = cluster(points)
    assert clustering.k == 3
    assert clustering.curve.index.tolist() == [1, 2, 3]
    with pytest.raises(
        ValueError, match=r"k=4 is more than the 3 distinct layers there are; pass k= \(--k\) at most 3"
    ):
        cluster(points, k=4)


def test_any_clusterer() -> None:
    points = planted(0, 9, 4)
    mixture = GaussianMixture(2)
    clustering = cluster(points, mixture, k=3)
    assert clustering.labels.tolist() == [1] * 12 + [2] * 12 + [3] * 12
    assert clustering.method == "GaussianMixture"
    assert clustering.curve.empty
    assert clustering.silhouette > 0.9
    assert mixture.n_components == 2
    assert not hasattr(mixture, "means_")
    assert cluster(points, AgglomerativeClustering(2)).k == 2
    assert cluster(points, AgglomerativeClustering(2)).chosen == "by AgglomerativeClustering, as it is set"


def test_noise_is_not_a_cluster() -> None:
    points = pd.concat([planted(9, 0), pd.DataFrame([[50.0, 50.0]], index=["far"])])
    clustering = cluster(points, DBSCAN(eps=1))
    assert clustering.labels.tolist() == [1] * 12 + [2] * 12 + [-1]
    assert clustering.k == 2
    assert clustering.silhouette == pytest.approx(silhouette_score(points[:-1], clustering.labels[:-1]))
    nothing = cluster(points, DBSCAN(eps=1e-9))
    assert nothing.k == 0
    assert set(nothing.labels) == {-1}


def test_agreement_is_over_common_layers() -> None:
    first = pd.Series([1, 1, 2, 2, 1], index=list("abcde"))
    second = pd.Series([7, 7, 3, 3], index=list("dcba"))
    assert agreement(first, second) == 1
    assert agreement(first, pd.Series([1, 2, 1, 2], index=list("abcd"))) == pytest.approx(-0.5)
    with pytest.raises(ValueError, match="no layer in common"):
        agreement(first, pd.Series([1], index=["z"]))


@pytest.mark.parametrize(
    ("method", "k", "error", "message"),
    [
        ("optics", "auto", ValueError, r"unknown clustering 'optics'; pass cluster= \(--cluster\) one of: kmeans, "),
        ("kmeans", 99, ValueError, r"k=99 is more than the 20 layers there are; pass k= \(--k\) at most 20"),
        ("kmeans", 0, ValueError, r"k=0 is not a number of clusters; pass k= \(--k\) 'auto' or .* from 1 to 20"),
        ("kmeans", "4", TypeError, r"k='4' is not a number of clusters; pass k= \(--k\)"),
        ("kmeans", True, TypeError, "k=True is not a number"),
        ("kmeans", 2.0, TypeError, "k=2.0 is not a number"),
        (DBSCAN(), 3, ValueError, "DBSCAN takes no number of clusters, so k=3 cannot be met; leave out k="),
        (DBSCAN(eps=-1.0), "auto", ValueError, "DBSCAN failed on 20 layers: .*eps"),
        (KMeans, 3, TypeError, "expected an instance .* fit_predict.*, got the class KMeans"),
        (PCA(), "auto", TypeError, r"fit_predict\(\), got PCA"),
    ],
)
def test_wrong_arguments(method: object, k: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cluster(planted(0, 9, each=10), method, k=k)  # type: ignore[arg-type]


def test_the_curve_over_k_is_as_low_as_the_method_gets_it() -> None:
    points = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)))
    curve = cluster(points, k=3).curve["inertia"]
    best = {k: within(points.to_numpy(), labels_of(points, "kmeans", k=k)) for k in curve.index if k > 1}
    assert all(curve[k] <= 1.001 * inertia for k, inertia in best.items())  # the elbow is read off it
