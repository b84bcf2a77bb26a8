"""Which weights lie between which layers of nodes, told from the names, kinds and shapes of weights alone.

Two ways of building are known. A *chain*: each weight reads what the one before it writes, and all of them fit, from
the first to the last (multilayer perceptrons, LeNet, AlexNet, VGG). A *stream*: blocks of attention and of two or three
more weights that read one stream of channels and add to it (transformers). The paper has no attention; what is made of
it here is ours: queries and keys receive and send nothing, values send through the output projection, and the stream is
one layer of nodes, which receives from all that write it and sends through all that read it. Of anything else nothing
is told: norms and pooling lie between nodes, and are passed over. A skip connection has no weight and cannot be seen,
so that numbered blocks of several weights, where these are found, are no chain, even where all of them fit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from wstrack.measuring.nodes import Layout, Network, NodeLayer, Window, Wire

__all__ = ["Known", "network_of"]

_ROLES = {
    "fused": r"in_proj_weight",
    "q": r"(to_|w|lin_)?(q|query)(_proj|_lin|_linear|_layer)?",
    "k": r"(to_|w|lin_)?(k|key)(_proj|_lin|_linear|_layer)?",
    "v": r"(to_|w|lin_)?(v|value)(_proj|_lin|_linear|_layer)?",
    "o": r"out_proj|o_proj|out_lin|to_out|wo",
    "in": r"linear1|fc1|lin1|up_proj|gate_proj|w1|w3|c_fc|dense_h_to_4h",
    "out": r"linear2|fc2|lin2|down_proj|w2|dense_4h_to_h",
}
_BLOCK = re.compile(r"(.*?\.?\d+)\.(.*)")


@dataclass(frozen=True)
class Known:
    """A weight of two or more dimensions: what a model or a checkpoint tells of it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    bias: bool = False
    window: Window | None = None
    groups: int = 1
    aliases: tuple[str, ...] = ()


def network_of(weights: Sequence[Known]) -> Network:
    """The network that these weights make, in the order of the model; perhaps with nothing that is known.

    Example:
        >>> chain = [Known("0.weight", "linear", (4, 3)), Known("2.weight", "linear", (2, 4))]
        >>> [(layer.size, layer.readers, layer.ends) for layer in network_of(chain).layers]
        [(4, (1,), False), (2, (), True)]
        >>> network_of([*chain, Known("3.weight", "linear", (2, 9))]).unknown
        ('0.weight', '2.weight', '3.weight')
    """
    layout = Layout(
        tuple(Wire(one.name, one.shape, one.bias, one.window, turned=one.kind == "embedding") for one in weights)
    )
    found = _stream(weights) or _chain(weights) or {}
    layers: list[NodeLayer] = []
    of: dict[str, int] = {}
    for number, layer in found.items():
        if layer not in layers:
            layers.append(layer)
        of[weights[number].name] = layers.index(layer)
    unknown = tuple(one.name for one in weights if one.name not in of)
    return Network(layout, tuple(layers), of, unknown)


def _chain(weights: Sequence[Known]) -> dict[int, NodeLayer] | None:
    """The layer of nodes that each weight writes, if each reads what the one before it writes."""
    plain = ("linear", "conv", "pointwise")
    if any(
        one.kind not in plain or one.groups != 1 or (one.kind == "linear") != (len(one.shape) == 2) for one in weights
    ):
        return None
    # Blocks of several weights, numbered, are where skip connections are: those of a ResNet may all fit.
    blocks = Counter(block for one in weights for block in _blocks_around(one.name))
    if any(count > 1 for count in blocks.values()):
        return None
    found: dict[int, NodeLayer] = {}
    for number, one in enumerate(weights):
        size = one.shape[0]
        following = weights[number + 1] if number + 1 < len(weights) else None
        if following is None:
            found[number] = NodeLayer(size, ((number, None),), ends=True)
            continue
        flattened = len(one.shape) > 2 and len(following.shape) == 2 and following.shape[1] % size == 0
        if not (flattened or (following.shape[1] == size and len(following.shape) >= len(one.shape))):
            return None
        if len(following.shape) > 2 and len(one.shape) == 2:
            return None
        found[number] = NodeLayer(size, ((number, None),), (number + 1,))
    return found


