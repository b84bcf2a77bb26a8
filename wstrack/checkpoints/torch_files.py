"""Checkpoints that `torch.save` wrote: read without ever unpickling more than tensors and plain values."""

from __future__ import annotations

import os
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from wstrack.checkpoints.nested import said_in, weights_in
from wstrack.checkpoints.stored import Checkpoint, InFile, InMemory, Stored, age_of, stored_at
from wstrack.checkpoints.zipped import Record, places, records
from wstrack.errors import WstrackError
from wstrack.runs.files import looks_like

__all__ = ["open_torch"]

# Arrays and numbers of NumPy, which programs keep beside the weights (a history, the best loss): plain values too.
_CORE: Any = import_module("numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray")
_NUMBERS: list[Any] = [
    np.ndarray, np.dtype, *(kind for kind in vars(np.dtypes).values() if isinstance(kind, type)),
    *(
        (there, f"{module}.{name}")
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name, there in (("_reconstruct", _CORE._reconstruct), ("scalar", _CORE.scalar))
    ),
]  # fmt: skip


def open_torch(file: Path) -> Checkpoint:
    """The weights in a file of `torch.save`, as a state dict or beside what else a training program keeps.

    A file of torch's present format is mapped, and each tensor is where it lies in it. One from before torch 1.6 is
    read whole.

    Raises:
        WstrackError: the file is none, is damaged, or holds what only running its code could read.
    """
    try:
        with file.open("rb") as raw:
            age = age_of(os.fstat(raw.fileno()))
            zipped = raw.read(4) == b"PK\3\4"
            found = _records(raw) if zipped else []
            raw.seek(0)
            with torch.serialization.safe_globals(_NUMBERS):
                loaded = torch.load(file if zipped else raw, map_location="cpu", weights_only=True, mmap=zipped)
            if not zipped and raw.tell() != age[1]:
                raise ValueError(f"its tensors end at byte {raw.tell():,} of {age[1]:,}")
        weights = dict(weights_in(loaded, _measurable))
        others = frozenset(name for name, _ in weights_in(loaded, _tensor)) - weights.keys()
        said = said_in(loaded, _whole)
        starts = places(found, _mapped(loaded)) if found else {}
    except pickle.UnpicklingError as error:
        raise WstrackError(f"{file} {_refused(str(error))}") from None
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, AttributeError, TypeError, IndexError,
            UnicodeError, struct.error, ArithmeticError, MemoryError, ImportError, AssertionError,
            RecursionError, zipfile.BadZipFile) as error:  # fmt: skip
        # Whatever bytes that are no checkpoint may lead torch to.
        line = next(iter(str(error).splitlines()), "")[:200]
        because = _because(file)
        raise WstrackError(
            f"{file} cannot be read as a checkpoint of torch: {because or line or repr(error)}"
        ) from error
    if not weights:
        what = f"none of its {len(others):,} tensors is a dense one of floating point" if others else (
            "no tensors by name, as a model's state_dict() has them"
        )  # fmt: skip
        raise WstrackError(f"{file} holds no weights: {what}")
    tensors: dict[str, Stored] = {}
    for name, tensor in weights.items():
        tensor = tensor.detach()
        shape, storage = tuple(tensor.shape), tensor.untyped_storage().data_ptr()
        where = tensor.data_ptr() if tensor.numel() else name
        # With the file, for where one checkpoint was mapped the next may be.
        identity = (file, where, shape, tensor.stride())
        load = partial(_itself, tensor)
        laid = None
        if storage in starts:
            offset = starts[storage] + int(tensor.storage_offset()) * tensor.element_size()
            if not tensor.is_neg() and not tensor.is_conj():
                like = Stored(name, shape, tensor.dtype, identity=identity)
                laid = stored_at(like, file, offset, tensor.stride(), age)
            span = 1 + sum((size - 1) * step for size, step in zip(shape, tensor.stride(), strict=True))
            # Never by way of the mapping: where a mapped file is cut, the process dies.
            part = InFile(name, (max(span, 0),), tensor.dtype, file, offset, age)
            load = partial(_strewn, part, shape, tensor.stride(), tensor.is_conj(), tensor.is_neg())
        tensors[name] = laid or InMemory(name, shape, tensor.dtype, load, identity=identity)
    return Checkpoint(file, tensors, ordered=True, said=said, others=others)


def _records(raw: IO[bytes]) -> list[Record]:
    """As `records` has them; whatever zipfile says of an archive that is none, as a ValueError.

    Raises:
        ValueError: the archive is damaged, or none of torch's.
    """
    try:
        with zipfile.ZipFile(raw) as archive:
            return records(archive, raw)
    except zipfile.BadZipFile as error:
        raise ValueError(f"it is cut off or damaged ({error})") from error


def _itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _strewn(part: InFile, shape: tuple[int, ...], stride: tuple[int, ...], conj: bool, neg: bool) -> torch.Tensor:
    """A tensor with gaps between its elements, or of which only a view was saved."""
    values = torch.empty(part.numel, dtype=part.dtype)
    part.read(values, 0)
    tensor = values.as_strided(shape, stride)
    tensor = tensor.conj() if conj else tensor
    return torch.neg(tensor) if neg else tensor


def _because(file: Path) -> str | None:
    """What a file is, if that is something else; archives are what torch's files are."""
    try:
        with file.open("rb") as damaged:
            start = damaged.read(64)
    except OSError as error:
        return error.strerror
    return None if start.startswith(b"PK") else looks_like(start)


def _tensor(held: object) -> object:
    return held if isinstance(held, torch.Tensor) else None


def _measurable(held: object) -> torch.Tensor | None:
    """A plain tensor of floating point: not sparse, not quantised, not without values.

    Nor one that was expanded, whose elements are fewer than its shape says: no optimizer can change such a tensor.
    """
    if not isinstance(held, torch.Tensor) or held.layout != torch.strided or held.is_quantized or held.is_meta:
        return None
    if held.numel() * held.element_size() > held.untyped_storage().nbytes():
        return None
    return held if held.is_floating_point() or held.is_complex() else None


def _whole(held: object) -> int | None:
    """A whole number, which may be in a tensor."""
    if isinstance(held, torch.Tensor) and held.layout == torch.strided and held.numel() == 1 and not held.is_meta:
        held = held.item()
    return held if isinstance(held, int) and not isinstance(held, bool) else None


def _mapped(loaded: object) -> dict[int, int]:
    """The size of each storage in what was loaded, by its address."""
    storages = (
        tensor.untyped_storage() for tensor in _tensors(loaded) if tensor.layout == torch.strided and not tensor.is_meta
    )
    return {storage.data_ptr(): storage.nbytes() for storage in storages if storage.nbytes()}


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
