"""Accelerate: `watch` for a training loop of one's own, in the trackers of its `Accelerator`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import wstrack
from wstrack.trackers.registry import trackers

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from wstrack.training.watcher import Watcher

__all__ = ["watch"]


def watch(model: nn.Module, accelerator: Accelerator, **options: Any) -> Watcher:
    """Log each layer's relative weight change to the trackers that `accelerator.init_trackers` has opened.

    To be called in every process, after `accelerator.prepare` and `accelerator.load_state`. Steps are optimizer steps,
    one for each `accelerator.sync_gradients`.

    Args:
        model: what `prepare` returned.
        accelerator: its W&B and MLflow runs and TensorBoard writers get the samples; if it has none of these, they go
            where `wstrack.watch` sends them.
        **options: those of `wstrack.watch`; of a run that is resumed, `start` is the steps that its checkpoint has.

            With `act="stop"`, `optimizer.step()` raises `wstrack.rules.StopTraining` in every process.

    Returns:
        What `wstrack.watch` returns. Close it before `accelerator.end_training()`, which finishes the runs.

    Example:
        >>> import torch
        >>> from accelerate import Accelerator
        >>> accelerator = Accelerator(cpu=True)
        >>> model = accelerator.prepare(torch.nn.Linear(8, 2))
        >>> watcher = watch(model, accelerator, every=10)
        >>> watcher.close()
    """
    # In the other processes the trackers are there and have opened nothing.
    open_ones = [one for one in accelerator.trackers if one.name in trackers()] if accelerator.is_main_process else []
    return wstrack.watch(model, **{"to": [one.tracker for one in open_ones] or None, **options})
