"""Where in a zip archive of `torch.save` its records lie, so that they can be read without it."""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

__all__ = ["Part", "Record", "places", "records"]

_LOCAL = struct.Struct("<4s22xHH")  # of a record's own header: its mark, and the lengths of two fields behind it


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

    Torch trusts an archive: it takes as many bytes as the pickle asks for, whatever the record has, and the compressed
    for the values. So what contradicts itself is refused here.

    Args:
        archive: open.
        raw: the file that it is in.

    Raises:
        ValueError, zipfile.BadZipFile: the archive is damaged, or none of torch's.
    """
    ordered = sorted(archive.infolist(), key=lambda record: record.header_offset)
    # Miniz, by which torch reads, does not tell capitals from small letters, and takes one of two at will.
    if len({record.filename.lower() for record in ordered}) < len(ordered):
        raise ValueError("two records of the archive have the same name")
    if any(record.filename.endswith("/constants.pkl") for record in ordered):
        raise ValueError("it is TorchScript, a program; save the weights alone: torch.save(module.state_dict(), ...)")
    if any(record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1 for record in ordered):
        raise ValueError("the archive is compressed, as those of torch.save never are; zip it without compression")
    summed = any(record.CRC for record in ordered)  # torch can be told to take no checksums, and then all are 0
    found, little = [], True
    for record, end in zip(ordered, [*(one.header_offset for one in ordered[1:]), archive.start_dir], strict=True):
        raw.seek(record.header_offset)
        signature, *lengths = _LOCAL.unpack(raw.read(_LOCAL.size))
        offset = record.header_offset + _LOCAL.size + sum(lengths)
        if signature != b"PK\3\4" or offset + record.file_size > end or record.file_size != record.compress_size:
            raise ValueError(f"the record {record.filename!r} is not where the archive says")
        folder, _, name = record.filename.rpartition("/")
        if summed and name in ("data.pkl", "byteorder"):
            archive.read(record)  # sees to the checksum, as torch does not
        if name == "byteorder":
            raw.seek(offset)
            little = raw.read(record.file_size) == b"little"
        if folder.endswith("/data") and record.file_size:
            found.append(Record(record.filename, offset, record.file_size, record.CRC))
    return found if little else []


def places(found: Sequence[Record], mapped: Mapping[int, int]) -> dict[int, int]:
    """Where in the file each storage begins that torch mapped.

    Torch maps the file as a whole, so storages lie in memory as far apart as in the file.

    Args:
        found: the records.
        mapped: the size of each storage, by its address.

    Raises:
        ValueError: a storage is not where a record is, or not of its size.

    Example:
        >>> places([Record("a/data/0", 64, 16, 0), Record("a/data/1", 192, 8, 0)], {4160: 16, 4288: 8})
        {4160: 64, 4288: 192}
    """
    sizes = {record.offset: record.size for record in found}
    first = min(mapped, default=0)
    bases = {first - offset for offset in sizes if (first - offset) % mmap.PAGESIZE == 0}
    fitting = [base for base in bases if all(sizes.get(at - base) == size for at, size in mapped.items())]
    if mapped and len(fitting) != 1:
        raise ValueError("the tensors do not fit into the records of the archive")
    return {at: at - fitting[0] for at in sorted(mapped)}


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
