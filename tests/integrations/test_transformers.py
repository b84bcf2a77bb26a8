"""Hugging Face's Trainer, watched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from steps import Steps, agree, at_step_2, delivered, tracked
from torch import nn

import wstrack

pytest.importorskip("transformers", reason="the extra wstrack[transformers] is not installed")
pytest.importorskip("accelerate", reason="the extra wstrack[transformers] is not installed")

from transformers import Trainer, TrainerCallback, TrainingArguments
from wstrack_integrations.transformers import WeightChangeCallback

pytestmark = pytest.mark.slow

EVERY = 2


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.net(x)
        return {"loss": nn.functional.cross_entropy(out, labels), "logits": out}


class Follow(TrainerCallback):
    """Each step's weights."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.epoch == 0 or not hasattr(self, "steps"):
            optimizer = getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"])  # accelerate's holds torch's
            self.steps = Steps(kwargs["model"], optimizer, begin=state.global_step)


def data() -> list[dict[str, Any]]:
    torch.manual_seed(1)
    return [{"x": torch.randn(6), "labels": index % 3} for index in range(64)]


def trainer(*callbacks: TrainerCallback, **options: Any) -> Trainer:
    given = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "logging_steps": 1}
    quiet = {"disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "learning_rate": 1e-2, "report_to": "none"}
    arguments = TrainingArguments(output_dir="out", **{**given, **quiet, **options})
    return Trainer(Net(), arguments, train_dataset=data(), eval_dataset=data(), callbacks=list(callbacks))


def test_a_resume_in_tensorboard_goes_on_at_the_checkpoint_and_logs_no_step_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "logs")
    options = {"report_to": "tensorboard", "eval_strategy": "epoch", "save_strategy": "epoch"}
    first, second = Follow(), Follow()
    trainer(WeightChangeCallback(every=EVERY), first, num_train_epochs=2, **options).train()
    resumed = trainer(WeightChangeCallback(every=EVERY), second, num_train_epochs=3, **options)
    resumed.train(resume_from_checkpoint="out/checkpoint-4")

    assert resumed.state.global_step == 12
    run = tracked("tensorboard:logs/wstrack")
    again = second.steps.changes(EVERY)
    agree(run, pd.concat([first.steps.changes(EVERY).loc[:4], again]))
    assert run.steps.tolist() == [2, 4, 6, 8, 10, 12]
    assert run.origin["name"] == "logs"


@pytest.mark.usefixtures("_quiet")
def test_wandb_mlflow_and_tensorboard_get_the_same_run(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    follow = Follow()
    options = {"report_to": ["tensorboard", "wandb", "mlflow"], "run_name": "mine"}
    trainer(WeightChangeCallback(every=EVERY), follow, num_train_epochs=2, **options).train()
    folder = Path(wandb.run.dir)
    wandb.finish()
    expected = follow.steps.changes(EVERY)
    agree(tracked(f"wandb:{folder}"), expected)
    (run,) = mlflow.search_runs(output_format="list")
    assert run.info.status == "FINISHED"
    agree(tracked(f"mlflow:{run.info.run_id}"), expected)
    (board,) = Path("out/runs").glob("*/wstrack")
    board = tracked(f"tensorboard:{board}")
    agree(board, expected)
    assert board.origin["name"] == "mine"


def test_the_line_alone_works_inside_in_mixed_precision() -> None:
    follow = Follow()
    inside = trainer(follow, num_train_epochs=1, bf16=True)
    with wstrack.watch(inside.model, to="./plain", every=EVERY):
        inside.train()
    agree(tracked("tensorboard:plain"), follow.steps.changes(EVERY))


def test_without_a_tracker_it_writes_where_the_line_alone_would() -> None:
    callback = WeightChangeCallback(every=1, metrics=("rwc", "norm"))
    trainer(callback, num_train_epochs=1).train()
    assert callback.watcher is not None
    assert callback.watcher.recording.parent.parent == Path("runs").absolute()
    assert callback.watcher.run().metrics == ["rwc", "norm"]


def test_each_training_of_one_trainer_begins_anew() -> None:
    twice = trainer(callback := WeightChangeCallback(every=4), num_train_epochs=1)
    watchers = []
    for _ in range(2):
        twice.train()
        watchers.append(callback.watcher)
    assert watchers[0] is not watchers[1]
    assert [watcher.run().steps.tolist() for watcher in watchers if watcher] == [[4], [4]]


def test_epochs_are_marked() -> None:
    watching = WeightChangeCallback(every=EVERY, to="runs/it")
    trainer(watching, num_train_epochs=3).train()
    assert watching.watcher is not None
    assert watching.watcher.run().marks == ((0, "epoch 0"), (4, "epoch 1"), (8, "epoch 2"))


def test_a_rule_that_stops_ends_the_training() -> None:
    callback = WeightChangeCallback(every=EVERY, to="./stopped", rules=at_step_2, act={"at_step_2": "stop"})
    stopped = trainer(callback, num_train_epochs=4, gradient_accumulation_steps=1)
    with delivered(lambda: callback.watcher):
        stopped.train()
    assert stopped.state.global_step == 4
    assert wstrack.pull("stopped").steps.tolist() == [2, 4]
