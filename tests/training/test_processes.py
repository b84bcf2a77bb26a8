"""Other processes beside a watch, runs that were killed and go on from a checkpoint, cells of a notebook run twice.

Elsewhere: what a killed process leaves, a fork that exits as its parent does, `start=` in one process (test_watch.py).
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import wstrack
from wstrack.training.watching import _watchers

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.slow

Train = "Callable[[nn.Module, torch.optim.Optimizer, int], None]"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 and later: fork beside threads
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loaders_in_processes_leave_the_recording_to_their_parent(
    model: nn.Sequential, train: Train, method: str
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = wstrack.watch(model, every=1)
    loader = DataLoader(TensorDataset(torch.randn(24, 6)), 4, num_workers=2, multiprocessing_context=method)
    for (inputs,) in loader:
        model(inputs).square().mean().backward()
        optimizer.step()
    assert [part.name for part in watcher.recording.iterdir()] == ["0001.arrows"]  # the workers ended; it goes on
    train(model, optimizer, 1)
    watcher.close()
    for run in (watcher.run(), wstrack.pull(f"tensorboard:{watcher.recording.parent}")):
        assert run.steps.tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert run.completeness.notes == ()
        assert run.completeness.missing == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_that_lets_go_of_the_model_ends_nothing(train: Train) -> None:
    models = [nn.Linear(6, 2)]
    watcher = wstrack.watch(models[0], every=1)
    child = os.fork()
    if child == 0:
        models.clear()
        gc.collect()
        os._exit("closed" in repr(watcher))
    assert os.waitpid(child, 0)[1] == 0
    train(models[0], torch.optim.SGD(models[0].parameters(), lr=0.1), 1)
    assert watcher.run().steps.tolist() == [1]


LOOP = """
import os, signal, sys, torch, wstrack

def loop(folder, checkpoint, start, end):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    if start:
        state = torch.load(checkpoint.format(start))
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        assert state["steps"] == start
    with wstrack.watch(model, to=folder, every=50, start=start) as watcher:
        while watcher.steps < end:
            yield watcher, model
            noise = torch.randn(8, 6, generator=torch.Generator().manual_seed(watcher.steps))
            model(noise).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if watcher.steps in (100, 173):
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "steps": watcher.steps}
                torch.save(state, checkpoint.format(watcher.steps))
"""

KILLED = """
for watcher, model in loop(sys.argv[1], sys.argv[2], None, 200):
    if watcher.steps == 180:
        watcher.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_goes_on_from_its_checkpoint_or_an_older_one(tmp_path: Path) -> None:
    folder, checkpoint = tmp_path / "killed", str(tmp_path / "{}.pt")
    command = [sys.executable, "-c", LOOP + KILLED, str(folder), checkpoint]
    assert subprocess.run(command, timeout=120, check=False).returncode == -signal.SIGKILL
    namespace: dict[str, Any] = {}
    exec(LOOP, namespace)
    for start, since in ((173, 173), (100, 150)):  # the sample at 150 is there already, and is not logged again
        resumed = tmp_path / str(start)
        shutil.copytree(folder, resumed)
        at: dict[int, list[np.ndarray]] = {}
        for watcher, model in namespace["loop"](resumed, checkpoint, start, 210):
            at[watcher.steps] = [p.detach().double().numpy().copy() for p in (model[0].weight, model[1].weight)]
        run = wstrack.pull(resumed)
        assert run.steps.tolist() == wstrack.pull(f"tensorboard:{resumed}").steps.tolist() == [50, 100, 150, 200]
        assert run.intervals.tolist() == [50, 50, 50, 200 - since]
        oracle = [np.abs(w - p).sum() / np.abs(p).sum() for w, p in zip(at[200], at[since], strict=True)]
        np.testing.assert_allclose(run.series["rwc"].loc[200], oracle, rtol=1e-6)


# ---- notebooks -----------------------------------------------------------------------------------------------------

CELL = """
model = torch.nn.Linear(6, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watchers.append(wstrack.watch(model, every=2))
train(model, optimizer, 5)
"""


def test_a_cell_that_is_run_twice_is_two_runs(train: Train) -> None:
    watchers: list[wstrack.Watcher] = []
    namespace = {"torch": torch, "wstrack": wstrack, "train": train, "watchers": watchers}
    for _ in range(2):
        exec(CELL, namespace)
    gc.collect()
    first, second = watchers
    assert "closed" in repr(first)  # its model is gone
    assert first.recording != second.recording
    assert [watcher.run().steps.tolist() for watcher in watchers] == [[2, 4], [2, 4]]


def test_the_line_alone_run_twice_goes_on_in_its_run(model: nn.Sequential, train: Train) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    namespace = {"model": model, "wstrack": wstrack}
    for _ in range(2):
        exec("watcher = wstrack.watch(model, every=2, name='mine')", namespace)
        train(model, optimizer, 4)
    watcher = namespace["watcher"]
    assert watcher.run().steps.tolist() == [2, 4, 6, 8]  # type: ignore[attr-defined]
    assert list(_watchers.values()) == [watcher]
