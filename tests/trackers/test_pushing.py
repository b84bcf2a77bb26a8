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
