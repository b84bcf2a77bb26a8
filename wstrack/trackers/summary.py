"""What a tracker gets of layers that are cut into parts: each whole layer, and a few numbers on its parts.

A model has thousands of experts and heads, and trackers grow slow with thousands of series. The recording has each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wstrack.runs.manifest import Layer, Manifest
from wstrack.trackers.shared import by_layer

__all__ = ["share_of", "summarise", "summarised"]

NUMBERS = ("least", "median", "largest", "zero")  # of the values of a layer's parts; zero: the share of them that are 0


def summarised(manifest: Manifest) -> Manifest:
    """The manifest of what `summarise` makes of each sample; the same one where trackers get each part, or none is.

    Example:
        >>> layers = [Layer("w"), Layer("w[0]", of="w"), Layer("w[1]", of="w"), Layer("v")]
        >>> shorter = summarised(Manifest("run", tuple(layers), ("rwc",), 1, origin={"parts": "each"}))
        >>> [layer.name for layer in shorter.layers]
        ['w', 'w[least]', 'w[median]', 'w[largest]', 'w[zero]', 'v']
    """
    if manifest.origin.get("parts") != "each" or manifest.origin.get("log_parts"):
        return manifest
    cut = {layer.of for layer in manifest.layers if layer.of}
    layers: list[Layer] = []
    for layer in manifest.layers:
        if layer.of:
            continue
        layers.append(layer)
        if layer.name in cut:
            about = Layer("", kind=layer.kind, of=layer.name)
            layers += [replace(about, name=f"{layer.name}[{number}]") for number in NUMBERS]
    return replace(manifest, layers=tuple(layers), origin={**manifest.origin, "parts": "summarised"})


def share_of(layer: str) -> str:
    """What the row is called that has the share of a layer's parts that are 0.

    Example:
        >>> share_of("w")
        'w[zero]'
    """
    return f"{layer}[{NUMBERS[-1]}]"


def summarise(layers: Sequence[Layer], values: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """The values of the layers of `summarised`, from those of all; by metric, (..., layers).

    Example:
        >>> layers = [Layer("w"), *(Layer(f"w[{label}]", of="w") for label in "abc"), Layer("v")]
        >>> summarise(layers, {"rwc": np.array([0.2, 0.0, 0.1, 0.5, 0.3])})["rwc"].round(2).tolist()
        [0.2, 0.0, 0.1, 0.5, 0.33, 0.3]
    """
    cut = list(_stretches(layers))
    return {metric: _shorter(metric, array, len(layers), cut) for metric, array in values.items()}


def _stretches(layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """Where the parts of each layer that is cut begin and end."""
    found: list[tuple[int, int]] = []
    for at, layer in enumerate(layers):
        if layer.of and layers[at - 1].of == layer.of:
            found[-1] = found[-1][0], at + 1
        elif layer.of:
            found.append((at, at + 1))
    return found


def _shorter(
    metric: str, values: NDArray[np.float64], layers: int, cut: Sequence[tuple[int, int]]
) -> NDArray[np.float64]:
    columns: list[NDArray[np.float64]] = []
    done = 0
    known = 1.0 if by_layer([metric]) else np.nan  # of what layers share, no part has a number of its own
    for begin, end in cut:
        parts = values[..., begin:end]
        zero = np.where(np.isnan(parts).all(axis=-1), np.nan, (parts == 0).mean(axis=-1))
        numbers = [parts.min(axis=-1), np.median(parts, axis=-1), parts.max(axis=-1), zero]
        columns += [values[..., done:begin], np.stack(numbers, axis=-1) * known]
        done = end
    return np.concatenate([*columns, values[..., done:layers]], axis=-1)
