"""The table of chunks that a fused kernel walks: layers cut into pieces of at most a given size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wstrack.measuring.meters.memory import dense, lies_as

__all__ = ["Chunks", "addresses", "cut", "upload"]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Chunks:
    """Chunks in the order of their layers, none for an empty layer: rows of elements that lie side by side.

    Attributes:
        layer: (chunks,) which layer each is of.
        offset: (chunks,) its first element, in elements behind the layer's first.
        rows, width: (chunks,) its rows and the elements of each, at least 1. A layer without gaps is one row.
        apart: (chunks,) from the begin of a row to that of the next, in elements.
        place: (chunks,) where its first element stands in the whole layer, counted row by row.
        pitch, stride: (chunks,) how much further the begin of the next row stands, and the next element of a row.
        first: (layers + 1,) the first chunk of each layer; the last entry is the number of chunks.
    """

    layer: Integers
    offset: Integers
    rows: Integers
    width: Integers
    apart: Integers
    place: Integers
    pitch: Integers
    stride: Integers
    first: Integers

    @property
    def count(self) -> Integers:
        """(chunks,) the elements of each."""
        return self.rows * self.width


def cut(
    tensors: Sequence[torch.Tensor],
    size: int,
    *,
    span: int | None = None,
    standings: Sequence[torch.Tensor] | None = None,
) -> Chunks:
    """Cut tensors into chunks of at most `size` elements; what is wider than that, into rows of `size`.

    Args:
        tensors: their elements may have gaps between them, but none lies where another does.
        size: at least 1.
        span: how far the rows of a chunk reach at most, gaps included, in elements; None = as far as they do.
        standings: of each tensor where its elements stand in the whole layer, as `Pair.standing` has it; None = nobody
            asks: what is told of places is then where they lie in memory.

    Example:
        >>> chunks = cut([torch.ones(5), torch.ones(0), torch.ones(3, 4)[:, :2]], 4)
        >>> chunks.layer.tolist(), chunks.offset.tolist(), chunks.count.tolist(), chunks.first.tolist()
        ([0, 0, 2, 2], [0, 4, 0, 8], [4, 1, 4, 2], [0, 2, 2, 4])
        >>> chunks.rows.tolist(), chunks.width.tolist(), chunks.apart.tolist()
        ([1, 1, 2, 1], [4, 1, 2, 2], [1, 1, 4, 4])
    """
    both = zip(tensors, tensors if standings is None else standings, strict=True)
    blocks = np.array(
        [(index, *block) for index, (tensor, standing) in enumerate(both) for block in _blocks(tensor, standing, size)],
        dtype=np.int64,
    ).reshape(-1, 8)
    layer, begin, rows, width, apart, place, pitch, stride = blocks.T
    # A block of one row is cut across it, any other between its rows.
    single = rows == 1
    most = size // width if span is None else np.clip(span // apart, 1, size // width)
    length, each = np.where(single, width, rows), np.where(single, size, most)
    pieces = -(-length // each)
    block = np.repeat(np.arange(len(blocks)), pieces)
    before = (np.arange(len(block)) - (np.cumsum(pieces) - pieces)[block]) * each[block]
    taken = np.minimum(each[block], length[block] - before)
    chunk_layer = layer[block]
    return Chunks(
        chunk_layer,
        begin[block] + before * apart[block],
        np.where(single[block], 1, taken),
        np.where(single[block], taken, width[block]),
        apart[block],
        place[block] + before * np.where(single, stride, pitch)[block],
        pitch[block],
        stride[block],
        np.searchsorted(chunk_layer, np.arange(len(tensors) + 1)),
    )


def _blocks(tensor: torch.Tensor, standing: torch.Tensor, size: int) -> list[tuple[int, int, int, int, int, int, int]]:
    """What a tensor consists of: the first element, rows, width and distance of the rows (1 for a single one).

    And where that element stands in the layer, and how much further the next row does, and the next element of a row.
    """
    if not tensor.numel():
        return []
    first = int(standing.storage_offset()) if standing is not tensor else 0
    if dense(tensor) and (standing is tensor or lies_as(tensor, standing)):
        return [(0, 1, tensor.numel(), 1, first, 0, 1)]
    dims = _merged(tensor, standing)
    width, _, step = dims.pop() if dims and dims[-1][1] == 1 else (1, 1, 1)
    rows, apart, pitch = dims.pop() if dims and width <= size else (1, 1, 0)
    begins = np.array([[0, first]])
    for length, stride, further in dims:
        begins = (begins[:, None] + np.arange(length)[:, None] * [stride, further]).reshape(-1, 2)
    return [
        (begin, rows, width, apart if rows > 1 else 1, place, pitch, step if rows > 1 or width > 1 else 1)
        for begin, place in begins.tolist()
    ]


def _merged(tensor: torch.Tensor, standing: torch.Tensor) -> list[tuple[int, int, int]]:
    """As few dimensions as its elements have in memory, the outermost first: length, stride, and that of the places."""
    dims: list[tuple[int, int, int]] = []
    every = zip(tensor.shape, tensor.stride(), standing.stride(), strict=True)
    for length, stride, further in sorted(every, key=lambda one: -one[1]):
        if length == 1:
            continue
        if dims and dims[-1][1:] == (length * stride, length * further):
            dims[-1] = dims[-1][0] * length, stride, further
        else:
            dims.append((length, stride, further))
    return dims


def addresses(tensors: Sequence[torch.Tensor | None], chunks: Chunks) -> Integers:
    """Where each chunk begins in memory, in bytes; 0 for a tensor that is None."""
    begin = np.array([0 if tensor is None else tensor.data_ptr() for tensor in tensors], dtype=np.int64)
    width = np.array([0 if tensor is None else tensor.element_size() for tensor in tensors], dtype=np.int64)
    return begin[chunks.layer] + chunks.offset * width[chunks.layer]


def upload(numbers: Integers, device: torch.device) -> torch.Tensor:
    """The numbers on a device, without waiting for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.int64))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
