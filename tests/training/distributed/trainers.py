"""Trainers under DistributedDataParallel, watched: what each rank does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import wstrack
from tests.integrations.steps import Steps
from wstrack.runs.recording import FOLDER

__all__ = ["WAYS", "trained"]

EVERY = 2


def trained(rank: int, *, way: str) -> tuple[str, np.ndarray, list[str], list[int], np.ndarray]:
    """Train on the data that are this rank's, four micro-batches a step.

    Returns:
        The watcher in words; the changes that this rank saw itself; and, on rank 0, the recordings in this folder, the
        steps in the only one, and the changes that were logged.
    """
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
        "TORCHELASTIC_RUN_ID": "tests",
        "ACCELERATE_USE_CPU": "true",
    }
    os.environ.update({**{name: str(value) for name, value in launched.items()}, **place})  # as torchrun says it
    torch.manual_seed(0)
    watcher, steps = WAYS[way](TensorDataset(torch.randn(128, 6), torch.arange(128) % 3))
    seen = steps.changes(EVERY).to_numpy()
    if rank:
        return repr(watcher), seen, [], [], seen
    recordings = list(Path().rglob(FOLDER))
    run = wstrack.pull(recordings[0].parent)
    return (
        repr(watcher),
        seen,
        [str(one.parent) for one in recordings],
        run.steps.tolist(),
        run.series["rwc"].to_numpy(),
    )


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": nn.functional.cross_entropy(self.net(x), labels)}


def lightning(data: TensorDataset) -> tuple[Any, Steps]:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import TensorBoardLogger
    from wstrack_integrations.lightning import WeightChangeCallback

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Net()

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            return self.model(*batch)["loss"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
            self.steps = Steps(self.model, optimizer)
            return optimizer

    module, callback = Module(), WeightChangeCallback(every=EVERY)
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=2,
        accumulate_grad_batches=4,
        callbacks=[callback],
        logger=TensorBoardLogger(".", name="logs", version="one"),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(data, batch_size=4))
    return callback.watcher, module.steps


def transformers(data: TensorDataset) -> tuple[Any, Steps]:
    from transformers import Trainer, TrainingArguments
    from wstrack_integrations.transformers import WeightChangeCallback

    arguments = TrainingArguments(
        output_dir="out",
        use_cpu=True,
        ddp_backend="gloo",
        num_train_epochs=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        learning_rate=1e-2,
        report_to="tensorboard",
        save_strategy="no",
        disable_tqdm=True,
    )
    model, callback = Net(), WeightChangeCallback(every=EVERY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    steps = Steps(model, optimizer)
    rows = [{"x": x, "labels": y} for x, y in data]
    Trainer(model, arguments, train_dataset=rows, callbacks=[callback], optimizers=(optimizer, None)).train()
    return callback.watcher, steps


def accelerate(data: TensorDataset) -> tuple[Any, Steps]:
    from accelerate import Accelerator
    from wstrack_integrations.accelerate import watch

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4, log_with="tensorboard", project_dir="logs")
    accelerator.init_trackers("run")
    model: Any = Net()
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=1e-2)
    steps = Steps(model, optimizer)
    loader: Any = DataLoader(data, batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    with watch(model, accelerator, every=EVERY) as watcher:
        for _ in range(2):
            for batch in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(model(*batch)["loss"])
                    optimizer.step()
                    optimizer.zero_grad()
    return watcher, steps  # without end_training(), which would part the processes


WAYS = {"accelerate": accelerate, "lightning": lightning, "transformers": transformers}
