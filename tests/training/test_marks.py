"""Named steps: from the training loop to the run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from tests.training.weights import weights
from wstrack.runs.marks import SUFFIX
from wstrack.runs.recording import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_marks_are_the_steps_at_which_something_begins(model: nn.Sequential, train: Callable[..., None]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with wstrack.watch(model, to="./run", every=5) as watcher:
        for epoch in range(3):
            watcher.mark(f"epoch {epoch}")
            watcher.mark(f"epoch {epoch}")  # twice is once
            train(model, optimizer, 7)
        assert watcher.run().marks == ((0, "epoch 0"), (7, "epoch 1"), (14, "epoch 2"))  # while training goes on
    assert wstrack.pull("run").marks == watcher.run().marks
    assert wstrack.pull("run").completeness.notes == ()


@pytest.mark.parametrize("meter", ["cpu", "portable"])
@pytest.mark.parametrize("window", ["interval", "step"])
def test_a_reset_takes_the_distance_from_the_weights_then(
    model: nn.Sequential, train: Callable[..., None], window: str, meter: str
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    start = weights(model)
    oracle = []
    with wstrack.watch(model, every=2, metrics=("rwc", "distance"), window=window, meter=meter) as watcher:
        for step in range(1, 13):
            train(model, optimizer, 1)
            if step % 2 == 0:
                oracle.append(
                    [np.abs(w - s).sum() / np.abs(s).sum() for w, s in zip(weights(model), start, strict=True)]
                )
            if step in (5, 8):
                watcher.mark(f"task {step}", reset=step == 8)
                start = weights(model) if step == 8 else start
    run = watcher.run()
    np.testing.assert_allclose(run.series["distance"].to_numpy(), oracle, rtol=1e-5)
    assert oracle[4][0] < oracle[3][0]  # or it would not show
    assert run.origin["resets"] == [8]
    assert run.marks == ((5, "task 5"), (8, "task 8"))


def test_a_sample_that_waits_is_of_before_the_reset(model: nn.Sequential, train: Callable[..., None]) -> None:
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)  # who steps the others may step for the first time now
    with wstrack.watch(model, every=1, metrics=("rwc", "distance")) as watcher:
        train(model, first, 1)
        watcher.mark("task 2", reset=True)
    run = watcher.run()
    assert run.series["distance"]["0.weight"].iloc[0] > 0


def test_a_run_without_marks_has_none(model: nn.Sequential, train: Callable[..., None], tmp_path: Path) -> None:
    with wstrack.watch(model, to=tmp_path / "run", every=1) as watcher:
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    run = watcher.run()
    assert run.marks == ()
    assert "resets" not in run.origin
    assert not list((tmp_path / "run" / FOLDER).glob(f"*{SUFFIX}"))


def test_marks_of_a_branch_that_was_given_up_are_left_out(model: nn.Sequential, train: Callable[..., None]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for start, steps in ((0, 10), (5, 3)):
        with wstrack.watch(model, to="./run", every=1, start=start) as watcher:
            watcher.mark(f"from {start}")
            train(model, optimizer, steps)
            watcher.mark(f"end at {start + steps}")
    assert wstrack.pull("run").marks == ((0, "from 0"), (5, "from 5"), (8, "end at 8"))


def test_a_damaged_mark_is_left_out_and_said(model: nn.Sequential, train: Callable[..., None], tmp_path: Path) -> None:
    with wstrack.watch(model, to=tmp_path / "run", every=1) as watcher:
        watcher.mark("epoch 1")
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
        watcher.mark("größe\n2")
    (file,) = (tmp_path / "run" / FOLDER).glob(f"*{SUFFIX}")
    assert watcher.run().marks == ((0, "epoch 1"), (2, "größe\n2"))
    file.write_bytes(file.read_bytes().replace(b"epoch 1", b"epoch 7") + b"cut off")
    run = wstrack.pull(tmp_path / "run")
    assert run.marks == ((2, "größe\n2"),)
    assert run.completeness.notes == ("2 marks in 0001.marks are not what was written",)
    assert run.series["rwc"].shape == (2, 3)


def test_steps_that_loss_scaling_skipped_do_not_count(model: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    with wstrack.watch(model, every=1) as watcher:
        for found in (0.0, 1.0, 0.0):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.grad_scale, optimizer.found_inf = torch.tensor(1.0), torch.tensor(found)
            optimizer.step()
        watcher.mark("here")
    assert watcher.run().marks == ((2, "here"),)


@pytest.mark.parametrize(("name", "error"), [("", ValueError), ("  ", ValueError), (3, TypeError)])
def test_a_name_is_needed(model: nn.Sequential, name: object, error: type[Exception]) -> None:
    with wstrack.watch(model) as watcher, pytest.raises(error, match="name"):
        watcher.mark(name)  # type: ignore[arg-type]


def test_a_closed_watcher_and_a_full_disk_never_reach_training(
    model: nn.Sequential, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("wstrack.runs.recorder.append_mark", full)
    watcher = wstrack.watch(model)
    watcher.mark("epoch 1")
    assert not watcher.flush()
    watcher.close()
    watcher.mark("epoch 2")
    assert "marks: OSError" in caplog.text
