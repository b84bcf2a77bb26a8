"""Following runs of trackers: by the recording of the process that trains, or else by asking the tracker again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import nn, optim

import wstrack
from tests.integrations.wandb_server import Server
from wstrack.runs.recording import FOLDER
from wstrack.trackers.following import Followed, recording_of
from wstrack.training.watcher import Watcher

pytestmark = pytest.mark.slow

Train = Callable[..., None]


def follow_through(
    reference: str, watcher: Watcher, model: nn.Module, train: Train, finish: Callable[[], object]
) -> Followed:
    """Follows a run from its first samples to its end: each reading is all that there is, and whether it goes on."""
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    followed = Followed(reference)
    for steps in (3, 5):
        train(model, optimizer, 2 if steps == 5 else 3)
        watcher.flush()
        run = followed.read()
        assert list(run.steps) == list(range(1, steps + 1))
        assert run.origin["reference"] == reference
        assert run.completeness.notes == ()  # that its file is not closed is as it should be
        assert followed.goes_on
    watcher.close()
    finish()
    assert len(followed.read().steps) == 5
    assert followed.goes_on is False
    return followed


def test_a_run_of_mlflow(mlflow_store: str, model: nn.Module, train: Train) -> None:
    mlflow = pytest.importorskip("mlflow")
    with mlflow.start_run() as run:
        watcher = wstrack.watch(model, every=1)
        reference = f"mlflow:{run.info.run_id}"
        folder = recording_of(reference)
        assert folder is not None
        assert folder.is_relative_to(Path.cwd())
        recorded = follow_through(reference, watcher, model, train, lambda: None).read()
    shutil.rmtree(folder)
    asked = Followed(reference)
    run = asked.read()  # of what MLflow has
    assert asked.stamp() is None
    assert asked.goes_on is False
    np.testing.assert_array_equal(run.series["rwc"], recorded.series["rwc"])


def test_a_run_of_mlflow_that_is_not_closed_may_go_on(mlflow_store: str, model: nn.Module, train: Train) -> None:
    mlflow = pytest.importorskip("mlflow")
    with mlflow.start_run() as started, wstrack.watch(model, every=1) as watcher:
        train(model, optim.SGD(model.parameters(), lr=0.1), 3)
        watcher.flush()
        folder = recording_of(f"mlflow:{started.info.run_id}")
        assert folder is not None
        shutil.rmtree(folder)  # as if another machine had it
        asked = Followed(f"mlflow:{started.info.run_id}")
        assert len(asked.read().steps) == 3
        assert asked.goes_on is None


def test_a_run_of_wandb(server: Server, model: nn.Module, train: Train) -> None:
    import wandb

    run = wandb.init(project="p")
    watcher = wstrack.watch(model, every=1)
    reference = f"wandb:{run.entity}/p/{run.id}"
    assert recording_of(reference) == Path(run.dir) / FOLDER
    follow_through(reference, watcher, model, train, run.finish)


def test_a_run_of_wandb_elsewhere(
    server: Server, model: nn.Module, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    place = Path("elsewhere")
    place.mkdir()
    run = wandb.init(project="p")
    watcher = wstrack.watch(model, every=1)
    reference = f"wandb:{run.entity}/p/{run.id}"
    train(model, optim.SGD(model.parameters(), lr=0.1), 3)
    watcher.close()
    run.finish()
    monkeypatch.chdir(place)  # below which there is no recording
    assert recording_of(reference) is None
    asked = Followed(reference)
    assert len(asked.read().steps) == 3
    assert asked.goes_on is False


def test_a_folder_of_tensorboard(model: nn.Module, train: Train) -> None:
    watcher = wstrack.watch(model, every=1, to="./runs/exp1")
    follow_through("tensorboard:runs/exp1", watcher, model, train, lambda: None)
    shutil.rmtree(Path("runs/exp1") / FOLDER)
    asked = Followed("tensorboard:runs/exp1")
    assert len(asked.read().steps) == 5
    assert asked.goes_on is False
