from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from wstrack.analysis import find_phases

TIME = np.arange(60.0)
DECAYS = {
    "exponential": -TIME / 30,
    "fast exponential": -TIME / 10,
    "power": -np.log10(TIME + 1),
    "to a floor": np.log10(np.exp(-TIME / 10) + 0.1),
    "cosine": np.log10(0.525 + 0.475 * np.cos(np.pi * TIME / 60)),
}


def curves(course: np.ndarray, noise: float) -> pd.DataFrame:
    """16 layers of different levels and speeds."""
    speeds, levels = np.linspace(0.7, 1.3, 16)[:, None], np.linspace(-5, -3, 16)[:, None]
    return pd.DataFrame(levels + speeds * course + noise * np.random.default_rng(0).normal(size=(16, 60)))


@pytest.mark.parametrize("course", DECAYS.values(), ids=DECAYS)
@pytest.mark.parametrize("noise", [0.0, 1e-9, 0.05])
def test_a_decay_is_no_phase(course: np.ndarray, noise: float) -> None:
    assert find_phases(curves(course, noise)).breaks == ()


@pytest.mark.parametrize("noise", [0.0, 1e-9, 0.05])
def test_a_jump_is_one_break(noise: float) -> None:
    assert find_phases(curves(np.where(TIME < 25, 0.0, 0.5), noise)).breaks == (25,)
