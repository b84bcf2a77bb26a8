from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wstrack.measuring.rows import rows_of
from wstrack.measuring.sharding import LocalShard
from wstrack.metrics import sums_needed
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER, read_recording
from wstrack.trackers.contract import Sample, Sink
from wstrack.training.delivery import Delivery
from wstrack.training.feed import WAITING
from wstrack.training.reading import Reading

MANIFEST = Manifest("one", (Layer("a.weight", numel=2), Layer("b.weight", numel=2)), ("rwc",), every=1)
ROWS = rows_of([(layer, LocalShard(nn.Parameter(torch.ones(2)))) for layer in MANIFEST.layers], {})
SUMS = ("abs_change", "abs_previous")


class Collecting:
    name = "collecting"
    recording_directory, recording_label = None, ""
    reference = None

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.go = threading.Event()
        self.go.set()
        self.closed = False

    def bind(self, directory: Path, *_: object) -> None:
        self.recording = directory

    def write(self, samples: list[Sample]) -> None:
        self.go.wait()
        self.samples += samples

    def close(self) -> None:
        self.closed = True


def reading(step: int) -> Reading:
    return Reading(torch.tensor([[float(step), 100.0], [0.0, 100.0]], dtype=torch.float64), step, step - 1)


def delivery(folder: Path, *sinks: Sink) -> Delivery:
    return Delivery(MANIFEST, ROWS, SUMS, Recorder(folder / FOLDER, MANIFEST, SUMS), sinks)


def test_every_reading_reaches_the_recording_and_the_sinks(tmp_path: Path) -> None:
    sink = Collecting()
    line = delivery(tmp_path, sink)
    for step in range(1, 51):
        line.put(reading(step))
    assert line.flush(30)
    assert [sample.step for sample in sink.samples] == list(range(1, 51))
    assert sink.samples[9].values["rwc"].tolist() == [0.1, 0.0]
    line.close(30)
    assert sink.closed
    assert len(read_recording(tmp_path / FOLDER).steps) == 50


