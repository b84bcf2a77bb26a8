"""What a watch opens: sinks, the recording beside them, and nothing that stays open where it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.errors import WstrackError
from wstrack.measuring.rows import rows_of
from wstrack.measuring.sharding import LocalShard
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recording import FOLDER, read_recording
from wstrack.trackers.contract import Sample
from wstrack.trackers.naming import RUNS
from wstrack.training.opening import Opened, open_delivery

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
    rows = rows_of([(layer, LocalShard(nn.Parameter(torch.ones(1)))) for layer in manifest.layers], {})
    return open_delivery(to, manifest, SUMS, ranks=None, rows=rows, shards=[], settings={})


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


# ---- two things are never taken for one -----------------------------------------------------------------------------


def test_a_folder_that_another_process_records_in_is_refused(tmp_path: Path) -> None:
    code = f"""
import torch, wstrack
model = torch.nn.Linear(2, 2)
watcher = wstrack.watch(model, to={str(tmp_path / "run")!r})
print("ready", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        there = sorted((tmp_path / "run").rglob("*"))
        with pytest.raises(
            WstrackError, match=r"run is being written by another process \(run 'run', begun 2.*to=, name="
        ):
            wstrack.watch(nn.Linear(2, 2), to=tmp_path / "run")
        assert sorted((tmp_path / "run").rglob("*")) == there  # and nothing was left there
        process.communicate("\n")
    wstrack.watch(nn.Linear(2, 2), to=tmp_path / "run").close()


def test_the_folder_of_a_run_of_another_name_is_refused(tmp_path: Path) -> None:
    wstrack.watch(nn.Linear(2, 2), to=tmp_path / "run", name="one").close()
    with pytest.raises(WstrackError, match="holds run 'one', and this one is 'two'"):
        wstrack.watch(nn.Linear(2, 2), to=tmp_path / "run", name="two")
    wstrack.watch(nn.Linear(2, 2), to=tmp_path / "run", name="one").close()
    (tmp_path / "run").rename(tmp_path / "moved")
    wstrack.watch(nn.Linear(2, 2), to=tmp_path / "moved").close()  # a run that was moved is gone on with


def test_layers_of_two_models_in_one_run_are_told_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A teacher and a student, a generator and a critic: each with a layer `weight`, and steps of its own."""
    models = [nn.Linear(4, 4, bias=False) for _ in range(3)]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
    watchers = [wstrack.watch(model, to=tmp_path / "run", every=1) for model in models]
    assert "another model is watched in this run" in caplog.text
    changes: list[list[float]] = [[], [], []]
    for step in range(6):
        for which, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            if step % (which + 1) == 0:
                before = model.weight.detach().clone()
                model.weight.grad = torch.randn(4, 4)
                optimizer.step()
                changes[which].append(wstrack.relative_weight_change(before, model.weight))
    for watcher in watchers:
        watcher.close()
    for run in (read_recording(tmp_path / "run" / FOLDER), wstrack.pull(f"tensorboard:{tmp_path / 'run'}")):
        assert list(run.layers.index) == ["weight", "Linear.weight", "Linear-2.weight"]
        for layer, wanted in zip(run.layers.index, changes, strict=True):
            found = run.series["rwc"][layer].dropna()
            assert found.index.tolist() == list(range(1, len(wanted) + 1))
            np.testing.assert_allclose(found, wanted, rtol=1e-5)
    # Watched again, each goes on where it was.
    again = [wstrack.watch(model, to=tmp_path / "run", every=1) for model in models]
    assert [watcher.steps for watcher in again] == [6, 3, 2]
