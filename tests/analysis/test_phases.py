from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from wstrack.analysis import Phases, Procedure, cluster_phases, find_phases

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
    with np.errstate(all="raise"):  # and nothing is divided by zero on the way
        assert find_phases(curves(np.where(TIME < 25, 0.0, 0.5), noise)).breaks == (25,)


@pytest.mark.parametrize("at", [5, 6, 54, 55])
def test_a_jump_five_samples_from_either_end_is_found(at: int) -> None:
    assert find_phases(curves(np.where(at <= TIME, 0.5, 0.0), 0.02)).breaks == (at,)


@pytest.mark.parametrize("layers", [16, 200])
def test_up_and_down_again_are_three_phases(layers: int) -> None:
    course = np.where(TIME < 20, 0.0, np.where(TIME < 40, 0.5, 0.1))
    found = find_phases(pd.concat([curves(course, 0.02)] * (layers // 16), ignore_index=True))
    assert found.table[["first", "last", "samples"]].to_numpy().tolist() == [[0, 19, 20], [20, 39, 20], [40, 59, 20]]
    assert found.table["p"].tolist()[1:] == [1 / 400, 1 / 400]  # the least that 399 simulations can give


def test_no_more_phases_than_asked_for() -> None:
    course = np.where(TIME < 20, 0.0, np.where(TIME < 40, 0.5, 0.1))
    assert len(find_phases(curves(course, 0.02), most=2).breaks) == 1


def test_a_level_of_significance_that_is_met_exactly_is_met() -> None:
    assert find_phases(curves(np.where(TIME < 25, 0.0, 0.5), 0.02), alpha=1 / 400).breaks == (25,)


def test_few_noisy_samples_that_hang_together_are_seldom_broken() -> None:
    """With the autocorrelation that least squares finds, and not Kendall's of it, 14 of these 60 were."""
    found = 0
    for seed in range(60):
        noise = np.random.default_rng(seed).normal(size=80)
        for at in range(1, 80):
            noise[at] += 0.6 * noise[at - 1]
        frame = pd.DataFrame(np.linspace(-5, -3, 8)[:, None] + 0.1 * noise[50:] * np.linspace(0.7, 1.3, 8)[:, None])
        found += bool(find_phases(frame, alpha=0.05, most=2).breaks)
    assert found <= 9


SAMPLES = np.arange(126)
SCHEDULES = {
    "two drops": (np.select([SAMPLES < 63, SAMPLES < 101], [0.0, -1.0], -2.0), (63, 101)),
    "halvings": (-0.3 * (SAMPLES // 21), (21, 42, 63, 84, 105)),
    "restarts": (
        np.log10(np.maximum(0.5 + 0.5 * np.cos(np.pi * (SAMPLES * 4 / 126 % 1)), 1e-3)),
        (32, 63, 95),
    ),
    "none": (0.0 * SAMPLES, ()),
    "slow fall": (-SAMPLES / 60, ()),
}


@pytest.mark.parametrize(("course", "truth"), SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("seed", [0, 2])
def test_every_drop_and_restart_of_a_schedule_is_a_break(course: np.ndarray, truth: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels, alone, shared = np.linspace(-3, -2, 10)[:, None], rng.normal(size=(10, 126)), rng.normal(size=126)
    found = find_phases(pd.DataFrame(levels + course + 0.05 * alone + 0.03 * shared)).breaks
    assert len(found) == len(truth)
    assert np.abs(np.subtract(found, truth)).max(initial=0) <= 1


def test_a_break_among_many_samples_is_found_at_its_sample() -> None:
    course = np.where(np.arange(3000) < 1234, 0.0, -0.5)
    rng = np.random.default_rng(0)
    found = find_phases(pd.DataFrame(course + 0.05 * rng.normal(size=(8, 3000)) + 0.05 * rng.normal(size=3000)))
    assert len(found.breaks) == 1
    assert abs(found.breaks[0] - 1234) <= 1


def test_a_phase_in_which_fewer_layers_differ_than_there_are_clusters_has_fewer() -> None:
    values = pd.DataFrame(
        np.repeat(np.arange(6.0)[:, None], 40, axis=1) + np.random.default_rng(0).normal(size=(6, 40))
    )
    values.iloc[:4, 20:] = 0.0  # as layers that were frozen
    parts = Phases(pd.DataFrame({"first": [0, 20], "last": [19, 39]}, index=pd.Index([1, 2], name="phase")), (20,))
    found = cluster_phases(values, parts, pd.Series(range(1, 7)), Procedure(k=6))
    assert found.nunique().to_dict() == {"phase 1": 6, "phase 2": 3}
