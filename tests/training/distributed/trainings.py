"""The same small training, by one process and by several, in each way that torch has to share a model out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import wstrack
from wstrack.training.measurement import Measurement

LAYERS = ["0.weight", "2.weight", "4.weight"]
STEPS, EVERY = 6, 2
LR = 0.05
METRICS = ("rwc", "rwc_l2", "rwc_elementwise", "norm", "lr")


@dataclass
class Seen:
    """What a rank saw of a run.

    Attributes:
        layers, steps, values: of the run, where it is recorded; `values` by metric, (samples, layers).
        totals: the sums that every rank should have alike, one array a sample.
        collectives: how often the ranks met.
        parts: elements of each layer that are held here.
    """

    layers: list[str]
    steps: list[int]
    values: dict[str, NDArray[np.float64]]
    totals: list[NDArray[np.float64]]
    collectives: int
    parts: list[int]


def plain(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Two layers that tensor parallelism can quarter, and one with uneven shards, of which the fourth is empty."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def inputs(rank: int = 0, size: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """This rank's part of the batch, in equal parts."""
    return torch.randn(16, 7, generator=torch.Generator().manual_seed(1)).to(dtype)[rank::size]


def alone(dtype: torch.dtype = torch.float64) -> dict[str, NDArray[np.float64]]:
    """By metric, what a single process measures, by NumPy in float64; (samples, layers)."""
    model = plain(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    weights = [[w.detach().double().numpy().copy() for w in (model[0].weight, model[2].weight, model[4].weight)]]
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(inputs(dtype=dtype)).square().mean().backward()
        optimizer.step()
        weights.append(
            [w.detach().double().numpy().copy() for w in (model[0].weight, model[2].weight, model[4].weight)]
        )
    kept = weights[::EVERY]
    pairs = [list(zip(before, after, strict=True)) for before, after in pairwise(kept)]
    return {
        "rwc": np.array([[np.abs(w - p).sum() / np.abs(p).sum() for p, w in sample] for sample in pairs]),
        "rwc_l2": np.array([[np.linalg.norm(w - p) / np.linalg.norm(p) for p, w in sample] for sample in pairs]),
        "rwc_elementwise": np.array([[np.mean(np.abs(w - p) / np.abs(p)) for p, w in sample] for sample in pairs]),
        "norm": np.array([[np.abs(w).mean() for _, w in sample] for sample in pairs]),
        "lr": np.full((len(pairs), len(LAYERS)), LR),
    }


def _fsdp1(model: nn.Sequential, **options: Any) -> nn.Module:
    model[2] = FullyShardedDataParallel(model[2], device_id=torch.device("cpu"), **options)
    return FullyShardedDataParallel(model, device_id=torch.device("cpu"), **options)


def _fsdp2(model: nn.Sequential, **options: Any) -> nn.Module:
    fully_shard(model[2], **options)
    return fully_shard(model, **options)


def _tensor_parallel(model: nn.Sequential, mesh: Any) -> nn.Module:
    return parallelize_module(
        model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()}
    )  # the last: a plain replica


def _grid() -> Any:
    return init_device_mesh("cpu", (2, 2), mesh_dim_names=("outer", "inner"))


def _tensor_parallel_and_fsdp2(model: nn.Sequential) -> nn.Module:
    mesh = _grid()
    _tensor_parallel(model, mesh["inner"])
    return _fsdp2(model, mesh=mesh["outer"])


# What to do with the model, and over how many ranks the batch is shared out (as a function of their number).
WAYS: dict[str, tuple[Callable[[nn.Sequential], nn.Module], Callable[[int], int]]] = {
    "DDP": (DistributedDataParallel, lambda size: size),
    "DDP, inner module": (DistributedDataParallel, lambda size: size),
    "DDP, ZeRO-1": (DistributedDataParallel, lambda size: size),
    "FSDP2": (_fsdp2, lambda size: size),
    "FSDP1, original parameters": (lambda model: _fsdp1(model, use_orig_params=True), lambda size: size),
    "FSDP1, flat parameters": (lambda model: _fsdp1(model, use_orig_params=False), lambda size: size),
    "FSDP1, not sharded": (
        lambda model: _fsdp1(model, use_orig_params=False, sharding_strategy=ShardingStrategy.NO_SHARD),
        lambda size: size,
    ),
    "tensor parallel": (lambda model: _tensor_parallel(model, init_device_mesh("cpu", (dist.get_world_size(),))),
                        lambda size: 1),
    "HSDP": (lambda model: _fsdp2(model, mesh=_grid()), lambda size: size),
    "FSDP1, hybrid": (
        lambda model: _fsdp1(
            model, use_orig_params=True, sharding_strategy=ShardingStrategy.HYBRID_SHARD, device_mesh=_grid()
        ),
        lambda size: size,
    ),
    "tensor parallel in two replicas": (lambda model: _tensor_parallel(model, _grid()["inner"]), lambda size: 1),
    "FSDP2 of tensor parallel": (_tensor_parallel_and_fsdp2, lambda size: 2),
}  # fmt: skip


