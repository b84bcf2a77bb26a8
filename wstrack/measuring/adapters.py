"""Which weights of a model have LoRA adapters, and the factors of what these add to them.

peft keeps two small factors beside a frozen weight W, and the model computes with W + D, D = s B A (LoRA, arXiv
2106.09685; s is alpha / r, or alpha / sqrt(r) if rank-stabilised). peft is never imported here: its layers are known by
what they have. What is measured of the factors is in `meters/products.py`.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from wstrack.measuring.kinds import kind_of
from wstrack.measuring.layers import owners_of
from wstrack.runs.manifest import Layer
from wstrack.runs.names import unwrapped

__all__ = ["Adapted", "Product", "adapted_weights"]

# Of peft's variants of LoRA, those that only begin or learn in another way: what they add is the plain product.
_PLAIN = ("MiCALinearVariant", "MiCAEmbeddingVariant", "VeloraLinearVariant")
_BLOCK = 1 << 22  # elements that are squared at a time


class Product(NamedTuple):
    """What one adapter adds to a weight, `scale * left @ right` up to the order of its elements.

    `left` is (parts, rows, rank), `right` (parts, rank, columns); of a weight that is not made of parts there is one.
    """

    left: torch.Tensor
    right: torch.Tensor
    scale: float


class Adapted:
    """A weight that adapters add to, found again at each look, for modules may be replaced. Holds no module.

    Args:
        model: in which it is.
        path: of the module of peft that adapts it.
    """

    def __init__(self, model: nn.Module, path: str) -> None:
        self._model = weakref.ref(model)
        self._path = path
        module = model.get_submodule(path)
        self.square = _square_without(module)
        """The square of the weight's norm, without the adapters, when this was made."""

    def products(self) -> dict[str, Product] | None:
        """What each adapter that is in use adds now, by name, in place; None if that cannot be told."""
        model = self._model()
        try:
            module: Any = None if model is None else model.get_submodule(self._path)
        except AttributeError:  # merged for good, say
            return None
        if not _is_adapter(module):
            return None
        names = _in_use(module)
        return None if any(_other_kind(module, name) for name in names) else dict(_products(module, names))


def adapted_weights(model: nn.Module, among: Collection[nn.Parameter]) -> list[tuple[Layer, Adapted]]:
    """The weights that LoRA adapters of peft add to, in model order, each as a layer of its own.

    They are named as the model's parameters are, without the `base_layer` that peft puts into the name.

    Args:
        model: any module with layers of peft in it; a wrapped one too.
        among: the parameters that are measured: of a weight whose adapters are not among them nothing is told.

    Raises:
        ValueError: there is none; its adapters add something else than a product (DoRA, AdaLoRA); or the weight itself
            cannot be read.
    """
    found: dict[str, tuple[Layer, Adapted]] = {}
    others: dict[str, None] = {}
    for path, module in model.named_modules():
        if not _is_adapter(module):
            if hasattr(module, "base_layer") and hasattr(module, "active_adapters"):
                others[type(module).__module__.removesuffix(".layer").rpartition(".")[2]] = None
            continue
        if not any(parameter in among for parameter in _factors(module)):
            continue
        own = _own_name(module)
        whole = f"{path}.{own}" if path else own
        for name in _in_use(module):
            if kind := _other_kind(module, name):
                raise ValueError(
                    f"metrics: what the adapter {name!r} ({kind}) adds to {unwrapped(whole, model)} is not s B A, and "
                    "'lora' is not known for it; leave 'lora' and 'lora_change' out"
                    + (", or compare saved adapters with `wstrack diff`" if kind.startswith("DoRA") else "")
                )
        try:
            adapted = Adapted(model, path)
        except ValueError as error:
            raise ValueError(f"metrics: 'lora' is by the norm of {unwrapped(whole, model)}, {error}") from error
        name = unwrapped(whole.replace(".base_layer.", "."), model)
        name = unwrapped(whole, model) if name in found else name
        found[name] = _layer(model, name, path, module), adapted
    if not found:
        kinds = f" (it has adapters of {', '.join(others)})" if others else ""
        raise ValueError(
            f"metrics: 'lora' is of LoRA adapters as peft has them, and {type(model).__name__} has none that is "
            f"measured{kinds}; add them before watch() (peft.get_peft_model) and have layers= take them, or leave "
            "'lora' and 'lora_change' out"
        )
    return list(found.values())


