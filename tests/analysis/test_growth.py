"""The growth of the distance of twins, against simulations in float64."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from wstrack.analysis.growth import LENGTHS, STARTS, exponent, exponents


def _turned(twins: int, steps: int) -> np.ndarray:
    """Distances of twins on a circle that is stretched by 3/2 at each step: their exponent is ln 1.5."""
    x = np.linspace(0.11, 0.83, twins)
    y = x + 1e-13
    found = []
    for _ in range(steps):
        apart = np.abs(x - y)
        found.append(np.minimum(apart, 1 - apart))
        x, y = 1.5 * x % 1, 1.5 * y % 1
    return np.array(found)


def test_the_exponent_of_a_map_whose_exponent_is_known() -> None:
    found = exponent(np.arange(45), _turned(40, 45))
    assert found is not None
    assert found.grows
    assert found.rate == pytest.approx(np.log(1.5), abs=2e-3)
    assert found.low - 1e-3 < np.log(1.5) < found.high + 1e-3
    assert found.r2 > 0.9999


def test_the_window_is_the_one_that_a_search_by_polyfit_finds() -> None:
    rng = np.random.default_rng(3)
    steps = np.arange(260)
    curve = 1e-9 * np.exp(np.minimum(0.12 * steps, 14) + rng.normal(0, 0.2, len(steps)).cumsum() * 0.3)
    best = (-np.inf, 0, 0, 0.0)
    for start in STARTS:
        for length in LENGTHS:
            x, y = steps[start : start + length], np.log(curve[start : start + length])
            slope, height = np.polyfit(x, y, 1)
            r2 = 1 - ((y - slope * x - height) ** 2).sum() / ((y - y.mean()) ** 2).sum()
            best = max(best, (r2, start, start + length - 1, slope))
    found = exponent(steps, curve)
    assert found is not None
    assert (found.first, found.last) == best[1:3]
    assert found.rate == pytest.approx(best[3], rel=1e-10)
    assert found.r2 == pytest.approx(best[0], rel=1e-10)


def test_it_is_per_step_whatever_the_steps_between_samples() -> None:
    steps = np.arange(0, 4000, 50)
    found = exponent(steps, np.exp(0.002 * steps))
    assert found is not None
    assert found.rate == pytest.approx(0.002)
    assert found.grows
    slow = exponent(steps, np.exp(0.0005 * steps))
    assert slow is not None
    assert not slow.grows


@pytest.mark.parametrize("errors", ["alone", "going on"])
def test_the_interval_of_one_pair_holds_the_slope_in_most_of_many_trials(errors: str) -> None:
    rng = np.random.default_rng(0)
    steps = np.arange(100)
    held = 0
    for _ in range(300):
        noise = rng.normal(0, 0.2, 100)
        if errors == "going on":
            for place in range(1, 100):
                noise[place] += 0.7 * noise[place - 1]
        found = exponent(steps, np.exp(0.1 * steps + noise))
        assert found is not None
        held += found.low <= 0.1 <= found.high
    assert held >= 0.8 * 300  # less than 95 %: the window is the one that looks best


def test_twins_that_are_the_same_or_lost_have_no_exponent() -> None:
    steps = np.arange(100)
    assert exponent(steps, np.zeros(100)) is None
    assert exponent(steps, np.full(100, np.nan)) is None
    assert exponent(steps[:20], np.exp(steps[:20])) is None
    late = np.where(steps < 40, 0.0, np.exp(0.1 * steps))
    found = exponent(steps, late)
    assert found is not None
    assert found.first >= 40
    assert exponents(pd.DataFrame({"a": late, "b": np.zeros(100)}, index=steps)).index.tolist() == ["a"]


def test_what_is_no_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="3 samples, and steps has 2"):
        exponent([0, 1], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"-1\.0 is negative"):
        exponent([0, 1], [1.0, -1.0])


def test_the_interval_of_one_pair_is_that_of_errors_that_go_on() -> None:
    steps = np.arange(0, 60, 2)
    rng = np.random.default_rng(11)
    errors = np.zeros(30)
    for at in range(1, 30):
        errors[at] = 0.6 * errors[at - 1] + rng.normal(0, 0.3)
    curve = np.exp(0.4 * steps + errors)
    found = exponent(steps, curve)
    assert found is not None
    x, y = steps.astype(float), np.log(curve)
    slope, height = np.polyfit(x, y, 1)
    left = y - slope * x - height
    kept = sum(left[at] * left[at - 1] for at in range(1, 30)) / sum(left**2)
    kept += (1 + 3 * kept) / 30
    variance = sum(left**2) / 28 / sum((x - x.mean()) ** 2) * (1 + kept) / (1 - kept)
    half = stats.t.ppf(0.975, 28) * np.sqrt(variance)
    assert 0.3 < kept < 0.9
    assert (found.low, found.high) == pytest.approx((slope - half, slope + half), rel=1e-9)


def test_errors_that_turn_at_each_sample_make_no_interval_shorter_than_chance_does() -> None:
    steps = np.arange(30)
    turning = 0.1 * (-1.0) ** steps
    found = exponent(steps, np.exp(0.4 * steps + turning))
    assert found is not None
    fit = stats.linregress(steps, 0.4 * steps + turning)
    half = stats.t.ppf(0.975, 28) * fit.stderr
    assert (found.low, found.high) == pytest.approx((fit.slope - half, fit.slope + half), rel=1e-9)


def test_errors_that_never_turn_leave_an_interval() -> None:
    steps = np.arange(30)
    found = exponent(steps, np.exp(0.4 * steps + 1e-3 * steps**2))
    assert found is not None
    x, y = steps.astype(float), 0.4 * steps + 1e-3 * steps**2
    slope, height = np.polyfit(x, y, 1)
    left = y - slope * x - height
    kept = sum(left[1:] * left[:-1]) / sum(left**2)
    kept += (1 + 3 * kept) / 30
    assert 0.9 < kept < 0.97
    variance = sum(left**2) / 28 / sum((x - x.mean()) ** 2) * (1 + kept) / (1 - kept)
    half = stats.t.ppf(0.975, 28) * np.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((slope - half, slope + half), rel=1e-9)


def test_an_interval_is_no_shorter_for_errors_that_hang_together_more_than_can_be_measured() -> None:
    steps = np.arange(60)
    heights = 0.4 * steps + 0.3 * np.sin(2 * np.pi * steps / 30)
    found = exponent(steps, np.exp(heights))
    assert found is not None
    assert (found.first, found.last) == (0, 59)
    fit = stats.linregress(steps, heights)
    left = heights - fit.intercept - fit.slope * steps
    kept = sum(left[1:] * left[:-1]) / sum(left**2)
    assert kept + (1 + 3 * kept) / 60 > 1  # by itself no variance: the cap holds
    half = stats.t.ppf(0.975, 58) * fit.stderr * np.sqrt(1.97 / 0.03)
    assert (found.low, found.high) == pytest.approx((fit.slope - half, fit.slope + half), rel=1e-9)
