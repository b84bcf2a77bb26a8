from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from wstrack.analysis.kmeans import kmeans_labels
from wstrack.analysis.measures import rand_index, within


@pytest.mark.parametrize("points", [20, 300], ids=["at once", "one by one"])
def test_it_is_as_good_as_that_of_scikit_learn(points: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 3)) * 10
    sets = np.stack([centres[rng.integers(5, size=points)] + rng.normal(size=(points, 3)) for _ in range(6)])
    for one, labels in zip(sets, kmeans_labels(sets, 5), strict=True):
        theirs = KMeans(5, n_init=20, random_state=0).fit(one)
        assert within(one, labels) <= theirs.inertia_ * 1.02


def test_planted_clusters_are_found_in_every_set_whatever_else_is_in_the_batch() -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], 10)
    sets = np.stack([scale * (100.0 * truth[:, None] + rng.normal(size=(30, 2))) for scale in (1e-6, 1.0, 1e6)])
    assert [rand_index(labels, truth) for labels in kmeans_labels(sets, 3)] == [1.0, 1.0, 1.0]
    alone = kmeans_labels(sets[:1], 3)[0]
    assert rand_index(alone, truth) == 1.0


def test_fewer_distinct_points_than_clusters() -> None:
    equal = np.zeros((2, 8, 2))
    equal[1, 4:] = 1.0
    labels = kmeans_labels(equal, 3)
    assert len(set(labels[0])) == 1
    assert len(set(labels[1])) == 2
    assert kmeans_labels(equal, 1).tolist() == np.zeros((2, 8)).tolist()


def test_the_same_seed_gives_the_same_labels() -> None:
    sets = np.random.default_rng(0).normal(size=(5, 40, 2))
    assert (kmeans_labels(sets, 4, seed=3) == kmeans_labels(sets, 4, seed=3)).all()
