"""A tensor from the chunks that several processes saved of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from wstrack.checkpoints.stored import InBlocks, InPieces, Stored

__all__ = ["joined"]

_MOST_CELLS = 1 << 20  # of the grid that all cuts of a tensor make together


def joined(name: str, shape: tuple[int, ...], dtype: torch.dtype, chunks: Mapping[tuple[int, ...], Stored]) -> Stored:
    """The tensor that chunks make up, read from them.

    Args:
        name, shape, dtype: of the tensor.
        chunks: by the index of their first element; none of them empty.

    Raises:
        ValueError: they do not cover the tensor, each element once.

    Example:
        >>> rows = {(row, 0): Stored("w", (1, 3), torch.float32) for row in (0, 1)}
        >>> [first for first, _ in joined("w", (2, 3), torch.float32, rows).pieces]
        [0, 3]
    """
    _cover(shape, chunks)
    if len(chunks) == 1:
        return replace(next(iter(chunks.values())), name=name)
    contents = tuple((first, chunks[first].content) for first in sorted(chunks))
    content = contents if all(one is not None for _, one in contents) else None
    if all(chunk.shape[1:] == shape[1:] for chunk in chunks.values()):
        row = torch.Size(shape[1:]).numel()
        pieces = tuple((first[0] * row, chunks[first]) for first in sorted(chunks))
        return InPieces(name, shape, dtype, pieces, content=content)
    return InBlocks(name, shape, dtype, tuple((first, chunks[first]) for first in sorted(chunks)), content=content)


def _cover(shape: tuple[int, ...], chunks: Mapping[tuple[int, ...], Stored]) -> None:
    """See that they cover the shape: along all cuts it falls into cells, and each must be in one chunk."""
    for first, chunk in chunks.items():
        if len(first) != len(shape) or len(chunk.shape) != len(shape):
            raise ValueError(f"a chunk of {len(chunk.shape)} dimensions, where it has {len(shape)}")
        if any(at + size > whole for at, size, whole in zip(first, chunk.shape, shape, strict=True)):
            raise ValueError(f"a chunk of shape {chunk.shape} at {first}, which is not within its shape {shape}")
    ends = [tuple(at + size for at, size in zip(first, chunk.shape, strict=True)) for first, chunk in chunks.items()]
    cuts = [sorted({0, whole, *(at[axis] for at in (*chunks, *ends))}) for axis, whole in enumerate(shape)]
    if math.prod([len(cut) - 1 for cut in cuts]) > _MOST_CELLS:
        raise ValueError(f"{len(chunks):,} chunks, cut in more ways than are read")
    held = np.zeros([len(cut) - 1 for cut in cuts], dtype=np.int32)
    places = [{at: place for place, at in enumerate(cut)} for cut in cuts]
    for first, end in zip(chunks, ends, strict=True):
        held[tuple(slice(place[a], place[b]) for place, a, b in zip(places, first, end, strict=True))] += 1
    for wrong, what in ((held == 0, "is in no chunk"), (held > 1, "is in several chunks")):
        if wrong.any():
            cell = [int(place) for place in np.argwhere(wrong)[0]]
            raise ValueError(f"its element {tuple(cut[at] for cut, at in zip(cuts, cell, strict=True))} {what}")
