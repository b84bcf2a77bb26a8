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

from wstrack.checkpoints.stored import Checkpoint, InFile, InMemory, Stored
from wstrack.errors import WstrackError
from wstrack.runs.files import looks_like

__all__ = ["open_torch", "weights_in"]

# Under these a training program keeps the weights beside what else it saves.
_CONTAINERS = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "params", "weights",
    "model_weights", "app",
)  # fmt: skip
# And under these what is no weight, or the weights once more.
_ASIDE = re.compile(
    r"opt(im(izer)?)?s?([_.]|$)|.*(optimizer|optim_state|scheduler|scaler|rng|random_state|callback|loops?$|ema([_.]|$))"
    r"|.*_ema$|hyper_?param|hparams|args$|config|history",
    re.IGNORECASE,
)
_STEPS = {
    "global_step": ("global_step", "global_steps", "step", "steps", "iteration", "iter", "num_updates", "it"),
    "epoch": ("epoch", "epochs"),
}


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
    weights, said = weights_in(loaded)
    if not weights:
        raise WstrackError(f"{file} holds no weights: no tensors by name, as a model's state_dict() has them")
    places = _places(file, loaded) if zipped else {}
    tensors: dict[str, Stored] = {}
    for name, tensor in weights.items():
        tensor = tensor.detach()
        shape, storage = tuple(tensor.shape), tensor.untyped_storage().data_ptr()
        where = tensor.data_ptr() if tensor.numel() else name
        identity = (where, shape, tensor.stride())
        if storage in places and tensor.is_contiguous() and not tensor.is_neg() and not tensor.is_conj():
            offset = places[storage] + int(tensor.storage_offset()) * tensor.element_size()
            tensors[name] = InFile(name, shape, tensor.dtype, file, offset, identity=identity)
        else:
            tensors[name] = InMemory(name, shape, tensor.dtype, partial(_itself, tensor), identity=identity)
    return Checkpoint(file, tensors, ordered=True, said=said)


def _itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def weights_in(loaded: object) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """The weights in what a program saved, by name, and what it says of its step.

    Example:
        >>> saved = {"epoch": 3, "model": {"fc.weight": torch.ones(2, 2)}, "optimizer": {"state": {}}}
        >>> weights, said = weights_in(saved)
        >>> list(weights), said
        (['fc.weight'], {'epoch': 3})
    """
    if isinstance(loaded, torch.Tensor):
        return {}, {}
    said: dict[str, int] = {}
    if isinstance(loaded, Mapping):
        for means, names in _STEPS.items():
            for name in names:
                value = loaded.get(name)
                if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_floating_point():
                    value = int(value)
                if isinstance(value, int) and not isinstance(value, bool) and means not in said:
                    said[means] = value
    return dict(_weights(loaded)), said


def _weights(held: object) -> Iterator[tuple[str, torch.Tensor]]:
    if not isinstance(held, Mapping) or "param_groups" in held:
        return
    for container in _CONTAINERS:
        if isinstance(inside := held.get(container), Mapping) and (found := list(_weights(inside))):
            yield from found
            return
    for key, value in held.items():
        if isinstance(value, torch.Tensor):
            if _measurable(value):
                yield str(key), value
        elif isinstance(value, Mapping) and not _ASIDE.match(str(key)):
            for name, tensor in _weights(value):
                yield f"{key}.{name}", tensor


def _measurable(tensor: torch.Tensor) -> bool:
    """Whether it is a plain one of floating point: not sparse, not quantised, not without values."""
    return (
        (tensor.is_floating_point() or tensor.is_complex())
        and tensor.layout == torch.strided
        and not tensor.is_quantized
        and not tensor.is_meta
    )


def _places(file: Path, loaded: object) -> dict[int, int]:
    """Where in the file each mapped storage begins, by its address.

    Torch maps the file as a whole, so storages lie in memory in the order of the archive's records, and as far apart.
    Where what was loaded is not all of them, nothing is said, and tensors are read through the mapping.
    """
    sizes: dict[int, int] = {}
    for tensor in _tensors(loaded):
        if tensor.layout == torch.strided and not tensor.is_meta and tensor.untyped_storage().nbytes():
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    records: list[tuple[int, int]] = []
    with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
        for record in archive.infolist():
            folder, _, name = record.filename.rpartition("/")
            if name == "byteorder" and archive.read(record) != b"little":
                return {}
            if not folder.endswith("/data") or record.compress_type != zipfile.ZIP_STORED or not record.file_size:
                continue
            raw.seek(record.header_offset + 26)
            lengths = struct.unpack("<HH", raw.read(4))
            records.append((record.header_offset + 30 + sum(lengths), record.file_size))
    records.sort()
    addresses = sorted(sizes)
    if len(records) != len(addresses) or not records:
        return {}
    base = addresses[0] - records[0][0]
    fits = all(
        address - offset == base and sizes[address] == size
        for address, (offset, size) in zip(addresses, records, strict=True)
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
