"""The table of chunks that a fused kernel walks: layers cut into pieces of at most a given size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Chunks", "addresses", "cut", "upload"]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Chunks:
    """Chunks in the order of their layers, none for an empty layer.

    Attributes:
        layer: (chunks,) which layer each is of.
        offset: (chunks,) its first element within the layer.
        count: (chunks,) its elements, at least 1.
        first: (layers + 1,) the first chunk of each layer; the last entry is the number of chunks.
    """

    layer: Integers
    offset: Integers
    count: Integers
    first: Integers


def cut(numels: Sequence[int], size: int) -> Chunks:
    """Cut layers into chunks of `size` elements, the last one of each layer shorter.

    Example:
        >>> chunks = cut([5, 0, 2], 2)
        >>> chunks.layer.tolist(), chunks.offset.tolist(), chunks.count.tolist(), chunks.first.tolist()
        ([0, 0, 0, 2], [0, 2, 4, 0], [2, 2, 1, 2], [0, 3, 3, 4])
    """
    elements = np.asarray(numels, dtype=np.int64)
    pieces = -(-elements // size)
    first = np.concatenate(([0], np.cumsum(pieces)))
    layer = np.repeat(np.arange(len(elements)), pieces)
    offset = (np.arange(first[-1]) - first[layer]) * size
    return Chunks(layer, offset, np.minimum(size, elements[layer] - offset), first)


def addresses(tensors: Sequence[torch.Tensor | None], chunks: Chunks) -> Integers:
    """Where each chunk begins in memory, in bytes; 0 for a tensor that is None. The tensors must be dense."""
    begin = np.array([0 if tensor is None else tensor.data_ptr() for tensor in tensors], dtype=np.int64)
    width = np.array([0 if tensor is None else tensor.element_size() for tensor in tensors], dtype=np.int64)
    return begin[chunks.layer] + chunks.offset * width[chunks.layer]


def upload(numbers: Integers, device: torch.device) -> torch.Tensor:
    """The numbers on a device, without waiting for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.int64))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
