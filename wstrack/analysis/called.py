"""What parts of layers are called in sentences: expert 3 of layer 7, q of layer 2."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

__all__ = ["called", "noun_of", "place_of", "weight_of"]


def called(parts: Iterable[str], of: pd.Series[str]) -> dict[str, list[str]]:
    """Some parts by what people call them, in their order; what several weights of a block have is called once.

    Args:
        parts: names of parts.
        of: by part, its layer; of all parts of the run, which tells what must be said to tell them apart.

    Example:
        >>> experts = [f"model.layers.{n}.mlp.experts.{w}" for n in (6, 7) for w in ("gate_up_proj", "down_proj")]
        >>> of = pd.Series({f"{layer}[{label}]": layer for layer in experts for label in range(4)})
        >>> list(called([f"{layer}[3]" for layer in experts[1:]], of))
        ['expert 3 of layer 6 (down_proj)', 'expert 3 of layer 7']
    """
    layers = list(dict.fromkeys(of))
    places = {layer: place_of(layer, layers) for layer in layers}
    alike: dict[tuple[str, str], list[str]] = {}
    for part in parts:
        layer = str(of[part])
        label = part.removeprefix(f"{layer}[").removesuffix("]")
        noun = f"{noun_of(layer)} {label}" if label.isdecimal() else label
        alike.setdefault((noun, places[layer]), []).append(part)
    found = {}
    for (noun, place), ours in alike.items():
        some = len(ours) < sum(place == places[layer] for layer in layers)
        which = f" ({' and '.join(weight_of(str(of[part])) for part in ours)})" if some else ""
        found[f"{noun} of {place}{which}"] = ours
    return found


def noun_of(layer: str) -> str:
    """What the numbered parts of a layer are called, by its name.

    Example:
        >>> noun_of("model.layers.7.mlp.experts.down_proj"), noun_of("h.0.attn.c_attn.weight"), noun_of("a")
        ('expert', 'head', 'part')
    """
    if re.search(r"(^|[._])experts?([._]|$)|(^|[._])moe([._]|$)", layer, re.IGNORECASE):
        return "expert"
    attention = r"attn|attention|qkv|query_key_value|in_proj|out_proj|[qkvo]_proj"
    return "head" if re.search(attention, layer, re.IGNORECASE) else "part"


def place_of(layer: str, layers: Iterable[str]) -> str:
    """Where a layer is, among others: by its number where that is enough.

    Example:
        >>> place_of("h.7.attn.qkv.weight", ["h.6.attn.qkv.weight", "h.7.attn.qkv.weight"])
        'layer 7'
        >>> place_of("encoder.h.7.qkv", ["encoder.h.7.qkv", "decoder.h.7.qkv"]), place_of("qkv.weight", ["qkv.weight"])
        ('encoder.h.7', 'qkv.weight')
    """
    block, number = _block(layer)
    if not number:
        return block or layer
    only = len({_block(other)[0].rpartition(".")[0] for other in layers}) == 1
    return f"layer {number}" if only else block


def _block(layer: str) -> tuple[str, str]:
    """The name up to its last numbered module, and that number where there is one only."""
    modules = layer.split(".")
    numbered = [place for place, module in enumerate(modules) if module.isdecimal()]
    if not numbered:
        return "", ""
    return ".".join(modules[: numbered[-1] + 1]), modules[numbered[-1]] if len(numbered) == 1 else ""


def weight_of(layer: str) -> str:
    """The weight's own name inside its block."""
    return layer.removesuffix(".weight").rpartition(".")[2]
