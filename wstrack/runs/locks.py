"""Telling whether a file is still being written, and by whom: its writer holds a lock on it, as long as it lives."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import IO, Literal

__all__ = ["hold", "holder"]

_here: set[tuple[int, int, int]] = set()  # process, device and file of each that was locked here


def hold(file: IO[bytes]) -> None:
    """Lock an open file until it is closed, as far as its file system and this machine can.

    Example:
        >>> import tempfile
        >>> file = tempfile.NamedTemporaryFile()
        >>> hold(file)
        >>> holder(Path(file.name))
        'this process'
    """
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):  # some network file systems know no locks: then nobody is seen to hold one
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _here.add(_identity(os.fstat(file.fileno())))


def holder(path: Path) -> Literal["this process", "another"] | None:
    """Who has a file locked; None if nobody has, or that cannot be told."""
    if sys.platform != "win32":
        import fcntl

        try:
            with path.open("rb") as file:
                identity = _identity(os.fstat(file.fileno()))
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "this process" if identity in _here else "another"
        except OSError:
            return None
        _here.discard(identity)
    return None


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return os.getpid(), status.st_dev, status.st_ino