def test_a_slow_sink_holds_up_nobody_and_what_it_missed_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow, quick = Collecting(), Collecting()
    slow.go.clear()
    line = delivery(tmp_path, slow, quick)
    total = 3 * WAITING
    for start in range(0, total, WAITING // 2):
        for step in range(start + 1, start + 1 + WAITING // 2):
            line.put(reading(step))
        line._recording.flush(60)
    assert line._feeds[1].flush(60)
    assert not line.flush(0)
    assert len(quick.samples) == total
    assert len(read_recording(tmp_path / FOLDER).steps) == total
    slow.go.set()
    with caplog.at_level(logging.WARNING):
        line.close(60)
    steps = [sample.step for sample in slow.samples]
    assert steps == sorted(set(steps))
    assert steps[-1] == total  # the newest always arrives
    assert f"collecting: {total - len(steps)} of {total} samples did not arrive" in caplog.text


def test_a_sink_that_never_answers_does_not_keep_close_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = Collecting()
    stuck.go.clear()
    line = delivery(tmp_path, stuck)
    line.put(reading(1))
    with caplog.at_level(logging.WARNING):
        line.close(0.1)
    assert "still busy" in caplog.text
    assert (tmp_path / FOLDER / "0001.arrow").exists()
    stuck.go.set()


def test_a_sink_whose_close_never_returns_does_not_keep_close_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(Collecting):
        def close(self) -> None:
            self.go.wait()

    stuck = Stuck()
    line = delivery(tmp_path, stuck)
    line.put(reading(1))
    assert line.flush(30)
    stuck.go.clear()
    line.close(0.1)
    assert "still busy" in caplog.text
    stuck.go.set()


def test_readings_whose_steps_were_all_skipped_are_dropped_and_steps_count_real_ones(tmp_path: Path) -> None:
    sink = Collecting()
    line = delivery(tmp_path, sink)
    skipped = [torch.tensor(float(count)) for count in (0, 1, 1, 2)]
    for step in (1, 2, 3):
        made = reading(step)
        made.skipped, made.skipped_since = skipped[step], skipped[step - 1]
        line.put(made)
    line.close(30)
    assert [(sample.step, sample.interval) for sample in sink.samples] == [(1, 1)]
    assert line.skipped == 2


def test_a_recording_that_fails_leaves_the_sinks_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = Collecting()
    line = delivery(tmp_path, sink)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    line._recorder.append = full  # type: ignore[method-assign]
    for step in (1, 2, 3):
        line.put(reading(step))
        assert not line.flush(30)  # what is not recorded is not delivered, wherever else it is
    line.close(30)
    assert len(sink.samples) == 3
    assert caplog.text.count(" recording: OSError: [Errno 28] No space left on device (said once") == 1
    assert "recording: 3 samples were lost" in caplog.text
    assert "3 samples were lost" in read_recording(tmp_path / FOLDER).completeness.notes[0]


def test_of_a_queue_that_is_full_every_other_entry_stays_and_the_newest_enters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recording's own too, and then the recording says how much it lacks."""
    monkeypatch.setattr("wstrack.training.feed.WAITING", 4)
    line = delivery(tmp_path)
    began, go, recorder = threading.Event(), threading.Event(), line._recorder
    assert recorder is not None
    record = recorder.append

    def slowly(*arguments: Any) -> None:
        began.set()
        go.wait()
        record(*arguments)

    recorder.append = slowly  # type: ignore[method-assign]
    line.put(reading(1))
    began.wait()
    for step in range(2, 7):  # the fifth comes to four that wait
        line.put(reading(step))
    go.set()
    line.close(30)
    run = read_recording(tmp_path / FOLDER)
    assert run.steps.tolist() == [1, 2, 4, 6]
    assert "recording: 2 samples were lost" in caplog.text
    assert run.completeness.missing == 4  # of two layers


class Twice:
    """The first of two ranks, of which the other has the same sums, and other bits of the second layer."""

    rank = 0

    def __init__(self) -> None:
        self.of_all: list[int] = []
        self.compared: list[int] = []

    def total(
        self,
        step: int,
        interval: int,
        moment: float,
        sums: np.ndarray,
        *,
        of_all: int = 0,
        also: np.ndarray | None = None,
    ) -> np.ndarray:
        self.of_all.append(of_all)
        owned = sums.shape[1] - of_all  # the rest count in each rank
        return np.hstack([2 * sums[:, :owned], sums[:, owned:] + [[0.0], [1.0]][: len(sums)] * np.ones((1, of_all))])

    def apart(self, step: int, bits: np.ndarray) -> np.ndarray:
        self.compared.append(step)
        return np.zeros(len(bits))

    def close(self) -> None:
        pass


def test_the_sums_of_several_ranks_are_recorded_as_one(tmp_path: Path) -> None:
    ranks = Twice()
    line = Delivery(MANIFEST, ROWS, SUMS, Recorder(tmp_path / FOLDER, MANIFEST, SUMS), [], ranks)
    for step in range(1, 4):
        line.put(reading(step))
    assert line.flush(30)
    line.close(30)
    run = read_recording(tmp_path / FOLDER)
    assert run.steps.tolist() == [1, 2, 3]
    assert run.sums["abs_change"].iloc[:, 0].tolist() == [2.0, 4.0, 6.0]
    assert (ranks.of_all, ranks.compared) == ([0, 0, 0], [])


def test_replicas_are_compared_at_each_sample_in_every_rank(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = replace(MANIFEST, metrics=("rwc", "replicas"))
    sums = sums_needed(manifest.metrics)
    ranks = Twice()
    line = Delivery(manifest, ROWS, sums, Recorder(tmp_path / FOLDER, manifest, sums), [], ranks)
    for step in range(1, 4):
        taken = torch.tensor([[1.0, 100.0, 7.0, 7.0], [1.0, 100.0, 7.0, 7.0]], dtype=torch.float64)
        line.put(Reading(taken, step, step - 1))
    assert line.flush(30)
    line.close(30)
    assert (ranks.compared, ranks.of_all) == ([1, 2, 3], [1, 1, 1])
    run = read_recording(tmp_path / FOLDER)
    assert run.series["replicas"].to_numpy().tolist() == [[0.0, 1.0]] * 3
    assert "at step 1 not all processes hold the same bits: at least 1 not those of the first" in caplog.text


def test_that_nothing_changes_is_said_with_the_third_sample(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    line = delivery(tmp_path)
    for step in (1, 2, 3):
        assert "no weight of any layer has changed" not in caplog.text
        line.put(Reading(torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64), step, step - 1))
        assert line.flush(30)
    assert "no weight of any layer has changed in 3 samples, up to step 3" in caplog.text
    line.close(30)


def test_what_has_changed_once_may_stand_still_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    line = delivery(tmp_path)
    for step, change in enumerate((0.0, 1.0, 0.0, 0.0, 0.0, 0.0), 1):
        line.put(Reading(torch.tensor([[change, 1.0], [0.0, 1.0]], dtype=torch.float64), step, step - 1))
        assert line.flush(30)
    line.close(30)
    assert caplog.text == ""
    assert read_recording(tmp_path / FOLDER).series["rwc"].iloc[:, 0].tolist() == [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
