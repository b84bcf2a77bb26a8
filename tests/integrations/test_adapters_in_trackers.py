"""What each tracker gets of adapters: of each metric the layers that have it, all read back, and no point twice."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.runs.recording import FOLDER

if TYPE_CHECKING:
    from wstrack.runs.run import Run

    from .wandb_server import Server

peft = pytest.importorskip("peft", reason="peft is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of peft's

WIDTHS = {"rwc": 4, "lora": 2, "lora_change": 2}
KEYS = sorted(
    [f"rwc/base_model/model/{place}/lora_{factor}/default/weight" for place in (0, 1) for factor in "AB"]
    + [f"{metric}/base_model/model/{place}/weight" for place in (0, 1) for metric in ("lora", "lora_change")]
)


def train(to: object) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model = peft.get_peft_model(network, peft.LoraConfig(r=2, target_modules=["0", "1"]))
    optimizer = torch.optim.SGD((one for one in model.parameters() if one.requires_grad), lr=0.1)
    with wstrack.watch(model, to=to, every=1, metrics=tuple(WIDTHS), name="adapted"):
        for _ in range(8):
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()


def check(recorded: Run, logged: Run) -> None:
    for run in (recorded, logged):
        assert {metric: frame.shape for metric, frame in run.series.items()} == {
            metric: (8, width) for metric, width in WIDTHS.items()
        }
        assert (run.completeness.expected, run.completeness.missing) == (64, 0)
    for metric in WIDTHS:
        np.testing.assert_allclose(logged.series[metric].to_numpy(), recorded.series[metric].to_numpy(), rtol=1e-6)


def ours(keys: object) -> list[str]:
    return sorted(key for key in keys if str(key).startswith(("rwc/", "lora")))  # type: ignore[attr-defined]


def test_mlflow(mlflow_store: str, tmp_path: Path) -> None:
    import mlflow

    with mlflow.start_run() as active:
        train(None)
    reference = f"mlflow:{active.info.run_id}"
    recorded = wstrack.pull(reference)
    (recording,) = tmp_path.rglob(FOLDER)
    assert wstrack.push(recording, reference) == 0
    assert ours(mlflow.MlflowClient().get_run(active.info.run_id).data.metrics) == KEYS
    shutil.rmtree(recording)
    check(recorded, wstrack.pull(reference))


@pytest.mark.usefixtures("_quiet")
def test_wandb_offline() -> None:
    import wandb

    with wandb.init(project="p", mode="offline") as run:
        train(None)
    recorded = wstrack.pull(run.dir)
    shutil.rmtree(Path(run.dir) / FOLDER)
    check(recorded, wstrack.pull(Path(run.dir).parent))


def test_wandb_over_its_client(server: Server) -> None:
    import wandb

    with wandb.init(project="p") as run:
        train(None)
    stored, reference = server.runs[run.id], f"wandb:team/p/{run.id}"
    recorded = wstrack.pull(reference)
    assert ours({key for row in stored.rows for key in row}) == KEYS
    assert wstrack.push(Path(run.dir), reference) == 0
    stored.files.clear()
    check(recorded, wstrack.pull(reference))
