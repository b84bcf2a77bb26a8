from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN, KMeans
from sklearn.mixture import GaussianMixture

from wstrack.analysis import Procedure
from wstrack.analysis.clustering import CLUSTERINGS


@pytest.mark.parametrize("method", CLUSTERINGS)
def test_only_what_takes_a_number_gets_one(method: str) -> None:
    takes = method not in ("dbscan", "hdbscan", "meanshift")
    assert Procedure(cluster=method).takes_k == Procedure(cluster=method).chooses_k == takes
    assert Procedure(cluster=method).with_k(3).number == (3 if takes else "auto")
    assert not Procedure(cluster=method).with_k(3).chooses_k


def test_an_estimator_tells_by_its_parameters() -> None:
    assert Procedure(cluster=KMeans(2), k=3).number == 3
    assert Procedure(cluster=DBSCAN()).number == "auto"


def test_the_labels_are_those_of_each_set_alone() -> None:
    rng = np.random.default_rng(0)
    level = np.repeat([0.0, 8.0, 16.0], 5)[:, None]
    sets = [level + rng.normal(size=(15, width)) for width in (2, 3, 2)]
    for method in ("kmeans", "ward"):
        labels = Procedure(cluster=method).labels(sets, 3)
        assert labels.shape == (3, 15)
        for row in labels:
            assert pd.Series(row).groupby(np.repeat([0, 1, 2], 5)).nunique().tolist() == [1, 1, 1]


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"unknown cluster_on 'tree'; pass cluster_on= \(--cluster-on\) one of: plane"):
        Procedure(cluster_on="tree")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"k=3: 'dbscan' finds its own number of clusters; leave out k= \(--k\)"):
        Procedure(cluster="dbscan", k=3)
    with pytest.raises(ValueError, match=r"unknown k='elbow'; pass k= \(--k\) a number, or one of: auto, stability"):
        Procedure(k="elbow")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k='gap' is not chosen yet"):
        _ = Procedure(k="gap").number


def test_an_estimator_brings_its_number_of_clusters() -> None:
    assert Procedure(cluster=KMeans(4)).k == 4
    assert Procedure(cluster=KMeans(4), k=3).k == 3
    assert Procedure(cluster=KMeans(4), k="gap").k == "gap"
    assert Procedure(cluster=KMeans()).chooses_k
    assert Procedure(cluster=GaussianMixture(n_components=5)).number == 5
    assert Procedure(cluster=DBSCAN()).number == "auto"
