"""Summaries on disk, beside what is made of them: work that was interrupted goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from wstrack._version import __version__
from wstrack.errors import WstrackError
from wstrack.runs.files import write_whole
from wstrack.sweeps.summary import Summary

__all__ = ["Kept"]

NAME = "summaries.jsonl"


class Kept:
    """The summaries in a folder, a line each, the later of a run instead of the earlier.

    A line is written as soon as its run was read; one that an interruption cut short is passed over. What another
    version of wstrack wrote is not taken: it may have summed up otherwise.

    Args:
        folder: is made if need be; None = nothing is kept.
        asked: what the summaries are of beside their runs, such as the metric; those of something else are not taken.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Kept(folder, ("rwc",)) as kept:
        ...     kept.add(Summary("runs/a", samples=3))
        >>> Kept(folder, ("rwc",)).found["runs/a"].samples, Kept(folder, ("distance",)).found
        (3, {})
    """

    def __init__(self, folder: Path | None, asked: Sequence[str | None]) -> None:
        self.found: dict[str, Summary] = {}
        self._first = f'{{"wstrack": "{__version__}", "asked": {list(asked)!r}}}\n'
        self._path = folder / NAME if folder is not None else None
        self._whole = False  # whether what is on disk is ours, to the last line
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                self._load(self._path)
        except OSError as error:
            raise WstrackError(f"cannot write to {folder}: {error.strerror or error}") from error

    def _load(self, path: Path) -> None:
        with path.open(encoding="utf-8", errors="replace") as lines:
            if next(lines, "") != self._first:
                return
            self._whole = True
            for line in lines:
                try:
                    summary = Summary.from_json(line)
                except (ValueError, TypeError, KeyError):
                    self._whole = False
                    continue
                self._whole = line.endswith("\n")
                self.found[summary.reference] = summary

    def __enter__(self) -> Kept:
        if self._path is not None:
            if not self._whole:
                self.write(self.found.values())
            self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            self._file.close()

    def add(self, summary: Summary) -> None:
        """Keep one."""
        if self._path is not None:
            self._file.write(summary.to_json() + "\n")
            self._file.flush()

    def write(self, summaries: Iterable[Summary]) -> None:
        """Keep these and no others."""
        if self._path is not None:
            write_whole(self._path, self._first + "".join(f"{one.to_json()}\n" for one in summaries))
