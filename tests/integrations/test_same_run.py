"""The same training, watched with each tracker: the same `Run`, from its recording and, without, from its series."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
import pytest
import torch
from torch import nn

import wstrack
from tests.integrations.wandb_written import written
from wstrack.runs.recording import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from wstrack.runs.run import Run

    from .wandb_server import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def trained(train: Callable[..., None]) -> Callable[[object], wstrack.Watcher]:
    """The same training each time: what it gives depends on the seed alone."""

    def run(to: object) -> wstrack.Watcher:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(6, 16), nn.Sequential(nn.Linear(16, 8)), nn.Linear(8, 3))
        with wstrack.watch(model, every=2, to=to, metrics=("rwc", "norm", "cosine"), name="same") as watcher:
            train(model, torch.optim.AdamW(model.parameters(), lr=1e-2), 24)
        return watcher

    return run


def agree(run: Run, expected: Run, source: str, *, float32: bool = False) -> None:
    assert run.origin["source"] == source
    assert run.metrics == expected.metrics
    for metric in expected.metrics:
        values = expected.series[metric]
        values = values.astype("float32").astype("float64") if float32 else values
        pd.testing.assert_frame_equal(run.series[metric], values, check_exact=True)
    pd.testing.assert_frame_equal(run.layers, expected.layers)
    pd.testing.assert_series_equal(run.intervals, expected.intervals)
    assert (run.completeness.missing, run.completeness.notes) == (0, ())


@pytest.fixture
def expected(trained: Callable[[object], wstrack.Watcher]) -> Run:
    """What every tracker must give back."""
    return trained("./alone").run()


def test_tensorboard(expected: Run, trained: Callable[[object], wstrack.Watcher]) -> None:
    trained("./board")
    agree(wstrack.pull("board"), expected, "recording")
    shutil.rmtree(f"board/{FOLDER}")
    agree(wstrack.pull("board"), expected, "tensorboard", float32=True)


@pytest.mark.parametrize("store", ["mlflow_store", "postgres_uri", "sqlite_server", "postgres_server"])
def test_mlflow(
    expected: Run,
    trained: Callable[[object], wstrack.Watcher],
    mlflow_store: str,
    store: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    mlflow.set_tracking_uri(request.getfixturevalue(store))
    mlflow.set_experiment("same")
    with mlflow.start_run() as active:
        trained(None)
    reference = f"mlflow:{active.info.run_id}"
    agree(wstrack.pull(reference), expected, "recording")
    (recording,) = tmp_path_factory.getbasetemp().rglob(f"{active.info.run_id}/artifacts/wstrack/{FOLDER}")
    shutil.rmtree(recording)
    agree(wstrack.pull(reference), expected, "mlflow")


@pytest.mark.usefixtures("_quiet")
def test_wandb_offline(expected: Run, trained: Callable[[object], wstrack.Watcher]) -> None:
    import wandb

    with wandb.init(project="p", mode="offline") as run:
        trained(None)
    agree(wstrack.pull(run.dir), expected, "recording")
    written(run.dir)
    shutil.rmtree(Path(run.dir) / FOLDER)
    agree(wstrack.pull(Path(run.dir).parent), expected, "wandb")


def test_wandb_over_its_client(expected: Run, trained: Callable[[object], wstrack.Watcher], server: Server) -> None:
    import wandb

    with wandb.init(project="p") as run:
        trained(None)
    stored, reference = server.runs[run.id], f"wandb:team/p/{run.id}"
    agree(wstrack.pull(reference), expected, "recording")
    stored.files.clear()
    agree(wstrack.pull(reference), expected, "wandb")
    stored.exported = len(stored.rows)
    agree(wstrack.pull(reference), expected, "wandb")
