"""Writing a file whole or not at all, and telling what a file is that is not what it should be."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from wstrack.errors import WstrackError

__all__ = ["looks_like", "write_whole"]

_LOOKS = (
    (b"version https://git-lfs", "it is a pointer of Git LFS, not the file; run `git lfs pull`"),
    (b"/annex/objects/", "it is a pointer of git-annex, not the file; run `git annex get`"),
    (b"\x1f\x8b", "it is compressed (gzip); unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed (zstd); unpack it first"),
    (b"\xfd7zXZ", "it is compressed (xz); unpack it first"),
    (b"BZh", "it is compressed (bzip2); unpack it first"),
    (b"PK\x03\x04", "it is a zip archive, or made of one (as Excel's files are)"),
    (b"<!doctype", "it is a web page, such as one that says why a download failed"),
    (b"<html", "it is a web page, such as one that says why a download failed"),
    (b"<?xml", "it is XML, such as a store's message why a download failed"),
)


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


def looks_like(data: bytes) -> str | None:
    """What a file is by its first bytes, if that is something people often have in the place of the real one.

    Example:
        >>> looks_like(b"version https://git-lfs.github.com/spec/v1")
        'it is a pointer of Git LFS, not the file; run `git lfs pull`'
        >>> looks_like(b"layer,1,2")
    """
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not data:
        return "it is empty"
    if not data.strip(b"\0"):
        return "there is nothing but zeros in it"
    return next((said for mark, said in _LOOKS if start.startswith(mark.lower())), None)
