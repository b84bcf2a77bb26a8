"""Shards of a model that torch.distributed.checkpoint wrote as safetensors, one or several of each process."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open

from wstrack.checkpoints.chunks import joined
from wstrack.checkpoints.safetensors_files import open_safetensors
from wstrack.checkpoints.stored import Checkpoint, Stored
from wstrack.errors import WstrackError

__all__ = ["PATTERN", "open_shards"]

PATTERN = "shard-*-model-*-of-*.safetensors"


def open_shards(folder: Path) -> Checkpoint:
    """The tensors of a folder, put together from the shards that lie in it.

    No file says how many processes there were, nor how large a tensor is: of shards that are missing at the end nothing
    is known but that tensors are smaller.

    Raises:
        WstrackError: a shard is damaged, or one is missing between others.
    """
    chunks: dict[str, dict[tuple[int, ...], Stored]] = {}
    for file in sorted(folder.glob(PATTERN)):
        opened = open_safetensors(file)
        try:
            with safe_open(file, framework="pt") as raw:
                said = json.loads((raw.metadata() or {})["DCP_SHARDING_INFO"])
            for name, tensor in opened.tensors.items():
                first = tuple(int(at) for at in said[name]["saved_offsets"])
                if min(first, default=0) < 0 or len(first) != len(tensor.shape):
                    raise ValueError(f"{name} begins nowhere")
                if 0 not in tensor.shape:
                    chunks.setdefault(name, {})[first] = tensor
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise WstrackError(f"{file} does not say which parts of tensors it holds: {error!r}") from error
    tensors = {}
    for name, held in chunks.items():
        ends = [[at + size for at, size in zip(first, one.shape, strict=True)] for first, one in held.items()]
        shape, dtype = tuple(map(max, zip(*ends, strict=True))), next(iter(held.values())).dtype
        try:
            tensors[name] = joined(name, shape, dtype, held)
        except ValueError as error:
            raise WstrackError(f"{folder} cannot be read: {name}: {error}") from error
    return Checkpoint(folder, tensors)
