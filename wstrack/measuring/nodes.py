"""A network as a graph: units are nodes, weights are links, and how strongly each node is linked.

After "Deep neural networks through the lens of complex network theory" (arXiv 2110.02628), by its authors' code: the
strength of a node is the sum of the weights of its links, with their signs, its bias counted in. Of a weight no more is
needed than its *margins*: what each output receives (rows) and what each input, and tap of a convolution, sends
(columns). Which weights a layer of nodes lies between is told in `network.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layout", "Network", "NodeLayer", "Window", "Wire"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """How a convolution goes over its map, a number for each dimension of the map."""

    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class Wire:
    """A weight that lies between two layers of nodes.

    Attributes:
        name: of the weight.
        shape: [outputs, inputs, *taps]; of an embedding, [tokens, channels].
        bias: whether there is one.
        turned: whether it writes its columns, as an embedding does.
        window: of a convolution, if it is known.
    """

    name: str
    shape: tuple[int, ...]
    bias: bool = False
    window: Window | None = None
    turned: bool = False


@dataclass(frozen=True)
class NodeLayer:
    """Nodes that stand side by side.

    Attributes:
        size: channels or units.
        writers: the wires that they receive from, each with the rows that are theirs, None = all; an embedding writes
            its columns.
        readers: the wires that they send through.
        ends: whether something goes out of the network here: a link of strength 1, as the authors count it.
    """

    size: int
    writers: tuple[tuple[int, slice | None], ...]
    readers: tuple[int, ...] = ()
    ends: bool = False


@dataclass(frozen=True)
class Layout:
    """Where in one long array the margins of each wire are: its rows, then its columns, then its bias."""

    wires: tuple[Wire, ...]
    begins: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        sizes = [sum(self.sizes(wire)) for wire in self.wires]
        object.__setattr__(self, "begins", tuple(np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).tolist()))

    @staticmethod
    def sizes(wire: Wire) -> tuple[int, int, int]:
        """How many rows, columns and biases a wire has."""
        columns = int(np.prod(wire.shape[1:], dtype=np.int64))
        return wire.shape[0], columns, wire.shape[0] if wire.bias else 0

    @property
    def size(self) -> int:
        """Of the array."""
        return self.begins[-1]

    def margins(self, wire: int, values: Array) -> tuple[Array, Array, Array]:
        """Rows, columns and bias (0 where there is none) of a wire."""
        rows, columns, bias = self.sizes(self.wires[wire])
        at = self.begins[wire]
        ends = at + rows, at + rows + columns
        own = values[ends[1] : ends[1] + bias] if bias else np.zeros(rows)
        return values[at : ends[0]], values[ends[0] : ends[1]], own


@dataclass(frozen=True)
class Network:
    """The layers of nodes of a model.

    Attributes:
        layout: of all its wires.
        layers: of nodes.
        of: by the name of a weight, the layer of nodes that it writes: what is told of the weight is told of these.
        unknown: the names of weights of which that is not known.
    """

    layout: Layout
    layers: tuple[NodeLayer, ...]
    of: Mapping[str, int]
    unknown: tuple[str, ...] = ()

    def strengths(self, layer: int, margins: Array, maps: Mapping[str, Sequence[int]] | None = None) -> Array:
        """The strength of each node of a layer, (channels, positions).

        Args:
            layer: its number.
            margins: of all wires, as `layout` has them.
            maps: by the name of a convolution, the size of the map that it reads; of one that is not there, nodes are
                as in the middle of a map that is read with a stride of 1.

        Example:
            >>> wires = Wire("0.weight", (2, 3), bias=True), Wire("1.weight", (1, 2))
            >>> network = Network(Layout(wires), (NodeLayer(2, ((0, None),), (1,)),), {"0.weight": 0})
            >>> w, bias, v = np.arange(6.0).reshape(2, 3), np.array([0.5, 0.25]), np.array([[10.0, 20.0]])
            >>> margins = np.concatenate([w.sum(1), w.sum(0), bias, v.sum(1), v.sum(0)])
            >>> network.strengths(0, margins).tolist()
            [[13.5], [32.25]]
        """
        nodes = self.layers[layer]
        total = np.full((nodes.size, 1), float(nodes.ends))
        for wire, rows in nodes.writers:
            received, columns, bias = self.layout.margins(wire, margins)
            if self.layout.wires[wire].turned:
                total = total + columns[:, None]
            else:
                total = total + (received + bias)[slice(None) if rows is None else rows, None]
        for wire in nodes.readers:
            total = total + self._sent(wire, nodes.size, margins, maps or {})
        return total

    def sums(self, margins: Array, maps: Mapping[str, Sequence[int]] | None = None) -> dict[str, Array]:
        """By the name of a weight, the number of nodes, the sum of their strengths, and of the squares around it."""
        found = []
        for layer in range(len(self.layers)):
            strengths = self.strengths(layer, margins, maps)
            with np.errstate(invalid="ignore", over="ignore"):  # NaN in a weight is that of its own nodes
                spread = np.square(strengths - strengths.mean()).sum()
                found.append(np.array([strengths.size, strengths.sum(), spread]))
        return {name: found[layer] for name, layer in self.of.items()}

    def _sent(self, wire: int, size: int, margins: Array, maps: Mapping[str, Sequence[int]]) -> Array:
        """What each node sends through a wire, (channels, positions)."""
        one = self.layout.wires[wire]
        columns = self.layout.margins(wire, margins)[1]
        if len(one.shape) == 2:  # (channels, positions) where a map was flattened
            return columns.reshape(size, -1)
        taps = columns.reshape(one.shape[1:])
        if one.window is None or one.name not in maps:
            inner: Array = taps.reshape(size, -1).sum(axis=1, keepdims=True)
            return inner
        for dim, length in enumerate(maps[one.name]):
            # The axis of a tap gives way to that of the places in the map that it comes to lie on.
            taps = np.tensordot(taps, _coverage(one, dim, length), axes=(1, 0))
        spread: Array = taps.reshape(size, -1)
        return spread


def _coverage(wire: Wire, dim: int, length: int) -> Array:
    """Which taps of a convolution come to lie on which places of a map, (taps, length)."""
    window = wire.window
    assert window is not None
    taps, stride, dilation = wire.shape[2 + dim], window.stride[dim], window.dilation[dim]
    outputs = (length + window.before[dim] + window.after[dim] - dilation * (taps - 1) - 1) // stride + 1
    table = np.zeros((taps, length))
    for tap in range(taps):
        places = np.arange(max(outputs, 0)) * stride - window.before[dim] + tap * dilation
        table[tap, places[(places >= 0) & (places < length)]] = 1.0
    return table
