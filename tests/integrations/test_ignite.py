"""Ignite's engines, watched."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import pytest
import torch
from steps import Steps, agree, at_step_2, delivered, tracked
from torch import nn

import wstrack

pytest.importorskip("ignite", reason="the extra wstrack[ignite] is not installed")

from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import TensorboardLogger
from ignite.metrics import Loss
from wstrack_integrations.ignite import WeightChangeHandler

pytestmark = pytest.mark.slow

EVERY = 2


def data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(4, 6), torch.randn(4, 3)) for _ in range(16)]


def engine(**options: Any) -> tuple[Engine, nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return create_supervised_trainer(model, optimizer, nn.MSELoss(), **options), model, optimizer


def fit(saved: dict[str, Any], epochs: int) -> tuple[Steps, dict[str, Any]]:
    """Train on from what was saved; also returns what is to be saved of the first epoch."""
    trainer, model, optimizer = engine(gradient_accumulation_steps=4)
    evaluator = create_supervised_evaluator(model, {"loss": Loss(nn.MSELoss())})
    handler = WeightChangeHandler(every=EVERY)
    handler.attach(trainer, model)
    objects = {"trainer": trainer, "model": model, "optimizer": optimizer, "handler": handler}
    for name, state in saved.items():
        objects[name].load_state_dict(state)
    steps = Steps(model, optimizer, begin=4 if saved else 0)
    kept: dict[str, Any] = {}
    with TensorboardLogger(log_dir="logs") as logger:
        completed = Events.ITERATION_COMPLETED
        logger.attach_output_handler(trainer, completed, tag="training", output_transform=lambda loss: {"loss": loss})
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(data()))
        states = Events.EPOCH_COMPLETED(once=1)
        trainer.add_event_handler(
            states, lambda: kept.update({name: copy.deepcopy(one.state_dict()) for name, one in objects.items()})
        )
        trainer.run(data(), max_epochs=epochs)
    return steps, kept


def test_a_resume_in_tensorboard_goes_on_at_the_checkpoint_and_logs_no_step_twice() -> None:
    first, saved = fit({}, epochs=2)
    second, _ = fit(saved, epochs=3)
    run = tracked("tensorboard:logs/wstrack")
    agree(run, pd.concat([first.changes(EVERY), second.changes(EVERY).loc[9:]]))
    assert run.steps.tolist() == [2, 4, 6, 8, 10, 12]


def test_an_engine_that_runs_further_goes_on_and_its_errors_are_raised() -> None:
    trainer, model, optimizer = engine()
    WeightChangeHandler(every=4, to="./runs/one").attach(trainer, model)
    steps = Steps(model, optimizer)
    trainer.run(data(), max_epochs=1)
    trainer.run(data(), max_epochs=2)
    agree(tracked("tensorboard:runs/one"), steps.changes(4))
    with pytest.raises(TypeError):
        trainer.run([None], max_epochs=3)


def test_the_line_alone_works_inside_in_mixed_precision() -> None:
    trainer, model, optimizer = engine()
    steps = Steps(model, optimizer)
    with wstrack.watch(model, to="./plain", every=EVERY), torch.autocast("cpu", torch.bfloat16):
        trainer.run(data(), max_epochs=1)
    agree(tracked("tensorboard:plain"), steps.changes(EVERY))


def test_epochs_are_marked() -> None:
    trainer, model, _ = engine(gradient_accumulation_steps=4)
    handler = WeightChangeHandler(every=EVERY, to="runs/it")
    handler.attach(trainer, model)
    trainer.run(data(), max_epochs=3)
    assert handler.watcher is not None
    assert handler.watcher.run().marks == ((0, "epoch 1"), (4, "epoch 2"), (8, "epoch 3"))


def test_a_rule_that_stops_terminates_the_engine() -> None:
    trainer, model, _ = engine()
    handler = WeightChangeHandler(every=EVERY, to="./stopped", rules=at_step_2, act="stop")
    handler.attach(trainer, model)
    with delivered(lambda: handler.watcher):
        trainer.run(data(), max_epochs=3)
    assert trainer.state.iteration == 4
    assert wstrack.pull("stopped").steps.tolist() == [2, 4]
