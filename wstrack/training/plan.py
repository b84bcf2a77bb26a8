"""What the ranks of one model agree on: who counts which layer, and whether their samples are of one moment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wstrack.measuring.sharding import LocalShard
from wstrack.runs.manifest import Layer
from wstrack.training.host import OnHost

__all__ = ["MAX_STEP_SKEW", "Plan", "disagreement", "format_ranks", "merged", "places_of", "replica_ids"]

_NUMBERED = re.compile(r"(.*\[(?:.*\D)?)(\d+)\]")

SHARDS = "shards of rank "  # names a copy of a layer that several ranks hold between them
MAX_STEP_SKEW = 50  # steps by which a rank's host may run ahead of another's, for it does not wait for its device
MAX_CLOCK_SKEW = 10.0  # seconds by which it may do so


@dataclass(frozen=True)
class Plan:
    """What all ranks know in the end.

    Attributes:
        layers: of all ranks, in the order of the ranks and then of their models.
        owners: for each layer, by copy, the rank that counts it; -1 for each that holds a part of it.
        told: what the first rank adds: the name of the run, where it is recorded, the step at which it begins.
    """

    layers: tuple[Layer, ...]
    owners: tuple[Mapping[str, int], ...]
    told: Mapping[str, Any]


def replica_ids(shards: Sequence[LocalShard], whose: str = "") -> list[str]:
    """A name for the copy of a layer that each shard belongs to; ranks that hold parts of one copy give it one name.

    Args:
        shards: what this process holds.
        whose: names layers that are whole here as this rank's own, which no other rank has. "" = they are replicas: two
            ranks whose layer has the same sum of absolute values have the same copy of it.
    """
    names = [whose if shard.ranks is None else f"{SHARDS}{min(shard.ranks)}" for shard in shards]
    whole = [number for number, shard in enumerate(shards) if shard.ranks is None and not whose]
    sizes = [OnHost(shards[number].local().detach().abs().sum(dtype=torch.float64)) for number in whole]
    for number, size in zip(whole, sizes, strict=True):
        names[number] = f"of size {size.numpy()}"
    return names


def merged(
    offers: Mapping[int, tuple[Sequence[Layer], Sequence[str]]],
) -> tuple[tuple[Layer, ...], tuple[dict[str, int], ...]]:
    """The layers of all ranks, and who counts which copy of each; see `Plan`.

    Of a sharded layer one copy counts, in each rank that holds a part of it. Of a layer that is whole in several ranks
    each copy counts once, and all of them make one layer: experts of the same name, say. Their parts are numbered on.

    Args:
        offers: by rank, its layers and the copies of them that it holds, as `replica_ids` names them.

    Raises:
        ValueError: layers of one name differ in their shapes.

    Example:
        >>> weight, expert = Layer("0.weight", numel=8), Layer("expert.weight", numel=4)
        >>> held = [weight, expert]
        >>> layers, owners = merged({0: (held, ["shards of rank 0", "A"]), 1: (held, ["shards of rank 0", "B"])})
        >>> [(layer.name, layer.numel) for layer in layers], owners
        ([('0.weight', 8), ('expert.weight', 8)], ({'shards of rank 0': -1}, {'A': 0, 'B': 1}))
    """
    layers: dict[str, Layer] = {}
    owners: dict[str, dict[str, int]] = {}
    for rank, (held, their_copies) in offers.items():
        further: dict[str, str] = {}  # what the parts of a further copy of a layer are called
        for layer, copy in zip(held, their_copies, strict=True):
            sharded = copy.startswith(SHARDS)
            name = further.get(layer.name, layer.name)
            if layer.shape != layers.get(name, layer).shape:
                raise ValueError(
                    f"model: {layer.name} has the shape {layer.shape} on rank {rank} and {layers[layer.name].shape} on "
                    "another; give each part of the model names of its own, as in the whole model"
                )
            if name not in layers:
                layers[name] = replace(layer, name=name)
                owners[name] = {copy: -1 if sharded else rank}
            elif not sharded and copy not in owners[name] and -1 not in owners[name].values():
                owners[name][copy] = rank
                whole = layers[name]
                layers[name] = replace(whole, numel=whole.numel + layer.numel)
                if not layer.of:
                    further |= _numbered_on(layer.name, held, layers)
    order = [name for name, layer in layers.items() if not layer.of]
    parts: dict[str, list[str]] = {}
    for name, layer in layers.items():
        parts.setdefault(layer.of, []).append(name)
    names = [each for name in order for each in (name, *parts.get(name, ()))]
    return tuple(layers[name] for name in names), tuple(owners[name] for name in names)


def _numbered_on(layer: str, held: Sequence[Layer], known: Mapping[str, Layer]) -> dict[str, str]:
    """What the parts of a further copy of a layer are called, by what they are called where they are.

    Experts of which each rank has some are numbered from 0 in each: the next rank's go on where the last one's end. So
    do numbered heads; what has a name and no number ("q") is a part of one whole, as the layer is.

    Example:
        >>> experts = [Layer(f"w[{number}]", of="w") for number in (0, 1)]
        >>> _numbered_on("w", experts, {layer.name: layer for layer in experts})
        {'w[0]': 'w[2]', 'w[1]': 'w[3]'}
    """
    begins: dict[str, int] = {}
    for one in known.values():
        if one.of == layer and (numbered := _NUMBERED.fullmatch(one.name)):
            begins[numbered[1]] = max(begins.get(numbered[1], 0), int(numbered[2]) + 1)
    named = {one.name: _NUMBERED.fullmatch(one.name) for one in held if one.of == layer}
    return {name: f"{found[1]}{int(found[2]) + begins.get(found[1], 0)}]" for name, found in named.items() if found}


def places_of(plan: Plan, offered: Sequence[tuple[Layer, str]]) -> list[int]:
    """Where in the plan each layer stands that a rank offers, with its copy of it.

    The parts of a copy follow one another there as in the offer, whatever they are called.
    """
    index = {layer.name: number for number, layer in enumerate(plan.layers)}
    parts: dict[tuple[str, str], list[int]] = {}
    for number, (layer, copies) in enumerate(zip(plan.layers, plan.owners, strict=True)):
        for copy in copies if layer.of else ():
            parts.setdefault((layer.of, copy), []).append(number)
    following = {key: iter(numbers) for key, numbers in parts.items()}
    return [
        next(following[layer.of, copy]) if (layer.of, copy) in following else index[layer.name]
        for layer, copy in offered
    ]


def disagreement(
    ranks: Sequence[int], said: NDArray[np.float64], earlier: tuple[int, NDArray[np.float64]] | None
) -> str | None:
    """Why a sample cannot be of one moment in training on all ranks; None if it can.

    Args:
        ranks: their global ranks.
        said: (3, ranks), the step, the interval and the moment in seconds of each rank's sample.
        earlier: a sample some steps before, its step and its moments on all ranks, (ranks,).

    Example:
        >>> disagreement([0, 1], np.array([[50, 75], [50, 25], [1.0, 1.0]]), None)
        'the ranks took different samples, which cannot be added up: step 50 on rank 0, step 75 on rank 1'
        >>> disagreement([0, 1], np.array([[50, 50], [50, 50], [90.0, 50.0]]), (0, np.array([70.0, 25.0])))
        'the ranks count different steps: rank 1 took the sample of step 50 before rank 0 took that of step 0'
    """
    steps, intervals, moments = said
    for what, values in (("step", steps), ("a change over", intervals)):
        if (values != values[0]).any():
            by_value = {value: [rank for rank, v in zip(ranks, values, strict=True) if v == value] for value in values}
            each = [f"{what} {value:.0f} on {format_ranks(by_value[value])}" for value in sorted(by_value)]
            return f"the ranks took different samples, which cannot be added up: {', '.join(each)}"
    if earlier is None or steps[0] - earlier[0] < MAX_STEP_SKEW:
        return None
    # Ranks that train one model wait for each other in each step. One that takes a sample long before another has taken
    # an earlier one counts something else as a step.
    first, last = int(moments.argmin()), int(earlier[1].argmax())
    if moments[first] + MAX_CLOCK_SKEW >= earlier[1][last]:
        return None
    return (
        f"the ranks count different steps: rank {ranks[first]} took the sample of step {steps[0]:.0f} before "
        f"rank {ranks[last]} took that of step {earlier[0]}"
    )


def format_ranks(ranks: Sequence[int]) -> str:
    """Ranks in words, the first few of many."""
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    some = ", ".join(map(str, ranks[:8]))
    return f"ranks {some}" + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")
