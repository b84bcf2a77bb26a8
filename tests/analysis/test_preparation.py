from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from wstrack import WstrackError
from wstrack.analysis import prepare
from wstrack.analysis.preparation import Preset


@pytest.fixture
def rough() -> pd.DataFrame:
    """Five layers over 30 steps: outliers, missing and infinite cells."""
    values = np.random.default_rng(0).lognormal(size=(30, 5))
    values[7, 1], values[8, 2], values[20, 3] = np.inf, -np.inf, 1e3
    values[10, 1], values[18, 2], values[12:15, 3] = np.nan, np.nan, np.nan
    return pd.DataFrame(values, index=np.arange(1, 31) ** 2, columns=list("abcde"))


def oracle(series: pd.DataFrame) -> np.ndarray:
    """The authors' procedure, layer by layer, in the words of their notebooks' description."""
    rows = []
    for name in series.columns[1:-1]:
        curve = series[name].to_numpy(np.float64).copy()
        known = np.isfinite(curve)
        gaps = np.isnan(curve)
        curve[gaps] = np.interp(series.index[gaps], series.index[known], curve[known])
        curve[np.isinf(curve)] = curve[~np.isinf(curve)].sum() / len(curve)
        mean, deviation = curve.mean(), curve.std(ddof=0)
        rows.append([mean if abs(value - mean) > 2 * deviation else value for value in curve])
    return np.array(rows)


def test_preset_is_the_authors_procedure(rough: pd.DataFrame) -> None:
    prepared = prepare(rough, preset="weightscale")
    np.testing.assert_allclose(prepared.values, oracle(rough), rtol=1e-12)
    assert list(prepared.values.index) == ["b", "c", "d"]
    assert prepared.dropped == {"a": "first layer (preset weightscale)", "e": "last layer (preset weightscale)"}
    assert prepared.replaced[["missing", "non_finite", "zeros"]].to_numpy().tolist() == [
        [1, 1, 0],
        [1, 1, 0],
        [3, 0, 0],
    ]
    assert prepared.replaced.loc["d", "outliers"] == 1
    assert prepared.settings["preset"] == "weightscale"


def test_default_interpolates_on_the_log_scale(rough: pd.DataFrame) -> None:
    prepared = prepare(rough)
    logs = rough.where(rough > 0).apply(np.log10)
    steps = rough.index.to_numpy(float)
    between = np.interp(steps[12:15], steps[[11, 15]], logs["d"].to_numpy()[[11, 15]])
    np.testing.assert_allclose(prepared.values.loc["d"].to_numpy()[12:15], between)
    np.testing.assert_allclose(prepared.values.loc["a"], logs["a"])
    assert prepared.replaced.sum().to_dict() == {"missing": 5, "non_finite": 2, "zeros": 0, "outliers": 0}
    assert prepared.values.columns.equals(pd.Index(rough.index, name="step"))


@pytest.mark.parametrize("preset", [None, "weightscale"])
def test_a_run_that_diverged_ends_where_its_values_do(rough: pd.DataFrame, preset: Preset | None) -> None:
    whole = prepare(rough[:20], preset=preset)
    rough.iloc[20:] = np.nan
    prepared = prepare(rough, preset=preset)
    pd.testing.assert_frame_equal(prepared.values, whole.values)
    assert prepared.dropped == whole.dropped
    assert prepared.settings["steps"] == "20 of 30, from 1 to 400: where the layers have values"


def test_layers_that_begin_or_end_elsewhere_are_left_out_with_the_reason(rough: pd.DataFrame) -> None:
    rough.loc[:400, "a"], rough.loc[256:, "c"], rough.loc[:, "f"] = np.nan, np.nan, np.nan
    rough.loc[[100, 121], "f"] = 1.0
    rough.iloc[[0, 4]] = np.nan  # steps at which nothing was logged at all
    prepared = prepare(rough)
    assert list(prepared.values.index) == ["b", "d", "e"]
    assert prepared.values.columns.tolist() == rough.index.drop([1, 25]).tolist()
    assert prepared.dropped == {
        "a": "no value before step 441",
        "c": "no value after step 225",
        "f": "no value before step 100 and after step 121",
    }


def test_a_block_of_two_layers_is_the_least() -> None:
    series = pd.DataFrame({"a": np.arange(1.0, 41.0), "b": np.arange(1.0, 41.0)}, index=range(40))
    series.loc[4:, "b"] = np.nan
    assert prepare(series).values.shape == (2, 4)
    series.loc[1:, "b"] = np.nan
    with pytest.raises(WstrackError, match=r"there are 1 after 1 were dropped \(b: no value after step 0\)"):
        prepare(series)


