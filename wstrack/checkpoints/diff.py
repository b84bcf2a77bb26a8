"""Two sets of weights as a run of one sample: what fine-tuning did, or an adapter does, or a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from wstrack.checkpoints.measuring import measure_opened
from wstrack.checkpoints.opening import open_checkpoint
from wstrack.checkpoints.stored import Checkpoint, InMemory, Stored

if TYPE_CHECKING:
    from torch import nn

    from wstrack.runs.run import Run

__all__ = ["DEFAULT", "diff"]

DEFAULT = ("rwc", "rwc_l2")


def diff(
    before: str | Path | nn.Module | Mapping[str, torch.Tensor],
    after: str | Path | nn.Module | Mapping[str, torch.Tensor],
    *,
    metrics: Sequence[str] | None = None,
    to: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Run:
    """How far each layer of a model is from what it was: a run of one sample, for `wstrack.report` and all else.

    Args:
        before: a checkpoint (a file, a shard index, or a folder as hubs and trainers make them), a model, or its
            state dict.
        after: likewise, of the same model; or an adapter of peft, which is taken as what it makes of `before`.
        metrics: which; None = `rwc` and `rwc_l2`.
        to: a folder for its recording; None = it is not kept.
        progress: is told now and then how many bytes were read, and of how many.

    Raises:
        ValueError: a metric that there is not.
        WstrackError: one cannot be read, or they are of different models.

    Example:
        >>> base = {"fc.weight": torch.ones(2, 2)}
        >>> run = diff(base, {"fc.weight": torch.tensor([[1.0, 1.0], [1.0, 2.0]])})
        >>> run.series["rwc"]
              fc.weight
        step
        1          0.25
    """
    opened = [_opened(before, "before"), _opened(after, "after")]
    name = f"{opened[0].path.name} to {opened[1].path.name}"
    address = ",".join(str(one.path) for one in opened)
    folder = None if to is None else Path(to)
    return measure_opened(
        opened, name, address, as_given=True, metrics=tuple(metrics or DEFAULT), to=folder, progress=progress
    )


def _opened(weights: str | Path | nn.Module | Mapping[str, torch.Tensor], name: str) -> Checkpoint:
    if isinstance(weights, str | Path):
        return open_checkpoint(Path(str(weights).removeprefix("checkpoints:")).expanduser())
    if isinstance(weights, torch.nn.Module):
        weights = weights.state_dict()
    if not isinstance(weights, Mapping):
        raise TypeError(f"{name}={type(weights).__name__}: pass a path, a model or its state_dict()")
    tensors: dict[str, Stored] = {
        key: InMemory(
            key, tuple(one.shape), one.dtype, partial(one.detach().cpu), identity=(one.data_ptr(), tuple(one.shape))
        )
        for key, one in weights.items()
        if isinstance(one, torch.Tensor)
    }
    return Checkpoint(Path(name), tensors, ordered=True)
