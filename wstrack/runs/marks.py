"""The marks of a run: named steps, in a file of lines beside the parts of its recording.

A part takes nothing but samples, and its header is written before there can be a mark; so each watch has a file of its
own for them, called like its first part. A line carries its format and its checksum, and one that is damaged or cut is
left out. Recordings of before have no such file, and a reader that knows no marks passes it by.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

__all__ = ["SUFFIX", "append_mark", "read_marks"]

SUFFIX = ".marks"
_FORMAT = 1


def append_mark(path: Path, step: int, name: str, *, reset: bool = False) -> None:
    """Add a mark to a file, which need not be there.

    Raises:
        OSError: it cannot be written to.
    """
    text = json.dumps({"format": _FORMAT, "step": step, "name": name, "reset": reset})
    with path.open("a", encoding="ascii") as file:
        file.write(f"{zlib.crc32(text.encode()):08x} {text}\n")


def read_marks(path: Path) -> tuple[list[tuple[int, str, bool]], int]:
    """The marks in a file (step, name, whether `distance` counts from there), and how many lines cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "0001.marks"
        >>> append_mark(path, 100, "task 2", reset=True)
        >>> read_marks(path)
        ([(100, 'task 2', True)], 0)
    """
    found, damaged = [], 0
    for line in path.read_bytes().splitlines():
        check, _, text = line.partition(b" ")
        try:
            said = json.loads(text) if b"%08x" % zlib.crc32(text) == check else {}
            if said["format"] != _FORMAT:
                raise ValueError("it is of a later format")
            found.append((int(said["step"]), str(said["name"]), bool(said["reset"])))
        except (KeyError, TypeError, ValueError):
            damaged += 1
    return found, damaged