# Along and across the rows, in stretches that come again, and in parts that no rank has a whole number of.
CUTS = {
    r"0\.weight": wstrack.Cut((5, 7), labels=("few", "many")),
    r"2\.weight": wstrack.Cut((1, 1, 1), dim=1, labels=("q", "k", "v"), repeat=4),
    r"4\.weight": 3,
}


def parts_alone() -> tuple[list[str], NDArray[np.float64]]:
    """The names of all parts in the order of their layers, and `rwc` of each by NumPy, (samples, parts)."""
    model = plain()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)

    def now() -> list[NDArray[np.float64]]:
        first, second, third = (model[at].weight.detach().numpy().copy() for at in (0, 2, 4))
        return [first[:5], first[5:], second[:, ::3], second[:, 1::3], second[:, 2::3], *third]

    kept = [now()]
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        model(inputs()).square().mean().backward()
        optimizer.step()
        kept += [now()] * (step % EVERY == 0)
    names = [f"0.weight[{label}]" for label in ("few", "many")] + [f"2.weight[{label}]" for label in "qkv"]
    changes = [
        [np.abs(w - p).sum() / np.abs(p).sum() for p, w in zip(before, after, strict=True)]
        for before, after in pairwise(kept)
    ]
    return names + [f"4.weight[{number}]" for number in range(3)], np.array(changes)


def together(
    rank: int, *, way: str, dtype: torch.dtype = torch.float64, window: str = "interval", evaluated: bool = False,
    parts: Any = None,
) -> Seen:  # fmt: skip
    """The training of `alone`, by all ranks; each is watched, perhaps when the model has been evaluated already."""
    wrap, shares = WAYS[way]
    model = wrap(plain(dtype))
    share = shares(dist.get_world_size())
    part = rank // 2 if way == "FSDP2 of tensor parallel" else rank % share
    if way == "DDP, ZeRO-1":
        optimizer: torch.optim.Optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=LR)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    if evaluated:
        with torch.no_grad():
            model(inputs(part, share, dtype))
    watched = model.module if way == "DDP, inner module" else model
    watcher = wstrack.watch(watched, to="runs/it", every=EVERY, window=window, metrics=METRICS, parts=parts)
    totals, collectives = spied(watcher)
    held = [0 if tensor is None else tensor.numel() for tensor in watcher._followed._tensors]
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(inputs(part, share, dtype)).square().mean().backward()
        optimizer.step()
    assert watcher.steps == STEPS
    return seen(watcher, rank, totals, collectives, held)


def pipelined(rank: int) -> Seen:
    """The training of `alone` in two pipeline stages; each rank has layers that the other has not."""
    whole = plain()
    stage_module = whole[:2] if rank == 0 else nn.Sequential(OrderedDict(list(whole.named_children())[2:]))
    stage = PipelineStage(stage_module, rank, 2, torch.device("cpu"))
    schedule = ScheduleGPipe(stage, n_microbatches=2, loss_fn=lambda output, target: output.square().mean())
    optimizer = torch.optim.AdamW(stage_module.parameters(), lr=LR)
    watcher = wstrack.watch(
        stage_module, to="runs/it", every=EVERY, metrics=METRICS,
        process_group=dist.group.WORLD,
    )  # fmt: skip
    totals, collectives = spied(watcher)
    for _ in range(STEPS):
        optimizer.zero_grad()
        if rank == 0:
            schedule.step(inputs())
        else:
            schedule.step(target=torch.zeros(16, 3, dtype=torch.float64))
        optimizer.step()
    return seen(watcher, rank, totals, collectives, [])


