"""Reading a recording again and again while it grows: each time only what was appended since.

What was read stays in memory. A part that is still written is read on from where its last whole batch ended; one that
was closed, replaced or cut is another file, and read anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from wstrack.runs.files import looks_like
from wstrack.runs.locks import holder
from wstrack.runs.part import Contents, Header, Walk, gathered, read_contents
from wstrack.runs.recording import NOT_CLOSED, parts_in, read_recording
from wstrack.runs.run import Run

__all__ = ["Growing", "Stamp", "going_on", "stamp"]

Stamp = tuple[tuple[str, int, int, int], ...]
_SEEN = 64  # bytes before the end of what was read, by which a file is known again


def stamp(folder: Path) -> Stamp:
    """What the files in a folder are by name, number, size and time: another stamp, and there is something new.

    Example:
        >>> stamp(Path("there is no such folder"))
        ()
    """
    found = []
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return ()
    for entry in entries:
        try:
            about = entry.stat()
        except OSError:  # it is gone, or a link to what is
            continue
        if not entry.name.startswith("."):
            found.append((entry.name, about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(sorted(found))


def going_on(run: Run, folder: Path) -> Run:
    """The run that was read from a folder, without the notes that a part was not closed that is being written."""
    written = [part.name for part in parts_in(folder) if part.suffix == ".arrows" and holder(part)]
    whole = run.completeness
    notes = (note for note in whole.notes if not any(note.startswith(f"{name} {NOT_CLOSED}") for name in written))
    return replace(run, completeness=replace(whole, notes=tuple(notes)))


class Growing:
    """A recording that may still be written to; what was read of it stays in memory.

    Args:
        folder: of the recording.

    Example:
        >>> import tempfile
        >>> from wstrack.runs.manifest import Layer, Manifest
        >>> from wstrack.runs.recorder import Recorder
        >>> folder = Path(tempfile.mkdtemp())
        >>> manifest = Manifest("demo", (Layer("fc.weight"),), ("rwc",), every=1)
        >>> recorder = Recorder(folder, manifest, ["abs_change", "abs_previous"])
        >>> growing = Growing(folder)
        >>> for step in (1, 2):
        ...     recorder.append([step], [1], [0.0], np.ones((1, 1, 2)))
        ...     print(len(growing.read().steps), "samples")
        1 samples
        2 samples
        >>> recorder.close()
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[Path, _Known] = {}

    def read(self, *, metrics: Sequence[str] | None = None) -> Run:
        """The run as it is now; see `wstrack.runs.recording.read_recording`. What it holds is not to be written to."""
        now: dict[Path, _Known] = {}

        def read(path: Path) -> Contents:
            with path.open("rb") as file:
                known = self._known.get(path)
                if known is None or not known.read_on(file):
                    known = _Known(path, file)
            now[path] = known
            return known.contents

        run = read_recording(self.folder, metrics=metrics, read=read)
        self._known = now  # without the parts that are gone
        return run


class _Known:
    """What was read of one part, to its end if it was closed.

    Args:
        path: of the part.
        file: the same, open.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._file = _identity(file)
        self._end = self._damaged = 0  # bytes up to the end of the last whole batch, and those before it that are not
        self._seen = b""  # the last of these bytes
        self._rows: dict[str, _Rows] = {}
        self._closed = path.suffix == ".arrow"
        data = file.read()
        header = None if self._closed or looks_like(data) else Header.found_in(data)
        if header is None:
            self._closed = True
            self.contents = read_contents(path)
        else:
            self.contents = gathered(header, [], 0, 0, ended=False)
            self._take(data)

    def read_on(self, file: BinaryIO) -> bool:
        """Read what was appended; False if this is not the file that was read, going on."""
        if self._closed or _identity(file)[:2] != self._file[:2]:
            return _identity(file) == self._file
        file.seek(self._end - len(self._seen))
        data = file.read()
        goes_on = data.startswith(self._seen)
        if goes_on:
            self._take(data[len(self._seen) :])
        else:
            file.seek(0)
        return goes_on

    def _take(self, data: bytes) -> None:
        """Add what is whole in the bytes behind those that were read."""
        walk = Walk(data, self.contents.header)
        new = gathered(self.contents.header, list(walk.batches()), 0, 0, ended=False)
        after = len(data) - walk.done  # half a batch, it may be, which is whole the next time
        self._damaged += walk.left - after
        self._seen = (self._seen + data[: walk.done])[-_SEEN:]
        self._end += walk.done
        self.contents = Contents(
            header=new.header,
            numbers=self._grown("number", new.numbers),
            steps=self._grown("step", new.steps),
            intervals=self._grown("interval", new.intervals),
            times=self._grown("time", new.times),
            sums={name: self._grown(f"sum {name}", rows) for name, rows in new.sums.items()},
            left=self._damaged + after,
            spoiled=self.contents.spoiled + walk.spoiled,
            ended=False,
        )

    def _grown(self, name: str, rows: NDArray[Any]) -> NDArray[Any]:
        return self._rows.setdefault(name, _Rows(rows[:0])).with_more(rows)


class _Rows:
    """An array that grows at its end, in memory that doubles; what was given out of it stays as it is."""

    def __init__(self, like: NDArray[Any]) -> None:
        self._held, self._length = like, 0

    def with_more(self, rows: NDArray[Any]) -> NDArray[Any]:
        """All rows up to now, with these at their end."""
        length = self._length + len(rows)
        if length > len(self._held):
            held = np.empty((max(length, 2 * self._length), *rows.shape[1:]), rows.dtype)
            held[: self._length] = self._held[: self._length]
            self._held = held
        self._held[self._length : length] = rows
        self._length = length
        return self._held[:length]


def _identity(file: BinaryIO) -> tuple[int, int, int, int]:
    about = os.fstat(file.fileno())
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
