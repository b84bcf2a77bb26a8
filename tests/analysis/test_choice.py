from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN

from wstrack.analysis import Procedure, choose, compare_clusterings, prepare
from wstrack.analysis.resampling import resample

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def groups(apart: float, *, many: int = 3, layers: int = 24, steps: int = 30, seed: int = 0) -> pd.DataFrame:
    level = apart * (np.arange(layers) * many // layers)[:, None]
    return pd.DataFrame(level + np.random.default_rng(seed).normal(size=(layers, steps)))


@pytest.mark.parametrize(
    ("name", "authors"),
    [
        ("resnet50-cifar10", 4),
        ("resnet50-cifar100", 4),
        ("efficientnet_b4-cifar10", 3),
        ("efficientnet_b4-cifar100", 3),
    ],
)
def test_the_choice_is_as_stable_as_the_authors(weightscale: Path, name: str, authors: int) -> None:
    """On their own series; where no k stands out from one cloud, so is the k of two or more that halves agree on."""
    series = pd.read_csv(weightscale / f"{name}.csv", index_col=0).T.set_axis(range(1, 26))
    choice = choose(prepare(series).values, nulls=19)
    assert choice.table["agreement"].notna().all()
    assert choice.table.index.tolist() == list(range(2, 11))
    theirs = resample(prepare(series, preset="weightscale").values, Procedure(), [authors], nulls=0)
    assert choice.table["agreement"].loc[choice.best] >= theirs.agreement.mean()
    assert choice.k in (1, choice.best)


@pytest.mark.parametrize("by", ["stability", "gap", "silhouette"])
@pytest.mark.parametrize("many", [2, 3])
def test_each_way_counts_planted_clusters(by: str, many: int) -> None:
    choice = choose(groups(6, many=many), Procedure(k=by), nulls=19)  # type: ignore[arg-type]
    assert choice.k == choice.best == many


def test_the_gap_is_that_of_tibshirani() -> None:
    """2001, section 3: the mean of log W of null data less that of the data, and s = sd * sqrt(1 + 1 / B)."""
    values = groups(2, seed=4)
    choice = choose(values, Procedure(k="gap"), nulls=7)
    tried = resample(values, Procedure(k="gap"), choice.table.index.tolist(), nulls=7)
    ks, gaps, errors = [1, *choice.table.index], [0.0], [0.0]
    for place in range(len(choice.table)):
        logs = [np.log(null[place]) - np.log(tried.inertia[place]) for null in tried.null_inertia]
        mean = sum(logs) / 7
        gaps.append(mean)
        errors.append((sum((log - mean) ** 2 for log in logs) / 7) ** 0.5 * (1 + 1 / 7) ** 0.5)
    assert choice.table["gap"].tolist() == pytest.approx(gaps[1:])
    assert choice.table["gap_error"].tolist() == pytest.approx(errors[1:])
    top = gaps.index(max(gaps))
    assert choice.k == next(k for k, gap in zip(ks, gaps, strict=True) if gap >= gaps[top] - errors[top])
    assert choice.words == "smallest k whose gap is within one standard error of the largest gap"


def test_the_silhouette_says_of_which_k_it_is_the_highest() -> None:
    choice = choose(groups(6, layers=12), Procedure(k="silhouette"), nulls=3)
    assert choice.words == f"highest silhouette of k = 2 to {choice.table.index[-1]}"
    assert choice.table.loc[choice.k, "silhouette"] == choice.table["silhouette"].max()


def test_one_cluster_is_an_answer_but_not_of_the_silhouette() -> None:
    assert choose(groups(0), nulls=19).k == 1
    assert choose(groups(0), Procedure(k="silhouette"), nulls=19).k > 1


def test_the_rank_among_null_data_is_the_p_value() -> None:
    tried = resample(groups(6), Procedure(), [2, 3, 4], nulls=9)
    assert tried.score.shape == (10, 3)
    largest = tried.score[1:].max(axis=1)
    assert tried.p.tolist() == [(1 + sum(largest >= ours)) / 10 for ours in tried.score[0]]
    assert (tried.single_p <= tried.p).all()


def test_null_data_have_the_mean_and_the_covariance_of_the_data() -> None:
    from wstrack.analysis.resampling import null_data

    data = groups(6, layers=30, steps=4).to_numpy()
    clouds = islice(null_data(data, np.random.default_rng(0)), 2000)
    drawn = np.vstack([middle + scores @ spread for middle, scores, spread in clouds])
    np.testing.assert_allclose(drawn.mean(axis=0), data.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T, bias=True), np.cov(data.T, bias=True), rtol=0.05, atol=0.3)


def test_too_little_to_choose_from_is_one_cluster() -> None:
    assert choose(groups(6, layers=3)).k == 1
    assert choose(groups(6, steps=3)).k == 1
    assert choose(groups(0) * 0).k == 1


def test_as_many_clusters_are_tried_as_there_can_be() -> None:
    """Of two layers each; and of layers that differ, when some are alike."""
    assert choose(groups(6, layers=11), nulls=3, splits=2).table.index.tolist() == [2, 3, 4, 5]
    alike = pd.concat([groups(6, layers=3)] * 8, ignore_index=True)
    assert choose(alike, nulls=3, splits=2).table.index.tolist() == [2, 3]
    nearly = alike + 1e-15 * np.random.default_rng(0).normal(size=alike.shape)
    assert choose(nearly, nulls=3, splits=2).table.index.tolist() == [2, 3]
    assert choose(groups(6, steps=4), nulls=3, splits=2).table.index.tolist() == list(range(2, 11))


def test_every_method_stands_in_one_table() -> None:
    table = compare_clusterings(groups(9), Procedure(k=3), splits=2)
    assert table.index.tolist() == [
        "kmeans", "kmedoids", "ward", "gmm", "spectral", "dbscan", "hdbscan", "meanshift",
    ]  # fmt: skip
    exact = table.drop(index=["dbscan", "hdbscan", "meanshift"])
    assert (exact["k"] == 3).all()
    assert (exact["with_kmeans"] == 1).all()
    assert (exact["agreement"] > 0.9).all()
    assert (table["noise"] >= 0).all()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="k=3 with cluster='kmeans' leaves no number of clusters to choose"):
        choose(groups(6), Procedure(k=3))
    with pytest.raises(ValueError, match="leaves no number of clusters to choose"):
        choose(groups(6), Procedure(cluster=DBSCAN()))


def test_a_layer_alone_is_no_cluster() -> None:
    rng = np.random.default_rng(0)
    # As in a fine-tuning: five layers are frozen, the others lie apart from each other at every sample.
    level = np.array([*[-7.09] * 5, 2.46, 2.92, -0.47, 3.08, 3.08, 4.64, 5.5, 2.47, 6.02, 4.65, 1.11])
    choice = choose(pd.DataFrame(level[:, None] + 0.3 * rng.normal(size=(16, 60))))
    assert choice.resampling is not None
    alone = (choice.resampling.smallest == 1) & (choice.table["p"].to_numpy() <= 0.05)
    assert alone.any()  # they stand out, and halves agree
    assert choice.table["agreement"].to_numpy()[alone].max() > 0.98
    assert choice.k == 2
    three = np.repeat([0.0, 30.0], [9, 3])[:, None] + rng.normal(size=(12, 40))
    assert choose(pd.DataFrame(three)).k == 2
