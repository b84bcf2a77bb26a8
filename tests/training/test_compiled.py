"""Training that is compiled: a watch adds no graph, no graph break and no recompilation, and its numbers are right.

Compiled by Dynamo alone (backend "eager"): what code is generated from a graph is nothing to a watch.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

import wstrack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # those of torch.compile
STEPS, EVERY = 6, 2


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):  # whatever is compiled twice ends the test
        yield
    torch._dynamo.reset()


@contextmanager
def without_hooks() -> Iterator[None]:
    """As in a process that never watched: a watch leaves its hooks with torch."""
    kept = [(hooks, dict(hooks)) for hooks in (_global_optimizer_pre_hooks, _global_optimizer_post_hooks)]
    for hooks, _ in kept:
        hooks.clear()
    yield
    for hooks, before in kept:
        hooks.update(before)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 16, bias=False), nn.Linear(16, 8, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(inputs).relu())


class Training:
    """A small model that trains, with some of it compiled."""

    def __init__(self, compiled: str) -> None:
        torch.manual_seed(0)
        counters.clear()
        self.counter = CompileCounterWithBackend("eager")
        self.model = Net()
        optimizer = self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.net: nn.Module = self.compiled(self.model) if compiled in ("model", "both") else self.model
        self.update: Callable[[], Any] = optimizer.step
        if compiled in ("optimizer", "both"):
            self.update = self.compiled(optimizer.step)
        elif compiled == "lambda":
            self.update = self.compiled(lambda: optimizer.step())
        self.step = self.compiled(self.train) if compiled == "training step" else self.train
        if compiled == "model in place":
            self.model.compile(backend=self.counter)
        self.oracle: list[list[float]] = []

    def compiled(self, what: Any) -> Any:
        return torch.compile(what, backend=self.counter)

    def train(self, inputs: torch.Tensor) -> None:
        self.net(inputs).square().mean().backward()
        self.update()
        self.optimizer.zero_grad()

    def run(self) -> Training:
        noise = torch.Generator().manual_seed(1)
        before = self.weights()
        for step in range(1, STEPS + 1):
            self.step(torch.randn(4, 6, generator=noise))
            if step % EVERY == 0:
                now = self.weights()
                self.oracle.append([np.abs(w - p).sum() / np.abs(p).sum() for w, p in zip(now, before, strict=True)])
                before = now
        return self

    def weights(self) -> list[np.ndarray]:
        return [layer.weight.detach().double().numpy().copy() for layer in (self.model.first, self.model.second)]

    def compilations(self) -> tuple[int, int, int]:
        """Graphs, operations in them, graph breaks."""
        return self.counter.frame_count, self.counter.op_count, sum(counters["graph_break"].values())


@pytest.mark.parametrize("compiled", ["model", "model in place", "optimizer", "lambda", "both", "training step"])
def test_a_watch_adds_no_graph_and_no_break(compiled: str) -> None:
    eager = Training("nothing").run()
    with without_hooks():
        unwatched = Training(compiled).run()
    graphs, operations, breaks = unwatched.compilations()
    assert graphs > 0
    torch._dynamo.reset()
    training = Training(compiled)
    watcher = wstrack.watch(training.net, every=EVERY)  # what torch.compile gave, where it gave one
    training.run()
    assert training.compilations()[:2] == (graphs, operations)
    assert training.compilations()[2] <= breaks
    assert watcher.steps == STEPS
    frame = watcher.run().series["rwc"]
    assert list(frame.columns) == ["first.weight", "second.weight"]
    np.testing.assert_allclose(frame.to_numpy(), training.oracle, rtol=1e-6)
    np.testing.assert_allclose(frame.to_numpy(), eager.oracle, rtol=1e-4)  # AdamW compiled is not AdamW bit by bit


@pytest.mark.parametrize("window", ["interval", "step"])
def test_a_model_that_is_watched_before_it_is_compiled(window: str) -> None:
    training = Training("nothing")
    watcher = wstrack.watch(training.model, every=EVERY, window=window)
    training.net, training.update = training.compiled(training.model), training.compiled(training.optimizer.step)
    training.run()
    run = watcher.run()
    assert list(run.series["rwc"].columns) == ["first.weight", "second.weight"]
    assert run.intervals.tolist() == [EVERY if window == "interval" else 1] * 3
    if window == "interval":
        np.testing.assert_allclose(run.series["rwc"].to_numpy(), training.oracle, rtol=1e-6)
    assert training.compilations()[0] == 2  # the model and the optimizer


def test_a_watch_that_begins_when_a_compiled_optimizer_has_stepped_already() -> None:
    with without_hooks():
        training = Training("optimizer").run()
    training.oracle.clear()
    with torch._dynamo.config.patch(error_on_recompile=False):  # once, for there are hooks now
        watcher = wstrack.watch(training.model, every=EVERY)
        training.run()
    assert watcher.steps == STEPS
    np.testing.assert_allclose(watcher.run().series["rwc"].to_numpy(), training.oracle, rtol=1e-6)


def test_the_wrapper_may_be_let_go_of_and_stands_for_its_model() -> None:
    training = Training("model")
    first = wstrack.watch(training.model, every=EVERY)
    second = wstrack.watch(training.net, every=EVERY)
    assert "closed" in repr(first)  # the same weights twice would be one watch too many
    assert second.name.startswith("Net-")
    training.net = training.compiled(training.model)
    gc.collect()
    training.run()
    assert second.steps == STEPS
    assert second.run().origin["model"] == "Net"
