"""Which processes measure a model together: those that hold parts of it, or those that each hold all and compare it."""

from __future__ import annotations

import torch.distributed as dist
from torch import nn

from wstrack.measuring.sharding import holders
from wstrack.training.plan import format_ranks
from wstrack.training.ranks import Ranks

__all__ = ["find_ranks"]


def find_ranks(process_group: dist.ProcessGroup | None, model: nn.Module, *, replicas: bool = False) -> Ranks | None:
    """The ranks that hold this model between them; None if this process has all of it.

    Args:
        process_group: the ranks, where the user says so; None = all of them, if any weight is sharded.
        model: what this process holds.
        replicas: whether each holds all of it, and they are to be compared.

    Raises:
        ValueError: `process_group` without `torch.distributed`, or without one that holds a part of the model; or
            replicas that are sharded.
        WstrackError: the ranks have no store by which they could find each other.
    """
    there = dist.is_available() and dist.is_initialized()
    if process_group is not None and not (there and dist.get_rank(process_group) >= 0):
        raise ValueError(
            "process_group: this process is not in it; pass one that `torch.distributed` made, on its ranks only"
        )
    sharded = holders(model) if there else set()
    if replicas and sharded:
        raise ValueError(
            "metrics: 'replicas' compares processes that each hold the whole model (DistributedDataParallel), and this "
            "one is sharded; leave it out"
        )
    if not there or (process_group is None and not sharded and not replicas):
        return None
    ranks = tuple(dist.get_process_group_ranks(process_group or dist.group.WORLD))
    if not sharded <= set(ranks):
        raise ValueError(
            f"process_group: the model is sharded over {format_ranks(sorted(sharded))}, which are not all in it; pass "
            "one with all ranks that hold a part, as torch.distributed.group.WORLD is"
        )
    if len(ranks) == 1:
        return None
    return Ranks(ranks, whose="replica" if replicas else f"rank {dist.get_rank()}" if process_group is not None else "")
