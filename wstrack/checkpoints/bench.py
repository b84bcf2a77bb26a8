"""Where a thread takes the sums of a piece of a series: read, compared with the checkpoint before, forgotten."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import torch
from numpy.typing import NDArray

from wstrack.checkpoints.stored import InFile, Stored, bytes_of
from wstrack.measuring.meters import cpu, named
from wstrack.measuring.meters.backends import BACKENDS, backend_for
from wstrack.measuring.meters.memory import Pair, needs_change, needs_start, working_dtype

__all__ = ["PIECE", "Bench", "Piece", "common"]

PIECE = 1 << 19  # elements


@dataclass(frozen=True)
class Piece:
    """The elements from `start` on, `count` of each layer, of all checkpoints."""

    tensors: Sequence[Sequence[Stored]]
    start: int
    counts: Sequence[int]

    @property
    def bytes(self) -> int:
        """How many are read for it."""
        return sum(count * one.dtype.itemsize for held, count in zip(self.tensors, self.counts, strict=True)
                   for one in held)  # fmt: skip


class Bench:
    """Where a thread takes sums: memory that is used again for each piece, so that it stays in the processor's cache.

    All that is done here is done by this thread alone: torch's own copies share out even a megabyte among threads,
    which then wait for each other.
    """

    def __init__(self, sums: tuple[str, ...]) -> None:
        self._sums = sums
        self._compiled = named(None) in (None, "cpu") and cpu.unavailable() is None and set(sums) <= cpu.TAKES
        self._chunks = np.empty(cpu.SERIES_ROOM)
        self._room: dict[str, NDArray[np.uint8]] = {}
        self._laid_out: tuple[Sequence[int], torch.dtype] | None = None
        self._sample: Callable[[], torch.Tensor] | None = None

    def take(self, piece: Piece) -> NDArray[np.float64]:
        """Raw sums, (checkpoints - 1, layers, sums).

        Raises:
            WstrackError: a checkpoint cannot be read any more.
        """
        dtype = common([tensor.dtype for held in piece.tensors for tensor in held])
        if (
            self._compiled
            and dtype in cpu.DTYPES
            and all(isinstance(tensor, InFile) and tensor.dtype == dtype for held in piece.tensors for tensor in held)
        ):
            return np.stack(
                [
                    self._from_files(held, piece.start, count)
                    for held, count in zip(piece.tensors, piece.counts, strict=True)
                ],
                axis=1,
            )
        numel = sum(piece.counts)
        weight, previous = self._flat("weight", numel, dtype), self._flat("previous", numel, dtype)
        change = self._flat("change", numel, working_dtype(dtype)) if needs_change(self._sums) else None
        start = self._flat("start", numel, dtype) if needs_start(self._sums) else None
        ends = np.cumsum(piece.counts)
        parts = [slice(int(end) - count, int(end)) for end, count in zip(ends, piece.counts, strict=True)]
        self._fill(piece, 0, weight, parts)
        for other in (previous, start):
            if other is not None:
                bytes_of(other)[:] = bytes_of(weight)
        if change is not None:
            np.frombuffer(bytes_of(change), np.uint8).fill(0)
        if self._sample is None or self._laid_out != (piece.counts, dtype):
            pairs = [
                Pair(weight[part], previous[part], None if change is None else change[part],
                     None if start is None else start[part]) for part in parts
            ]  # fmt: skip
            name, _ = backend_for(weight, self._sums, named(None))
            plan = partial(cpu.plan, threads=1) if name == "cpu" else BACKENDS[name].plan
            self._sample = plan(pairs, self._sums)
            # Another meter may have taken a copy of what it found, and knows of no other piece.
            self._laid_out = (piece.counts, dtype) if name == "cpu" else None
        taken = []
        for checkpoint in range(1, len(piece.tensors[0])):
            self._fill(piece, checkpoint, weight, parts)
            taken.append(self._sample().numpy())
        return np.array(taken, dtype=np.float64).reshape(len(taken), len(parts), len(self._sums))

    def _from_files(self, held: Sequence[Stored], start: int, count: int) -> NDArray[np.float64]:
        """Raw sums of one layer, (checkpoints - 1, sums): plain stretches of files are read where they are compared."""
        stored = [one for one in held if isinstance(one, InFile)]
        with contextlib.ExitStack() as opened:
            handles = [opened.enter_context(one.opened()) for one in stored]
            offsets = [one.offset + start * one.dtype.itemsize for one in stored]
            taken, failed = cpu.series(handles, offsets, count, stored[0].dtype, self._sums, self._chunks)
            if failed is not None:
                raise stored[failed[0]].unreadable(OSError(failed[1], os.strerror(failed[1])) if failed[1] else None)
        return taken

    def _flat(self, role: str, numel: int, dtype: torch.dtype) -> torch.Tensor:
        size = numel * dtype.itemsize
        if role not in self._room or len(self._room[role]) < size:
            self._room[role] = np.empty(max(size, 4 * PIECE), np.uint8)
            self._laid_out = None
        return torch.from_numpy(self._room[role][:size]).view(dtype)

    def _fill(self, piece: Piece, checkpoint: int, weight: torch.Tensor, parts: Sequence[slice]) -> None:
        for held, part in zip(piece.tensors, parts, strict=True):
            _read(held[checkpoint], weight[part], piece.start)


def _read(stored: Stored, into: torch.Tensor, start: int) -> None:
    """Fill `into`, of whatever dtype, with elements of a stored tensor."""
    if stored.dtype == into.dtype:
        stored.read(into, start)
        return
    raw = torch.empty(into.numel(), dtype=stored.dtype)
    stored.read(raw, start)
    into.copy_(raw)


def common(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    """One that holds the values of all: the same, or the next wider than those of few bits."""
    if len(set(dtypes)) == 1:
        return dtypes[0]
    return reduce(torch.promote_types, [working_dtype(dtype) for dtype in dtypes])
