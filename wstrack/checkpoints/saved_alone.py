"""What `torch.save` wrote by itself into a stretch of a file: a plain value, or where a tensor's values lie."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import torch

from wstrack.checkpoints.pickled import Made, Named, read_pickle
from wstrack.checkpoints.stored import InFile, InMemory, Stored, stored_at
from wstrack.checkpoints.zipped import Part, Record, records
from wstrack.runs.files import looks_like

__all__ = ["saved_alone", "value_alone"]

_KNOWN = re.compile(
    r"torch\._utils\._rebuild_(tensor_v[23]|parameter)|torch\.(\w+Storage|storage\.(Untyped|Typed)Storage)"
    r"|torch\.(float|bfloat|complex)\w+|collections\.OrderedDict"
)
_STORAGES = {
    "torch.DoubleStorage": torch.float64, "torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
_LONGEST = 1 << 16  # bytes of what is said of one tensor


def saved_alone(file: IO[bytes], path: Path, begin: int, length: int, like: Stored) -> Stored:
    """The tensor at a place in an open file.

    Args:
        file: open.
        path: of the file.
        begin, length: of the stretch.
        like: its name, shape and dtype.

    Raises:
        ValueError: it is not there, or another.
    """
    part = Part(file, begin, length)
    tensor, found = _read(part)
    if len(found) != 1:
        raise ValueError("it is no tensor as torch.save writes it on this kind of machine, without compression")
    return _where(tensor, path, begin, length, found[0], like)


def value_alone(file: IO[bytes], begin: int, length: int) -> object:
    """The plain value at a place in an open file.

    Raises:
        ValueError: it is not there, or is none.
    """
    return _read(Part(file, begin, length))[0]


def _read(part: Part) -> tuple[object, list[Record]]:
    """What an archive's pickle says, and its records."""
    try:
        with zipfile.ZipFile(part) as archive:
            said = next((one for one in archive.infolist() if one.filename.endswith("/data.pkl")), None)
            if said is None or said.file_size > _LONGEST:
                raise ValueError("it is nothing that torch.save wrote by itself")
            return read_pickle(archive.read(said), _KNOWN), records(archive, part)  # type: ignore[arg-type]
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OSError, ArithmeticError,
            LookupError, MemoryError) as error:  # fmt: skip
        part.seek(0)
        raise ValueError(looks_like(part.read(64)) or str(error)) from error


def _where(tensor: object, path: Path, begin: int, length: int, record: Record, like: Stored) -> Stored:
    """The tensor that a pickle speaks of, in its one record."""
    if isinstance(tensor, Made) and tensor.by == "torch._utils._rebuild_parameter" and tensor.arguments:
        tensor = tensor.arguments[0]
    match tensor:
        case Made("torch._utils._rebuild_tensor_v2", (storage, int(first), tuple(shape), tuple(stride), *_)):
            dtype = _STORAGES.get(_type_of(storage))
        case Made(
            "torch._utils._rebuild_tensor_v3", (_, int(first), tuple(shape), tuple(stride), _, _, Named() as own)
        ):
            dtype = getattr(torch, own.removeprefix("torch."), None)
        case _:
            raise ValueError("it is no plain tensor")
    if shape != like.shape or dtype != like.dtype:
        raise ValueError(f"it is of shape {shape} and {dtype}, not of {like.shape} and {like.dtype}")
    if len(stride) != len(shape) or not all(isinstance(step, int) and 0 <= step < 1 << 48 for step in stride):
        raise ValueError("its strides are none")
    last = first + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    held = record.size // like.dtype.itemsize
    if first < 0 or last >= held or record.offset + record.size > length:
        raise ValueError("it ends beyond what is there")
    content = (record.crc, first, stride) if record.crc else None
    offset = begin + record.offset
    laid = stored_at(replace(like, content=content), path, offset + first * like.dtype.itemsize, stride)
    if laid is not None:
        return laid
    whole = InFile(like.name, (held,), like.dtype, path, offset)
    load = partial(_strided, whole, like.shape, stride, first)
    return InMemory(like.name, like.shape, like.dtype, load, content=content)


def _type_of(storage: object) -> str:
    match storage:
        case Made("", (("storage", Named() as kind, *_),)):
            return kind
        case _:
            return ""


def _strided(whole: InFile, shape: tuple[int, ...], stride: tuple[int, ...], first: int) -> torch.Tensor:
    values = torch.empty(whole.shape, dtype=whole.dtype)
    whole.read(values, 0)
    return values.as_strided(shape, stride, first)
