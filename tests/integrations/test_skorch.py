"""skorch's nets, watched."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from steps import Steps, agree, at_step_2, delivered, tracked
from torch import nn

import wstrack

pytest.importorskip("skorch", reason="the extra wstrack[skorch] is not installed")

from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, Checkpoint, LoadInitState, TensorBoard
from torch.utils.tensorboard import SummaryWriter
from wstrack_integrations.skorch import WeightChangeCallback

pytestmark = pytest.mark.slow

EVERY = 4
X, Y = np.random.default_rng(1).normal(size=(80, 6)).astype("float32"), np.arange(80) % 3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(-1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Follow(Callback):
    """Each step's weights."""

    def __init__(self) -> None:
        self.found_: list[Steps] = []

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        if len(net.history) % 2 == 1:  # of two epochs in a fit
            begin = sum(row.get("train_batch_count", 0) for row in net.history)
            self.found_.append(Steps(net.module_, net.optimizer_, begin=begin))


def net(*callbacks: Any, **options: Any) -> NeuralNetClassifier:
    torch.manual_seed(0)
    given = {"max_epochs": 2, "batch_size": 4, "verbose": 0, "lr": 0.1}
    return NeuralNetClassifier(Net, callbacks=list(callbacks), **{**given, **options})  # a fifth is for validation


def test_a_resume_in_tensorboard_goes_on_at_the_checkpoint_and_logs_no_step_twice() -> None:
    follow, kept = Follow(), Checkpoint(monitor=None, dirname="kept")
    for _ in range(2):
        board = TensorBoard(SummaryWriter("logs"))
        # The one that loads comes last; the watch begins after it all the same.
        net(WeightChangeCallback(every=EVERY), follow, board, kept, LoadInitState(kept)).fit(X, Y)
    run = tracked("tensorboard:logs/wstrack")
    agree(run, pd.concat([steps.changes(EVERY) for steps in follow.found_]))
    assert run.steps.tolist() == list(range(4, 65, 4))


def test_a_net_is_cloned_pickled_and_searched_over() -> None:
    original = net(WeightChangeCallback(every=8, to="./runs/one"))
    copied = clone(original).set_params(callbacks__WeightChangeCallback__every=16).fit(X, Y)
    assert wstrack.pull("runs/one").steps.tolist() == [16, 32]
    again = pickle.loads(pickle.dumps(copied))
    again.partial_fit(X, Y)
    assert wstrack.pull("runs/one").steps.tolist() == [16, 32, 48, 64]


def test_the_line_alone_works_inside() -> None:
    follow = Follow()
    one = net(follow).initialize()
    with wstrack.watch(one.module_, to="./plain", every=EVERY):
        one.partial_fit(X, Y)
    agree(tracked("tensorboard:plain"), follow.found_[0].changes(EVERY))


def test_epochs_are_marked() -> None:
    net(WeightChangeCallback(every=EVERY, to="./runs/it"), max_epochs=3).fit(X, Y)
    assert wstrack.pull("runs/it").marks == ((0, "epoch 1"), (16, "epoch 2"), (32, "epoch 3"))


def test_a_rule_that_stops_ends_the_fit_without_an_error() -> None:
    made = net(WeightChangeCallback(every=2, to="./stopped", rules=at_step_2, act="stop"))
    with delivered(lambda: dict(made.callbacks_)["WeightChangeCallback"].watcher_):
        made.fit(X, Y)
    assert wstrack.pull("stopped").steps.tolist() == [2, 4]
    made.partial_fit(X, Y)  # and goes on when it is asked to
    assert len(made.history) > 1
