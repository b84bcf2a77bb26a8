"""Which of what a training program saved are the weights: by the names under which programs keep them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

__all__ = ["is_aside", "said_in", "weights_in"]

T = TypeVar("T")

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

    Example:
        >>> saved = {"epoch": 3, "model": {"fc.weight": 1.0}, "optimizer": {"state": {"0": 2.0}}}
        >>> dict(weights_in(saved, lambda leaf: leaf if isinstance(leaf, float) else None))
        {'fc.weight': 1.0}
    """
    if not isinstance(held, Mapping) or "param_groups" in held:
        return
    for container in _CONTAINERS:
        if isinstance(inside := held.get(container), Mapping) and (found := list(weights_in(inside, as_weight))):
            yield from found
            return
    for key, value in held.items():
        if not isinstance(value, Mapping):
            if (weight := as_weight(value)) is not None:
                yield str(key), weight
        elif not is_aside(str(key)):
            yield from ((f"{key}.{name}", inner) for name, inner in weights_in(value, as_weight))


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