def test_zeros_are_lifted_to_the_smallest_positive_value() -> None:
    series = pd.DataFrame({"a": [0.0, 1e-3, 1.0], "b": [1.0, 1.0, 1e-5], "frozen": [0.0, 0.0, 0.0]}, index=[1, 2, 3])
    prepared = prepare(series)
    assert prepared.values.loc["a"].to_numpy().tolist() == [-5, -3, 0]
    assert prepared.values.loc["frozen"].to_numpy().tolist() == [-5, -5, -5]
    assert prepared.replaced["zeros"].to_dict() == {"a": 1, "b": 0, "frozen": 3}


def test_linear_keeps_zeros_and_negative_values() -> None:
    series = pd.DataFrame({"a": [-1.0, 0.0, 1.0], "b": [0.5, np.nan, -0.5]}, index=[1, 2, 3])
    prepared = prepare(series, scale="linear")
    assert prepared.values.to_numpy().tolist() == [[-1, 0, 1], [0.5, 0, -0.5]]
    assert prepared.replaced["zeros"].sum() == 0


def test_outliers_are_replaced_on_the_chosen_scale() -> None:
    values = np.full((20, 2), 1e-3)
    values[4, 0], values[9, 0] = 1e-9, 1.0
    values[:, 1] = np.linspace(1, 2, 20)
    prepared = prepare(pd.DataFrame(values, columns=["a", "b"]), outliers="2sd")
    mean = np.log10(values[:, 0]).mean()
    np.testing.assert_allclose(prepared.values.loc["a"].to_numpy()[[4, 9]], mean)
    assert prepared.replaced["outliers"].to_dict() == {"a": 2, "b": 0}


def test_series_is_not_changed(rough: pd.DataFrame) -> None:
    before = rough.copy()
    prepare(rough)
    prepare(rough, preset="weightscale")
    pd.testing.assert_frame_equal(rough, before)


def test_layer_without_a_finite_value_is_dropped(rough: pd.DataFrame) -> None:
    rough["c"] = [np.nan, np.inf] * 15
    prepared = prepare(rough)
    assert list(prepared.values.index) == ["a", "b", "d", "e"]
    assert prepared.dropped == {"c": "no finite value"}
    assert np.isfinite(prepared.values.to_numpy()).all()


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (pd.DataFrame(index=[1, 2]), "at least 2 layers with values are needed to compare, and there are 0; .*layers="),
        (pd.DataFrame(columns=["a", "b"]), "there is no sample; .*every="),
        (pd.DataFrame({"a": [1.0, 2.0]}), "and there are 1; "),
        (
            pd.DataFrame({"a": [1.0, 2.0], "b": [np.nan, np.inf]}),
            r"there are 1 after 1 were dropped \(b: no finite value\)",
        ),
        (pd.DataFrame({"a": [0.0, 0.0], "b": [0.0, 0.0]}), "every value is zero"),
    ],
)
def test_too_little_to_compare(series: pd.DataFrame, message: str) -> None:
    with pytest.raises(WstrackError, match=message):
        prepare(series)


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_preset_needs_two_layers_between_the_ends(layers: int) -> None:
    series = pd.DataFrame(np.ones((5, layers)), columns=[f"l{number}" for number in range(layers)])
    with pytest.raises(WstrackError, match=f"there are {max(0, layers - 2)}"):
        prepare(series, preset="weightscale")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": "log2"}, r"unknown scale 'log2'; pass scale= \(--scale\) one of: log10, linear"),
        ({"outliers": "3sd"}, r"unknown outliers '3sd'; pass outliers= \(--outliers\) one of: 2sd, spikes"),
        ({"preset": "paper"}, r"unknown preset 'paper'; pass preset= \(--preset\) one of: weightscale"),
        ({"preset": "weightscale", "scale": "log10"}, "scale='log10' contradicts preset='weightscale'"),
        ({}, r"scale='log10' cannot show negative values; pass scale='linear' \(--scale linear\)"),
    ],
)
def test_wrong_arguments(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(pd.DataFrame({"a": [1.0, -1.0], "b": [1.0, 2.0]}), **settings)  # type: ignore[arg-type]


def test_spikes_go_and_everything_else_stays() -> None:
    logs = np.linspace(-3, -4, 40) + np.where(np.arange(40) >= 20, 1.0, 0.0)
    logs = np.column_stack([logs, logs]) + np.random.default_rng(0).normal(0, 0.02, (40, 2))
    spiked = logs.copy()
    spiked[[7, 31], 0] += 2
    prepared = prepare(pd.DataFrame(10**spiked, columns=["a", "b"]), outliers="spikes")
    assert prepared.replaced["outliers"]["a"] >= 2
    np.testing.assert_allclose(prepared.values.T, logs, atol=0.15)
    with pytest.raises(ValueError, match="outliers='spikes' contradicts preset='weightscale'"):
        prepare(pd.DataFrame(10**spiked), outliers="spikes", preset="weightscale")
