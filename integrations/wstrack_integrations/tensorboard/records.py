"""TFRecord framing: a record, and where those of a file lie, also behind a damaged place.

A record is the payload's length (u64), a masked CRC-32C of the length, the payload, a masked CRC-32C of the payload;
all little-endian.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from google_crc32c import value as crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HEAD", "record", "records"]

HEAD = 12
"""Bytes of a record before its payload."""


def record(payload: bytes) -> bytes:
    """A payload as a record. tensorboard's writer takes 10 ms for the checksum of a thousand layers, in Python."""
    length = struct.pack("<Q", len(payload))
    return b"".join(
        (length, struct.pack("<I", _masked_crc32c(length)), payload, struct.pack("<I", _masked_crc32c(payload)))
    )


def records(data: bytes, notes: list[str]) -> Iterator[tuple[int, int]]:
    """Where each payload starts and ends that has the right checksum; goes on behind a damaged place, and notes it."""
    at, length = 0, _length(data[:HEAD])
    while at < len(data):
        if length is not None:
            start, end = at + HEAD, at + HEAD + length
            whole, ahead = _is_intact(data, start, end), _length(data[end + 4 : end + 4 + HEAD])
            if whole:
                yield start, end
            if whole or ahead is not None:
                if not whole:
                    notes.append(f"the record at byte {at} is corrupt and was left out")
                at, length = end + 4, ahead
                continue
        found = _next_record(data, at + 1)
        if found is not None:
            notes.append(f"the record at byte {at} is corrupt; the next whole one is at byte {found}")
            at, length = found, _length(data[found : found + HEAD])
        else:
            short = at + HEAD > len(data) or (length is not None and at + HEAD + length + 4 > len(data))
            notes.append(
                f"the last record, at byte {at}, is cut short (still being written, or its writer was stopped)"
                if short
                else f"the record at byte {at} is corrupt, and no whole one comes after it"
            )
            return


_NOT_ZERO = re.compile(rb"[^\0]")


def _next_record(data: bytes, at: int) -> int | None:
    """The first offset, `at` or later, of a record with both checksums right."""
    # A message has less than 2 GiB, so the upper half of its length is zero: only such places need a look.
    while (zeros := data.find(b"\0\0\0\0", at + 4)) >= 0:
        at = zeros - 4
        head = data[at : at + HEAD]
        if not any(head):  # in a hole, where no head can be
            behind = _NOT_ZERO.search(data, at)
            if behind is None:
                return None
            at = max(at + 1, behind.start() - HEAD + 1)
            continue
        length = _length(head)
        if length is not None and _is_intact(data, at + HEAD, at + HEAD + length):
            return at
        at += 1
    return None


@lru_cache(maxsize=4096)
def _length(head: bytes) -> int | None:
    """The payload's length by a record's first 12 bytes; None if they are fewer or do not agree."""
    if len(head) < HEAD:
        return None
    length, checksum = struct.unpack("<QI", head)
    return int(length) if checksum == _masked_crc32c(head[:8]) else None


def _is_intact(data: bytes, start: int, end: int) -> bool:
    """Whether the checksum behind the payload data[start:end] is that of the payload."""
    checksum = data[end : end + 4]
    return len(checksum) == 4 and int.from_bytes(checksum, "little") == _masked_crc32c(data[start:end])


def _masked_crc32c(data: bytes) -> int:
    crc = crc32c(data)
    return int(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
