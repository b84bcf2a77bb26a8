"""What a rule is, and what it is shown: one sample at a time, on the thread that delivers samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wstrack.runs.alerts import Alert
from wstrack.runs.manifest import Layer

__all__ = ["Observed", "Rule"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """A sample as rules see it.

    Attributes:
        step: the optimizer step after which it was taken.
        interval: how many steps the change spans.
        layers: of the whole run, in model order; those with `of` are parts of another.
        values: by metric, of shape (layers,), float64; NaN where a layer has none.
        sums: by raw sum, likewise; `abs_change`, `abs_previous` and `lr` are among them, whatever the metrics.
        dtype: of the weights, as torch names it, if they are all of one; else "".

    Example:
        >>> layers = (Layer("a"), Layer("b", of="a"))
        >>> sums = {"abs_change": np.array([1.0, 0.0]), "abs_previous": np.array([10.0, 5.0])}
        >>> seen = Observed(50, 1, layers, {}, sums)
        >>> seen.change, seen.whole
        (array([0.1, 0. ]), array([ True, False]))
    """

    step: int
    interval: int
    layers: tuple[Layer, ...]
    values: Mapping[str, Array]
    sums: Mapping[str, Array]
    dtype: str = ""

    @cached_property
    def change(self) -> Array:
        """The relative weight change of each layer; NaN where it is not known, inf where it was nothing before."""
        with np.errstate(divide="ignore", invalid="ignore"):
            change: Array = self.sums["abs_change"] / self.sums["abs_previous"]
        change[(self.sums["abs_change"] == 0) & (self.sums["abs_previous"] == 0)] = 0.0
        return change

    @cached_property
    def rate(self) -> float:
        """The median of the layers' learning rates; NaN where none is known."""
        if "lr" not in self.sums:
            return np.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = self.sums["lr"] / self.sums["told"]
        known = rates[np.isfinite(rates)]
        return float(np.median(known)) if len(known) else np.nan

    @cached_property
    def whole(self) -> NDArray[np.bool_]:
        """Which are whole layers, and no parts."""
        return np.array([not layer.of for layer in self.layers])

    def alert(self, rule: str, place: int | None, number: float, text: str) -> Alert:
        """What a rule says of the layer at a place, or of the run as a whole; see `Alert`."""
        return Alert(rule, self.step, None if place is None else self.layers[place].name, float(number), text)


class Rule(Protocol):
    """Looks at one sample after the other, and says what is wrong with it.

    A function is a rule as well; its name is then that of the function. What a rule raises is reported once, and it is
    asked no more. It is made for one run: whoever trains several makes a new one for each.
    """

    name: str
    """What people call it; no two rules of a watch have one name."""

    def __call__(self, seen: Observed, /) -> Iterable[Alert]:
        """What there is to say of this sample; mostly nothing."""
