"""Two sets of weights as a run of one sample, or two runs step by step: what fine-tuning did, or a seed, or chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from wstrack.checkpoints.folder import Found, runs_at
from wstrack.checkpoints.measuring import measure_opened
from wstrack.checkpoints.opening import is_checkpoint, open_checkpoint
from wstrack.checkpoints.stored import Checkpoint, InMemory, Stored
from wstrack.checkpoints.twins import twins
from wstrack.errors import WstrackError
from wstrack.runs.recording import find_recordings
from wstrack.runs.run import Run
from wstrack.runs.told_apart import told_apart
from wstrack.trackers.references import pull, split

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DEFAULT", "diff"]

DEFAULT = ("rwc", "rwc_l2")


def diff(
    before: str | Path | Run | nn.Module | Mapping[str, torch.Tensor],
    after: str | Path | Run | nn.Module | Mapping[str, torch.Tensor],
    *,
    metrics: Sequence[str] | None = None,
    to: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Run:
    """How far each layer of a model is from what it was, or from what it is in another run at the same step.

    Of two sets of weights a run of one sample. Of two runs whose checkpoints are there (two folders of them, or
    `checkpoints:DIR`), a run with a sample for each step that both have: `apart`, `apart_l2`, `differing`. Of two other
    runs (`Run`s, recordings, or run references) that were watched with the metric `fingerprint`, the metric `differs`:
    1 where a layer does not hold the same bits in both. All are for `wstrack.report` and all else.

    Args:
        before: a checkpoint (a file, a shard index, or a folder as hubs and trainers make them), a model, or its
            state dict; or a run.
        after: likewise, of the same model; or an adapter of peft, which is taken as what it makes of `before`.
        metrics: which; None = `rwc` and `rwc_l2` of weights, and those above of runs.
        to: a folder for its recording; None = it is not kept.
        progress: is told now and then how many bytes were read, and of how many.

    Raises:
        ValueError: a metric that there is not; or one is a run, and the other a set of weights.
        WstrackError: one cannot be read, they are of different models, or have no step in common.

    Example:
        >>> base = {"fc.weight": torch.ones(2, 2)}
        >>> run = diff(base, {"fc.weight": torch.tensor([[1.0, 1.0], [1.0, 2.0]])})
        >>> run.series["rwc"]
              fc.weight
        step
        1          0.25
    """
    folder = None if to is None else Path(to)
    meant = _meant(before, "before"), _meant(after, "after")
    one, other = meant
    if isinstance(one, Run) and isinstance(other, Run):
        return told_apart(one, other, metrics=metrics)
    if isinstance(one, Found) and isinstance(other, Found):
        return twins(one, other, metrics=metrics, to=folder, progress=progress)
    if not (isinstance(one, Checkpoint) and isinstance(other, Checkpoint)):
        what = {Run: "a run that was watched", Found: "a series of checkpoints", Checkpoint: "one set of weights"}
        raise ValueError(
            f"before is {what[type(one)]} and after is {what[type(other)]}; pass two of a kind: two sets of weights, "
            "two folders of checkpoints, or two recordings"
        )
    return measure_opened(
        [one, other], f"{one.path.name} to {other.path.name}", f"{one.path},{other.path}", as_given=True,
        metrics=tuple(metrics or DEFAULT), to=folder, progress=progress,
    )  # fmt: skip


def _meant(given: str | Path | Run | nn.Module | Mapping[str, torch.Tensor], name: str) -> Checkpoint | Found | Run:
    """What the user has given: weights, the checkpoints of a run, or a run that was watched."""
    if isinstance(given, Run):
        return given
    if not isinstance(given, str | Path):
        return _in_memory(given, name)
    scheme, address = split(given)
    if scheme not in ("", "checkpoints"):
        return pull(given)
    path = Path(address).expanduser()
    if not scheme and path.exists() and (is_checkpoint(path) or path.is_file()):
        return open_checkpoint(path)
    series = _series(address)
    if series is not None:
        return series
    if not scheme and path.is_dir() and find_recordings(path):
        return pull(path)
    return open_checkpoint(path)


def _series(address: str) -> Found | None:
    """The checkpoints of the run at an address; None if there is no run, or are several."""
    try:
        found = runs_at(address)
    except WstrackError:
        return None
    return found[0] if len(found) == 1 else None


def _in_memory(weights: nn.Module | Mapping[str, torch.Tensor], name: str) -> Checkpoint:
    if isinstance(weights, torch.nn.Module):
        weights = weights.state_dict()
    if not isinstance(weights, Mapping):
        raise TypeError(f"{name}={type(weights).__name__}: pass a path, a run, a model or its state_dict()")
    tensors: dict[str, Stored] = {
        key: InMemory(
            key, tuple(one.shape), one.dtype, partial(one.detach().cpu), identity=(one.data_ptr(), tuple(one.shape))
        )
        for key, one in weights.items()
        if isinstance(one, torch.Tensor)
    }
    return Checkpoint(Path(name), tensors, ordered=True)
