"""Taking raw sums over a series of checkpoints: each byte is read once, in pieces that stay in the processor's cache.

A piece is a stretch of a large layer, or several small layers, and is taken through all checkpoints before the next:
read, compared with the one before, forgotten. So memory is that of a few pieces, however large the weights are and
however many checkpoints there are. Layers that can only be had whole (see `Stored.in_stretches`) are a piece each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial, reduce

import numpy as np
import torch
from numpy.typing import NDArray

from wstrack.checkpoints.stored import Permuted, Stored, bytes_of
from wstrack.measuring.meters import cpu
from wstrack.measuring.meters.backends import BACKENDS, backend_for
from wstrack.measuring.meters.memory import Pair, needs_change, needs_start, working_dtype

__all__ = ["PIECE", "Work", "size_of", "take_sums", "works"]

PIECE = 1 << 19  # elements
MOST_THREADS = 16  # more do not read faster


@dataclass(frozen=True)
class Work:
    """Layers that are taken together through the checkpoints from `first` to before `end`.

    Attributes:
        layers: which.
        tensors: for each of them, what each of these checkpoints holds.
        first, end: the checkpoints.
    """

    layers: tuple[int, ...]
    tensors: tuple[tuple[Stored, ...], ...]
    first: int
    end: int


def works(tensors: Sequence[Sequence[Stored | None]]) -> list[Work]:
    """All that there is to do, small layers packed together.

    A layer that comes, goes or changes its shape is taken in each of the stretches of checkpoints in which it is there
    and of one shape.

    Args:
        tensors: for each layer, what each checkpoint holds of it.
    """
    found: list[Work] = []
    packs: dict[tuple[object, ...], _Pack] = {}
    for layer, held in enumerate(tensors):
        for first, end in _stretches(held):
            own = _as_they_lie([tensor for tensor in held[first:end] if tensor is not None])
            numel = own[0].numel
            if numel > PIECE // 4:
                found.append(Work((layer,), (own,), first, end))
                continue
            key = first, end, _common([tensor.dtype for tensor in own]), all(tensor.in_stretches for tensor in own)
            pack = packs.setdefault(key, _Pack(first, end))
            if pack.numel + numel > PIECE:
                found.append(pack.work())
                pack = packs[key] = _Pack(first, end)
            pack.add(layer, own, numel)
    return sorted([*found, *(pack.work() for pack in packs.values())], key=lambda work: work.layers)


@dataclass
class _Pack:
    """Small layers that are put together, one after another: a model may have a hundred thousand."""

    first: int
    end: int
    layers: list[int] = field(default_factory=list)
    tensors: list[tuple[Stored, ...]] = field(default_factory=list)
    numel: int = 0

    def add(self, layer: int, own: tuple[Stored, ...], numel: int) -> None:
        self.layers.append(layer)
        self.tensors.append(own)
        self.numel += numel

    def work(self) -> Work:
        return Work(tuple(self.layers), tuple(self.tensors), self.first, self.end)


def size_of(work: Work) -> int:
    """How many bytes are read for it."""
    return sum(tensor.numel * tensor.dtype.itemsize for held in work.tensors for tensor in held)


def take_sums(
    todo: Sequence[Work],
    sums: Sequence[str],
    done: Callable[[Work, NDArray[np.float64]], None],
    read: Callable[[int], None] = lambda count: None,
) -> None:
    """Take the raw sums of the change from each checkpoint to the next.

    Args:
        todo: as `works` has it.
        sums: names of raw sums.
        done: is called with each finished work and its sums, (checkpoints - 1, layers, sums); one call at a time.
        read: is told how many bytes more were read; one call at a time.

    Raises:
        WstrackError: a checkpoint cannot be read any more.
    """
    lock = threading.Lock()
    stop = threading.Event()

    own = threading.local()  # a bench a thread

    def one(work: Work) -> None:
        if not hasattr(own, "bench"):
            own.bench = _Bench(tuple(sums))
        total = np.zeros((work.end - work.first - 1, len(work.layers), len(sums)))
        for piece in _pieces(work):
            if stop.is_set():
                return
            total += own.bench.take(piece)
            with lock:
                read(piece.bytes)
        with lock:
            done(work, total)

    with ThreadPoolExecutor(min(MOST_THREADS, torch.get_num_threads())) as pool:
        waiting = [pool.submit(one, work) for work in todo]
        try:
            for future in wait(waiting, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


@dataclass(frozen=True)
class _Piece:
    """The elements from `start` on, `count` of each layer, of all checkpoints."""

    tensors: Sequence[Sequence[Stored]]
    start: int
    counts: Sequence[int]

    @property
    def bytes(self) -> int:
        return sum(count * one.dtype.itemsize for held, count in zip(self.tensors, self.counts, strict=True)
                   for one in held)  # fmt: skip


class _Bench:
    """Where a thread takes sums: memory that is used again for each piece, so that it stays in the processor's cache.

    All that is done here is done by this thread alone: torch's own copies share out even a megabyte among threads,
    which then wait for each other.
    """

    def __init__(self, sums: tuple[str, ...]) -> None:
        self._sums = sums
        self._room: dict[str, NDArray[np.uint8]] = {}
        self._laid_out: tuple[Sequence[int], torch.dtype] | None = None
        self._sample: Callable[[], torch.Tensor] | None = None

    def take(self, piece: _Piece) -> NDArray[np.float64]:
        """Raw sums, (checkpoints - 1, layers, sums)."""
        dtype = _common([tensor.dtype for held in piece.tensors for tensor in held])
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
            name, _ = backend_for(weight, self._sums)
            plan = partial(cpu.plan, threads=1) if name == "cpu" else BACKENDS[name].plan
            self._sample = plan(pairs, self._sums)
            # Another meter may have taken a copy of what it found, and knows of no other piece.
            self._laid_out = (piece.counts, dtype) if name == "cpu" else None
        taken = []
        for checkpoint in range(1, len(piece.tensors[0])):
            self._fill(piece, checkpoint, weight, parts)
            taken.append(self._sample().numpy())
        return np.array(taken, dtype=np.float64).reshape(len(taken), len(parts), len(self._sums))

    def _flat(self, role: str, numel: int, dtype: torch.dtype) -> torch.Tensor:
        size = numel * dtype.itemsize
        if role not in self._room or len(self._room[role]) < size:
            self._room[role] = np.empty(max(size, 4 * PIECE), np.uint8)
            self._laid_out = None
        return torch.from_numpy(self._room[role][:size]).view(dtype)

    def _fill(self, piece: _Piece, checkpoint: int, weight: torch.Tensor, parts: Sequence[slice]) -> None:
        for held, part in zip(piece.tensors, parts, strict=True):
            _read(held[checkpoint], weight[part], piece.start)


def _pieces(work: Work) -> Iterator[_Piece]:
    numels = [held[0].numel for held in work.tensors]
    if len(numels) > 1 or not all(tensor.in_stretches for tensor in work.tensors[0]):
        yield _Piece(work.tensors, 0, numels)
        return
    for start in range(0, numels[0], PIECE):
        yield _Piece(work.tensors, start, [min(PIECE, numels[0] - start)])


def _read(stored: Stored, into: torch.Tensor, start: int) -> None:
    """Fill `into`, of whatever dtype, with elements of a stored tensor."""
    if stored.dtype == into.dtype:
        stored.read(into, start)
        return
    raw = torch.empty(into.numel(), dtype=stored.dtype)
    stored.read(raw, start)
    into.copy_(raw)


def _stretches(held: Sequence[Stored | None]) -> Iterator[tuple[int, int]]:
    """The runs of checkpoints, two at least, in which a layer is there and of one shape."""
    first = 0
    for place in range(1, len(held) + 1):
        here, before = held[place] if place < len(held) else None, held[place - 1]
        if here is None or before is None or here.shape != before.shape:
            if place - first > 1:
                yield first, place
            first = place


def _as_they_lie(held: Sequence[Stored]) -> tuple[Stored, ...]:
    """The same, in the order of memory where that is one and the same in all checkpoints: no sum asks for another."""
    lying = [one for one in held if isinstance(one, Permuted)]
    alike = len(lying) == len(held) and len({one.stride for one in lying}) == 1
    return tuple(one.flat for one in lying) if alike else tuple(held)


def _common(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    """One that holds the values of all: the same, or the next wider than those of few bits."""
    if len(set(dtypes)) == 1:
        return dtypes[0]
    return reduce(torch.promote_types, [working_dtype(dtype) for dtype in dtypes])
