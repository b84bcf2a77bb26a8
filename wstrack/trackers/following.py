"""Reading a run again and again while it goes on: what is new in its recording on this machine, or else all of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from wstrack.runs.growing import Growing, going_on, stamp
from wstrack.runs.part import read_header
from wstrack.runs.recording import FOLDER, being_written, find_recordings, parts_in
from wstrack.runs.run import Run
from wstrack.runs.wholer import wholer
from wstrack.trackers.references import pull, settings_of, split

__all__ = ["Followed", "recording_of"]

_DEPTH = 6  # folders: as deep as a tracker of files puts a run's artifacts below where training was started


class Followed:
    r"""A run that may go on, and is read again as it does.

    Args:
        reference: of one run, see `wstrack.pull`.
        match: see `wstrack.pull`; with it the tracker is asked, for no recording has such series.

    Attributes:
        goes_on: whether the run went on when it was last read; None where nobody can tell: it may have been killed, or
            be recorded on another machine.

    Example:
        >>> import tempfile
        >>> table = Path(tempfile.mkdtemp()) / "mine.csv"
        >>> _ = table.write_text("layer,1,2\nconv.weight,0.1,0.05\nfc.weight,0.2,0.1\n")
        >>> followed = Followed(str(table))
        >>> followed.read().name, followed.goes_on
        ('mine', None)
    """

    def __init__(self, reference: str, match: str | None = None) -> None:
        self.reference = reference
        self.goes_on: bool | None = None
        self._match = match
        self._settings: dict[str, Any] | None = None  # what trackers were told, which no recording holds
        folder = None if match is not None else recording_of(reference)
        self._growing = None if folder is None else Growing(folder)

    def stamp(self) -> object:
        """Another one, and there may be something new to read; None where only reading can tell."""
        return stamp(self._growing.folder) if self._growing else None

    def read(self) -> Run:
        """The run as it is now.

        Raises:
            ValueError, WstrackError: as `wstrack.pull`.
        """
        if self._growing is None:
            run = pull(self.reference, match=self._match)
            self.goes_on = _as_told(run)
            return run
        goes_on = _is_recorded(self._growing.folder)  # before it is read: what comes after that is still to come
        found = wholer(self._growing.read, lambda: pull(self.reference))
        assert found is not None
        found = going_on(found, self._growing.folder)
        self.goes_on = goes_on
        if self._settings is None:
            self._settings = settings_of(self.reference)
        found = found.with_origin(settings=self._settings) if self._settings else found
        scheme, _ = split(self.reference)
        return found.with_origin(reference=self.reference) if scheme else found


def recording_of(reference: str) -> Path | None:
    """The folder of the recording of a run on this machine: at its path, or below the working directory.

    A recording names the runs of the trackers that were logged to beside it.
    """
    scheme, address = split(reference)
    with contextlib.suppress(OSError):
        if Path(address).exists():
            found = find_recordings(Path(address))
            return found[0] if len(found) == 1 else None
    for folder in _below(Path.cwd(), _DEPTH) if scheme else ():
        for part in reversed(parts_in(folder)):
            with contextlib.suppress(OSError, pa.ArrowException, ValueError):
                if f"{scheme}:{address}" in read_header(part).manifest.origin.get("references", ()):
                    return folder
    return None


def _below(top: Path, depth: int) -> Iterator[Path]:
    """The recordings below a folder, not deeper than so many folders."""
    for path, folders, _ in os.walk(top):
        if FOLDER in folders:
            yield Path(path, FOLDER)
        deep = len(Path(path).relative_to(top).parts) + 1
        folders[:] = [name for name in folders if deep < depth and not name.startswith(".") and name != FOLDER]


def _is_recorded(folder: Path) -> bool | None:
    """Whether a recording is being written; None where its writer is gone without an end, or on another machine."""
    if being_written(folder, "another") or being_written(folder, "this process"):
        return True
    parts = parts_in(folder)
    return False if parts and parts[-1].suffix == ".arrow" else None


def _as_told(run: Run) -> bool | None:
    """What its tracker says of a run: a state, or that it was closed. One that was not may have been killed."""
    if "state" in run.origin:
        return bool(run.origin["state"] == "running")
    return False if run.origin.get("closed") else None
