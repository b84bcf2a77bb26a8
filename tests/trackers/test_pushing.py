"""What a tracker lacks of a recording."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wstrack
from wstrack.errors import WstrackError
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER
from wstrack.runs.run import Run
from wstrack.trackers.contract import Recorded, Sample
from wstrack.trackers.pushing import lacking

MANIFEST = Manifest("run", (Layer("a"), Layer("b")), ("rwc", "norm"), every=10)
VALUES = np.array([[0.1, 0.2], [1e-300, np.nan], [1e300, 3.0], [0.4, 0.5]])
STEPS = (10, 20, 30, 40)


def recorded() -> Recorded:
    samples = [Sample(step, 10, 0.0, {"rwc": row, "norm": 2 * row}) for step, row in zip(STEPS, VALUES, strict=True)]
    return Recorded(Path("recording"), MANIFEST, samples)


def logged(values: np.ndarray, *, steps: Sequence[int] = STEPS, norm: np.ndarray | None = None) -> Run:
    return Run.from_values(MANIFEST, list(steps), {"rwc": values, "norm": 2 * values if norm is None else norm})


def steps_lacking(run: Run | None) -> list[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [sample.step for sample in lacking(recorded(), run)]


def test_a_run_that_is_not_there_lacks_all() -> None:
    assert steps_lacking(None) == [*STEPS]


def test_what_a_tracker_rounds_is_not_lacking() -> None:
    assert steps_lacking(logged(VALUES)) == []
    with np.errstate(over="ignore"):
        assert steps_lacking(logged(VALUES.astype(np.float32).astype(np.float64))) == []


@pytest.mark.parametrize("place", range(4))
def test_a_step_or_a_value_that_is_not_there_is_lacking(place: int) -> None:
    others = [number for number in range(4) if number != place]
    assert steps_lacking(logged(VALUES[others], steps=[STEPS[number] for number in others])) == [STEPS[place]]
    changed = VALUES.copy()
    changed[place, 1] = 7.0
    assert steps_lacking(logged(changed)) == [STEPS[place]]
    assert steps_lacking(logged(VALUES, norm=2 * changed)) == [STEPS[place]]
    changed[place, 1] = np.nan
    assert steps_lacking(logged(changed)) == ([STEPS[place]] if place != 1 else [])


def test_layers_and_metrics_are_found_by_name() -> None:
    turned = replace(MANIFEST, layers=MANIFEST.layers[::-1])
    assert steps_lacking(Run.from_values(turned, [*STEPS], {"rwc": VALUES[:, ::-1], "norm": 2 * VALUES[:, ::-1]})) == []
    less = replace(MANIFEST, metrics=("rwc",))
    assert steps_lacking(Run.from_values(less, [*STEPS], {"rwc": VALUES})) == [*STEPS]


def test_where_to_push_and_what_is_said_where_it_is_no_such_thing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names no tracker"):
        wstrack.push(tmp_path, "nowhere")
    with pytest.raises(WstrackError, match="there is no such recording"):
        wstrack.push(tmp_path / "none", f"tensorboard:{tmp_path}/to")
    with pytest.raises(WstrackError, match="holds 0 recordings"):
        wstrack.push(tmp_path, f"tensorboard:{tmp_path}/to")


@pytest.mark.parametrize("log_parts", [False, True])
def test_of_layers_that_are_cut_a_tracker_gets_what_it_would_have_got_while_training(
    tmp_path: Path, log_parts: bool
) -> None:
    layers = (Layer("w"), *(Layer(f"w[{label}]", of="w") for label in "abc"), Layer("v"))
    origin = {"parts": "each", **({"log_parts": True} if log_parts else {})}
    manifest = Manifest("cut", layers, ("rwc",), every=10, origin=origin)
    sums = np.array([[[0.2, 1.0], [0.0, 1.0], [0.1, 1.0], [0.5, 1.0], [0.3, 1.0]]])
    recorder = Recorder(tmp_path / FOLDER, manifest, ("abs_change", "abs_previous"))
    recorder.append([10], [10], [0.0], sums)
    recorder.close()
    assert wstrack.push(tmp_path, f"tensorboard:{tmp_path}/to") == 1
    found = wstrack.pull(f"tensorboard:{tmp_path}/to").series["rwc"].loc[10].round(2).to_dict()
    each = {"w": 0.2, "w[a]": 0.0, "w[b]": 0.1, "w[c]": 0.5, "v": 0.3}
    shown = {"w": 0.2, "w[least]": 0.0, "w[median]": 0.1, "w[largest]": 0.5, "w[zero]": 0.33, "v": 0.3}
    assert found == (each if log_parts else shown)
