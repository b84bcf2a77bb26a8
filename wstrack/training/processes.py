"""Which of several processes measures a model that each of them holds whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch.distributed as dist

from wstrack.runs.manifest import Layer

__all__ = ["announce", "announced", "default_store", "measured_by_rank_0"]


def measured_by_rank_0() -> bool:
    """Whether another rank, the first one, trains the same whole weights and measures them."""
    return dist.is_available() and dist.is_initialized() and dist.get_rank() > 0


def announce(layers: Sequence[Layer]) -> None:
    """Let the other ranks know that this one measures these layers, as far as there are other ranks."""
    if dist.is_available() and dist.is_initialized() and (store := default_store()) is not None:
        store.set(f"wstrack/measured/{_digest(layers)}", "")


def announced(layers: Sequence[Layer]) -> bool:
    """Whether another rank measures the very same layers, as far as can be told now."""
    try:
        store = default_store()
        return store is None or bool(store.check([f"wstrack/measured/{_digest(layers)}"]))
    except (RuntimeError, ValueError):  # rank 0, which keeps the store, or the whole group is gone: others will say so
        return True


def default_store() -> Any:
    """The store by which the ranks found each other; MPI has none."""
    from torch.distributed.distributed_c10d import _get_default_store  # not there in a torch without distributed

    return _get_default_store()


def _digest(layers: Sequence[Layer]) -> str:
    return hashlib.sha256(repr([(layer.name, layer.shape) for layer in layers]).encode(errors="replace")).hexdigest()
