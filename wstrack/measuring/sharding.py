"""What of a layer this process holds, where weights are sharded over processes.

Sums add up over shards, so every process measures what it holds, where it lies, and no weight is ever gathered. What
several processes hold alike is counted in one of them. How the sums meet is in `wstrack.training.ranks`.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

__all__ = ["Flattened", "LocalShard", "flattened", "holders", "local_shard", "refused", "reshard"]


@dataclass(frozen=True)
class LocalShard:
    """What this process holds of a layer.

    Attributes:
        parameter: what the model and its optimizer hold: the layer, a shard of it, or several flattened into one.
        ranks: those that hold the layer between them; None if it is whole here.
        counts: whether its elements count here, and not in another process that holds the same part of this copy of it.
        begin, count: where it lies in a parameter that holds several layers; None if it is all of the parameter.
        first: of a layer that was flattened, and then divided, the first element that is here; None if it was not.
    """

    parameter: nn.Parameter
    ranks: tuple[int, ...] | None = None
    counts: bool = True
    begin: int | None = None
    count: int = 0
    first: int | None = None

    @property
    def whole(self) -> bool:
        """Whether it is a layer by itself, and all of it."""
        return self.ranks is None and self.begin is None

    def local(self, known: torch.Tensor | None = None) -> torch.Tensor:
        """The elements that count here, in place, perhaps none; `known` if that is where they lie already."""
        # DTensor.to_local() would make a new tensor at each call, and what has not moved would seem to have.
        here: torch.Tensor = getattr(self.parameter, "_local_tensor", self.parameter)
        if not self.counts:  # neither time nor memory goes to what another process measures
            return here.detach().new_empty(0) if known is None else known
        if self.begin is None:
            return here
        part = here.detach()[self.begin : self.begin + self.count]
        same = known is not None and known.data_ptr() == part.data_ptr() and known.dtype == part.dtype
        return known if same and known is not None else part

    def standing(self, shape: Sequence[int]) -> torch.Tensor:
        """Where the elements that are here stand in the whole layer: `wstrack.measuring.meters.memory.Pair.standing`.

        Args:
            shape: of the whole layer.

        Raises:
            ValueError: they do not lie at equal distances in it.

        Example:
            >>> import torch
            >>> shard = LocalShard(torch.nn.Parameter(torch.ones(6)), begin=2, count=3, first=4)
            >>> shard.standing((4, 3)).storage_offset()
            4
        """
        local = self.local()
        if self.first is not None:  # flattened, and perhaps not all of it
            return _standing(local.shape, (1,), self.first)
        if not self.counts:
            return torch.empty(0, device="meta")
        strides = torch.empty(tuple(shape), device="meta").stride()
        begins = []
        for dim in range(len(shape)):
            here = self.indices(dim, shape)
            if len(here) and int(here[-1]) - int(here[0]) != len(here) - 1:
                raise ValueError(
                    "metrics: 'fingerprint' is not to be had of a layer whose rows are dealt out to several processes "
                    "by turns; leave it out"
                )
            begins.append(int(here[0]) if len(here) else 0)
        return _standing(local.shape, strides, sum(map(operator.mul, begins, strides)))

    def indices(self, dim: int, shape: Sequence[int]) -> NDArray[np.int64]:
        """Which indices of a dimension of the whole layer are here, in their order; not of one that was flattened."""
        index = torch.arange(shape[dim], device="cpu")
        mesh: Any = getattr(self.parameter, "device_mesh", None)
        if mesh is not None:
            index = index.view([-1 if other == dim else 1 for other in range(len(shape))])
            for axis, (at, placement) in enumerate(
                zip(mesh.get_coordinate(), self.parameter.placements, strict=True)  # type: ignore[attr-defined]
            ):
                if getattr(placement, "dim", None) == dim:
                    shards, _ = placement._split_tensor(index, mesh.size(axis), with_padding=False, contiguous=False)
                    index = shards[at]
        numbers: NDArray[np.int64] = index.flatten().numpy()
        return numbers


def _standing(shape: Sequence[int], strides: Sequence[int], first: int) -> torch.Tensor:
    reach = first + 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True) if size)
    return torch.empty(reach, device="meta").as_strided(tuple(shape), tuple(strides), first)


@dataclass(frozen=True)
class Flattened:
    """A layer that FSDP1 has flattened, alone or with others.

    Attributes:
        names: with all prefixes of wrappers; those of a tied weight after the first.
        module, own: the module that it belongs to, and its name there.
        shape: of the whole layer.
        shard: what this process holds of it.
    """

    names: list[str]
    module: nn.Module
    own: str
    shape: torch.Size
    shard: LocalShard


def local_shard(parameter: nn.Parameter) -> LocalShard:
    """What this process holds of a parameter that is a layer, or a shard of one, by itself."""
    mesh, placements = getattr(parameter, "device_mesh", None), getattr(parameter, "placements", ())
    if mesh is None:
        return LocalShard(parameter)
    here, ranks = mesh.get_coordinate(), tuple(mesh.mesh.flatten().tolist())
    if here is None:  # this process has no part in the mesh
        return LocalShard(parameter, ranks, counts=False)
    first = all(at == 0 for at, placement in zip(here, placements, strict=True) if placement.is_replicate())
    return LocalShard(parameter, ranks, counts=first)


def reshard(model: nn.Module) -> None:
    """Have FSDP2 put its shards back: a forward pass without a backward one leaves whole weights in their place."""
    kind: Any = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", ())
    for module in model.modules():
        if isinstance(module, kind):
            module.reshard()


def holders(model: nn.Module) -> set[int]:
    """The ranks that hold the model's sharded weights between them; none if every weight is whole here."""
    shards = [local_shard(parameter) for parameter in model.parameters() if hasattr(parameter, "device_mesh")]
    shards += [layer.shard for layers in flattened(model).values() for layer in layers]
    return {rank for ranks in {shard.ranks for shard in shards if shard.ranks is not None} for rank in ranks}


