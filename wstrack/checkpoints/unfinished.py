"""What has been measured of a series so far, kept in a file, so that interrupted work goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wstrack.checkpoints.steps import Order
from wstrack.checkpoints.stored import InBlocks, InFile, InPieces, Permuted, Stored
from wstrack.checkpoints.walk import Work
from wstrack.errors import WstrackError

__all__ = ["Unfinished"]


class Unfinished:
    """The sums of a series, layer by layer as they are taken.

    They lie in two NumPy files in the recording's folder, under a name that says what they are of: the same files of
    the same size and age, the same layers and sums. What was begun of anything else is not taken up.

    Args:
        folder: where the recording will be, made if need be.
        order, tensors, sums: what is measured.
    """

    def __init__(
        self, folder: Path, order: Order, tensors: Sequence[Sequence[Stored | None]], sums: Sequence[str]
    ) -> None:
        try:
            key = hashlib.sha256(json.dumps(_of(order, tensors, sums)).encode()).hexdigest()[:16]
        except OSError as error:
            raise WstrackError(f"{error.filename} is gone since it was opened: {error.strerror or error}") from error
        shape = (len(order.steps) - 1, len(tensors), len(sums))
        self._files = folder / f".measuring-{key}.npy", folder / f".measured-{key}.npy"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.sums: np.memmap[Any, np.dtype[np.float64]] = _mapped(self._files[0], np.dtype(np.float64), shape)
            self._done: np.memmap[Any, np.dtype[np.uint8]] = _mapped(self._files[1], np.dtype(np.uint8), shape[:2])
        except OSError as error:
            raise WstrackError(f"cannot record in {folder}: {error.strerror or error}") from error

    def left(self, todo: Sequence[Work]) -> list[Work]:
        """What of it is still to do."""
        return [work for work in todo if not self._done[work.first : work.end - 1, list(work.layers)].all()]

    def note(self, work: Work) -> None:
        """Its sums are there now."""
        self.sums.flush()
        self._done[work.first : work.end - 1, list(work.layers)] = 1
        self._done.flush()

    def remove(self) -> None:
        """Leave nothing: the recording is written."""
        for file in self._files:
            file.unlink(missing_ok=True)


def _mapped(file: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """The array in a file, which is made if there is none that fits, with nothing in it."""
    try:
        array = np.lib.format.open_memmap(file, mode="r+")
        if array.dtype == dtype and array.shape == shape:
            return array
    except (OSError, ValueError, EOFError):
        pass
    array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    array[...] = np.nan if dtype.kind == "f" else 0
    return array


def _of(order: Order, tensors: Sequence[Sequence[Stored | None]], sums: Sequence[str]) -> list[object]:
    """What tells this work from any other."""
    files: dict[Path, object] = {}

    def age(file: Path) -> None:
        if file not in files:  # once, however many tensors are in it
            about = file.stat()
            files[file] = [about.st_size, about.st_mtime_ns]

    def look(stored: Stored | None) -> object:
        if isinstance(stored, InPieces | InBlocks):
            pieces = stored.pieces if isinstance(stored, InPieces) else stored.blocks
            return [look(piece) for _, piece in pieces]
        if isinstance(stored, Permuted):
            return [look(stored.flat), *stored.stride]
        if isinstance(stored, InFile):
            age(stored.file)
            return stored.offset
        return None

    places = [[one and [one.name, one.shape, str(one.dtype), look(one)] for one in held] for held in tensors]
    for checkpoint in order.checkpoints:
        age(checkpoint.path)
        # A folder is as old as its names; what is read whole, or of an adapter, is told by its files alone.
        for file in checkpoint.path.iterdir() if checkpoint.path.is_dir() else ():
            age(file)
    ages = sorted((str(file.absolute()), about) for file, about in files.items())
    return [list(order.steps), list(sums), places, ages]
