"""Which of what a training program saved are the weights: by the names under which programs keep them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

__all__ = ["is_aside", "said_in", "weights_in"]

T = TypeVar("T")

DEEPEST, LONGEST = 64, 10_000  # mappings within one another, characters of a name: far beyond any program's

# Under these a training program keeps the weights beside what else it saves.
_CONTAINERS = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "params", "weights",
    "model_weights", "app",
)  # fmt: skip
# And under these what is no weight, or the weights once more.
_ASIDE = re.compile(
    r"opt(im(izer)?)?s?([_.]|$)|.*(optimizer|optim_state|scheduler|scaler|rng|random_state|callback|loops?$|ema([_.]|$))"
    r"|.*_ema$|hyper_?param|hparams|args$|config|history",
    re.IGNORECASE,
)
# And under these, how far it had come.
_STEPS = {
    "global_step": ("global_step", "global_steps", "step", "steps", "iteration", "iter", "num_updates", "it"),
    "epoch": ("epoch", "epochs"),
}


def weights_in(held: object, as_weight: Callable[[object], T | None]) -> Iterator[tuple[str, T]]:
    """The weights in nested mappings, by name.

    Args:
        held: what was saved.
        as_weight: a leaf of it as a weight; None if it is none.

    Raises:
        ValueError: it is nested deeper, or a name is longer, than in any model.

    Example:
        >>> saved = {"epoch": 3, "model": {"fc.weight": 1.0}, "optimizer": {"state": {"0": 2.0}}}
        >>> dict(weights_in(saved, lambda leaf: leaf if isinstance(leaf, float) else None))
        {'fc.weight': 1.0}
    """
    return _weights_in(held, as_weight, set(), 0)


def _weights_in(
    held: object, as_weight: Callable[[object], T | None], seen: set[int], depth: int
) -> Iterator[tuple[str, T]]:
    """The same; mappings that were `seen` are not gone through again: one may hold itself, or be in many places."""
    if not isinstance(held, Mapping) or "param_groups" in held or id(held) in seen:
        return
    if depth > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    seen.add(id(held))
    for container in _CONTAINERS:
        inside = held.get(container)
        if isinstance(inside, Mapping) and (found := list(_weights_in(inside, as_weight, seen, depth + 1))):
            yield from found
            return
    for key, value in held.items():
        if len(name := str(key)) > LONGEST:
            raise ValueError(f"a name in it has {len(name):,} characters")
        if not isinstance(value, Mapping):
            if (weight := as_weight(value)) is not None:
                yield name, weight
        elif not is_aside(name):
            yield from ((f"{name}.{of}", inner) for of, inner in _weights_in(value, as_weight, seen, depth + 1))


def is_aside(name: str) -> bool:
    """Whether what a program keeps under a name is no weight, or the weights once more."""
    return _ASIDE.match(name) is not None


def said_in(held: object, as_number: Callable[[object], int | None]) -> dict[str, int]:
    """What a program says of its step beside the weights: "global_step", "epoch".

    Args:
        held: what was saved.
        as_number: a leaf of it as a whole number; None if it is none.

    Example:
        >>> said_in({"iteration": 500, "model": {}}, lambda leaf: leaf if isinstance(leaf, int) else None)
        {'global_step': 500}
    """
    if not isinstance(held, Mapping):
        return {}
    found = {
        means: next((number for name in names if (number := as_number(held.get(name))) is not None), None)
        for means, names in _STEPS.items()
    }
    return {means: number for means, number in found.items() if number is not None}