def _layer(model: nn.Module, name: str, path: str, module: Any) -> Layer:
    own, weight = _own_name(module), _weight(module)
    owners = owners_of(model, f"{path}.{own}", module)
    kind = kind_of(module.get_base_layer(), path, own, weight, owners=owners)
    return Layer(name, kind, tuple(weight.shape), weight.numel(), adapted=True, frozen=True)


def _is_adapter(module: Any) -> bool:
    """Whether it is a layer of peft with LoRA adapters."""
    return all(hasattr(module, name) for name in ("lora_A", "lora_B", "scaling", "base_layer", "active_adapters"))


def _factors(module: Any) -> Iterator[nn.Parameter]:
    for holder in (module.lora_A, module.lora_B, module.lora_embedding_A, module.lora_embedding_B):
        yield from holder.parameters()


def _own_name(module: Any) -> str:
    """What the adapted weight is called in the module that has it."""
    if hasattr(module, "parameter_name"):  # LoraConfig(target_parameters=...)
        return str(module.parameter_name)
    return "in_proj_weight" if isinstance(module.get_base_layer(), nn.MultiheadAttention) else "weight"


def _in_use(module: Any) -> list[str]:
    """The adapters that the model computes with: those merged into the weight, or else those that are active."""
    there = {*module.lora_A.keys(), *module.lora_embedding_A.keys()}
    active = [] if module.disable_adapters else module.active_adapters
    return [name for name in dict.fromkeys(module.merged_adapters or active) if name in there]


def _other_kind(module: Any, name: str) -> str | None:
    """Of what kind an adapter is, if it adds something else than s B A."""
    if hasattr(module, "lora_E"):
        return "AdaLoRA"
    variant = getattr(module, "lora_variant", {}).get(name)
    if variant is not None and type(variant).__name__ not in _PLAIN:
        return type(variant).__name__.removesuffix("Variant").replace("Dora", "DoRA")
    return "DoRA" if variant is None and getattr(module, "use_dora", {}).get(name) else None


def _products(module: Any, names: list[str]) -> Iterator[tuple[str, Product]]:
    for name in names:
        scale = float(module.scaling[name])
        if name in module.lora_embedding_A:
            left, right = module.lora_embedding_B[name].detach(), module.lora_embedding_A[name].detach()
            yield name, Product(left[None], right[None], scale)
            continue
        left, right = module.lora_B[name].weight.detach(), module.lora_A[name].weight.detach()
        experts = getattr(module, "num_experts", 1)
        if experts > 1:  # peft has the experts of one factor first, and of the other last
            left = left.reshape(len(left), -1, experts).permute(2, 0, 1)
            yield name, Product(left, right.reshape(experts, -1, right.shape[-1]), scale)
            continue
        groups = getattr(module.get_base_layer(), "groups", 1)  # of a convolution
        left = left.reshape(groups, len(left) // groups, -1)
        yield name, Product(left, right.reshape(groups, len(right) // groups, -1), scale)


def _weight(module: Any) -> torch.Tensor:
    """The adapted weight as numbers, with what is merged into it; of a quantised one as peft reads it.

    Raises:
        ValueError: there are none to be had.
    """
    base, own = module.get_base_layer(), _own_name(module)
    weight = getattr(base, own, None)
    if not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
        peft: Any = sys.modules.get("peft.utils.integrations")
        try:
            weight = peft.dequantize_module_weight(base)
        except Exception as error:  # whatever the library of the quantisation raises
            raise ValueError(f"which is quantised, and cannot be read ({error}); leave 'lora' out") from error
        if not weight.is_floating_point():
            raise ValueError(f"which is kept as {str(weight.dtype).removeprefix('torch.')}; leave 'lora' out")
    if weight.is_meta:
        raise ValueError("which has no values yet; load the model before watch()")
    return weight.detach()


def _square_without(module: Any) -> float:
    """The sum of the squares of the adapted weight, without what is merged into it."""
    weight = _weight(module)
    for name in module.merged_adapters:
        weight = weight.float() - module.get_delta_weight(name).detach()
    flat = weight.reshape(-1)
    blocks = (flat[begin : begin + _BLOCK] for begin in range(0, len(flat), _BLOCK))
    return sum(float(block.double().square().sum()) for block in blocks)
