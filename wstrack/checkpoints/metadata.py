"""What the `.metadata` of a torch distributed checkpoint says, read without unpickling it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from wstrack.checkpoints.pickled import Made, Named, read_pickle

__all__ = ["Entry", "Metadata", "Place", "read_metadata"]

# What torch writes there; its rooms had other names before 2.1. Python 3.11 pickles an enum as getattr of its class.
_KNOWN = re.compile(
    r"torch\.distributed\.(_shard\.)?checkpoint\.metadata\.(Metadata|TensorStorageMetadata|BytesStorageMetadata"
    r"|ChunkStorageMetadata|TensorProperties|MetadataIndex|StorageMeta|_?MEM_FORMAT_ENCODING)"
    r"|torch\.distributed\._shard\.sharded_tensor\.metadata\.(TensorProperties|MEM_FORMAT_ENCODING)"
    r"|torch\.distributed\.(_shard\.)?checkpoint\.filesystem\._StorageInfo"
    r"|torch\.(Size|serialization\._get_layout|(float|bfloat|complex|q?u?int|bool|bits)\w*)"
    r"|collections\.OrderedDict|builtins\.getattr|pathlib\.(_local\.)?(Pure)?(Posix|Windows)?Path"
)
_MOST = 1 << 28  # bytes
_DEEPEST = 32  # keys that lead to a value
_LARGEST = 1 << 60  # elements, or bytes


@dataclass(frozen=True)
class Place:
    """Where an item lies: `length` bytes from `offset` on, in the file `path`; `changed` by these, such as zstd."""

    path: str
    offset: int
    length: int
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """What is said of one value of the state.

    Attributes:
        name: with the keys that lead to it, dots between them.
        keys: that lead to it.
        shape, dtype: of the tensor; None if it is none.
        chunks: (index of the first element, shape) of what each process saved of it.
    """

    name: str
    keys: tuple[str, ...]
    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    chunks: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class Metadata:
    """What a checkpoint holds.

    Attributes:
        entries: in the order of the state, if that is known.
        ordered: whether it is.
        places: of what lies where, by name and the index of its first element; None for what is no tensor.
    """

    entries: tuple[Entry, ...]
    ordered: bool
    places: Mapping[tuple[str, tuple[int, ...] | None], Place]


def read_metadata(file: Path) -> Metadata:
    """What a `.metadata` says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none, or refers to what no metadata of torch refers to.
    """
    size = file.stat().st_size
    if size > _MOST:
        raise ValueError(f"it is larger than is read, {size:,} bytes")
    fields = _fields(read_pickle(file.read_bytes(), _KNOWN), "Metadata")
    keys = dict(_keys(fields.get("planner_data")))
    said = _mapping(fields.get("state_dict_metadata"))
    # Processes share the writing, so what is said of values is not in their order; the keys to them are.
    names = [*(name for name in keys if name in said), *(name for name in said if name not in keys)]
    entries = tuple(_entry(name, keys.get(str(name), (str(name),)), said[name]) for name in names)
    return Metadata(entries, keys.keys() >= said.keys(), dict(_places(fields.get("storage_data"))))


def _entry(name: object, keys: tuple[str, ...], said: object) -> Entry:
    if not isinstance(name, str):
        raise ValueError("a name that is none")
    if isinstance(said, Made) and said.by.endswith(".BytesStorageMetadata"):
        return Entry(name, keys)
    fields = _fields(said, "TensorStorageMetadata")
    match fields.get("properties"):
        case Made(state=(Named() as own, *_)):
            dtype = getattr(torch, own.removeprefix("torch."), None)
        case _:
            dtype = None
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name} has no dtype that is known")
    chunks = fields.get("chunks")
    if not isinstance(chunks, list):
        raise ValueError(f"{name} has no chunks")
    cut = tuple(
        (_numbers(one.get("offsets")), _numbers(one.get("sizes")))
        for one in (_fields(chunk, "ChunkStorageMetadata") for chunk in chunks)
    )
    return Entry(name, keys, _numbers(fields.get("size")), dtype, cut)


def _keys(planner_data: object) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The keys that lead to each value; nothing if they were not kept."""
    if not isinstance(planner_data, dict | Made):
        return
    for name, keys in _mapping(planner_data).items():
        if not isinstance(name, str) or not isinstance(keys, tuple) or not 0 < len(keys) <= _DEEPEST:
            raise ValueError("keys that lead nowhere")
        yield name, tuple(str(key) if isinstance(key, str | int) else "?" for key in keys)


def _places(storage_data: object) -> Iterator[tuple[tuple[str, tuple[int, ...] | None], Place]]:
    for index, info in _mapping(storage_data).items():
        at, where = _fields(index, "MetadataIndex"), _fields(info, "_StorageInfo")
        name, offset, changed = at.get("fqn"), at.get("offset"), where.get("transform_descriptors") or ()
        path = where.get("relative_path")
        if not isinstance(name, str) or not isinstance(path, str) or not isinstance(changed, list | tuple):
            raise ValueError("a place that is none")
        (begin,), (length,) = _numbers((where.get("offset"),)), _numbers((where.get("length"),))
        yield (
            (name, None if offset is None else _numbers(offset)),
            Place(path, begin, length, tuple(str(one) if isinstance(one, str) else "?" for one in changed)),
        )


def _fields(made: object, of: str) -> Mapping[str, object]:
    """The fields of an object of this class."""
    if not isinstance(made, Made) or made.by.rpartition(".")[2] != of or not isinstance(made.state or {}, dict):
        raise ValueError(f"there is no {of} where one should be")
    return made.state or {}  # type: ignore[return-value]


def _mapping(held: object) -> Mapping[object, object]:
    held = held.items if isinstance(held, Made) else held
    if not isinstance(held, dict):
        raise ValueError("a table of values is missing")
    return held


def _numbers(held: object) -> tuple[int, ...]:
    """Numbers that count something: a torch.Size, or a tuple."""
    if isinstance(held, Made) and held.by == "torch.Size" and len(held.arguments) == 1:
        held = held.arguments[0]
    if isinstance(held, tuple | list):
        found = tuple(one for one in held if isinstance(one, int) and not isinstance(one, bool) and 0 <= one < _LARGEST)
        if len(found) == len(held) <= 64 and math.prod(found) < _LARGEST:
            return found
    raise ValueError("numbers that count nothing")
