"""`.wandb` files by hand: records framed as LevelDB's log does it, which is how the client frames them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

__all__ = ["framed"]

MAGIC = b":W&B\xe1\xbe\x00"
BLOCK = 32_768
HEAD = struct.Struct("<IHB")  # checksum, length, which piece of a record this is


def framed(records: Iterable[bytes]) -> bytes:
    """A file that holds these records."""
    out = bytearray(MAGIC)
    for record in records:
        rest, first = record, True
        while first or rest:
            room = BLOCK - len(out) % BLOCK
            if room < HEAD.size:
                out += bytes(room)
                continue
            piece, rest = rest[: room - HEAD.size], rest[room - HEAD.size :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[first, not rest]
            out += HEAD.pack(zlib.crc32(piece, zlib.crc32(bytes([kind]))), len(piece), kind) + piece
            first = False
    return bytes(out)
