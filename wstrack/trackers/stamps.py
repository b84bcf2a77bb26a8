"""What changes whenever a run does, told without reading its series: by it, work that was done is known to stand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from wstrack.runs.recording import find_recordings
from wstrack.trackers.references import TABLES, split
from wstrack.trackers.registry import tracker, trackers

__all__ = ["stamp_of_files"]

_BLOCK = 1 << 20


def stamp_of_files(reference: str) -> str:
    """A digest of all bytes that a run on this machine is read from; "" if that cannot be told.

    Args:
        reference: of one run, see `wstrack.pull`.

    Example:
        >>> import tempfile
        >>> table = Path(tempfile.mkdtemp()) / "mine.csv"
        >>> _ = table.write_text("layer,1,2")
        >>> before = stamp_of_files(str(table))
        >>> before == stamp_of_files(str(table)), stamp_of_files("mlflow:3f2a")
        (True, '')
        >>> _ = table.write_text("layer,1,3")
        >>> before == stamp_of_files(str(table))
        False
    """
    scheme, address = split(reference)
    path = Path(address)
    if not path.exists():
        return ""
    files = [path] if path.is_file() and (not scheme and path.suffix.lower() in TABLES) else []
    files += [part for folder in find_recordings(path) for part in sorted(folder.iterdir()) if part.is_file()]
    for one in [scheme] if scheme else [name for name in trackers() if tracker(name).recognises(path)]:
        told: Callable[[], list[Path]] | None = getattr(tracker(one).open_source(address), "files", None)
        if told is None:
            return ""
        files += told()
    if not files:
        return ""
    digest = hashlib.sha256()
    for file in dict.fromkeys(files):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode(errors="backslashreplace"))
        with file.open("rb") as opened:
            while block := opened.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
