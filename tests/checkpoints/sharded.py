"""A small training by several ranks, each way that torch shares a model out, watched and saved by torch."""

from __future__ import annotations

import warnings

import torch
import torch.distributed.checkpoint as dcp
from same import ALL, EVERY, STEPS
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

import wstrack
from tests.training.distributed.trainings import WAYS, inputs, plain

__all__ = ["placements", "saved", "saved_as_safetensors"]


def saved(rank: int, *, way: str, flat: bool = False) -> list[str]:
    """Train, watch, and save by `torch.distributed.checkpoint`; how each weight was placed."""
    warnings.simplefilter("ignore")
    wrap, parts = WAYS[way]
    model = wrap(plain(torch.float64))
    share = parts(2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)

    def save(step: int) -> None:
        weights = get_model_state_dict(model)
        state = {"model": weights, "optim": get_optimizer_state_dict(model, optimizer), "step": step}
        dcp.save(weights if flat else state, checkpoint_id=f"saved/step-{step}")

    get_optimizer_state_dict(model, optimizer)  # the first time it takes a step, to have a state
    watcher = wstrack.watch(model, to="runs/it", every=EVERY, metrics=ALL)
    save(0)
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        model(inputs(rank % share, share)).square().mean().backward()
        optimizer.step()
        if step % EVERY == 0:
            save(step)
    watcher.close()
    return [
        str(one.placements) if isinstance(one, DTensor) else type(one).__name__
        for one in get_model_state_dict(model).values()
    ]


def saved_as_safetensors(rank: int) -> dict[str, list[list[float]]]:
    """Save a model of two shards by torch's writer of safetensors, without putting it together; its last weights."""
    warnings.simplefilter("ignore")
    from torch.distributed.checkpoint import HuggingFaceStorageWriter

    model = WAYS["FSDP2"][0](plain(torch.float64))
    for step in (0, 2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        writer = HuggingFaceStorageWriter(path=f"saved/step-{step}", save_distributed=True)
        dcp.save(get_model_state_dict(model), storage_writer=writer)
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    return {name: one.tolist() for name, one in whole.items() if one.ndim > 1}


def placements(rank: int) -> None:
    """Save a tensor cut along its second dimension, and one cut along both by rows and columns of unequal size."""
    warnings.simplefilter("ignore")
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    whole = torch.arange(35, dtype=torch.float64).view(5, 7)
    for step in (0, 2):
        state = {"wide": distribute_tensor(whole + step, mesh, [Shard(1)]),
                 "tall": distribute_tensor(whole + step, mesh, [Shard(0)])}  # fmt: skip
        dcp.save(state, checkpoint_id=f"saved/step-{step}")