def flattened(model: nn.Module) -> dict[nn.Parameter, list[Flattened]]:
    """The layers that FSDP1 has flattened, by the parameter that the optimizer holds.

    Raises:
        ValueError: they are not in their place just now.
    """
    kind: Any = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", ())
    found: dict[nn.Parameter, list[Flattened]] = {}
    for prefix, module in model.named_modules():
        handle = module._handle if isinstance(module, kind) else None
        if handle is None:
            continue
        flat, sharded = handle.flat_param, handle.uses_sharded_strategy
        if sharded and hasattr(flat, "_local_shard") and flat.data_ptr() != flat._local_shard.data_ptr():
            raise ValueError(
                f"model: after a forward pass FSDP still holds {prefix or 'all'} of it unsharded; call watch() before "
                "that pass, or after a backward pass"
            )
        ranks = tuple(dist.get_process_group_ranks(handle.process_group)) if sharded else None
        path = f"{prefix}." * bool(prefix) + "_fsdp_wrapped_module."
        also: dict[tuple[nn.Module, str], list[str]] = {}
        for own, _, owner, first_own, first, _ in flat._shared_param_infos:
            also.setdefault((first, first_own), []).append(f"{path}{owner}.{own}" if owner else path + own)
        for index, (begin, count, first) in enumerate(_pieces(flat)):
            own, module_of, _ = flat._param_infos[index]
            if flat._params is None:  # use_orig_params=False: one parameter for them all
                shard = LocalShard(flat, ranks, begin=begin, count=count, first=first)
            else:
                shard = LocalShard(flat._params[index], ranks, first=first if sharded else None)
            names = [path + flat._fqns[index], *also.get((module_of, own), ())]
            layer = Flattened(names, module_of, own, flat._shapes[index], shard)
            found.setdefault(shard.parameter, []).append(layer)
        for tied in flat._shared_params or ():
            found.setdefault(tied, [])  # a layer already, under its first name
    return found


def _pieces(flat: Any) -> Iterator[tuple[int, int, int]]:
    """Where in its share of FSDP1's flat parameter this process has each layer, how much of it, and from where on."""
    shards = getattr(flat, "_shard_param_infos", None)
    if shards is not None:
        for shard in shards:
            here = (shard.offset_in_shard, shard.numel_in_shard, shard.intra_param_start_idx)
            yield here if shard.in_shard else (0, 0, 0)
        return
    begin = 0
    for numel in flat._numels:  # not sharded, and without gaps
        yield begin, numel, 0
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
