"""Which checkpoints an address names, and which of them are of one run."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wstrack.checkpoints.opening import is_checkpoint, open_checkpoint, weight_files
from wstrack.checkpoints.steps import natural
from wstrack.errors import WstrackError

__all__ = ["Found", "runs_at"]


@dataclass(frozen=True)
class Found:
    """The checkpoints of one run.

    Attributes:
        address: that names them.
        name: of the run, for people.
        paths: of the checkpoints.
        as_given: whether their order is the user's own.
        notes: what was left out.
    """

    address: str
    name: str
    paths: tuple[Path, ...]
    as_given: bool = False
    notes: tuple[str, ...] = ()


def runs_at(address: str) -> list[Found]:
    """The runs that an address names.

    Args:
        address: a folder of checkpoints, a folder of such folders, a pattern, or a list of paths with commas between
            them, which is one run in this order.

    Raises:
        WstrackError: there is no checkpoint, or only one.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for step in (5, 10):
        ...     (folder / f"step_{step}.pt").touch()
        >>> [path.name for path in runs_at(str(folder))[0].paths]
        ['step_5.pt', 'step_10.pt']
    """
    path = Path(address).expanduser()
    if _exists(path):
        return _in_folder(path, address)
    if "," in address:
        paths = [Path(part.strip()).expanduser() for part in address.split(",") if part.strip()]
        for each in paths:
            if not _exists(each):
                raise WstrackError(f"{each}: there is no such file or folder")
        return [Found(address, paths[-1].name, _enough(paths, address), as_given=True)]
    matched = sorted((Path(one) for one in glob.glob(str(path), recursive=True)), key=lambda one: natural(str(one)))
    if not matched:
        raise WstrackError(f"checkpoints:{address}: there is no such file or folder, and nothing that it matches")
    single = [one for one in matched if is_checkpoint(one)]
    if single:
        common = Path(os.path.commonpath([one.parent.absolute() for one in single]))
        return [Found(address, common.name, _enough(single, address))]
    return [found for one in matched if one.is_dir() for found in _in_folder(one, str(one))]


def _in_folder(path: Path, address: str) -> list[Found]:
    """The runs at and under a folder."""
    if path.is_file():
        raise WstrackError(
            f"checkpoints:{address} is one checkpoint; a series needs two: give a folder, a pattern or a list "
            "(a.pt,b.pt), or compare two with `wstrack diff`"
        )
    found = _series(path, address)
    if found is not None:
        return [found]
    runs = [
        one
        for folder, names, _ in os.walk(path)
        if names.sort() is None and Path(folder) != path and (one := _series(Path(folder), folder)) is not None
    ]
    if not runs:
        what = "one checkpoint, and a series needs two" if is_checkpoint(path) else "no series of checkpoints"
        raise WstrackError(
            f"checkpoints:{address} holds {what}: files of weights (.safetensors, .pt, .pth, .bin, .ckpt) or folders "
            "of them, by their steps"
        )
    return runs


def _series(folder: Path, address: str) -> Found | None:
    """The checkpoints directly in a folder, if there are two or more."""
    try:
        folders = [
            one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".") and is_checkpoint(one)
        ]
        files = list(weight_files(folder))
    except OSError as error:
        raise WstrackError(f"{folder} cannot be read: {error.strerror or error}") from error
    notes: list[str] = []
    paths = [*folders, *files]
    if folders and files and is_checkpoint(folder):
        # The HF Trainer saves the last weights once more beside the folders, with the step if asked for its state.
        last = open_checkpoint(folder)
        paths = [*folders, folder] if "global_step" in last.said else folders
        if paths == folders:
            notes = [f"the weights directly in {folder.name} are left out, for nothing says their step"]
    if len(paths) < 2 or (is_checkpoint(folder) and not folders):
        return None
    name = folder.parent.name if folder.name in ("checkpoints", "ckpt", "ckpts", "weights") else folder.name
    return Found(
        address, name or "checkpoints", tuple(sorted(paths, key=lambda one: natural(str(one)))), notes=tuple(notes)
    )


def _exists(path: Path) -> bool:
    """Whether there is such a file or folder; a long list of paths is longer than a path may be."""
    try:
        return path.exists()
    except OSError:
        return False


def _enough(paths: Sequence[Path], address: str) -> tuple[Path, ...]:
    if len(paths) < 2:
        raise WstrackError(f"checkpoints:{address} names one checkpoint, and a series needs two")
    return tuple(paths)
