"""Checkpoints that `torch.save` wrote: read without ever unpickling more than tensors and plain values."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from wstrack.checkpoints.nested import said_in, weights_in
from wstrack.checkpoints.stored import Checkpoint, InMemory, Stored, stored_at
from wstrack.checkpoints.zipped import records
from wstrack.errors import WstrackError
from wstrack.runs.files import looks_like

__all__ = ["open_torch"]


def open_torch(file: Path) -> Checkpoint:
    """The weights in a file of `torch.save`, as a state dict or beside what else a training program keeps.

    A file of torch's present format is mapped, and each tensor is where it lies in it. One from before torch 1.6 is
    read whole.

    Raises:
        WstrackError: the file is none, is damaged, or holds what only running its code could read.
    """
    zipped = zipfile.is_zipfile(file)
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped or None)
    except pickle.UnpicklingError as error:
        raise WstrackError(f"{file} {_refused(str(error))}") from None
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, AttributeError, TypeError, IndexError,
            UnicodeError, struct.error, OverflowError, MemoryError, ImportError) as error:  # fmt: skip
        # Whatever bytes that are no checkpoint may lead torch to.
        line = next(iter(str(error).splitlines()), "")[:200]
        with file.open("rb") as damaged:
            because = looks_like(damaged.read(64)) if not zipped else None
        raise WstrackError(f"{file} cannot be read as a checkpoint of torch: {because or line or error!r}") from error
    weights = dict(weights_in(loaded, _measurable))
    if not weights:
        raise WstrackError(f"{file} holds no weights: no tensors by name, as a model's state_dict() has them")
    places = _places(file, loaded) if zipped else {}
    tensors: dict[str, Stored] = {}
    for name, tensor in weights.items():
        tensor = tensor.detach()
        shape, storage = tuple(tensor.shape), tensor.untyped_storage().data_ptr()
        where = tensor.data_ptr() if tensor.numel() else name
        identity = (where, shape, tensor.stride())
        laid = None
        if storage in places and not tensor.is_neg() and not tensor.is_conj():
            offset = places[storage] + int(tensor.storage_offset()) * tensor.element_size()
            laid = stored_at(Stored(name, shape, tensor.dtype, identity=identity), file, offset, tensor.stride())
        tensors[name] = laid or InMemory(name, shape, tensor.dtype, partial(_itself, tensor), identity=identity)
    return Checkpoint(file, tensors, ordered=True, said=said_in(loaded, _whole))


def _itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _measurable(held: object) -> torch.Tensor | None:
    """A plain tensor of floating point: not sparse, not quantised, not without values."""
    if not isinstance(held, torch.Tensor) or held.layout != torch.strided or held.is_quantized or held.is_meta:
        return None
    return held if held.is_floating_point() or held.is_complex() else None


def _whole(held: object) -> int | None:
    """A whole number, which may be in a tensor."""
    if isinstance(held, torch.Tensor) and held.numel() == 1 and not held.is_floating_point():
        held = held.item()
    return held if isinstance(held, int) and not isinstance(held, bool) else None


def _places(file: Path, loaded: object) -> dict[int, int]:
    """Where in the file each mapped storage begins, by its address.

    Torch maps the file as a whole, so storages lie in memory in the order of the archive's records, and as far apart.
    Where what was loaded is not all of them, nothing is said, and tensors are read through the mapping.
    """
    sizes: dict[int, int] = {}
    for tensor in _tensors(loaded):
        if tensor.layout == torch.strided and not tensor.is_meta and tensor.untyped_storage().nbytes():
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
        found = records(archive, raw)
    addresses = sorted(sizes)
    if len(found) != len(addresses) or not found:
        return {}
    base = addresses[0] - found[0].offset
    fits = all(
        address - record.offset == base and sizes[address] == record.size
        for address, record in zip(addresses, found, strict=True)
    )
    return {address: address - base for address in addresses} if fits else {}


def _tensors(held: Any) -> Iterator[torch.Tensor]:
    """Every tensor in what was loaded."""
    waiting, seen = [held], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, torch.Tensor):
            yield one
        elif isinstance(one, Mapping | list | tuple | set) and id(one) not in seen:
            seen.add(id(one))
            waiting.extend(one.values() if isinstance(one, Mapping) else one)


def _refused(said: str) -> str:
    """What torch says when a file holds more than tensors and plain values, and the way out."""
    found = re.search(r"GLOBAL ([\w.]+)", said)
    if found is None:
        return "cannot be read as a checkpoint of torch: it is no file of torch.save, or is damaged"
    return (
        f"holds more than tensors and plain values ({found[1]}), which only running its code could read; wstrack never "
        "does. Where you trust the file, load it with torch.load(..., weights_only=False) and save the weights alone: "
        "torch.save(model.state_dict(), ...) or safetensors.torch.save_file(...)"
    )
