"""The numbers that findings rest on, against their definitions written out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from wstrack.analysis.findings.words import above, batches, beyond_slow_noise


def test_slow_noise_that_adds_up_as_far_is_no_rare_thing() -> None:
    """Against the variance of noise x(t) = 0.98 x(t-1) + e(t), written out: of its weighted sum, and of its moves."""
    rng = np.random.default_rng(5)
    course, weights = rng.normal(size=40).cumsum() * 0.1 + 1.0, rng.normal(size=40)
    weights -= weights.mean()
    lags = np.abs(np.arange(40)[:, None] - np.arange(40))
    noise = 1 / (1 - 0.98**2)  # the variance of x where e has the variance 1
    moves = 2 * noise * (1 - 0.98)  # and that of x(t) - x(t-1)
    deviation = np.sqrt(weights @ (noise * 0.98**lags) @ weights) * np.diff(course).std() / np.sqrt(moves)
    expected = 2 * stats.t.sf(abs(course @ weights) / deviation, 38)
    assert beyond_slow_noise(course, weights) == pytest.approx(expected, rel=1e-9)


def test_nothing_lies_above_nothing() -> None:
    some, none = np.array([1.0, 2.0]), np.array([np.nan])
    assert above(some, none) == above(none, some) == 1.0
    assert above(some + 5, some) == stats.mannwhitneyu(some + 5, some, alternative="greater").pvalue


def remembering(steps: int, memory: float, seed: int) -> np.ndarray:
    """Noise of which a share stays from sample to sample."""
    course = np.random.default_rng(seed).normal(size=steps)
    for at in range(1, steps):
        course[at] += memory * course[at - 1]
    return course


def test_samples_that_remember_nothing_stand_alone() -> None:
    alone = pd.DataFrame({"a": remembering(200, 0.0, 0)}, index=np.arange(200) * 10)
    assert batches(alone)["a"].tolist() == alone["a"].tolist()


def test_missing_samples_are_no_memory() -> None:
    course = remembering(400, 0.6, 1)
    course[np.random.default_rng(2).random(400) < 0.3] = np.nan
    ranked = stats.rankdata(course, nan_policy="omit")
    apart = np.nan_to_num(ranked - np.nanmean(ranked))
    memory = (apart[1:] @ apart[:-1]) / (apart @ apart)
    memory += (1 + 4 * memory) / 400
    assert 0.3 < memory < 0.5  # a third of the neighbours are not there
    length = round(2 * (1 + memory) / (1 - memory))
    whole = 400 // length
    ends = [*range(length, length * whole, length), 400]
    expected = [np.nanmedian(course[length * at : end]) for at, end in enumerate(ends)]
    np.testing.assert_array_equal(batches(pd.DataFrame({"a": course}))["a"], expected)
