"""Adapters of peft over the weights that they adapt: each adapted weight as the model uses it, W + s B A.

Which of several checkpoints is the model, and how much each adapter adds, is in `products.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from wstrack.checkpoints.stored import Checkpoint, Stored
from wstrack.errors import WstrackError
from wstrack.measuring.meters.memory import working_dtype

__all__ = ["Adapted", "over"]

# What LoraConfig can say that makes the weight another than W + s B A, or W another than the model's own.
_OTHERWISE = ("kasa_config", "use_bdlora", "use_qalora", "arrow_config", "monteclora_config", "alora_invocation_tokens")
_CHANGES_THE_MODEL = ("pissa", "olora", "corda", "loftq", "lora_ga")

_FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<what>A|B|embedding_A|embedding_B|magnitude_vector)(\.weight|\.default.*)?"
)
_WITHIN = re.compile(r"\.(base_layer|modules_to_save(\.default)?)\.")  # what peft puts between a module and its weights


@dataclass(frozen=True)
class Adapted(Stored):
    """A weight and the product that an adapter adds to it, computed as it is read, a few rows at a time.

    Attributes:
        base: the weight itself, of one shape with this.
        left, right: of shapes (rows, rank) and (rank, columns); the weight is seen as a matrix of its first dimension.
        scale: of their product.
        magnitude: of DoRA (arXiv 2402.09353), (rows,): the length that each row is brought to; None = none.
    """

    base: Stored
    left: Stored
    right: Stored
    scale: float
    flipped: bool = False
    magnitude: Stored | None = None

    @property
    def saved_as(self) -> torch.dtype:
        """Nothing is rounded beside the base."""
        return self.base.saved_as

    def read(self, into: torch.Tensor, start: int) -> None:
        """As of any."""
        columns = math.prod(self.shape[1:])
        first, last = start // columns, -(-(start + into.numel()) // columns)
        rows = torch.empty((last - first) * columns, dtype=self.base.dtype)
        self.base.read(rows, first * columns)
        whole = rows.to(self.dtype).view(-1, columns)
        left, right = self.left.matrix().to(self.dtype), self.right.matrix().to(self.dtype)
        if self.flipped:
            left, right = right.T, left.T
        whole = whole.addmm(left[first:last], right, alpha=self.scale)
        if self.magnitude is not None:
            lengths = self.magnitude.matrix().to(self.dtype).reshape(-1)[first:last]
            whole = whole * (lengths / whole.norm(dim=1)).unsqueeze(1)
        into.copy_(whole.reshape(-1)[start - first * columns :][: into.numel()])


def over(base: Checkpoint, adapter: Checkpoint) -> Checkpoint:
    """The weights that a model has with an adapter: those of `base`, the adapted ones as they take effect.

    LoRA with the scale lora_alpha / r, or lora_alpha / sqrt(r) if rank-stabilised, per module where the adapter says
    so; DoRA; and weights that were trained whole beside it (`modules_to_save`).

    Raises:
        WstrackError: an adapter of another kind, or one that does not fit the base.
    """
    config = adapter.adapter
    kind = str(config.get("peft_type", ""))
    if kind != "LORA":
        raise WstrackError(
            f"{adapter.path} is an adapter of the kind {kind or '?'}, whose effect is not known here (LORA is); merge "
            "it into the model (merge_and_unload()), save that, and compare it"
        )
    begun = config.get("init_lora_weights")
    other = [f"{name}={config[name]!r}" for name in _OTHERWISE if config.get(name)]
    if isinstance(begun, str) and begun.startswith(_CHANGES_THE_MODEL):
        other.append(f"init_lora_weights={begun!r}, which changes the model itself")
    if other:
        raise WstrackError(
            f"{adapter.path} is an adapter with {other[0]}: what it makes of {base.path} is not told by the two files "
            "alone; merge it into the model (merge_and_unload()), save that, and compare it"
        )
    factors: dict[str, dict[str, Stored]] = {}
    tensors = dict(base.tensors)
    for name, tensor in adapter.tensors.items():
        path = _WITHIN.sub(".", name.removeprefix("base_model.model."))
        found = _FACTOR.fullmatch(path)
        if found is None:
            if len(tensor.shape) >= 2:
                tensors[_named(path, base, adapter)] = tensor
        else:
            factors.setdefault(found["module"], {})[found["what"]] = tensor
    for module, parts in factors.items():
        name = _named(f"{module}.weight", base, adapter)
        tensors[name] = _adapted(base.tensors[name], parts, _scale(module, parts, config), bool(
            config.get("fan_in_fan_out")), f"{adapter.path}: {module}")  # fmt: skip
    return replace(base, path=adapter.path, tensors=tensors, said=adapter.said, notes=(*base.notes, *adapter.notes))


def _adapted(base: Stored, parts: Mapping[str, Stored], scale: float, flipped: bool, where: str) -> Adapted:
    embedding = "embedding_A" in parts
    first, second = ("embedding_A", "embedding_B") if embedding else ("A", "B")
    if first not in parts or second not in parts:
        raise WstrackError(f"{where} has one factor of its product and lacks the other")
    left, right = parts[second], parts[first]
    flipped = flipped or embedding
    rows, columns = base.shape[0], math.prod(base.shape[1:])
    shapes = [left.shape[0], left.numel // left.shape[0], right.shape[0], right.numel // right.shape[0]]
    outer = (shapes[3], shapes[0]) if flipped else (shapes[0], shapes[3])
    if outer != (rows, columns) or shapes[1] != shapes[2]:
        raise WstrackError(f"{where} does not fit the weight of {base.name}, {'x'.join(map(str, base.shape))}")
    dtype = working_dtype(base.dtype)
    magnitude = parts.get("magnitude_vector")
    if magnitude is not None and (flipped or magnitude.numel != rows):
        raise WstrackError(f"{where} is DoRA of a weight that is kept the other way round; merge it, and compare that")
    return Adapted(base.name, base.shape, dtype, base, left, right, scale, flipped, magnitude)


def _scale(module: str, parts: Mapping[str, Stored], config: Mapping[str, Any]) -> float:
    """Of the product of an adapter in a module, as peft has it."""
    right = parts.get("A") or parts.get("embedding_A")
    rank = _for(module, config.get("rank_pattern"), config.get("r")) or (right.shape[0] if right else 1)
    alpha = _for(module, config.get("alpha_pattern"), config.get("lora_alpha"))
    alpha = rank if alpha is None else alpha
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)


def _for(module: str, pattern: object, usual: Any) -> Any:
    """What a pattern of peft's config says for a module: its keys are ends of names, or expressions."""
    for key, value in pattern.items() if isinstance(pattern, Mapping) else ():
        if re.fullmatch(rf"(.*\.)?({key})", module):
            return value
    return usual


def _named(name: str, base: Checkpoint, adapter: Checkpoint) -> str:
    """The base's tensor of that name, whatever either side has in front of it."""
    if name in base.tensors:
        return name
    fits = [one for one in base.tensors if one.endswith(f".{name}") or name.endswith(f".{one}")]
    if len(fits) != 1:
        raise WstrackError(
            f"{adapter.path} adapts {name}, which is not in {base.path}; give the model that it was made for"
        )
    return fits[0]
