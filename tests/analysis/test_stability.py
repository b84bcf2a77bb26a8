from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN, AgglomerativeClustering
from sklearn.decomposition import TruncatedSVD

from wstrack.analysis import Procedure, agreement, cluster, measure_stability, reduce


def values(apart: float, *, layers: int = 30, steps: int = 40) -> pd.DataFrame:
    """Three groups of layers, `apart` noise levels from each other."""
    level = np.repeat([0.0, apart, 2 * apart], layers // 3)[:, None]
    return pd.DataFrame(level + np.random.default_rng(0).normal(size=(layers, steps)))


@pytest.mark.parametrize("on", ["plane", "curves"])
def test_groups_are_stable_and_noise_is_not(on: str) -> None:
    groups = measure_stability(values(5), Procedure(cluster_on=on, k=3))  # type: ignore[arg-type]
    noise = measure_stability(values(0), Procedure(cluster_on=on, k=3))  # type: ignore[arg-type]
    assert groups is not None
    assert noise is not None
    assert groups.agreement == (1.0,) * 20
    assert (groups.verdict, groups.method) == ("stable", "split-half over steps")
    assert noise.verdict == "not stable"
    assert abs(noise.median) < 0.2


def test_it_is_the_agreement_of_two_halves() -> None:
    rough = values(2, steps=12)
    found = measure_stability(rough, Procedure(k=3, seed=4), halves=1)
    order = np.random.default_rng(4).permutation(12)
    halves = [rough.iloc[:, np.sort(part)] for part in (order[:6], order[6:])]
    first, second = (cluster(reduce(half, seed=4).points, k=3, seed=4).labels for half in halves)
    assert found is not None
    assert found.agreement == pytest.approx((agreement(first, second),))
    assert found.median == found.low == found.high == found.agreement[0]


def test_numbers_and_verdict() -> None:
    found = measure_stability(values(0.4), Procedure(k=3), halves=20)
    assert found is not None
    assert len(found.agreement) == 20
    np.testing.assert_allclose(
        [found.low, found.median, found.high], np.quantile(found.agreement, [0.1, 0.5, 0.9]), rtol=1e-12
    )
    assert found.verdict == ("stable" if found.median >= 0.8 else "shaky" if found.median >= 0.5 else "not stable")
    assert found == measure_stability(values(0.4), Procedure(k=3), halves=20)
    again = measure_stability(values(0.4), Procedure(k=3, seed=1), halves=20)
    assert again is not None
    assert (again.agreement, again.p) == (found.agreement, found.p)  # what is said of the data does not follow the seed


def test_auto_chooses_k_once_on_all_steps() -> None:
    assert measure_stability(values(5)).agreement == measure_stability(values(5), Procedure(k=3)).agreement


def test_any_estimator() -> None:
    by_number = measure_stability(values(5), Procedure(reduce=TruncatedSVD(2), cluster=AgglomerativeClustering(2), k=3))
    by_itself = measure_stability(values(8), Procedure(cluster=DBSCAN(eps=12)))
    assert by_number is not None
    assert by_itself is not None
    assert by_number.verdict == by_itself.verdict == "stable"


def test_nothing_to_compare() -> None:
    assert measure_stability(values(5, steps=3), Procedure(k=3)) is None
    assert measure_stability(values(5, steps=4), Procedure(k=3)) is not None
    assert measure_stability(values(5), Procedure(k=1)) is None
    assert measure_stability(values(5), Procedure(cluster=DBSCAN(eps=1e-9))) is None


def test_what_is_only_noise_cannot_hold() -> None:
    ramp = pd.DataFrame(np.arange(9.0)[:, None] / 4 + np.random.default_rng(2).normal(0, 0.1, (9, 24)))
    assert cluster(reduce(ramp).points, "hdbscan").k == 0
    assert cluster(reduce(ramp.iloc[:, 12:]).points, "hdbscan").k > 0
    assert measure_stability(ramp, Procedure(cluster="hdbscan"), nulls=0) is None


@pytest.mark.filterwarnings("error")
def test_a_half_may_have_fewer_distinct_layers_than_clusters() -> None:
    equal = values(0, layers=9, steps=8) * 0
    equal.iloc[[0, 4], 0] = [1.0, 2.0]
    found = measure_stability(equal, Procedure(k=3))
    assert found is not None
    assert set(found.agreement) == {0.0}


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="halves=0"):
        measure_stability(values(5), Procedure(k=3), halves=0)
    with pytest.raises(ValueError, match="bootstraps=0"):
        measure_stability(values(5), Procedure(k=3), bootstraps=0)
    with pytest.raises(ValueError, match="unknown clustering 'x'"):
        measure_stability(values(5), Procedure(cluster="x", k=3))
