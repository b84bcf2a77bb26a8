"""What a meter measures, piece by piece, and how that adds up to layers and their parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wstrack.measuring.parts import Cut, Piece, part_name, pieces_of
from wstrack.measuring.sharding import LocalShard
from wstrack.runs.manifest import Layer

__all__ = ["Rows", "rows_of"]


@dataclass(frozen=True)
class Rows:
    """The layers of a run, and what of a meter's sample each is.

    Attributes:
        layers: in model order, each whole layer followed by its parts.
        weight: (layers,) the number of the weight that each layer is, or is a part of.
        pieces: by the number of a weight that is cut, what is measured of it; of the others, all of each.
        part: (pieces,) the layer that each row of a sample belongs to.
        whole: (pieces,) the whole layer that it belongs to.
    """

    layers: tuple[Layer, ...]
    weight: NDArray[np.int64]
    pieces: Mapping[int, Sequence[Piece]]
    part: NDArray[np.int64]
    whole: NDArray[np.int64]

    def added(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The raw sums of the layers, (layers, sums), from those of the pieces."""
        if not self.pieces:
            return sums
        total = np.zeros((len(self.layers), sums.shape[1]))
        with np.errstate(invalid="ignore", over="ignore"):  # inf in a layer is its own affair
            np.add.at(total, self.part, sums)
            within = self.part != self.whole
            np.add.at(total, self.whole[within], sums[within])
        return total


def rows_of(selected: Sequence[tuple[Layer, LocalShard]], cuts: Mapping[str, Cut]) -> Rows:
    """The rows of a model's layers.

    Args:
        selected: of `wstrack.measuring.layers.select`.
        cuts: by the name of each layer that has parts.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(4, 3))
        >>> rows = rows_of([(Layer("fc", shape=(4, 3), numel=12), LocalShard(weight))], {"fc": Cut((1, 3))})
        >>> [(layer.name, layer.shape, layer.of) for layer in rows.layers]
        [('fc', (4, 3), ''), ('fc[0]', (1, 3), 'fc'), ('fc[1]', (3, 3), 'fc')]
        >>> rows.added(np.array([[3.0], [9.0]])).tolist()
        [[12.0], [3.0], [9.0]]
    """
    layers: list[Layer] = []
    weight: list[int] = []
    pieces: dict[int, list[Piece]] = {}
    part: list[int] = []
    whole: list[int] = []
    for number, (layer, shard) in enumerate(selected):
        at = len(layers)
        layers.append(layer)
        weight.append(number)
        if layer.name not in cuts:
            part.append(at)
            whole.append(at)
            continue
        cut = cuts[layer.name]
        pieces[number] = []
        sizes: Counter[str] = Counter()
        for label, size in cut.runs(layer.shape[cut.dim]):
            sizes[label] += size
        for label, its in pieces_of(cut, layer.shape, shard).items():
            part += [len(layers)] * len(its)
            whole += [at] * len(its)
            layers.append(_part(layer, cut.dim, label, sizes[label]))
            weight.append(number)
            pieces[number] += its
    return Rows(tuple(layers), _array(weight), pieces, _array(part), _array(whole))


def _array(numbers: list[int]) -> NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


def _part(layer: Layer, dim: int, label: str, size: int) -> Layer:
    shape = (*layer.shape[:dim], size, *layer.shape[dim + 1 :])
    numel = layer.numel // layer.shape[dim] * size
    return replace(layer, name=part_name(layer.name, label), shape=shape, numel=numel, aliases=(), of=layer.name)
