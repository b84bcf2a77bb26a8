"""Parts of layers: how a weight is cut along a dimension, and where in this process's memory each part lies.

A part is what people think of as a layer of its own: an expert of a stacked weight, q, k or v of a fused projection, a
head. Which layers are cut, and how, is told in `cuts.py`; the meters measure the pieces that come of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wstrack.measuring.sharding import LocalShard

__all__ = ["Cut", "Piece", "part_name", "pieces_of"]


@dataclass(frozen=True)
class Cut:
    """How a layer is cut along one of its dimensions.

    Args:
        into: a number of parts of equal size, or the size of each; they fill the dimension.
        dim: the dimension; 0 = rows, as of the outputs of a Linear layer.
        labels: a name for each of `into`, "0", "1", ... by default. What is named alike is one part.
        repeat: how often all of `into` come, one after the other: `Cut((64, 64, 64), labels=tuple("qkv"), repeat=12)`
            is q, k and v of the first head, then those of the second, ...; of a number of parts, the size of each is
            what is left of the dimension for one time.

    Raises:
        ValueError: sizes below 1, or labels that are not as many.

    Example:
        >>> Cut(2).runs(8), Cut((1, 1), labels=("q", "k"), repeat=2).runs(4)
        ((('0', 4), ('1', 4)), (('q', 1), ('k', 1), ('q', 1), ('k', 1)))
    """

    into: int | tuple[int, ...]
    dim: int = 0
    labels: tuple[str, ...] | None = None
    repeat: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.into, int):
            object.__setattr__(self, "into", tuple(self.into))
        sizes = (self.into,) if isinstance(self.into, int) else self.into
        if not sizes or min(*sizes, self.repeat, 1) < 1:
            raise ValueError(f"{self}: into= and repeat= count from 1")
        count = self.into if isinstance(self.into, int) else len(sizes)
        labels = tuple(map(str, range(count) if self.labels is None else self.labels))
        if len(labels) != count:
            raise ValueError(f"{self}: {count} parts have {len(labels)} labels; give one for each, or none")
        object.__setattr__(self, "labels", labels)

    def runs(self, size: int) -> tuple[tuple[str, int], ...]:
        """What follows one another along a dimension of this size: the label and the size of each.

        Raises:
            ValueError: it does not fill the dimension.
        """
        assert self.labels is not None
        count = self.into if isinstance(self.into, int) else len(self.into)
        sizes = (size // (count * self.repeat),) * count if isinstance(self.into, int) else self.into
        if sum(sizes) * self.repeat != size or not all(sizes):
            of = f"{count} equal parts" if isinstance(self.into, int) else " + ".join(map(str, sizes))
            times = f", {self.repeat} times," if self.repeat > 1 else ""
            raise ValueError(f"{of}{times} do not fill {size}")
        return tuple(zip(self.labels, sizes, strict=True)) * self.repeat


def part_name(layer: str, label: str) -> str:
    """What a part of a layer is called.

    Example:
        >>> part_name("h.0.attn.c_attn.weight", "q")
        'h.0.attn.c_attn.weight[q]'
    """
    return f"{layer}[{label}]"


@dataclass(frozen=True)
class Piece:
    """Elements of a tensor that lie at equal distances along one of its dimensions.

    Attributes:
        dim: the dimension.
        start, length: the first index, and how many follow one another.
        step, count: how far apart, and how often, as many follow again.
    """

    dim: int
    start: int
    length: int
    step: int = 0
    count: int = 1

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """These elements of a tensor, in place.

        Example:
            >>> Piece(0, 1, 2, step=4, count=2).of(torch.arange(8)).tolist()
            [[1, 2], [5, 6]]
        """
        if self.count == 1:
            return tensor.narrow(self.dim, self.start, self.length)
        return tensor.narrow(self.dim, self.start, (self.count - 1) * self.step + self.length).unfold(
            self.dim, self.length, self.step
        )


def pieces_of(cut: Cut, shape: Sequence[int], shard: LocalShard) -> dict[str, list[Piece]]:
    """Of each part, by its label in the order of the cut, the pieces that this process holds; none is empty.

    Args:
        cut: of the layer.
        shape: of the whole layer.
        shard: what is here of it; the pieces are of `shard.local()`.

    Example:
        >>> here = LocalShard(torch.nn.Parameter(torch.ones(6, 3)))
        >>> pieces_of(Cut((1, 2), labels=("q", "kv"), repeat=2), (6, 3), here)["kv"]
        [Piece(dim=0, start=1, length=2, step=3, count=2)]
    """
    runs = cut.runs(shape[cut.dim])
    found: dict[str, list[Piece]] = {label: [] for label, _ in runs}
    if not shard.counts:
        return found
    labels = np.repeat([list(found).index(label) for label, _ in runs], [size for _, size in runs])
    if shard.first is None:
        here = labels[shard.indices(cut.dim, shape)]
        for number, pieces in enumerate(found.values()):
            pieces += _regular(_stretches(here == number), cut.dim)
        return found
    inner = math.prod(shape[cut.dim + 1 :])
    labels = np.repeat(labels, inner)  # of the elements of a row, in the order in which they were flattened
    for number, pieces in enumerate(found.values()):
        pieces += _of_flat(_stretches(labels == number), len(labels), shard.first, shard.local().numel())
    return found


def _stretches(wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where each stretch of true values begins and ends, (stretches, 2)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], wanted, [False])).astype(np.int8)))
    return edges.reshape(-1, 2)


def _regular(stretches: NDArray[np.int64], dim: int) -> list[Piece]:
    """Stretches as pieces, as few as can be found from the first to the last."""
    pieces: list[Piece] = []
    for begin, end in stretches.tolist():
        if pieces:
            last = pieces[-1]
            step = last.step if last.count > 1 else begin - last.start
            if end - begin == last.length and begin == last.start + step * last.count:
                pieces[-1] = Piece(dim, last.start, last.length, step, last.count + 1)
                continue
        pieces.append(Piece(dim, begin, end - begin))
    return pieces


def _of_flat(stretches: NDArray[np.int64], row: int, first: int, count: int) -> list[Piece]:
    """The pieces of a flat tensor, which has so many elements of a layer, given the stretches of each row of it."""
    end = first + count
    below, above = -(-first // row), end // row  # the rows that are here from end to end
    if below > above:  # all of it is within one row
        return _clipped(stretches + above * row, first, end, first)
    pieces = _clipped(stretches + (below - 1) * row, first, below * row, first)
    whole = stretches + (below * row - first)
    if above - below == 1:
        pieces += _regular(whole, 0)
    elif above > below:
        pieces += [Piece(0, begin, stop - begin, row, above - below) for begin, stop in whole.tolist()]
    return pieces + _clipped(stretches + above * row, above * row, end, first)


def _clipped(stretches: NDArray[np.int64], begin: int, end: int, first: int) -> list[Piece]:
    """What of stretches lies between two elements of a layer, counted from the first one that is here."""
    kept = np.clip(stretches, begin, end) - first
    return _regular(kept[kept[:, 1] > kept[:, 0]], 0)
