"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from wstrack.errors import WstrackError

__all__ = ["write_whole"]


def write_whole(path: str | Path, data: str | bytes) -> None:
    """Write `data` to `path` so that nobody ever sees half of it: a temporary file beside it takes its place.

    Raises:
        WstrackError: the folder is missing or cannot be written to; what stood at `path` is untouched.

    Example:
        >>> import tempfile, pathlib
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
        >>> write_whole(target, "whole")
        >>> target.read_text()
        'whole'
    """
    path = Path(path)
    content = data.encode() if isinstance(data, str) else data
    scratch = None
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a directory")
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name[:50]}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes files for their owner alone; a report is shared as any new file would be.
        umask = os.umask(0)
        os.umask(umask)
        Path(scratch).chmod(0o666 & ~umask)
        Path(scratch).replace(path)
    except OSError as error:
        if scratch is not None:
            Path(scratch).unlink(missing_ok=True)
        raise WstrackError(f"cannot write {path}: {error.strerror or error}") from error
