"""Marks come back from each tracker: with the recording, which lies beside its files or among them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import wstrack
from wstrack.runs.recording import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from .wandb_server import Server

pytestmark = pytest.mark.slow

MARKS = ((0, "epoch 1"), (3, "epoch 2"))


@pytest.fixture
def watch(model: nn.Sequential, train: Callable[..., None]) -> Callable[[object], None]:
    def run(to: object) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with wstrack.watch(model, to=to, every=1, metrics=("rwc", "distance")) as watcher:
            for step, name in MARKS:
                watcher.mark(name, reset=step == 3)
                train(model, optimizer, 3)

    return run


def check(reference: object) -> None:
    run = wstrack.pull(str(reference))
    assert run.marks == MARKS
    assert run.origin["resets"] == [3]
    assert run.completeness.notes == ()


def test_tensorboard(watch: Callable[[object], None]) -> None:
    watch("./marked")
    check("marked")


@pytest.mark.parametrize("store", ["mlflow_store", "sqlite_server"])
def test_mlflow(watch: Callable[[object], None], mlflow_store: str, store: str, request: pytest.FixtureRequest) -> None:
    import mlflow

    mlflow.set_tracking_uri(request.getfixturevalue(store))
    mlflow.set_experiment("marks")
    with mlflow.start_run() as active:
        watch(None)
    check(f"mlflow:{active.info.run_id}")


@pytest.mark.usefixtures("_quiet")
def test_wandb_offline(watch: Callable[[object], None]) -> None:
    import wandb

    with wandb.init(project="p", mode="offline") as run:
        watch(None)
    check(run.dir)


def test_wandb_over_its_client(watch: Callable[[object], None], server: Server) -> None:
    import wandb

    with wandb.init(project="p") as run:
        watch(None)
    shutil.rmtree(Path(run.dir) / FOLDER)
    check(f"wandb:team/p/{run.id}")
