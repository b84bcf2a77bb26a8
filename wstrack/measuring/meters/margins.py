"""Takes the margins of all weights of a model: what each output receives, and what each input sends.

Sums over rows and over columns, in float64 on the device, each weight read twice; and biases as they are. Of a layer
that is sharded each process takes those of what it holds; put in their place among zeros they add up to the whole.
What is made of them is in `wstrack.measuring.nodes`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wstrack.measuring.kinds import kind_of
from wstrack.measuring.layers import Weight, owners_of, weights
from wstrack.measuring.network import Known, network_of
from wstrack.measuring.nodes import Network, Window
from wstrack.measuring.sharding import LocalShard
from wstrack.metrics import NODES
from wstrack.runs.names import unwrapped

__all__ = ["MarginMeter", "balances", "columns", "margins_of", "unbalanced"]

Array = NDArray[np.float64]


class MarginMeter:
    """Takes the margins of a model's weights; never synchronises with the device, and stores nothing on the model.

    Args:
        model: what trains.
        sums: those of `wstrack.metrics.NODES` that are wanted.
        counts: whether what this process holds of a weight counts here, and not in another that holds the same; None =
            all of it.

    Raises:
        ValueError: nothing is known of how the model's weights follow one another; or the balance is asked for of a
            model that is sharded, or has no two linear layers after one another.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))
        >>> meter = MarginMeter(model, ("nodes", "strengths", "sq_deviations"))
        >>> table = meter.columns(meter.whole(meter.sample().numpy()), ["0.weight", "1.weight"])
        >>> table[:, 0].tolist(), bool(np.isclose(table[1, 1], 1 + float(model[1].weight.detach().sum())))
        ([3.0, 1.0], True)
    """

    def __init__(
        self, model: nn.Module, sums: Sequence[str], *, counts: Callable[[LocalShard], bool] | None = None
    ) -> None:
        self._model = weakref.ref(model)
        self._sums = tuple(sums)
        self._maps: dict[str, tuple[int, ...]] = {}
        held = _held(model)
        matrices = {name: one for name, one in held.items() if one.whole.ndim >= 2}
        self.network = network_of([_known(model, name, one, held) for name, one in matrices.items()])
        if not self.network.of:
            raise ValueError(
                "metrics: 'strength', 'fluctuation' and 'balance' are of networks whose layers follow one another and "
                f"fit, or of blocks of attention, and how those of {type(model).__name__} do is not known; leave them "
                "out"
            )
        self._pairs = balances(self.network) if "sq_unbalanced" in sums else []
        if "sq_unbalanced" in sums:
            if any(one.shard.ranks is not None for one in held.values()):
                raise ValueError("metrics: 'balance' is not to be had of a model that is sharded; leave it out")
            if not self._pairs:
                raise ValueError("metrics: 'balance' is of two linear layers, one reading the other; leave it out")
        self._counted = [
            float(counts is None or counts(held[self.network.layout.wires[first].name].shard))
            for first, _ in self._pairs
        ]
        self._places = [
            (name, places if counts is None or counts(held[name].shard) else places[:0])
            for name, places in _places(self.network, held)
        ]
        self._hook = _see_maps(matrices, self._maps)

    def release(self) -> None:
        """Look for the sizes of maps no more."""
        if self._hook is not None:
            self._hook.remove()

    def nothing(self) -> torch.Tensor:
        """In the place of a sample that could not be taken."""
        size = sum(len(places) for _, places in self._places) + len(self._pairs)
        return torch.full((size,), torch.nan, device="cpu")

    @torch.no_grad()
    def sample(self) -> torch.Tensor:
        """What this process has of the margins, one after another, and then of the balances; float64 where there is."""
        model = self._model()
        held = {} if model is None else _held(model)
        found: list[torch.Tensor] = []
        for name, places in self._places:
            one = held.get(name)
            if not len(places):
                continue
            here = None if one is None else margins_of(one.shard.local().detach(), one.whole.shape, one.shard.first)
            fits = here is not None and len(here) == len(places)
            found.append(here if here is not None and fits else torch.full((len(places),), torch.nan, device="cpu"))
        for pair in self._pairs:
            names = [self.network.layout.wires[wire].name for wire in pair]
            both = [held[name].shard.local().detach() for name in names if name in held]
            found.append(unbalanced(*both)[None] if len(both) == 2 else torch.full((1,), torch.nan, device="cpu"))
        home = next((one.device for one in found if one.device.type != "cpu"), torch.device("cpu"))
        wide = torch.float32 if home.type == "mps" else torch.float64
        return torch.cat([one.to(home, wide, non_blocking=True) for one in found])

    def whole(self, taken: Array) -> Array:
        """What this process has, in its place among zeros: that of several processes adds up."""
        size = self.network.layout.size
        result = np.zeros(size + len(self._pairs))
        begin = 0
        for _, places in self._places:
            result[places] += taken[begin : begin + len(places)]
            begin += len(places)
        result[size:] = taken[begin:] * self._counted
        return result

    def columns(self, margins: Array, layers: Sequence[str]) -> Array:
        """The sums of some layers, (layers, sums); NaN of what is not known."""
        return columns(self.network, self._sums, margins, layers, maps=self._maps, pairs=self._pairs)


def columns(
    network: Network,
    sums: Sequence[str],
    margins: Array,
    layers: Sequence[str],
    *,
    maps: Mapping[str, tuple[int, ...]] | None = None,
    pairs: Sequence[tuple[int, int]] = (),
) -> Array:
    """The sums (`wstrack.metrics.NODES`) of some layers by their names, (layers, sums); NaN of what is not known.

    Args:
        network, maps: as in `Network.sums`.
        sums: names.
        margins: of all wires, and then of each of `pairs` how far from balanced it is, squared.
        layers: names.
        pairs: as `balances` has them.
    """
    size = network.layout.size
    found = network.sums(margins[:size], maps)
    uneven = {network.layout.wires[first].name: margins[size + place] for place, (first, _) in enumerate(pairs)}
    table = np.full((len(layers), len(sums)), np.nan)
    for row, layer in enumerate(layers):
        known = dict(zip(NODES, (*found.get(layer, [np.nan] * 3), uneven.get(layer, np.nan)), strict=True))
        table[row] = [known[name] for name in sums]
    return table


def margins_of(local: torch.Tensor, shape: Sequence[int], first: int | None = None) -> torch.Tensor:
    """Rows, then columns, of what is here of a weight; of a bias what is here.

    Args:
        local: of the weight.
        shape: of the whole weight.
        first: of a weight that was flattened, the first element that is here.
    """
    local = local.float() if local.dtype.itemsize == 1 else local.real if local.is_complex() else local
    wide = torch.float32 if local.device.type == "mps" else torch.float64
    if len(shape) < 2 or not local.numel():
        return local.flatten().to(wide)
    if first is None:
        return torch.cat([local.flatten(1).sum(1, dtype=wide), local.sum(0, dtype=wide).flatten()])
    width = torch.Size(shape[1:]).numel()
    at = torch.arange(first, first + local.numel(), device=local.device)
    begin, end = first // width, (first + local.numel() - 1) // width
    rows = torch.zeros(end - begin + 1, dtype=wide, device=local.device)
    sent = torch.zeros(width, dtype=wide, device=local.device)
    values = local.to(wide)
    return torch.cat([rows.index_add_(0, at // width - begin, values), sent.index_add_(0, at % width, values)])


def balances(network: Network) -> list[tuple[int, int]]:
    """The pairs of linear weights of which the second alone reads what the first alone writes."""
    found = []
    for layer in network.layers:
        if len(layer.writers) == len(layer.readers) == 1:
            first, second = layer.writers[0][0], layer.readers[0]
            shapes = [network.layout.wires[wire].shape for wire in (first, second)]
            if all(len(shape) == 2 for shape in shapes) and shapes[0][0] == shapes[1][1] == layer.size:
                found.append((first, second))
    return found


def unbalanced(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """norm2(W2^T W2 - W1 W1^T)^2, a scalar: 0 of weights that are balanced (arXiv 2409.14623)."""
    wide = torch.float32 if first.device.type == "mps" else torch.float64
    first, second = first.to(wide), second.to(first.device, wide)
    return (second.mT @ second - first @ first.mT).square().sum()


def _held(model: nn.Module) -> dict[str, Weight]:
    return {unwrapped(one.names[0], model): one for one in weights(model)}


def _bias_of(name: str) -> str:
    return f"{name.removesuffix('weight')}bias" if name.endswith("weight") else ""


def _known(model: nn.Module, name: str, one: Weight, held: Mapping[str, Weight]) -> Known:
    path = name.rpartition(".")[0]
    kind = kind_of(one.module, path, one.own, one.whole, owners=owners_of(model, one.names[0], one.module))
    if getattr(one.module, "padding_mode", "zeros") != "zeros":  # the edge of a map is then linked with itself
        kind = "other"
    bias = held.get(_bias_of(name))
    return Known(
        name, kind, tuple(one.whole.shape), bias is not None and bias.whole.ndim == 1, _window(one.module),
        getattr(one.module, "groups", 1), tuple(one.names[1:]),
    )  # fmt: skip


def _window(module: nn.Module) -> Window | None:
    """How a convolution goes over its map; None of what is none, or does not fill up with zeros."""
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) or module.padding_mode != "zeros":
        return None
    strides, dilations, sizes = (tuple(map(int, one)) for one in (module.stride, module.dilation, module.kernel_size))
    if module.padding == "same":
        more = [dilation * (size - 1) for dilation, size in zip(dilations, sizes, strict=True)]
        before = tuple(each // 2 for each in more)
        return Window(strides, before, tuple(each - own for each, own in zip(more, before, strict=True)), dilations)
    padding = (0,) * len(sizes) if isinstance(module.padding, str) else tuple(map(int, module.padding))
    return Window(strides, padding, padding, dilations)


def _places(network: Network, held: Mapping[str, Weight]) -> list[tuple[str, NDArray[np.int64]]]:
    """By weight or bias, where what is here of its margins has its place among those of all."""
    found = []
    for wire, begin in zip(network.layout.wires, network.layout.begins, strict=False):
        rows, width, _ = network.layout.sizes(wire)
        found.append((wire.name, begin + _within(held[wire.name], rows, width)))
        if wire.bias:
            bias = held[_bias_of(wire.name)]
            standing = bias.shard.standing(tuple(bias.whole.shape))
            at = int(standing.storage_offset()) + np.arange(standing.numel(), dtype=np.int64)
            found.append((_bias_of(wire.name), begin + rows + width + at))
    return found


def _within(one: Weight, rows: int, width: int) -> NDArray[np.int64]:
    """Where the margins of what is here of a weight stand among those of the whole: rows, then columns."""
    standing = one.shard.standing(tuple(one.whole.shape))
    if not standing.numel():
        return np.empty(0, dtype=np.int64)
    first = int(standing.storage_offset())
    if one.shard.first is not None:
        own = np.arange(first // width, (first + standing.numel() - 1) // width + 1, dtype=np.int64)
        return np.concatenate([own, rows + np.arange(width, dtype=np.int64)])
    places = np.full((), first % width, dtype=np.int64)
    for size, stride in zip(standing.shape[1:], standing.stride()[1:], strict=True):
        places = places[..., None] + np.arange(size, dtype=np.int64) * stride
    return np.concatenate([first // width + np.arange(standing.shape[0], dtype=np.int64), rows + places.ravel()])


def _see_maps(matrices: Mapping[str, Weight], maps: dict[str, tuple[int, ...]]) -> Any:
    """Note the size of the map that each convolution reads, the first time that it does, and then look no more.

    By a hook of all modules: one of the model's own would be stored on it. None if there is no convolution.
    """
    wanted = weakref.WeakKeyDictionary(
        {one.module: (name, one.whole.ndim - 2) for name, one in matrices.items() if _window(one.module) is not None}
    )
    if not wanted:
        return None

    def see(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        name, dims = wanted.pop(module, ("", 0))
        if name and arguments and isinstance(arguments[0], torch.Tensor):
            maps[name] = tuple(arguments[0].shape[-dims:])
        if not wanted:
            hook.remove()

    hook = nn.modules.module.register_module_forward_pre_hook(see)
    return hook
