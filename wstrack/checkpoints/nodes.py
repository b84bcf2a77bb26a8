"""How strongly the nodes are linked that saved layers write: the metrics `strength`, `fluctuation` and `balance`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from wstrack.checkpoints.layers import Series, unwrapped_names
from wstrack.checkpoints.stored import Checkpoint, Stored
from wstrack.measuring.meters.margins import balances, columns, margins_of, unbalanced
from wstrack.measuring.network import Known, network_of

__all__ = ["CONVOLUTIONS", "take_nodes"]

CONVOLUTIONS = (
    "strength and fluctuation of convolutions are those in the middle of a map that is read with a stride of 1: "
    "checkpoints tell neither"
)


def take_nodes(checkpoints: Sequence[Checkpoint], series: Series, sums: Sequence[str]) -> NDArray[np.float64]:
    """The sums (`wstrack.metrics.NODES`) of layers in each checkpoint but the first, (checkpoints - 1, layers, sums).

    Every weight is read once more for it, one at a time.

    Args:
        checkpoints: in their order.
        series: their layers.
        sums: names.

    Raises:
        ValueError: nothing is known of how these weights follow one another; or the balance is asked for where no
            linear layer reads another.
        WstrackError: a checkpoint cannot be read any more.
    """
    biases = [_biases(one) for one in checkpoints]
    network = network_of(
        [
            Known(layer.name, layer.kind, layer.shape, _bias_of(layer.name) in biases[-1], aliases=layer.aliases)
            for layer in series.layers
        ]
    )
    if not network.of:
        raise ValueError(
            "metrics: 'strength', 'fluctuation' and 'balance' are of networks whose layers follow one another and fit, "
            "or of blocks of attention, and how those of these checkpoints do is not known; leave them out"
        )
    pairs = balances(network) if "sq_unbalanced" in sums else []
    if "sq_unbalanced" in sums and not pairs:
        raise ValueError("metrics: 'balance' is of two linear layers of which one reads the other; leave it out")
    names = [layer.name for layer in series.layers]
    taken = []
    for place in range(1, len(checkpoints)):
        held = [own[place] for own in series.tensors]
        found = [
            _margins(one, layer.shape, biases[place].get(_bias_of(layer.name)) if wire.bias else None, wire.bias)
            for one, layer, wire in zip(held, series.layers, network.layout.wires, strict=True)
        ]
        even = [_unbalanced(held[first], held[second]) for first, second in pairs]
        taken.append(columns(network, sums, np.concatenate([*found, np.array(even)]), names, pairs=pairs))
    return np.stack(taken)


def _biases(checkpoint: Checkpoint) -> Mapping[str, Stored]:
    """The vectors of a checkpoint, by the names that `watch` gives them."""
    named = unwrapped_names(checkpoint)
    return {name: one for name, one in named.items() if len(one.shape) == 1 and one.dtype.is_floating_point}


def _bias_of(name: str) -> str:
    return f"{name.removesuffix('weight')}bias" if name.endswith("weight") else ""


def _margins(one: Stored | None, shape: Sequence[int], bias: Stored | None, biased: bool) -> NDArray[np.float64]:
    rows, size = shape[0], torch.Size(shape).numel()
    own = np.full(rows + size // rows, np.nan)
    if one is not None and one.shape == tuple(shape):
        own = margins_of(one.matrix().view(tuple(shape)), shape).numpy()
    if not biased:
        return own
    return np.concatenate([own, np.full(rows, np.nan) if bias is None else _vector(bias)])


def _vector(bias: Stored) -> NDArray[np.float64]:
    values = torch.empty(bias.numel, dtype=bias.dtype)
    bias.read(values, 0)
    return np.asarray(values.double().numpy())


def _unbalanced(first: Stored | None, second: Stored | None) -> float:
    if first is None or second is None or first.shape[0] != second.shape[1]:
        return float("nan")
    return float(unbalanced(first.matrix(), second.matrix()))