class Stacked(nn.Module):
    """Experts of one weight."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.ones(count, 4, 6, dtype=torch.float64))


def stacked(rank: int, *, how: str) -> tuple[list[str], NDArray[np.float64]]:
    """Eight experts of which the n-th grows by 1 / (n + 1), by all ranks between them; names, and `rwc` of a sample."""
    size = dist.get_world_size()
    model = Stacked(8)
    grown = 1.0 / (1.0 + torch.arange(8, dtype=torch.float64))[:, None, None].expand(8, 4, 6)
    group = None
    if how == "each its own":  # as before DTensor: nothing tells a rank that there are others
        model, grown = Stacked(8 // size), grown[rank * 8 // size : (rank + 1) * 8 // size]
        model.experts.data.add_(rank)  # so that ranks are not taken for replicas
        grown = grown * model.experts.detach()
        group = dist.group.WORLD
    else:
        mesh = init_device_mesh("cpu", (size,)) if how in ("experts", "rows") else _grid()
        placements: list[Any] = {
            "experts": [Shard(0)], "rows": [Shard(1)], "experts and rows": [Shard(0), Shard(1)],
            "experts twice": [Shard(0), Shard(0)], "replicas of columns": [Replicate(), Shard(2)],
        }[how]  # fmt: skip
        model.experts = nn.Parameter(distribute_tensor(model.experts.detach(), mesh, placements))
        grown = distribute_tensor(grown.contiguous(), mesh, placements)
    watcher = wstrack.watch(model, to="runs/it", every=1, parts={"experts": len(model.experts)}, process_group=group)
    with torch.no_grad():
        model.experts += grown
    watcher.step()
    watcher.close()
    if rank > 0:
        return [], np.empty(0)
    run = watcher.run()
    assert not run.completeness.missing
    return list(run.layers.index), run.series["rwc"].to_numpy()[0]


class Mixture(nn.Module):
    """A layer that all ranks hold alike, and an expert that each has for itself, under the same name."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.shared = nn.Linear(4, 4, bias=False)
        torch.manual_seed(seed)
        self.expert = nn.Linear(4, 6, bias=False)


def experts(rank: int, *, alike: bool) -> tuple[Seen, NDArray[np.float64], NDArray[np.float64]]:
    """Each weight grows by a known share, another one in each rank's expert; the expert before and after.

    The experts may begin `alike`, as they do where a trained layer is made into several.
    """
    model = Mixture(0 if alike else rank)
    watcher = wstrack.watch(model, to="runs/it", every=1, metrics=("rwc", "norm"), process_group=dist.group.WORLD)
    totals, collectives = spied(watcher)
    before = model.expert.weight.detach().double().numpy().copy()
    with torch.no_grad():
        model.shared.weight.mul_(1.5)
        model.expert.weight.add_(0.1 * (rank + 1))
    watcher.step()
    after = model.expert.weight.detach().double().numpy().copy()
    return seen(watcher, rank, totals, collectives, []), before, after


def spied(watcher: wstrack.Watcher) -> tuple[list[NDArray[np.float64]], list[None]]:
    """The totals that this rank gets from now on, and an entry for each collective."""
    totals: list[NDArray[np.float64]] = []
    collectives: list[None] = []
    measured = watcher._measured
    ranks = measured.delivery._ranks if isinstance(measured, Measurement) else None  # rank 0 measures for it
    if ranks is None:
        return totals, collectives
    total, group = ranks.total, ranks._group

    class Counted:
        def allreduce(self, tensors: Any) -> Any:
            collectives.append(None)
            return group.allreduce(tensors)

    def kept(*arguments: Any, **more: Any) -> NDArray[np.float64]:
        totals.append(total(*arguments, **more).copy())
        return totals[-1]

    ranks._group, ranks.total = Counted(), kept
    return totals, collectives


def seen(
    watcher: wstrack.Watcher, rank: int, totals: list[NDArray[np.float64]], collectives: list[None], held: list[int]
) -> Seen:
    """What came of it, once the watcher is closed."""
    watcher.close()
    if rank > 0:
        return Seen([], [], {}, totals, len(collectives), held)
    run = watcher.run()
    values = {metric: frame.to_numpy() for metric, frame in run.series.items()}
    assert not run.completeness.missing
    return Seen(list(run.layers.index), run.steps.tolist(), values, totals, len(collectives), held)
