"""Raw sums on the CPU in one fused pass, by a kernel in C++ that is compiled for the machine at first use.

The least that an exact measurement can do is to read the weights, read the snapshot and write the snapshot; this does
nothing else. As many threads work on it as torch has (`torch.set_num_threads`), in one parallel region.
"""

from __future__ import annotations

import ctypes
import logging
import operator
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wstrack.measuring.meters.bits import FOLDS, HASHES
from wstrack.measuring.meters.build import CannotBuildError, build
from wstrack.measuring.meters.memory import Pair, needs_bits, needs_change, needs_start
from wstrack.measuring.meters.table import addresses, cut
from wstrack.metrics import SUMS

__all__ = ["DTYPES", "SERIES_ROOM", "TAKES", "Places", "plan", "refuses", "series", "unavailable"]

log = logging.getLogger("wstrack")

_GROUP = 8  # checkpoints that are taken together
# Bytes: what is read of them at a time, for which there is room in a cache of the second level, and of one at the most.
_READ, _OF_ONE = 1 << 19, 1 << 18
SERIES_ROOM = (_READ + _GROUP * 64 * 8 + 3 * (_OF_ONE // 2 + 64) * 8) // 8  # numbers of 8 bytes
CHUNK = 65_536  # elements; also about what a thread takes at a time
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)  # numbered as in cpu.cpp
SOURCE = Path(__file__).with_name("cpu.cpp")
COLUMNS = {name.upper(): column for column, name in enumerate(SUMS)}  # what the kernel calls them; compiled into it
_NUMBERS = {
    **{f"HASH_{which}_{place}": number for which, one in enumerate(HASHES) for place, number in enumerate(one)},
    **{f"FOLD_{which}_{place}": number for which, one in enumerate(FOLDS) for place, number in enumerate(one)},
}
TAKES = frozenset(name for name in SUMS if f"sums[{name.upper()}]" in SOURCE.read_text("utf-8"))
CHANGE, START, COUNTS, RATIOS, BITS = 1, 2, 4, 8, 16  # modes, as in cpu.cpp
SHIMS = ("get_data_ptr", "get_storage_size", "get_device_type", "get_dtype", "get_dim", "get_sizes", "get_strides")
IMPLEMENTATION = operator.attrgetter("_cdata")  # its address; another one once two tensors have been swapped


class _Library:
    """The compiled kernel, and torch's C functions that it calls."""

    def __init__(self, path: Path) -> None:
        # Other Python threads may run while sums are taken, but not while tensors are looked at.
        kernel, locked = ctypes.CDLL(str(path)), ctypes.PyDLL(str(path))
        self.sums: Callable[..., None] = kernel.wstrack_sums
        self.series: Callable[..., int] = kernel.wstrack_series
        self.moved: Callable[..., int] = locked.wstrack_moved
        kernel.wstrack_sums.argtypes = [
            *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32,
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p,
        ]  # fmt: skip
        kernel.wstrack_sums.restype = None
        kernel.wstrack_series.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 5, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        kernel.wstrack_series.restype = ctypes.c_int64
        locked.wstrack_moved.argtypes = [
            ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64
        ]  # fmt: skip
        locked.wstrack_moved.restype = ctypes.c_int64
        shims = ctypes.CDLL(str(next((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"))))
        pointers = [ctypes.cast(getattr(shims, f"aoti_torch_{name}"), ctypes.c_void_p).value for name in SHIMS]
        self.shims = (ctypes.c_void_p * len(SHIMS))(*pointers)


@cache
def _load() -> _Library | str:
    """The library, or why there is none."""
    try:
        return _Library(build(SOURCE, {**COLUMNS, **_NUMBERS, "SUMS": len(SUMS), "GROUP": _GROUP}))
    except (CannotBuildError, OSError, AttributeError, StopIteration) as error:  # as for a torch that is laid out anew
        log.info("weights on the CPU are measured by the portable meter, for the compiled one cannot be had: %s", error)
        return str(error) or type(error).__name__


def unavailable() -> str | None:
    """Why nothing can be measured by it on this machine; None if it can. Compiles the kernel at the first call."""
    library = _load()
    return library if isinstance(library, str) else None


def refuses(weight: torch.Tensor) -> str | None:
    """Why this meter cannot measure a weight; None if it can."""
    if weight.device.type != "cpu":
        return f"it is on {weight.device}"
    return None if weight.dtype in DTYPES else f"its dtype is {weight.dtype}"


def plan(pairs: Sequence[Pair], sums: Sequence[str], *, threads: int | None = None) -> Callable[[], torch.Tensor]:
    """A function that takes the raw sums of these layers, (layers, sums), and moves their snapshots on.

    It works on memory where it is now: `pairs` must have the same strides in all they hold, and stay alive and where
    they are. `threads` is how many
    take part; by default as many as torch uses.
    """
    library = _load()
    assert isinstance(library, _Library)
    weights = [pair.weight for pair in pairs]
    placed = [pair.placed() for pair in pairs] if needs_bits(sums) else []
    standings = [pair.standing for pair in placed if pair.standing is not None] or None
    chunks = cut(weights, CHUNK, span=CHUNK, standings=standings)
    dtypes = np.array([DTYPES.index(pair.weight.dtype) for pair in pairs], dtype=np.int64)
    table = np.ascontiguousarray(
        np.stack(
            [
                addresses(weights, chunks),
                addresses([pair.previous for pair in pairs], chunks),
                addresses([pair.change for pair in pairs], chunks),
                addresses([pair.start for pair in pairs], chunks),
                chunks.rows,
                chunks.width,
                chunks.apart,
                dtypes[chunks.layer],
                chunks.place,
                chunks.pitch,
                chunks.stride,
            ],
            axis=1,
        )
    )
    # Parts that lie between each other are worked on by turns, while what they share of pages and caches is at hand.
    places = np.arange(len(table)) if (chunks.rows == 1).all() else np.argsort(table[:, 0], kind="stable")
    table = np.ascontiguousarray(table[places])
    shares = np.cumsum(chunks.count[places]) // CHUNK
    tasks = np.concatenate(([0], 1 + np.flatnonzero(np.diff(shares)), [len(table)])).astype(np.int64)
    partial = np.empty((len(table), len(SUMS)))
    mode = _mode(sums)
    columns = np.array([COLUMNS[name.upper()] for name in sums], dtype=np.int64)
    memory = tuple((pair.previous, pair.change, pair.start) for pair in pairs)  # what the table points to

    def sample() -> torch.Tensor:
        taken = np.empty((len(memory), len(columns)))
        library.sums(
            table.ctypes.data, places.ctypes.data, tasks.ctypes.data, len(tasks) - 1, chunks.first.ctypes.data,
            len(memory), mode, threads or torch.get_num_threads(), partial.ctypes.data, columns.ctypes.data,
            len(columns), taken.ctypes.data,
        )  # fmt: skip
        return torch.from_numpy(taken)

    return sample


def series(
    files: Sequence[int],
    offsets: Sequence[int],
    count: int,
    dtype: torch.dtype,
    sums: Sequence[str],
    room: NDArray[np.float64],
) -> tuple[NDArray[np.float64], tuple[int, int] | None]:
    """Raw sums of the change from each checkpoint of a tensor to the next, read and taken by this thread alone.

    Args:
        files: a handle of each checkpoint's file.
        offsets: where in it the first element is, in bytes.
        count: of elements, which lie one after another.
        dtype: one of `DTYPES`.
        sums: their names, of those that this meter takes.
        room: for what is read and what it is compared with, (SERIES_ROOM,): used again, it stays in the cache.

    Returns:
        The sums, (checkpoints - 1, sums), and what could not be read: which checkpoint, and the error of the system,
        0 if its file ends too early; None = all was read.
    """
    library = _load()
    assert isinstance(library, _Library)
    handles, places = np.array(files, dtype=np.int32), np.array(offsets, dtype=np.int64)
    columns = np.array([COLUMNS[name.upper()] for name in sums], dtype=np.int64)
    taken = np.zeros((len(files) - 1, len(sums)))
    own, error = np.zeros((len(files), len(SUMS))), np.zeros(1, np.int32)
    stretch = min(_READ // min(len(files), _GROUP), _OF_ONE)
    stretch -= stretch % (512 * 8)  # the kernel's blocks are whole, of float64 too
    failed = library.series(
        handles.ctypes.data, places.ctypes.data, len(handles), count, stretch // dtype.itemsize, DTYPES.index(dtype),
        _mode(sums), room.ctypes.data, columns.ctypes.data, len(columns), own.ctypes.data, taken.ctypes.data,
        error.ctypes.data,
    )  # fmt: skip
    return taken, (failed - 1, int(error[0])) if failed else None


def _mode(sums: Sequence[str]) -> int:
    """Which of its kernels takes them."""
    mode = CHANGE * needs_change(sums) + START * needs_start(sums) + BITS * needs_bits(sums)
    if not {"ratio", "nonzero"}.isdisjoint(sums):
        return mode + RATIOS
    return mode + COUNTS * (not {"changed", "changed_bf16"}.isdisjoint(sums))


class Places:
    """Knows where plain tensors are and how they lie in memory. Needs the library, see `unavailable`.

    Four times as fast as asking each tensor in Python, which with thousands of layers takes longer than measuring them.

    Example:
        >>> w = torch.ones(4)
        >>> places = Places()
        >>> places.moved([w]), places.moved([w])
        (True, False)
        >>> _ = w.resize_(2)
        >>> places.moved([w])
        True
    """

    def __init__(self) -> None:
        self._known = np.empty(0, dtype=np.int64)

    def moved(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether any tensor is not where and as it was at the last call; address, shape, strides, dtype, storage."""
        library = _load()
        assert isinstance(library, _Library)
        where = array("Q", map(IMPLEMENTATION, tensors))
        numbers = library.moved(
            where.buffer_info()[0],
            len(where),
            ctypes.addressof(library.shims),
            self._known.ctypes.data,
            len(self._known),
        )
        if abs(numbers) == len(self._known):
            return numbers < 0
        self._known = np.zeros(abs(numbers), dtype=np.int64)
        self.moved(tensors)
        return True
