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

import numpy as np
import torch
from numpy.typing import NDArray

from wstrack.checkpoints.bench import PIECE, Bench, Piece, common
from wstrack.checkpoints.stored import Permuted, Stored

__all__ = ["Work", "size_of", "take_sums", "works"]

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
            key = first, end, common([tensor.dtype for tensor in own]), all(tensor.in_stretches for tensor in own)
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
            own.bench = Bench(tuple(sums))
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


def _pieces(work: Work) -> Iterator[Piece]:
    numels = [held[0].numel for held in work.tensors]
    if len(numels) > 1 or not all(tensor.in_stretches for tensor in work.tensors[0]):
        yield Piece(work.tensors, 0, numels)
        return
    for start in range(0, numels[0], PIECE):
        yield Piece(work.tensors, start, [min(PIECE, numels[0] - start)])


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
