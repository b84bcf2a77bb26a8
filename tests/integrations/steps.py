"""The weights after each optimizer step of a trainer, and what NumPy makes of them."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch.optim.optimizer import register_optimizer_step_post_hook

import wstrack
from tests.integrations.wandb_written import written
from wstrack.runs.recording import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch import nn

    from wstrack.rules import Alert, Observed
    from wstrack.runs.run import Run
    from wstrack.training.watcher import Watcher


class Steps:
    """Copies a model's weights at each step of an optimizer, by the hook of that optimizer alone."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, *, begin: int = 0) -> None:
        self.model = model
        self.begin = begin
        self.states = [self._weights()]
        if optimizer is not None:
            optimizer.register_step_post_hook(self.took)

    def took(self, *_: object) -> None:
        self.states.append(self._weights())

    def _weights(self) -> dict[str, np.ndarray]:
        weights = self.model.named_parameters()
        return {name: p.detach().double().cpu().numpy().copy() for name, p in weights if p.ndim >= 2}

    def changes(self, every: int) -> pd.DataFrame:
        """By step, the relative change of each layer since the step before it that is a multiple of `every`."""
        rows, before = {}, self.states[0]
        for step, now in enumerate(self.states[1:], self.begin + 1):
            if step % every == 0:
                rows[step] = {name: np.abs(now[name] - p).sum() / np.abs(p).sum() for name, p in before.items()}
                before = now
        return pd.DataFrame.from_dict(rows, orient="index")


def tracked(reference: str, recordings: Path = Path()) -> Run:
    """A run as its tracker has it, without its recording."""
    for recording in recordings.absolute().rglob(FOLDER):
        shutil.rmtree(recording)
    if reference.startswith("wandb:"):
        written(reference.removeprefix("wandb:"))
    run = wstrack.pull(reference)
    assert run.origin["source"] != "recording"
    return run


def at_step_2(seen: Observed) -> list[Alert]:
    """A rule that speaks once."""
    return [seen.alert("at_step_2", 0, 1, "is as planned")] if seen.step == 2 else []


@contextmanager
def delivered(watcher: Callable[[], Watcher | None]) -> Iterator[None]:
    """Each step of a torch optimizer waits until its sample is delivered, so that it is known when a rule is heard."""

    def wait(*_: object) -> None:
        if (one := watcher()) is not None:
            one._measured.flush(60)

    hook = register_optimizer_step_post_hook(wait)
    try:
        yield
    finally:
        hook.remove()


def agree(run: Run, expected: pd.DataFrame, **tolerance: Any) -> None:
    """The same layers and steps, each once, and the same changes."""
    frame = run.series["rwc"]
    assert frame.index.tolist() == expected.index.tolist()
    assert list(frame.columns) == list(expected.columns)
    np.testing.assert_allclose(frame.to_numpy(), expected.to_numpy(), **{"rtol": 1e-6, **tolerance})
