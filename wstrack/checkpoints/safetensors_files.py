"""Checkpoints in safetensors: the tensors of one file, and where in it each lies."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from wstrack.checkpoints.stored import Checkpoint, InFile, Stored, age_of
from wstrack.errors import WstrackError
from wstrack.runs.files import looks_like

__all__ = ["once", "open_safetensors"]

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}  # fmt: skip
# Numbers of so few bits that they mean nothing without the scales beside them.
_SCALED = re.compile(r"F[46]|F8_E8M0")


def open_safetensors(file: Path) -> Checkpoint:
    """The tensors of one file.

    Raises:
        WstrackError: the file is none, or is damaged.
    """
    try:
        # The library checks the header: each tensor lies within the file, and they follow one another without gaps.
        # For NumPy: torch would set memory aside for the whole file, which may be larger than there is.
        with safe_open(file, framework="np") as opened:
            names = opened.offset_keys()
            about = [opened.get_slice(name) for name in names]
            forms = [(tuple(one.get_shape()), str(one.get_dtype())) for one in about]
            said = dict(opened.metadata() or {})
        with file.open("rb") as beginning:
            age = age_of(os.fstat(beginning.fileno()))
            begin = 8 + int.from_bytes(beginning.read(8), "little")
            json.loads(beginning.read(begin - 8), object_pairs_hook=once)
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise WstrackError(f"{file} cannot be read as safetensors: {_because(file, error)}") from error
    sizes = [torch.Size(shape).numel() * _bits(dtype) // 8 for shape, dtype in forms]
    places = list(itertools.accumulate(sizes, initial=begin))
    size = age[1]
    if places[-1] != size:
        raise WstrackError(f"{file} cannot be read as safetensors: its tensors end at byte {places[-1]:,} of {size:,}")
    tensors: dict[str, Stored] = {
        name: InFile(
            name, shape, _DTYPES[dtype], file, place, age, identity=(file, place) if math.prod(shape) else None
        )
        for name, (shape, dtype), place in zip(names, forms, places, strict=False)
        if dtype in _DTYPES
    }
    scaled = sum(_SCALED.match(dtype) is not None for _, dtype in forms)
    notes = [f"{scaled} tensors of 4 to 8 bits with scales beside them are left out"] if scaled else []
    tied = {name: kept for name, kept in said.items() if kept in tensors and name not in tensors}
    return Checkpoint(file, tensors, tied=tied, notes=tuple(notes), others=frozenset(names) - tensors.keys())


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name stands twice, for `json.loads(object_pairs_hook=...)`.

    Raises:
        ValueError: one does, so that it has two meanings.
    """
    held = dict(pairs)
    if len(held) < len(pairs):
        double = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"it has {double[:100]!r} twice")
    return held


def _bits(dtype: str) -> int:
    """Of an element, by the name of its type: F8_E4M3 has 8."""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8  # BOOL


def _because(file: Path, error: Exception) -> str:
    try:
        with file.open("rb") as damaged:
            return looks_like(damaged.read(64)) or " ".join(str(error).split())[:300] or type(error).__name__
    except OSError as unreadable:
        return str(unreadable.strerror or unreadable)
