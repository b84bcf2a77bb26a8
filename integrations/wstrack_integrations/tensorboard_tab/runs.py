"""The runs in a log directory, each read as far as it has come."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from wstrack.errors import WstrackError
from wstrack.runs.growing import Growing, Stamp, going_on, stamp
from wstrack.runs.recording import FOLDER, being_written, find_recordings
from wstrack.runs.wholer import wholer
from wstrack.trackers.registry import tracker

if TYPE_CHECKING:
    from wstrack.runs.run import Run

__all__ = ["Listing", "LogRun", "runs_in"]

TRACKER = "tensorboard"


class LogRun:
    """One run in a log directory, read again and again.

    Args:
        place: its directory.
        match: reads series that were logged without wstrack, see `wstrack.pull`; None = a run of wstrack.
    """

    def __init__(self, place: Path, match: str | None = None) -> None:
        self.place = place
        self._match = match
        self._recording = Growing(place / FOLDER)
        self._lock = Lock()

    def stamp(self) -> tuple[Stamp, Stamp]:
        """What the run's files are: another stamp, and there is something new."""
        return stamp(self.place), stamp(self.place / FOLDER)

    def goes_on(self) -> bool:
        """Whether a process on this machine is recording it."""
        there = self._recording.folder
        return bool(being_written(there, "another") or being_written(there, "this process"))

    def read(self) -> Run:
        """The run as it is now: of its recording only what is new is read, of event files all.

        Raises:
            WstrackError: it is gone, or cannot be read (yet).
        """
        with self._lock:
            if self._match is not None or not self._recording.folder.is_dir():
                return self._events()
            found = wholer(self._recording.read, lambda: self._events() if _has_events(self.place) else None)
            assert found is not None
            return going_on(found, self._recording.folder)

    def _events(self) -> Run:
        return tracker(TRACKER).open_source(str(self.place)).read(f"{TRACKER}:{self.place}", match=self._match)


def _has_events(place: Path) -> bool:
    return any("tfevents" in path.name for path in place.iterdir())


def runs_in(directories: dict[str, Path], match: str | None = None) -> dict[str, Path]:
    """The directory of each run in log directories, by what TensorBoard calls it, in the order of the names.

    Args:
        directories: by the name that TensorBoard puts before its runs, "" for none.
        match: see `wstrack.pull`.

    Raises:
        ValueError: a `match` that is no regular expression with a group for the layer.

    Example:
        >>> runs_in({"": Path("there is no such directory")})
        {}
    """
    found: dict[str, Path] = {}
    for name, top in directories.items():
        places: set[Path] = set()
        if match is None and top.is_dir():
            places.update(folder.parent for folder in find_recordings(top))
        try:
            references = tracker(TRACKER).open_source(str(top)).references(match=match)
        except WstrackError:  # no event files
            references = []
        places.update(Path(reference.removeprefix(f"{TRACKER}:")) for reference in references)
        for place in places:
            inside = os.path.relpath(place, top)
            found[f"{name}/{inside}".removesuffix("/.") if name else inside] = place
    return dict(sorted(found.items()))


@dataclass
class _Listed:
    runs: dict[str, Path]
    until: float


class Listing:
    """What `runs_in` gives, looked up no oftener than that pays: a log directory may hold thousands of files."""

    def __init__(self, directories: dict[str, Path]) -> None:
        self._directories = directories
        self._listed: dict[str | None, _Listed] = {}
        self._lock = Lock()

    def runs(self, match: str | None = None) -> dict[str, Path]:
        """See `runs_in`."""
        with self._lock:
            began = time.monotonic()
            listed = self._listed.get(match)
            if listed is None or began > listed.until:
                runs = runs_in(self._directories, match)
                now = time.monotonic()
                self._listed = {match: _Listed(runs, now + max(1.0, 10 * (now - began)))} | {
                    key: one for key, one in self._listed.items() if key is None and key != match
                }
                return runs
            return listed.runs
