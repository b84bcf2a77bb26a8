"""What is known of a run's layers and of the run beside its numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wstrack.metrics import is_of_adapters

__all__ = ["Layer", "Manifest", "block_of", "layer_table"]


@dataclass(frozen=True)
class Layer:
    """What is known of one weight tensor without the tensor.

    `kind` is a word of `wstrack.measuring.layers` ("conv", "linear", ...), or "" where only the name is known;
    `aliases` are the other names of a tied weight; `of` is the layer that this is a part of, "" for a whole one.
    `adapted` says that adapters add to it, so that metrics of adapters are of it; `frozen` that these alone are.
    """

    name: str
    kind: str = ""
    shape: tuple[int, ...] = ()
    numel: int = 0
    aliases: tuple[str, ...] = ()
    of: str = ""
    adapted: bool = False
    frozen: bool = False

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Layer:
        """The layer that `dataclasses.asdict` made into this, by way of JSON perhaps.

        Raises:
            KeyError, TypeError, ValueError: `data` is not such a layer.
        """
        # Thousands of runs of a sweep have the same layers, which are then held once.
        return _layer(
            data["name"], data["kind"], tuple(data["shape"]), data["numel"], tuple(data["aliases"]),
            data.get("of", ""), data.get("adapted", False), data.get("frozen", False),
        )  # fmt: skip


@lru_cache(maxsize=2**16)
def _layer(
    name: Any, kind: Any, shape: tuple[Any, ...], numel: Any, aliases: tuple[Any, ...],
    of: Any, adapted: Any, frozen: Any,
) -> Layer:  # fmt: skip
    sizes, names = tuple(int(size) for size in shape), tuple(str(alias) for alias in aliases)
    return Layer(str(name), str(kind), sizes, int(numel), names, str(of), bool(adapted), bool(frozen))


@dataclass(frozen=True)
class Manifest:
    """What a run must carry beside its numbers to be read back whole; travels as JSON inside every tracker.

    `metrics` are logged in this order, `layers` are in model order; `window` is "interval" or "step". `facts` are what
    the user gave, `origin` what wstrack saw of the training, by names of its own.
    """

    name: str
    layers: tuple[Layer, ...]
    metrics: tuple[str, ...]
    every: int
    window: str = "interval"
    facts: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def has(self, metric: str) -> NDArray[np.bool_]:
        """Which layers have a metric, (layers,); given a raw sum, which layers have that.

        Example:
            >>> layers = Layer("fc.lora_B.weight"), Layer("fc.weight", adapted=True, frozen=True)
            >>> manifest = Manifest("demo", layers, ("rwc", "lora"), every=1)
            >>> manifest.has("rwc").tolist(), manifest.has("lora").tolist()
            ([True, False], [False, True])
        """
        return self._adapted if is_of_adapters(metric) else self._moving

    @property
    def width(self) -> int:
        """How many values a sample has: those that the layers have, of each metric."""
        return sum(int(self.has(metric).sum()) for metric in self.metrics)

    @property
    def lacking(self) -> int:
        """How many values checkpoints cannot give, which hold some layers at some steps only."""
        return int(self.origin.get("lacking", 0)) * sum(not is_of_adapters(metric) for metric in self.metrics)

    @cached_property
    def _adapted(self) -> NDArray[np.bool_]:
        return np.array([layer.adapted for layer in self.layers], dtype=bool)

    @cached_property
    def _moving(self) -> NDArray[np.bool_]:
        return np.array([not layer.frozen for layer in self.layers], dtype=bool)

    def to_json(self) -> str:
        """The manifest as one line of JSON, in ASCII: a name may hold what UTF-8 cannot (half a surrogate pair)."""
        return json.dumps({"wstrack": 2, **asdict(self)}, default=str)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest that `to_json` wrote.

        Raises:
            ValueError: `text` is not such a manifest.
        """
        try:
            data = json.loads(text)
            facts, origin = _apart(data)
            return cls(
                name=str(data["name"]),
                layers=tuple(Layer.from_dict(layer) for layer in data["layers"]),
                metrics=tuple(str(metric) for metric in data["metrics"]),
                every=int(data["every"]),
                window=str(data["window"]),
                facts=facts,
                origin=origin,
            )
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a wstrack manifest: {error!r}") from error


_IN_FACTS_OF_VERSION_1 = (
    "model", "parameters", "devices", "dtypes", "started", "versions", "meter", "snapshot", "ranks", "references",
)  # fmt: skip


def _apart(manifest: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts and the origin in a manifest; its first version had both in one, and refused facts of these names."""
    facts = dict(manifest["facts"])
    if manifest.get("wstrack", 1) != 1:
        return facts, dict(manifest["origin"])
    ours = {name: value for name, value in facts.items() if name in _IN_FACTS_OF_VERSION_1}
    return {name: value for name, value in facts.items() if name not in ours}, ours


def layer_table(layers: Sequence[Layer]) -> pd.DataFrame:
    """The frame of `Run.layers` for layers in model order."""
    return pd.DataFrame(
        {
            "kind": pd.Series([layer.kind for layer in layers], dtype=object),
            "shape": pd.Series([layer.shape for layer in layers], dtype=object),
            "numel": np.array([layer.numel for layer in layers], dtype=np.int64),
            "depth": np.arange(len(layers), dtype=np.int64),
            "block": pd.Series([block_of(layer.of or layer.name) for layer in layers], dtype=object),
            "aliases": pd.Series([layer.aliases for layer in layers], dtype=object),
            "of": pd.Series([layer.of for layer in layers], dtype=object),
        }
    ).set_axis(pd.Index([layer.name for layer in layers], name="layer", dtype=object))


def block_of(layer: str) -> str:
    """The block that a layer belongs to, by its name alone: what people chart and compare together.

    The name up to its first numbered module, unless that module is the layer itself; "" for a layer that stands
    alone at the top of the model.

    Example:
        >>> block_of("layer1.0.conv1.weight"), block_of("transformer.h.11.attn.c_attn.weight")
        ('layer1.0', 'transformer.h.11')
        >>> block_of("features.3.weight"), block_of("encoder.proj.weight"), block_of("fc.weight")
        ('features', 'encoder', '')
    """
    modules = layer.split(".")[:-1]
    for position, module in enumerate(modules):
        if re.fullmatch(r"\d+", module):
            last = position if position == len(modules) - 1 else position + 1
            return ".".join(modules[:last])
    return modules[0] if len(modules) > 1 else ""
