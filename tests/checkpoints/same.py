"""A training that is watched and saved at the same steps, and whether the two runs are one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

import wstrack
from wstrack.metrics import METRICS, SUMS

if TYPE_CHECKING:
    from wstrack.runs.run import Run

__all__ = ["ALL", "EVERY", "STEPS", "Zoo", "agree", "change", "noisy"]

ALL = tuple(name for name, metric in METRICS.items() if set(metric.sums) <= set(SUMS) and metric.charted)
EVERY, STEPS = 2, 6


class Zoo(nn.Module):
    """A layer of each kind, in the order in which they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.conv = nn.Conv2d(3, 8, 3)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.pointwise = nn.Conv2d(8, 4, 1)
        self.transposed = nn.ConvTranspose2d(4, 2, 3)
        self.attn = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm((2, 8))
        self.lstm = nn.LSTM(8, 5)
        self.head = nn.Linear(5, 3)


def noisy(model: nn.Module, seed: int) -> None:
    """Change each weight, as if by training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in dict.fromkeys(model.parameters()):
            step = 0.1 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_((parameter.float() + step).to(parameter.dtype))


def change(model: nn.Module, save: Callable[[int], object], watched: nn.Module | None = None) -> Run:
    """The run of a model that is changed at each step, watched, and saved where a sample is taken."""
    with wstrack.watch(watched or model, to="runs/it", every=EVERY, metrics=ALL) as watcher:
        save(0)
        for step in range(1, STEPS + 1):
            noisy(model, step)
            watcher.step()
            if step % EVERY == 0:
                save(step)
    return watcher.run()


def agree(run: Run, address: object, *, ordered: bool = True) -> Run:
    """See that the checkpoints at an address are the run that was watched; the run that they are.

    Where the files do not keep the order of layers (`ordered`), that alone may be another.
    """
    pulled = wstrack.pull(f"checkpoints:{address}", metrics=ALL)
    told, watched = (one.layers[["kind", "shape"]].to_dict("index") for one in (pulled, run))
    differ = [(name, told.get(name), watched.get(name)) for name in {**watched, **told}]
    differ = [one for one in differ if one[1] != one[2]]
    assert not differ, differ
    assert list(told) == list(watched) or not ordered, f"{list(told)} is {list(watched)}"
    assert pulled.steps.tolist() == run.steps.tolist(), pulled.completeness.notes
    assert len(run.steps) >= 2
    for metric in ALL:
        ours, theirs = run.series[metric].to_numpy(), pulled.series[metric][run.layers.index].to_numpy()
        np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=0, equal_nan=True, err_msg=metric)
    return pulled
