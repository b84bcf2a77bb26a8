from __future__ import annotations

import numpy as np
import pytest

from wstrack.errors import WstrackError
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Completeness, Run
from wstrack.runs.wholer import wholer


def reading(source: str, *, received: int = 3, expected: int = 3) -> Run:
    manifest = Manifest("one", (Layer("a.weight"),), ("rwc",), every=1)
    return Run.from_values(
        manifest,
        list(range(received)),
        {"rwc": np.ones((received, 1))},
        completeness=Completeness(expected, received),
        origin={"source": source},
    )


def never() -> Run:
    pytest.fail("the tracker's series were read, which takes its time")


def broken() -> Run:
    raise WstrackError("no recording that can be read")


def test_a_whole_recording_stands_and_nothing_else_is_read() -> None:
    run = wholer(lambda: reading("recording"), never)
    assert run is not None
    assert run.origin["source"] == "recording"
    assert run.completeness.notes == ()


def test_without_a_recording_the_series_stand_without_a_note() -> None:
    run = wholer(lambda: None, lambda: reading("tracker", received=1))
    assert run is not None
    assert run.origin["source"] == "tracker"
    assert run.completeness.notes == ()
    assert wholer(lambda: None, lambda: None) is None


def test_a_recording_that_cannot_be_read_is_told_of() -> None:
    run = wholer(broken, lambda: reading("tracker"))
    assert run is not None
    assert run.completeness.notes == (
        "the recording cannot be read (no recording that can be read); this is what the tracker has",
    )
    with pytest.raises(WstrackError, match="no recording that can be read"):
        wholer(broken, lambda: None)


@pytest.mark.parametrize(("logged", "stands"), [(3, "tracker"), (2, "recording"), (1, "recording")])
def test_of_two_that_lack_something_the_one_with_more_stands(logged: int, stands: str) -> None:
    run = wholer(lambda: reading("recording", received=2), lambda: reading("tracker", received=logged))
    assert run is not None
    assert run.origin["source"] == stands
    noted = ("the recording is not whole (1 values are not in it); this is what the tracker has, which is more",)
    assert run.completeness.notes == (noted if stands == "tracker" else ())


def test_what_the_tracker_knows_to_be_missing_counts() -> None:
    run = wholer(
        lambda: reading("recording"), lambda: reading("tracker", received=5), lacks=lambda recorded: "2 samples"
    )
    assert run is not None
    assert run.origin["source"] == "tracker"
    assert "not whole (2 samples)" in run.completeness.notes[0]


def test_series_that_cannot_be_read_do_not_take_the_recording_away() -> None:
    run = wholer(lambda: reading("recording", received=2), broken)
    assert run is not None
    assert run.origin["source"] == "recording"
    assert "the recording may not be whole (1 values are not in it)" in run.completeness.notes[0]
