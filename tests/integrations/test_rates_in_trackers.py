"""What each tracker gets of the learning rates: two series, whatever the number of layers, and no point twice."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from torch import nn

import wstrack
from tests.integrations.wandb_written import written
from wstrack.runs.recording import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from wstrack.runs.run import Run

    from .wandb_server import Server

pytestmark = pytest.mark.slow

NOTE = "lr of each layer is in the recording only; the tracker has the least and the largest"
LEAST, LARGEST = [0.01 * 0.5**at for at in range(8)], [0.1 * 0.5**at for at in range(8)]


@pytest.fixture
def watch(model: nn.Sequential, train: Callable[..., None]) -> Callable[[object], None]:
    """A training with two groups and a schedule, a sample at each step."""

    def run(to: object) -> None:
        groups = [
            {"params": model[0].parameters(), "lr": 0.1},
            {"params": [*model[2].parameters(), *model[4].parameters()], "lr": 0.01},
        ]
        optimizer = torch.optim.SGD(groups)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        with wstrack.watch(model, to=to, every=1, metrics=("rwc", "lr"), name="rates"):
            for _ in range(8):
                train(model, optimizer, 1)
                scheduler.step()

    return run


def check(recorded: Run, logged: Run) -> None:
    np.testing.assert_allclose(recorded.series["lr"].to_numpy().T, [LARGEST, LEAST, LEAST], rtol=1e-12)
    assert recorded.completeness.notes == ()
    assert logged.metrics == ["rwc"]
    assert logged.series["rwc"].shape == (8, 3)
    assert (logged.completeness.missing, logged.completeness.notes) == (0, (NOTE,))


def ends(reference: str) -> Run:
    """The two series as anybody reads them."""
    return wstrack.pull(reference, match=r"^(?P<metric>lr)/(?P<layer>\w+)$")


def test_tensorboard(watch: Callable[[object], None]) -> None:
    watch("./rates")
    recorded = wstrack.pull("rates")
    assert wstrack.push("rates", "tensorboard:rates") == 0
    shutil.move(f"rates/{FOLDER}", "kept")
    check(recorded, wstrack.pull("rates"))
    found = ends("tensorboard:rates").series["lr"]
    assert sorted(found.columns) == ["largest", "least"]
    np.testing.assert_allclose(found[["least", "largest"]].to_numpy().T, [LEAST, LARGEST], rtol=1e-6)


def test_tensorboard_shows_both_in_one_chart(watch: Callable[[object], None]) -> None:
    watch("./rates")
    found = EventAccumulator("rates", size_guidance={"scalars": 0, "tensors": 0}).Reload()
    (stored,) = found.Tensors("custom_scalars__config__")
    layout = Layout.FromString(stored.tensor_proto.string_val[0])
    (chart,) = next(category for category in layout.category if category.title == "lr").chart
    shown = [tag for tag in found.Tags()["scalars"] if any(re.match(pattern, tag) for pattern in chart.multiline.tag)]
    assert (chart.title, sorted(shown)) == ("top", ["lr/largest", "lr/least"])


def test_mlflow(watch: Callable[[object], None], mlflow_store: str, tmp_path: Path) -> None:
    import mlflow

    with mlflow.start_run() as active:
        watch(None)
    reference = f"mlflow:{active.info.run_id}"
    recorded = wstrack.pull(reference)
    (recording,) = tmp_path.rglob(FOLDER)
    assert wstrack.push(recording, reference) == 0
    keys = mlflow.MlflowClient().get_run(active.info.run_id).data.metrics
    assert sorted(key for key in keys if key.startswith("lr/")) == ["lr/largest", "lr/least"]
    shutil.rmtree(recording)
    check(recorded, wstrack.pull(reference))
    np.testing.assert_allclose(ends(reference).series["lr"]["least"], LEAST, rtol=1e-12)


@pytest.mark.usefixtures("_quiet")
def test_wandb_offline(watch: Callable[[object], None]) -> None:
    import wandb

    with wandb.init(project="p", mode="offline") as run:
        watch(None)
    recorded = wstrack.pull(run.dir)
    written(run.dir)
    shutil.rmtree(Path(run.dir) / FOLDER)
    check(recorded, wstrack.pull(Path(run.dir).parent))


def test_wandb_over_its_client(watch: Callable[[object], None], server: Server) -> None:
    import wandb

    with wandb.init(project="p") as run:
        watch(None)
    stored, reference = server.runs[run.id], f"wandb:team/p/{run.id}"
    recorded = wstrack.pull(reference)
    keys = {key for row in stored.rows for key in row if key.startswith("lr/")}
    assert keys == {"lr/least", "lr/largest"}
    assert wstrack.push(Path(run.dir), reference) == 0
    stored.files.clear()
    check(recorded, wstrack.pull(reference))
