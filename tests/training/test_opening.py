"""What a watch opens: sinks, the recording beside them, and nothing that stays open where it fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from wstrack.errors import WstrackError
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recording import FOLDER, read_recording
from wstrack.trackers.contract import Sample
from wstrack.training.opening import RUNS, Opened, open_delivery

MANIFEST = Manifest("one", (Layer("a", numel=4),), ("rwc",), 1, origin={"model": "Net"})
SUMS = ("abs_change", "abs_previous")


class Sink:
    name, reference, recording_label = "mine", "mine:one", ""

    def __init__(self, directory: Path | None = None) -> None:
        self.recording_directory = directory
        self.bound: list[Path] = []
        self.closed = 0

    def bind(self, directory: Path, *_: object) -> None:
        self.bound.append(directory)

    def write(self, samples: Sequence[Sample]) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


def opened(to: object, manifest: Manifest = MANIFEST) -> Opened:
    return open_delivery(to, manifest, SUMS, ranks=None, shards=[], settings={})


def test_the_recording_lies_where_the_first_sink_keeps_files_and_all_are_told(tmp_path: Path) -> None:
    first, second, third = Sink(), Sink(tmp_path / "second"), Sink(tmp_path / "third")
    found = opened([first, second, third])
    assert found.folder == tmp_path / "second" / FOLDER
    assert first.bound == second.bound == third.bound == [tmp_path / "second"]
    found.delivery.close(5)
    assert (first.closed, second.closed, third.closed) == (1, 1, 1)
    assert read_recording(found.folder).origin["references"] == ["mine:one"] * 3


def test_without_such_a_sink_it_lies_under_runs(tmp_path: Path) -> None:
    found = opened(Sink())
    assert found.folder == tmp_path / RUNS / "one" / FOLDER
    assert (found.name, found.last) == ("one", 0)
    found.delivery.close(5)


def test_a_name_is_made_of_the_model_and_no_two_are_the_same() -> None:
    nameless = Manifest("", MANIFEST.layers, MANIFEST.metrics, 1, origin={"model": "Net"})
    found = [opened(Sink(), nameless) for _ in range(3)]
    assert len({one.name for one in found}) == 3
    assert all(one.name.startswith("Net-") for one in found)
    for one in found:
        one.delivery.close(5)


def test_a_recording_that_cannot_be_made_closes_what_was_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    sink = Sink(tmp_path / "file" / "run")
    with pytest.raises(WstrackError, match="cannot record in"):
        opened(sink)
    assert sink.closed == 1
