"""What the optimizers say of each layer: the learning rate, weight decay and momentum of its parameter group."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import SGD, AdamW

from wstrack.training.host import OnHost

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from wstrack.training.followed import Followed

__all__ = ["GroupRates", "Rates", "table_of"]

# Of `wstrack.metrics.RATES`, what no group says itself.
TOLD = "told"  # how many processes have told; each tells once
GROUP = "group"


@dataclass(frozen=True)
class GroupRates:
    """A parameter group at a step.

    Attributes:
        layers: those in it, by number.
        values: what it said, by name; a number on a device is on its way to the host.
    """

    layers: list[int]
    values: dict[str, float | OnHost]


class Rates:
    """Notes what each optimizer says before it steps: a scheduler sets the next step's rate before a sample may be due.

    Args:
        names: of `wstrack.metrics.RATES`.
        followed: the layers, whose parameters may be replaced.
    """

    def __init__(self, names: Sequence[str], followed: Followed) -> None:
        self.names = tuple(names)
        self._followed = followed
        self._noted: weakref.WeakKeyDictionary[Optimizer, list[GroupRates]] = weakref.WeakKeyDictionary()

    def note(self, optimizer: Optimizer) -> None:
        """Note what an optimizer says that is about to step; of two that hold a layer the last one counts."""
        self._noted.pop(optimizer, None)
        self._noted[optimizer] = self._read(optimizer)

    def take(self, optimizers: Iterable[Optimizer]) -> list[GroupRates]:
        """What was noted since the last call, those that count last; before it, what these say that had no turn."""
        if not self.names:
            return []
        others = [self._read(optimizer) for optimizer in optimizers if optimizer not in self._noted]
        found = [group for groups in (*others, *self._noted.values()) for group in groups]
        self._noted.clear()
        return found

    def _read(self, optimizer: Optimizer) -> list[GroupRates]:
        numbers: dict[torch.Tensor, list[int]] = {}
        for number, parameter in enumerate(self._followed.parameters):
            numbers.setdefault(parameter, []).append(number)  # FSDP1 holds several layers as one
        found = []
        for group in optimizer.param_groups:
            layers = [number for parameter in group["params"] for number in numbers.get(parameter, ())]
            if layers:
                said = {**group, **_averaging(optimizer, group), "plain": float(isinstance(optimizer, SGD))}
                ours = {name: _number(said.get(name)) for name in self.names if name not in (TOLD, GROUP)}
                found.append(GroupRates(layers, ours))
        return found


def _averaging(optimizer: Optimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    """How an optimizer averages gradients, where the equilibrium of such averages is known: in no variant of these."""
    if type(optimizer) is AdamW and not group["amsgrad"]:
        return {"momentum": group["betas"][0], "gain": 1.0}
    if type(optimizer) is SGD and not (group["nesterov"] or group["dampening"]):
        momentum = float(group["momentum"])
        return {"momentum": momentum, "gain": 1 / (1 - momentum) if momentum < 1 else np.nan}
    return {"momentum": np.nan, "gain": np.nan}


def _number(value: object) -> float | OnHost:
    """A rate as it is now; one in a tensor (`capturable=True`) is copied, for a scheduler changes it in place."""
    if isinstance(value, torch.Tensor):
        return OnHost(value.detach().clone())
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # of an optimizer that has none, or makes its own
        return np.nan


def table_of(groups: Sequence[GroupRates], names: Sequence[str], layers: int) -> NDArray[np.float64]:
    """What groups say, (layers, names), as sums of this process; NaN where none holds a layer. Waits for the device.

    Example:
        >>> table_of([GroupRates([0, 2], {"lr": 0.1}), GroupRates([2], {"lr": 0.5})], ["lr", "told"], 3)
        array([[0.1, 1. ],
               [nan, 1. ],
               [0.5, 1. ]])
    """
    table = np.full((layers, len(names)), np.nan)
    table[:, [name == TOLD for name in names]] = 1.0
    for place, group in enumerate(groups):
        for name, value in {**group.values, **({GROUP: float(place)} if GROUP in names else {})}.items():
            number = value.numpy().ravel()[0] if isinstance(value, OnHost) else value
            table[group.layers, list(names).index(name)] = number
    return table
