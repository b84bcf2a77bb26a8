"""fastai's Learner, watched."""

from __future__ import annotations

import importlib.util
import pickle
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from steps import Steps, agree, at_step_2, tracked
from torch import nn

import wstrack
from tests.cuda_torchvision import import_datasets

if importlib.util.find_spec("fastai") is None:
    pytest.skip("the extra wstrack[fastai] is not installed", allow_module_level=True)
else:
    import_datasets()  # before fastai imports torchvision

from fastai.callback.core import Callback
from fastai.callback.tensorboard import TensorBoardCallback
from fastai.callback.training import GradientAccumulation
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import Adam, OptimWrapper
from wstrack_integrations.fastai import WeightChangeCallback

pytestmark = pytest.mark.slow

EVERY = 2
OPTIMIZERS = {"fastai's": Adam, "torch's": partial(OptimWrapper, opt=torch.optim.AdamW)}


class Follow(Callback):
    """Each step's weights."""

    order, run_valid = 100, False

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Steps] = []

    def before_fit(self) -> None:
        begin = len(self.found[-1].states) - 1 if self.found else 0
        self.found.append(Steps(self.learn.model, begin=begin))

    def after_step(self) -> None:
        self.found[-1].took()


def learner(*callbacks: Any, optimizer: Any = Adam) -> Learner:
    torch.manual_seed(1)
    pairs = [(torch.randn(6), torch.randn(3)) for _ in range(64)]
    data = DataLoaders.from_dsets(pairs, pairs[:8], bs=4, device="cpu")
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    return Learner(data, model, loss_func=nn.MSELoss(), opt_func=optimizer, cbs=list(callbacks), lr=1e-2)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_two_fits_with_accumulated_gradients_in_the_callbacks_tensorboard(kind: str) -> None:
    follow = Follow()
    # fastai's own callback fails with an optimizer of torch, some of whose hyper-parameters are None.
    boards = [TensorBoardCallback("logs", trace_model=False, log_preds=False)] if kind == "fastai's" else []
    callback = WeightChangeCallback(every=EVERY, **({} if boards else {"to": "logs/wstrack"}))
    made = learner(callback, follow, *boards, GradientAccumulation(16), optimizer=OPTIMIZERS[kind])
    with made.no_logging():
        made.fit(2)
        made.lr_find(num_it=2, show_plot=False, suggest_funcs=None)  # no training; of so few it can suggest nothing
        made.get_preds()
        follow.found = follow.found[:1]
        made.fit(1)
    run = tracked("tensorboard:logs/wstrack")
    agree(run, pd.concat([steps.changes(EVERY) for steps in follow.found]))
    assert run.steps.tolist() == [2, 4, 6, 8, 10, 12]


def test_a_learner_is_pickled_as_export_does() -> None:
    made = learner(WeightChangeCallback(every=4, to="./one"))
    with made.no_logging():
        made.fit(1)
    assert pickle.loads(pickle.dumps(made)).weight_change.steps == 16
    assert wstrack.pull("one").steps.tolist() == [4, 8, 12, 16]


def test_the_line_alone_works_inside_with_an_optimizer_of_torch_in_mixed_precision() -> None:
    follow = Follow()
    made = learner(follow, optimizer=OPTIMIZERS["torch's"]).to_bf16()
    with wstrack.watch(made.model, to="./plain", every=EVERY), made.no_logging():
        made.fit(1)
    found = tracked("tensorboard:plain")
    agree(found, follow.found[0].changes(EVERY))
    assert np.isfinite(found.series["rwc"].to_numpy()).all()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_rule_that_stops_ends_the_fit(kind: str) -> None:
    callback = WeightChangeCallback(every=EVERY, to="./stopped", rules=at_step_2, act="stop")

    class Delivered(Callback):
        order = 100

        def after_step(self) -> None:
            callback.watcher._measured.flush(60)

    made = learner(callback, Delivered(), optimizer=OPTIMIZERS[kind])
    with made.no_logging():
        made.fit(2)
    assert wstrack.pull("stopped").steps.tolist() == [2, 4]
    assert callback.steps == 4
