"""Where a layer stands in its model: what it is called there, and what the modules around it tell of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from wstrack.measuring.layers import Weight, weights
from wstrack.runs.manifest import Layer
from wstrack.runs.names import unwrapped

__all__ = ["Place", "kinds", "places"]

# What torch and peft put around a weight without making it another one's.
_AROUND = re.compile(r"base_layer|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module")
_WITHIN = re.compile(r"parametrizations|lora_\w+")


@dataclass(frozen=True)
class Place:
    """A layer in its model.

    Attributes:
        layer: its name, its whole shape, its kind.
        weight: the parameter; without values where FSDP1 has flattened it.
        module: what the weight belongs to; of an adapter, what is adapted.
        called: the module's name in its owner ("c_attn"), or, where the owner has the weight itself, the weight's.
        owners: the modules that the module is in, the nearest first, the model last.
        transposed: whether it has a row for each input, as GPT-2's Conv1D; a Linear layer has one for each output.
        factor: "A" or "B", which factor of an adapter it is; "" for whatever else.
    """

    layer: Layer
    weight: nn.Parameter
    module: nn.Module
    called: str
    owners: tuple[nn.Module, ...]
    transposed: bool
    factor: str

    @property
    def outputs(self) -> int | None:
        """The dimension with one element for each output of the module; None if there is none."""
        return None if self.factor == "A" else int(self.transposed and len(self.layer.shape) > 1)

    @property
    def inputs(self) -> int | None:
        """The dimension with one element for each input of the module; None if there is none."""
        return None if self.factor == "B" or len(self.layer.shape) < 2 else int(not self.transposed)

    @property
    def stock(self) -> bool:
        """Whether the module is one of torch's own kinds: Linear, Conv2d, Embedding, ..."""
        return any(kind.__module__.startswith("torch.nn.modules.") for kind in kinds(self.module))

    def told(self, *names: str) -> tuple[int, ...]:
        """The numbers that stand under these names: in the nearest module that has one, then in the nearest config.

        A config is that of a model, whichever module has it.
        """
        configs = (getattr(owner, name, None) for owner in self.owners for name in ("config", "args"))
        return (*self.near(*names), *_first(configs, names))

    def near(self, *names: str) -> tuple[int, ...]:
        """What modules tell of it: its own, its owner, that one's owner, what else these have; others are too far."""
        beside = [child for owner in self.owners[:2] for child in owner.children()]
        return _first((self.module, *self.owners[:2], *beside), names)


def _first(sources: Iterable[Any], names: Sequence[str]) -> tuple[int, ...]:
    """All numbers under the names, of the first source that has any."""
    return next(filter(None, (_numbers(source, names) for source in sources)), ())


def _numbers(source: Any, names: Sequence[str]) -> tuple[int, ...]:
    found = []
    for name in names:
        try:
            number = getattr(source, name, None)
        except RuntimeError:  # Transformers' configs of layers that differ in it
            continue
        if type(number) is int and number > 0:
            found.append(number)
    return tuple(found)


def kinds(module: nn.Module) -> tuple[type, ...]:
    """The classes of a module, the most special first, without those that all modules have."""
    return type(module).__mro__[: type(module).__mro__.index(nn.Module)]


def places(model: nn.Module, layers: Sequence[Layer]) -> list[Place]:
    """Where the layers stand that `select` found in a model.

    Example:
        >>> from wstrack.measuring.layers import select
        >>> model = nn.TransformerEncoderLayer(8, 2)
        >>> [(one.called, type(one.owners[0]).__name__) for one in places(model, [layer for layer, _ in select(model)])]
        [('in_proj_weight', 'MultiheadAttention'), ('out_proj', 'MultiheadAttention'),
         ('linear1', 'TransformerEncoderLayer'), ('linear2', 'TransformerEncoderLayer')]
    """
    known = {layer.name: layer for layer in layers}
    there = ((known.get(unwrapped(one.names[0], model)), one) for one in weights(model))
    return [_place(model, layer, one) for layer, one in there if layer is not None]


def _place(model: nn.Module, layer: Layer, weight: Weight) -> Place:
    path = weight.names[0].split(".")[:-1]
    within = next((position for position, part in enumerate(path) if _WITHIN.fullmatch(part)), len(path))
    factor = path[within][-1] if within < len(path) and path[within].startswith("lora_") else ""
    path = path[:within]
    while path and _AROUND.fullmatch(path[-1]):
        path.pop()
    module = model.get_submodule(".".join(path))
    called = re.sub("(?<=weight)_[gv]$", "", weight.own)  # a weight norm has two for one weight
    if of_a_layer := called in ("weight", "bias"):
        while len(path) > 1 and path[-1].isdigit():  # the first of a Sequential, as in "to_out.0"
            path.pop()
        called = path.pop() if path else ""
    owners = [model.get_submodule(".".join(path[:length])) for length in range(len(path), -1, -1)]
    if not of_a_layer:
        module = owners[0] = weight.module
    return Place(
        layer=layer,
        weight=weight.whole,
        module=module,
        called=called,
        owners=tuple(owners),
        transposed=type(weight.module).__name__ == "Conv1D",
        factor=factor if factor in ("A", "B") else "",
    )
