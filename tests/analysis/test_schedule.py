"""What follows the learning rate, and what does not, where the truth is known."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from wstrack.analysis import Analysis, analyse, schedule_of
from wstrack.analysis.schedule import turn_at
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run

TIME = np.arange(60)
EVERY = 50
SMOOTH = {
    "steady": np.full(60, 0.1),
    "cosine": 0.05 * (1 + np.cos(np.pi * TIME / 60)),
    "linear": 0.1 * (1 - TIME / 60),
    "exponential": 0.1 * 0.9**TIME,
    "inverse root": 0.1 / np.sqrt(TIME + 1),
    "polynomial": 0.1 * (1 - TIME / 60) ** 2,
}
TURNS = {
    "drops": (np.where(TIME < 25, 0.1, np.where(TIME < 40, 0.01, 0.001)), (25, 40)),
    "many drops": (0.1 * 0.5 ** (TIME // 6), tuple(range(6, 60, 6))),
    "restarts": (0.05 * (1 + np.cos(np.pi * (TIME % 15) / 15)) + 1e-4, (15, 30, 45)),
    "warm-up": (0.1 * np.minimum((TIME + 1) / 10, 1), (10,)),
    "warm-up and cosine": (np.where(TIME < 10, (TIME + 1) / 10, 0.5 + 0.5 * np.cos(np.pi * (TIME - 10) / 50)), (10,)),
    "a decay at the end": (0.1 * np.minimum(1, 1 - (TIME - 40) / 20 * 0.95), (40,)),
}


def changes(course: np.ndarray, *, noise: float = 0.03, layers: int = 12, seed: int = 0) -> pd.DataFrame:
    """Layers of several levels with one course."""
    rng = np.random.default_rng(seed)
    logs = np.log10(course)[:, None] + np.linspace(-4, -2, layers) + noise * rng.normal(size=(len(course), layers))
    names = [f"{number}.weight" for number in range(layers)]
    return pd.DataFrame(10**logs, index=(np.arange(len(course)) + 1) * EVERY, columns=names)


def analysed(course: np.ndarray, rate: np.ndarray | None, *, layers: int = 12, metric: str = "rwc") -> Analysis:
    """A run with these changes and this rate, (samples,) or (samples, layers); None = nobody watched it."""
    frame = changes(course, layers=layers)
    values = {metric: frame.to_numpy()}
    if rate is not None:
        values["lr"] = np.broadcast_to(rate if rate.ndim == 2 else rate[:, None], frame.shape).copy()
    manifest = Manifest("demo", tuple(Layer(name) for name in frame.columns), tuple(values), every=EVERY)
    return analyse(Run.from_values(manifest, frame.index.to_numpy(), values))


def texts(analysis: Analysis) -> dict[str, str]:
    return {finding.kind: finding.text for finding in analysis.findings}


@pytest.mark.parametrize("rate", SMOOTH.values(), ids=SMOOTH)
def test_a_smooth_schedule_turns_nowhere(rate: np.ndarray) -> None:
    values = changes(rate)
    steps = values.index
    assert not any(turn_at(values, pd.Series(rate, index=steps), step) for step in steps)


@pytest.mark.parametrize(("rate", "places"), TURNS.values(), ids=TURNS)
def test_a_rate_turns_where_it_does_and_up_to_two_samples_away(rate: np.ndarray, places: tuple[int, ...]) -> None:
    values = changes(rate, noise=0.01)
    found = {
        place
        for place, step in enumerate(values.index)
        if turn_at(values, pd.Series(rate, index=values.index), step) is not None
    }
    near = {place + off for place in places for off in range(-3, 4)}
    assert set(places) & set(range(3, 57)) <= found
    assert found <= near


def test_layers_that_go_the_other_way_do_not_follow() -> None:
    rate = np.where(TIME < 25, 0.1, 0.01)
    steps = pd.Index((TIME + 1) * EVERY)
    at = int(steps[25])
    for course, follows in ((rate, True), (1 / rate, False), (np.full(60, 0.1), False), (rate**0.05, False)):
        assert (turn_at(changes(course), pd.Series(rate, index=steps), at) is not None) == follows


def test_breaks_of_the_rate_are_told_as_such_and_others_stand_out() -> None:
    rate = np.where(TIME < 20, 0.1, 0.01)
    course = rate * np.where(TIME < 40, 1.0, 0.2)  # at 40 something else happens
    found = texts(analysed(course, rate))
    assert found["schedule"].startswith(
        "The change follows the learning rate where its course breaks off at step 1,050: at step 1,050 the rate "
        "becomes 10 times smaller (0.1 to 0.01), the change "
    )
    ratio = re.search(r"the change ([\d.]+) times smaller \(median layer\)", found["schedule"])
    assert ratio
    assert 8 < float(ratio[1]) < 12.5
    assert found["phases"].startswith("The courses of the layers break off at step 2,050: ")


def test_without_rates_all_breaks_are_told_as_before() -> None:
    rate = np.where(TIME < 20, 0.1, 0.01)
    course = rate * np.where(TIME < 40, 1.0, 0.2)
    found = texts(analysed(course, None))
    assert "schedule" not in found
    assert found["phases"].startswith("The courses of the layers break off at steps 1,050 and 2,050: ")


def test_breaks_that_all_follow_leave_no_phases_to_wonder_about() -> None:
    rate, _ = TURNS["drops"]
    found = analysed(rate, rate)
    assert found.phases is not None
    assert found.phases.breaks == (1300, 2050)
    assert "phases" not in texts(found)
    (finding,) = (finding for finding in found.findings if finding.kind == "schedule")
    assert finding.steps == (1300, 2050)
    assert finding.numbers["rate_ratio"] == pytest.approx(0.1)


def test_a_break_beside_a_steady_rate_is_a_phase() -> None:
    found = texts(analysed(np.where(TIME < 25, 0.1, 0.01), SMOOTH["steady"]))
    assert "schedule" not in found
    assert found["phases"].startswith("The courses of the layers break off at step 1,300: ")


def test_sizes_do_not_follow_the_rate() -> None:
    rate = np.where(TIME < 25, 0.1, 0.01)
    found = texts(analysed(rate, rate, metric="norm"))
    assert "schedule" not in found
    assert "phases" in found


@pytest.mark.parametrize("watched", [True, False])
def test_restarts_are_the_learning_rates(watched: bool) -> None:
    time = np.arange(130)
    rate = 0.05 * (1 + np.cos(np.pi * (time % 13) / 13)) + 1e-3
    found = texts(analysed(rate, rate if watched else None))
    where = "where the learning rate does" if watched else "as where epochs begin"
    assert f"(13 samples), {where}: it is " in found["period"]


def test_epochs_beside_a_steady_rate_are_epochs() -> None:
    time = np.arange(130)
    found = texts(analysed(0.1 * np.where(time % 13 == 0, 3.0, 1.0), np.full(130, 0.1)))
    assert "as where epochs begin" in found["period"]


def test_a_fall_is_held_against_that_of_the_rate() -> None:
    rate = SMOOTH["exponential"]
    followed, more = (texts(analysed(rate * 0.99 ** (power * TIME), rate))["course"] for power in (0, 3))
    assert re.search(r"The learning rate is 67\.\d times smaller there too: per unit of it, the change is as", followed)
    assert re.search(r"per unit of it, the change is 3\.\d* times smaller there\.$", more)
    assert "learning rate" not in texts(analysed(rate, SMOOTH["steady"]))["course"]


def test_courses_are_each_told_once_and_of_the_most_layers_first() -> None:
    rate = np.stack([TURNS["drops"][0] * (0.1 if layer < 4 else 1.0) for layer in range(12)], axis=1)
    rate[:, 0] = np.nan  # frozen: in no group
    found = analysed(TURNS["drops"][0], rate).schedule
    assert found is not None
    assert {at: len(layers) for at, layers in found.layers.items()} == {1: 8, 2: 3}
    assert found.main.iloc[0] == 0.1


def test_several_runs_have_a_schedule_if_it_is_the_same() -> None:
    frame = changes(SMOOTH["steady"])

    def run(rate: float | None) -> Run:
        values = {"rwc": frame.to_numpy()} | ({} if rate is None else {"lr": np.full(frame.shape, rate)})
        layers = tuple(Layer(name) for name in frame.columns)
        return Run.from_values(Manifest("demo", layers, tuple(values), every=1), frame.index.to_numpy(), values)

    assert schedule_of([run(0.1), run(0.1)], frame.index) is not None
    assert schedule_of([run(0.1), run(0.2)], frame.index) is None
    assert schedule_of([run(0.1), run(None)], frame.index) is None
