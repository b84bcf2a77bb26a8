from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wstrack.metrics import METRICS, compute, sums_needed

finite = st.floats(-1e6, 1e6, width=32)
pairs = st.integers(1, 200).flatmap(
    lambda n: st.tuples(arrays(np.float32, n, elements=finite), arrays(np.float32, n, elements=finite))
)


def expected(metric: str, p: np.ndarray, w: np.ndarray) -> float:
    p, w = p.astype(np.float64), w.astype(np.float64)
    change = np.abs(w - p)
    if metric == "norm":
        return np.abs(w).mean()
    if metric == "rwc_elementwise":
        if not p.any():
            return np.inf if change.any() else 0.0
        return np.mean(change[p != 0] / np.abs(p[p != 0]))
    part, whole = change.sum(), np.abs(p).sum()
    if metric == "rwc_l2":
        part, whole = np.sqrt((change**2).sum()), np.sqrt((p**2).sum())
    return part / whole if whole else (np.inf if part else 0.0)


@pytest.mark.parametrize("metric", ["rwc", "rwc_l2", "rwc_elementwise", "norm"])
@given(pair=pairs)
def test_formula_against_numpy_float64(metric: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    from wstrack.measuring.meters.portable import change_sums

    p, w = pair
    sums = change_sums(p.astype(np.float64), w.astype(np.float64), sums_needed([metric]))
    value = compute([metric], sums, np.array([float(len(p))]))[metric][0]
    np.testing.assert_allclose(value, expected(metric, p, w), rtol=1e-9)


@pytest.mark.parametrize("metric", ["rwc", "rwc_l2", "rwc_elementwise", "distance"])
def test_nothing_before_is_zero_if_nothing_changed_and_infinite_otherwise(metric: str) -> None:
    sums = dict.fromkeys(sums_needed(METRICS), np.zeros(2))
    sums = {**sums, **dict.fromkeys(("abs_change", "sq_change", "abs_from_start"), np.array([0.0, 1.0]))}
    assert compute([metric], sums, np.ones(2))[metric].tolist() == [0.0, np.inf]


def test_nan_and_inf_stay_in_their_layer() -> None:
    sums = {"abs_change": np.array([np.nan, np.inf, 1.0]), "abs_previous": np.array([1.0, 1.0, 4.0])}
    np.testing.assert_array_equal(compute(["rwc"], sums, np.ones(3))["rwc"], [np.nan, np.inf, 0.25])


def test_cosine_of_opposite_equal_and_missing_changes() -> None:
    sums = {
        "dot": np.array([-6.0, 6.0, 0.0]),
        "sq_change": np.array([4.0, 4.0, 4.0]),
        "sq_last_change": np.array([9.0, 9.0, 0.0]),
    }
    np.testing.assert_allclose(compute(["cosine"], sums, np.ones(3))["cosine"], [-1.0, 1.0, np.nan])


def test_unknown_metric_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"metrics: unknown metric 'rcw'; there are rwc, rwc_l2"):
        sums_needed(["rcw"])
