"""Step (e): models that torch.distributed wraps, on one rank over NCCL, each held against NumPy in float64.

One rank holds all of each layer, so this shows no adding up over ranks, which tests do over gloo: it shows that the
weights of these wrappers are found and read right on a device.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.tensor
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from gpu.course import net, watched
from gpu.machine import Machine
from gpu.told import Told

__all__ = ["sharded"]

Wrap = Callable[[Machine, nn.Sequential], nn.Module]


def sharded(told: Told, machine: Machine) -> None:
    """Print a row for each way of wrapping."""
    for library in ("GLOO", "NCCL"):  # one machine, perhaps without a network
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
    backend = "gloo" if machine.dry else "nccl"
    with tempfile.TemporaryDirectory() as folder:
        store = dist.FileStore(str(Path(folder) / "store"), 1)
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
        try:
            rows = []
            for name, wrap in WAYS.items():
                said = told.tried(
                    f"sharded, {name}",
                    lambda name=name, wrap=wrap: told.are_wrong(f"sharded, {name}", _trained(machine, wrap)),  # type: ignore[misc]
                )
                rows.append([name, said])
        finally:
            dist.destroy_process_group()
    told.say(f"One rank, {backend}; the series of a watch against float64 over copies of the weights:")
    told.table(["model", "series"], rows)


def _fsdp2(machine: Machine, model: nn.Sequential, **options: Any) -> nn.Module:
    mesh = init_device_mesh(machine.device.type, (1,))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def _mixed(machine: Machine, model: nn.Sequential) -> nn.Module:
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    return _fsdp2(machine, model, mp_policy=policy)


def _offloaded(machine: Machine, model: nn.Sequential) -> nn.Module:
    return _fsdp2(machine, model, offload_policy=CPUOffloadPolicy(pin_memory=not machine.dry))


WAYS: dict[str, Wrap] = {
    "FSDP2": _fsdp2,
    "FSDP2, bf16 weights": lambda machine, model: _fsdp2(machine, model.to(torch.bfloat16)),
    "FSDP2, computing in bf16": _mixed,
    "FSDP2, weights on the host": _offloaded,
    "DDP": lambda machine, model: DistributedDataParallel(model),
}


def _local(model: nn.Module) -> Sequence[torch.Tensor]:
    return [
        weight.to_local() if isinstance(weight, torch.distributed.tensor.DTensor) else weight
        for weight in (parameter.detach() for parameter in model.parameters())
    ]


def _trained(machine: Machine, wrap: Wrap) -> list[str]:
    lines: list[str] = []
    plain = net(machine)
    width = plain[0].in_features
    model = wrap(machine, plain)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    dtype = next(model.parameters()).dtype
    with watched(machine, model, lines, weights=lambda: _local(model)) as (_, course):
        for _ in range(machine.steps):
            optimizer.zero_grad()
            inputs = torch.randn(64, width, device=machine.device, dtype=dtype)
            model(inputs).float().square().mean().backward()
            optimizer.step()
            course.stepped()
    return lines
