"""The protobuf wire format, as far as the scalars and strings of an Event need it, without the protobuf library.

The functions look at data[start:end] of a whole file and copy nothing. A field's key is its number << 3 | its wire
type: 0 varint, 1 eight bytes, 2 a length and so many bytes, 5 four bytes. All of them raise ValueError or IndexError
for bytes that are no such message.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Content", "Slot", "fields", "parse_event", "parse_value", "varint"]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned 64-bit number at `at`, and where the next byte is."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a varint of more than ten bytes")


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The key of each field of the message in data[at:end], and where its content starts and ends."""
    while at < end:
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            stop = varint(data, at)[1]
        elif kind == 1:
            stop = at + 8
        elif kind == 2:
            length, at = varint(data, at)
            stop = at + length
        elif kind == 5:
            stop = at + 4
        else:
            raise ValueError(f"wire type {kind}")
        if stop > end or key < 8:
            raise ValueError("a field that runs past its message, or has no number")
        yield key, at, stop
        at = stop


def parse_event(data: bytes, start: int, end: int) -> tuple[float, int, list[tuple[int, int]], bool]:
    """An Event's wall time, its step, where its summaries lie, and whether it says that logging began anew there."""
    time, step, summaries, begins = 0.0, 0, [], False
    for key, at, stop in fields(data, start, end):
        if key == 0x09:
            (time,) = struct.unpack_from("<d", data, at)
        elif key == 0x10:
            step = varint(data, at)[0]
        elif key == 0x2A:
            summaries.append((at, stop))
        elif key == 0x3A:
            begins |= any(field == 0x08 and varint(data, place)[0] == 1 for field, place, _ in fields(data, at, stop))
    return time, step, summaries, begins


@dataclass(frozen=True)
class Slot:
    """A number that always takes the same bytes: a NumPy dtype, and where it lies."""

    dtype: str
    at: int


Content: TypeAlias = Slot | float | bytes | None
"""What a Summary.Value holds: a number (where it lies, or itself), a string, or nothing that is read here."""


def parse_value(data: bytes, start: int, end: int) -> tuple[bytes, Content]:
    """A Summary.Value's tag, and what it holds."""
    tag = b""
    content: Content = None
    for key, at, stop in fields(data, start, end):
        if key == 0x0A:
            tag = data[at:stop]
        elif key == 0x15:
            content = Slot("<f4", at)
        elif key == 0x42:
            content = _tensor(data, at, stop)
    return tag, content


# By DataType: how NumPy calls it, and which field of a TensorProto holds its numbers where tensor_content does not.
_TYPES = {
    1: ("<f4", 5),
    2: ("<f8", 6),
    3: ("<i4", 7),
    4: ("u1", 7),
    5: ("<i2", 7),
    6: ("i1", 7),
    9: ("<i8", 10),
    10: ("?", 11),
    14: ("<u2", 13),  # bfloat16, as its bits
    17: ("<u2", 7),
    19: ("<f2", 13),
    22: ("<u4", 16),
    23: ("<u8", 17),
}
_STRING, _BFLOAT16 = 7, 14
_CONTENT, _FLOATS, _DOUBLES, _STRINGS = 4, 5, 6, 8


def _tensor(data: bytes, start: int, end: int) -> Content:
    """The one element of a TensorProto; None if it has more or none, or is of another type."""
    dtype, elements = 0, 1
    held: dict[int, tuple[int, int]] = {}
    for key, at, stop in fields(data, start, end):
        if key == 0x08:
            dtype = varint(data, at)[0]
        elif key == 0x12:
            elements = math.prod(_size(data, *dim[1:]) for dim in fields(data, at, stop) if dim[0] == 0x12)
        else:
            held[key >> 3] = at, stop
    if elements != 1:
        return None
    if dtype == _STRING:
        return data[slice(*held[_STRINGS])] if _STRINGS in held else None
    if dtype not in _TYPES:
        return None
    name, numbers = _TYPES[dtype]
    width = np.dtype(name).itemsize
    where = _CONTENT if _CONTENT in held else numbers
    at, stop = held.get(where, (start, start))
    if at == stop:
        return 0.0  # a zero may be left out
    if where in (_CONTENT, _FLOATS, _DOUBLES):
        if stop - at != width:
            return None
        if dtype != _BFLOAT16:
            return Slot(name, at)
        raw = data[at:stop]
    else:
        bits, after = varint(data, at)
        if after != stop:
            return None
        raw = bits.to_bytes(8, "little")[:width]
    return float(np.frombuffer(b"\0\0" + raw, "<f4")[0] if dtype == _BFLOAT16 else np.frombuffer(raw, name)[0])


def _size(data: bytes, start: int, end: int) -> int:
    """The size of a TensorShapeProto.Dim."""
    return sum(varint(data, at)[0] for key, at, _ in fields(data, start, end) if key == 0x08)
