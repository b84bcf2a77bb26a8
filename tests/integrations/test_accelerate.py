"""A loop of one's own with Accelerate, watched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch
from steps import Steps, agree, at_step_2, delivered, tracked
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from wstrack_integrations.accelerate import watch

import wstrack
from wstrack.rules import StopTraining

pytest.importorskip("accelerate", reason="the extra wstrack[accelerate] is not installed")

from accelerate import Accelerator
from accelerate.state import AcceleratorState

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERY = 2


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Accelerate has one state for all of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def train(
    accelerator: Accelerator, start: Callable[..., wstrack.Watcher], *, epochs: int = 1, load: str = "", begin: int = 0
) -> Steps:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader: Any = DataLoader(TensorDataset(torch.randn(64, 6)), batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    if load:
        accelerator.load_state(load)
    steps = Steps(accelerator.unwrap_model(model), optimizer.optimizer, begin=begin)
    with start(model, accelerator):
        for _ in range(epochs):
            for (batch,) in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(model(batch).square().mean())
                    optimizer.step()
                    optimizer.zero_grad()
            if not load:
                accelerator.save_state(f"state-{len(steps.states) - 1}")
    return steps


def test_a_resume_in_tensorboard_goes_on_at_the_checkpoint_and_logs_no_step_twice() -> None:
    expected = []
    for options in ({"epochs": 2}, {"epochs": 2, "load": "state-4", "begin": 4}):
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4, log_with="tensorboard", project_dir="logs")
        accelerator.init_trackers("run")
        begin = options.get("begin", 0)
        steps = train(accelerator, lambda *given, begin=begin: watch(*given, every=EVERY, start=begin), **options)
        accelerator.end_training()
        expected.append(steps.changes(EVERY))
    run = tracked("tensorboard:logs/run/wstrack")
    agree(run, pd.concat([expected[0], expected[1].loc[9:]]))
    assert run.steps.tolist() == [2, 4, 6, 8, 10, 12]


@pytest.mark.usefixtures("_quiet")
def test_wandb_and_mlflow(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    accelerator = Accelerator(cpu=True, log_with=["wandb", "mlflow"])
    accelerator.init_trackers("run")
    run, active = (accelerator.get_tracker(name, unwrap=True) for name in ("wandb", "mlflow"))
    folder = Path(run.dir)
    steps = train(accelerator, lambda *given: watch(*given, every=4))
    accelerator.end_training()
    agree(tracked(f"wandb:{folder}"), steps.changes(4))
    agree(tracked(f"mlflow:{active.info.run_id}"), steps.changes(4))


def test_the_line_alone_works_inside_in_mixed_precision() -> None:
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    steps = train(accelerator, lambda model, _: wstrack.watch(model, to="./plain", every=EVERY))
    agree(tracked("tensorboard:plain"), steps.changes(EVERY))


def test_a_rule_that_stops_raises_out_of_the_loop() -> None:
    watchers: list[wstrack.Watcher] = []

    def start(*given: Any) -> wstrack.Watcher:
        watchers.append(watch(*given, every=EVERY, to="./stopped", rules=at_step_2, act="stop"))
        return watchers[0]

    with delivered(lambda: watchers[0] if watchers else None), pytest.raises(StopTraining, match="step 2"):
        train(Accelerator(cpu=True), start)
    assert wstrack.pull("stopped").steps.tolist() == [2, 4]
