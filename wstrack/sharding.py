"""What of a layer this process holds, where weights are sharded over processes.

Sums add up over shards, so every process measures what it holds, where it lies, and no weight is ever gathered. What
several processes hold alike is counted in one of them. How the sums meet is in `wstrack.ranks`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

__all__ = ["Flattened", "Share", "flattened", "refused", "share_of"]


@dataclass(frozen=True)
class Share:
    """What this process holds of a layer.

    Attributes:
        parameter: what the model and its optimizer hold: the layer, a shard of it, or several flattened into one.
        copy: which copy of the layer this is a part of: the first rank of those that hold it between them; None if the
            layer is whole here.
        counts: whether its elements count here, and not in another process that holds the same part of this copy.
        begin, count: where it lies in a parameter that holds several layers; None if it is all of the parameter.
    """

    parameter: nn.Parameter
    copy: int | None = None
    counts: bool = True
    begin: int | None = None
    count: int = 0

    @property
    def whole(self) -> bool:
        """Whether it is a layer by itself, and all of it."""
        return self.copy is None and self.begin is None

    def local(self, known: torch.Tensor | None = None) -> torch.Tensor:
        """The elements that count here, in place, perhaps none; `known` if that is where they lie already."""
        if not self.counts:  # neither time nor memory goes to what another process measures
            return torch.empty(0) if known is None else known
        # DTensor.to_local() would make a new tensor at each call, and what has not moved would seem to have.
        here: torch.Tensor = getattr(self.parameter, "_local_tensor", self.parameter)
        if self.begin is None:
            return here
        part = here.detach()[self.begin : self.begin + self.count]
        same = known is not None and known.data_ptr() == part.data_ptr() and known.dtype == part.dtype
        return known if same and known is not None else part


@dataclass(frozen=True)
class Flattened:
    """A layer that FSDP1 has flattened, alone or with others.

    Attributes:
        name: with all prefixes of wrappers.
        module, own: the module that it belongs to, and its name there.
        shape: of the whole layer.
        share: what this process holds of it.
    """

    name: str
    module: nn.Module
    own: str
    shape: torch.Size
    share: Share


def share_of(parameter: nn.Parameter) -> Share:
    """What this process holds of a parameter that is a layer, or a shard of one, by itself."""
    mesh, placements = getattr(parameter, "device_mesh", None), getattr(parameter, "placements", ())
    if mesh is None:
        return Share(parameter)
    here = mesh.get_coordinate()
    if here is None:  # this process has no part in the mesh
        return Share(parameter, copy=int(mesh.mesh.min()), counts=False)
    first = all(at == 0 for at, placement in zip(here, placements, strict=True) if placement.is_replicate())
    return Share(parameter, copy=int(mesh.mesh.min()), counts=first)


def flattened(model: nn.Module) -> dict[nn.Parameter, list[Flattened]]:
    """The layers that FSDP1 has flattened, by the parameter that the optimizer holds."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    found: dict[nn.Parameter, list[Flattened]] = {}
    if fsdp is None:
        return found
    for prefix, module in model.named_modules():
        handle = getattr(module, "_handle", None) if isinstance(module, fsdp.FullyShardedDataParallel) else None
        if handle is None or not (handle.uses_sharded_strategy or handle.flat_param._params is None):
            continue
        copy = min(dist.get_process_group_ranks(handle.process_group)) if handle.uses_sharded_strategy else None
        flat = handle.flat_param
        path = f"{prefix}." if prefix else ""
        for index, (begin, count) in enumerate(_pieces(flat)):
            own, owner, _ = flat._param_infos[index]
            if flat._params is None:  # use_orig_params=False: one parameter for them all
                share = Share(flat, copy, begin=begin, count=count)
            else:
                share = Share(flat._params[index], copy)
            name = f"{path}_fsdp_wrapped_module.{flat._fqns[index]}"
            found.setdefault(share.parameter, []).append(Flattened(name, owner, own, flat._shapes[index], share))
    return found


def _pieces(flat: Any) -> Iterator[tuple[int, int]]:
    """Where each layer begins in this process's part of FSDP1's flat parameter, and how much of it is there."""
    shards = getattr(flat, "_shard_param_infos", None)
    if shards is not None:
        for shard in shards:
            yield (shard.offset_in_shard, shard.numel_in_shard) if shard.in_shard else (0, 0)
        return
    begin = 0
    for numel in flat._numels:  # not sharded, and without gaps
        yield begin, numel
        begin += numel


def refused(parameter: nn.Parameter) -> str | None:
    """Why a parameter is one of a kind of sharding that is not supported, and what to do; None if it is not."""
    if hasattr(parameter, "ds_id"):
        return (
            "is partitioned by DeepSpeed ZeRO-3, which is not supported; use FSDP2 "
            "(torch.distributed.fsdp.fully_shard), or ZeRO stage 1 or 2 and call step() on the watcher"
        )
    if hasattr(parameter, "tensor_model_parallel"):
        return (
            "belongs to Megatron-LM's own parallelism, which is not supported; use torch's DTensor "
            "(torch.distributed.tensor.parallel, fully_shard)"
        )
    placements: Any = getattr(parameter, "placements", ())
    if any(placement.is_partial() for placement in placements):
        return "is a DTensor with Partial placements, whose parts are no part of its value; redistribute it first"
    return None
