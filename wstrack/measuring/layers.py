"""Which tensors of a model are layers; their names and kinds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from wstrack.measuring.kinds import kind_of
from wstrack.measuring.meters.portable import fails_on
from wstrack.measuring.sharding import LocalShard, flattened, local_shard, refused
from wstrack.runs.manifest import Layer
from wstrack.runs.names import unwrapped

__all__ = ["Selection", "Weight", "predicate", "select", "unmeasurable", "weights"]

Selection = str | Sequence[str] | Callable[[str, nn.Parameter], bool] | None

# What torch computes a weight from lies under "<module>.parametrizations.<weight>".
_PARAMETRIZED = re.compile(r"((?:.*?\.)??)parametrizations\.([^.]+)")


def select(model: nn.Module, layers: Selection = None) -> list[tuple[Layer, LocalShard]]:
    """The layers of a model, in model order, each with what this process holds of it.

    Args:
        model: any module; a wrapped one too.
        layers: None = trainable parameters of two or more dimensions, as in the paper; "all" = every trainable
            parameter; a regular expression or several, searched for in the names of all trainable parameters; or a
            callable (name, parameter) -> bool, which is asked about frozen parameters too. A tied weight is one layer,
            its other names are its aliases.

    Raises:
        ValueError: nothing is selected, an expression is not one, or a parameter is not there yet (lazy, meta) or
            sharded in a way that is not supported.
        TypeError: `layers` is none of these.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        >>> [(layer.name, layer.kind, layer.shape) for layer, _ in select(model)]
        [('0.weight', 'conv', (4, 1, 3, 3)), ('2.weight', 'linear', (2, 4))]
    """
    wanted = predicate(layers)
    there = [
        one
        for one in weights(model)
        if one.whole.requires_grad
        or (callable(layers) and (one.whole.is_floating_point() or one.whole.is_complex()))  # may yet be trained
    ]
    if not there:
        raise ValueError(
            f"model: {type(model).__name__} has no trainable parameter; give a model whose parameters require gradients"
        )
    selected: list[tuple[Layer, LocalShard]] = []
    for one in there:
        name, *aliases = (unwrapped(raw, model) for raw in one.names)
        why = unmeasurable(one.shard.parameter)
        if not is_lazy(one.shard.parameter) and not wanted(name, one.whole):
            continue
        if why:
            raise ValueError(f"model: {name} {why}")
        layer = Layer(
            name=name,
            kind=kind_of(
                one.module,
                name.rpartition(".")[0],
                one.own,
                one.whole,
                owners=owners_of(model, one.names[0], one.module),
            ),
            shape=tuple(one.whole.shape),
            numel=one.whole.numel(),
            aliases=tuple(aliases),
        )
        selected.append((layer, one.shard))
    if not selected:
        some = ", ".join(unwrapped(one.names[0], model) for one in there[:5])
        wanting = "none has two or more dimensions; pass layers='all'" if layers is None else "none is selected"
        whose = "parameters" if callable(layers) else "trainable parameters"
        raise ValueError(f"layers={layers!r}: of the model's {whose} ({some}, ...) {wanting}")
    return selected


@dataclass
class Weight:
    """A weight of the model; `whole` has its full shape, and no values where FSDP1 has flattened it."""

    names: list[str]
    module: nn.Module
    own: str
    whole: nn.Parameter
    shard: LocalShard


def weights(model: nn.Module) -> list[Weight]:
    """The weights of a model in its order, tied ones once."""
    flat = flattened(model)
    found: dict[nn.Parameter, list[Weight]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter in found:
            if parameter not in flat:
                found[parameter][0].names.append(name)
        elif parameter in flat:
            found[parameter] = [
                Weight(one.names, one.module, one.own, _whole(one.shape, parameter), one.shard)
                for one in flat[parameter]
            ]
        elif getattr(parameter, "_fsdp_flattened", False):
            raise ValueError(
                f"model: {name} belongs to an FSDP wrapper outside of this model; watch the model with all its wrappers"
            )
        else:
            found[parameter] = [Weight([name], *_user_of(model, name), parameter, local_shard(parameter))]
    every = [one for group in found.values() for one in group]
    if flat:  # a flat parameter stands where its wrapper does, and its layers elsewhere
        order = {module: number for number, module in enumerate(model.modules())}
        every.sort(key=lambda one: order[one.module])
    return every


def owners_of(model: nn.Module, name: str, module: nn.Module) -> list[nn.Module]:
    """The modules that own a module, by the name of a parameter in it: the nearest first, the model last."""
    path = [model]
    for part in name.split(".")[:-1]:
        path.append(path[-1].get_submodule(part))
    return [each for each in reversed(path) if each is not module]


def _user_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that a parameter is for, and what it is there: what only keeps the parameter is passed over."""
    path, _, own = name.rpartition(".")
    if parametrized := _PARAMETRIZED.match(path):
        steps = model.get_submodule(parametrized.group()).children()
        normed = own == "original0" and any(type(step).__name__ == "_WeightNorm" for step in steps)
        path, own = parametrized[1].rstrip("."), parametrized[2] + "_g" * normed
    module = model.get_submodule(path)
    while path and (
        isinstance(module, nn.ParameterDict | nn.ParameterList)
        or ("lora" in type(module).__name__.lower() and not list(module.children()))
    ):
        path = path.rpartition(".")[0]
        module = model.get_submodule(path)
    return module, own


def _whole(shape: torch.Size, parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, dtype=parameter.dtype, device="meta"), parameter.requires_grad)


def predicate(layers: Selection) -> Callable[[str, nn.Parameter], bool]:
    """Whether a parameter is a layer, by its name and itself; what `select` says of `layers` holds here."""
    if layers is None:
        return lambda name, parameter: parameter.ndim >= 2
    if layers == "all":
        return lambda name, parameter: True
    if callable(layers):
        return layers
    if isinstance(layers, str):
        layers = [layers]
    if not isinstance(layers, Iterable) or not all(isinstance(pattern, str) for pattern in layers):
        raise TypeError(
            f"layers={layers!r}: pass None, 'all', a regular expression or a list of them, "
            "or a callable (name, parameter) -> bool"
        )
    patterns = []
    for pattern in layers:
        try:
            patterns.append(re.compile(pattern))
        except re.error as error:
            raise ValueError(f"layers: {pattern!r} is not a regular expression ({error})") from error
    return lambda name, parameter: any(pattern.search(name) for pattern in patterns)


def unmeasurable(parameter: nn.Parameter) -> str | None:
    """Why a parameter cannot be measured as a layer, and what to do; None if it can."""
    if is_lazy(parameter):
        return "is not initialised yet; run one forward pass before watch()"
    if parameter.is_meta:
        return "is on the meta device and has no values; load the weights before watch()"
    if parameter.layout != torch.strided:
        return "is sparse, which is not supported; leave it out with layers="
    why = refused(parameter)
    here: torch.Tensor = getattr(parameter, "_local_tensor", parameter).detach()
    if why is None and type(here) is not torch.Tensor and (error := fails_on(here)) is not None:
        return f"is a {type(here).__name__}, which cannot be measured ({error}); leave it out with layers="
    return why