def _blocks_around(name: str) -> list[str]:
    """The numbered modules that the module of a weight is in, the outermost first.

    Example:
        >>> _blocks_around("stages.0.layers.1.conv.weight"), _blocks_around("features.3.weight")
        (['stages.0', 'stages.0.layers.1'], [])
    """
    around = name.split(".")[:-2]
    return [".".join(around[: place + 1]) for place, part in enumerate(around) if part.isdigit()]


def _stream(weights: Sequence[Known]) -> dict[int, NodeLayer] | None:
    """The layer of nodes that each weight writes, if they are blocks on a stream; some may not be known."""
    blocks: dict[str, dict[str, list[int]]] = {}
    outside: list[int] = []
    for number, one in enumerate(weights):
        within = _BLOCK.fullmatch(one.name)
        if within is None:
            outside.append(number)
            continue
        role = _role(one)
        if role is None or len(one.shape) != 2:
            return None
        blocks.setdefault(within[1], {}).setdefault(role, []).append(number)
    if not blocks or not all(_whole(block) for block in blocks.values()):
        return None
    first = next(iter(blocks.values()))
    width = weights[first["o"][0]].shape[0]
    writers = [number for block in blocks.values() for role in ("o", "out") for number in block[role]]
    readers = [n for block in blocks.values() for role in ("fused", "q", "k", "v", "in") for n in block.get(role, ())]
    if any(weights[number].shape[0] != width for number in writers):
        return None
    if any(weights[number].shape[1] != width for number in readers):
        return None
    ends: list[int] = []
    for number in outside:
        one = weights[number]
        if one.kind == "embedding" and one.shape[1] == width:
            writers.append(number)
            readers += [number] if one.aliases else []  # tied to the head, which reads by the same weights
        elif len(one.shape) == 2 and one.shape[1] == width and number > max(writers[:1]):
            readers.append(number)
            ends.append(number)
        else:
            return None
    if len(ends) > 1:
        return None
    stream = NodeLayer(width, tuple((number, None) for number in writers), tuple(readers))
    found = dict.fromkeys(writers, stream)
    for number in ends:
        found[number] = NodeLayer(weights[number].shape[0], ((number, None),), ends=True)
    for block in blocks.values():
        found |= _within(block, weights)
    return found


def _within(block: dict[str, list[int]], weights: Sequence[Known]) -> dict[int, NodeLayer]:
    """The nodes that lie within a block."""
    found: dict[int, NodeLayer] = {}
    for role in ("q", "k"):
        for number in block.get(role, ()):
            found[number] = NodeLayer(weights[number].shape[0], ((number, None),))
    output = block["o"][0]
    for number in block.get("v", ()):
        if weights[number].shape[0] == weights[output].shape[1]:  # else several heads share each value
            found[number] = NodeLayer(weights[number].shape[0], ((number, None),), (output,))
    for number in block.get("fused", ()):
        size = weights[number].shape[0] // 3
        found[number] = NodeLayer(size, ((number, slice(2 * size, 3 * size)),), (output,))
    hidden = block["in"]
    size = weights[hidden[0]].shape[0]
    both = NodeLayer(size, tuple((number, None) for number in hidden), (block["out"][0],))
    return found | dict.fromkeys(hidden, both)


def _role(one: Known) -> str | None:
    parts = one.name.split(".")
    own = parts[-2] if parts[-1] == "weight" and len(parts) > 1 else parts[-1]
    return next((role for role, pattern in _ROLES.items() if re.fullmatch(pattern, own)), None)


def _whole(block: dict[str, list[int]]) -> bool:
    """Whether a block has all that one has: an attention, and what follows it."""
    counts = {role: len(numbers) for role, numbers in block.items()}
    attends = counts.get("fused") == 1 or all(counts.get(role) == 1 for role in "qkv")
    both = counts.get("fused", 0) and any(counts.get(role) for role in "qkv")
    return attends and not both and counts.get("o") == counts.get("out") == 1 and counts.get("in") in (1, 2)
