"""Where in a zip archive of `torch.save` its records lie, so that they can be read without it."""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass
from typing import IO

__all__ = ["Part", "Record", "records"]


@dataclass(frozen=True)
class Record:
    """A record of an archive, stored as it is.

    Attributes:
        name: in the archive.
        offset: of its first byte, from the beginning of the archive.
        size: in bytes.
        crc: its checksum; 0 if none was taken.
    """

    name: str
    offset: int
    size: int
    crc: int


def records(archive: zipfile.ZipFile, raw: IO[bytes]) -> list[Record]:
    """The records with the values of tensors, by their places; none if they are not in this machine's byte order.

    Args:
        archive: open.
        raw: the file that it is in.
    """
    found = []
    for record in archive.infolist():
        folder, _, name = record.filename.rpartition("/")
        if name == "byteorder" and archive.read(record) != b"little":
            return []
        if not folder.endswith("/data") or record.compress_type != zipfile.ZIP_STORED or not record.file_size:
            continue
        raw.seek(record.header_offset + 26)
        lengths = struct.unpack("<HH", raw.read(4))
        found.append(Record(record.filename, record.header_offset + 30 + sum(lengths), record.file_size, record.CRC))
    return sorted(found, key=lambda record: record.offset)


class Part(io.RawIOBase):
    """A stretch of an open file as a file of its own."""

    def __init__(self, file: IO[bytes], begin: int, length: int) -> None:
        self._file, self._begin, self._length, self._at = file, begin, length, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As of any file."""
        at = offset + (0, self._at, self._length)[whence]
        if at < 0:
            raise ValueError("a place before the beginning")
        self._at = at
        return at

    def tell(self) -> int:
        """As of any file."""
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """As of any file."""
        count = max(min(len(buffer), self._length - self._at), 0)
        self._file.seek(self._begin + self._at)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
