"""Checkpoints of torch.distributed.checkpoint, read without a process group and without unpickling anything."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from wstrack.checkpoints.chunks import joined
from wstrack.checkpoints.metadata import Entry, Metadata, Place, read_metadata
from wstrack.checkpoints.nested import said_in, weights_in
from wstrack.checkpoints.saved_alone import saved_alone, value_alone
from wstrack.checkpoints.stored import Checkpoint, Stored
from wstrack.errors import WstrackError
from wstrack.messages import printable
from wstrack.runs.files import looks_like

__all__ = ["open_distributed"]

_OPTIMIZER = re.compile(r"optim\w*\.(state|param_groups)\.")


def open_distributed(folder: Path) -> Checkpoint:
    """The weights in a folder that `torch.distributed.checkpoint` wrote, of however many processes.

    Each process saved its chunks of a tensor; they are read where they lie, and must make up the whole of it.

    Raises:
        WstrackError: it is damaged, or a file is missing; or its metadata holds what torch does not write there.
    """
    file = folder / ".metadata"
    try:
        metadata = read_metadata(file)
    except (OSError, ValueError, MemoryError) as error:
        raise WstrackError(_unread(file, error)) from error
    state = _nested(file, metadata.entries)
    found = dict(weights_in(state, _weight))
    if not found:
        raise WstrackError(f"{folder} holds no weights: no tensors by name, as a model's state_dict() has them")
    with ExitStack() as stack:
        files = _Files(folder, stack)
        tensors = {name: _tensor(name, entry, metadata, files) for name, entry in found.items()}
        said = said_in(state, lambda held: _number(held, metadata, files))
    return Checkpoint(folder, tensors, ordered=metadata.ordered and _ascending(list(tensors)), said=said)


class _Files:
    """The files of a checkpoint, each opened once."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self._opened: dict[str, tuple[Path, IO[bytes]]] = {}

    def at(self, place: Place) -> tuple[Path, IO[bytes]]:
        """The file that a place is in, and it open.

        Raises:
            ValueError: it is missing, or shorter.
        """
        if place.path not in self._opened:
            path = self.folder / place.path
            if "\0" in place.path or ".." in path.parts or Path(place.path).is_absolute() or not place.path:
                raise ValueError(f"it lies in {place.path!r}, which is outside of the folder")
            if not path.is_file():
                raise ValueError(f"{place.path}, in which it lies, is missing")
            self._opened[place.path] = path, self._stack.enter_context(path.open("rb"))
        path, file = self._opened[place.path]
        held = file.seek(0, io.SEEK_END)
        if place.offset + place.length > held:
            file.seek(0)
            because = looks_like(file.read(64))
            because = f" ({because})" if because and not because.startswith("it is a zip") else ""
            raise ValueError(f"{place.path}, in which it lies, ends at byte {held:,}{because}")
        return path, file


def _nested(file: Path, entries: Sequence[Entry]) -> dict[str, object]:
    """The state as the program had it: mappings in mappings."""
    state: dict[str, object] = {}
    for entry in entries:
        *above, last = entry.keys
        held = state
        for key in above:
            inner = held.setdefault(key, {})
            if not isinstance(inner, dict):
                raise _damaged(file, f"{entry.name} lies in what is no mapping")
            held = inner
        if last in held:
            raise _damaged(file, f"{entry.name} is there twice")
        held[last] = entry
    return state


def _weight(held: object) -> Entry | None:
    """A tensor of floating point, unless it is an optimizer's, kept beside the weights under names that are flat."""
    if not isinstance(held, Entry) or held.dtype is None or _OPTIMIZER.match(held.name):
        return None
    return held if held.dtype.is_floating_point or held.dtype.is_complex else None


def _tensor(name: str, entry: Entry, metadata: Metadata, files: _Files) -> Stored:
    """A tensor from its chunks."""
    assert entry.shape is not None
    assert entry.dtype is not None
    try:
        chunks = {}
        for first, shape in entry.chunks:
            if 0 in shape and 0 not in entry.shape:
                continue  # of a process for which nothing was left
            place = metadata.places.get((entry.name, first))
            if place is None:
                raise ValueError(f"its chunk at {first} lies nowhere")
            if place.changed:
                raise ValueError(f"it is changed by {', '.join(place.changed)}; save it anew without extensions")
            path, file = files.at(place)
            like = Stored(name, shape, entry.dtype)
            chunks[first] = saved_alone(file, path, place.offset, place.length, like)
        return joined(name, entry.shape, entry.dtype, chunks)
    except (ValueError, OSError, RuntimeError) as error:
        raise _damaged(files.folder, f"{entry.name}: {error}") from error


def _number(held: object, metadata: Metadata, files: _Files) -> int | None:
    """A whole number that was saved beside the weights."""
    place = metadata.places.get((held.name, None)) if isinstance(held, Entry) else None
    if place is None or place.changed:
        return None
    try:
        _, file = files.at(place)
        value = value_alone(file, place.offset, place.length)
    except (ValueError, OSError):
        return None  # it is no weight, so that it need not be sound
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _ascending(names: Sequence[str]) -> bool:
    """Whether numbered blocks come in order: of a pipeline, what each stage holds is put together in any."""
    last: dict[str, int] = {}
    for name in names:
        for number in re.finditer(r"(?<=\.)\d+(?=\.)", name):
            above = name[: number.start()]
            if int(number[0]) < last.setdefault(above, int(number[0])):
                return False
            last[above] = int(number[0])
    return True


def _damaged(path: Path, why: str) -> WstrackError:
    return WstrackError(f"{path} cannot be read: {_line(why)}")


def _line(text: str) -> str:
    """What a file says, in one line, and nothing in it that a terminal would obey."""
    return printable(" ".join(text.split()))


def _unread(file: Path, error: Exception) -> str:
    """Why the metadata cannot be read, and the way out."""
    if isinstance(error, FileNotFoundError):
        return f"{file} is missing, which torch writes last: saving was interrupted, or not all was copied"
    if isinstance(error, OSError):
        return f"{file} cannot be read: {error.strerror or error}"
    try:
        with file.open("rb") as opened:
            because = looks_like(opened.read(64)) or str(error)
    except OSError:
        because = str(error)
    return (
        f"{file} is no metadata that torch.distributed.checkpoint writes: {_line(because)}. Nothing in it is ever "
        "run; where you trust it, convert the folder with torch.distributed.checkpoint.format_utils.dcp_to_torch_save"
    )
