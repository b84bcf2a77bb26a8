"""The framing of a `.wandb` file (LevelDB's log format) and the protobuf wire format in it, without either library."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAGIC", "fields", "records", "varint"]

MAGIC = b":W&B\xe1\xbe\x00"
BLOCK = 32_768
_HEAD = struct.Struct("<IHB")  # checksum, length, type: 1 whole, 2 first, 3 middle, 4 last
_SEED = [zlib.crc32(bytes([kind])) for kind in range(5)]


def records(data: bytes, notes: list[str]) -> Iterator[bytes]:
    """Each whole record of a file, also of one that is being written or whose end is missing.

    A block with a damaged place is left at that place and the next one gone on with; `notes` gets a line on it.
    """
    at = len(MAGIC)
    parts: list[bytes] = []
    damaged = 0
    while at + _HEAD.size <= len(data):
        room = BLOCK - at % BLOCK
        if room < _HEAD.size:
            at += room
            continue
        checksum, length, kind = _HEAD.unpack_from(data, at)
        start, stop = at + _HEAD.size, at + _HEAD.size + length
        if checksum == length == kind == 0 and not data[at:].strip(b"\0"):
            break
        fits = _HEAD.size + length <= room and 1 <= kind <= 4
        if fits and stop > len(data):
            break
        if not fits or zlib.crc32(data[start:stop], _SEED[kind]) != checksum:
            damaged += 1
            parts.clear()
            at += room
            continue
        at = stop
        if kind == 1:
            yield data[start:stop]
        elif kind == 2:
            parts = [data[start:stop]]
        elif parts:
            parts.append(data[start:stop])
            if kind == 4:
                yield b"".join(parts)
                parts = []
    if damaged:
        notes.append(f"{damaged} damaged places in the file; the records there are lost")
    elif at < len(data) or parts:
        notes.append("the end of the file is missing, or was just being written")


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned number at `at`, and where the next byte is."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The key (number << 3 | wire type) of each field of the message in data[at:end], and where its content lies.

    Raises:
        ValueError, IndexError: this is no message.
    """
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
        if stop > end:
            raise ValueError("a field that runs past its message")
        yield key, at, stop
        at = stop
