"""A rule for freezing: layers that have settled, of which little is to be had any more."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from wstrack.rules.contract import Observed
from wstrack.runs.alerts import Alert

__all__ = ["Settled"]

_NEAR = 8  # samples of which the median is a layer's level


class Settled:
    """A layer whose change has fallen to a share of its highest level, where a level is the median of 8 samples.

    No default rule, for there is nothing wrong with such a layer: it is made to be acted on, as in
    `watch(model, rules=Settled(), act="freeze")`. A learning rate that falls settles all layers in the end.

    Args:
        share: of the highest level so far, at or under which a layer has settled.

    Raises:
        ValueError: a share that is not between 0 and 1.

    Example:
        >>> from wstrack.runs.manifest import Layer
        >>> rule, layers = Settled(share=0.5), (Layer("a"), Layer("b"))
        >>> for step in range(1, 40):
        ...     sums = {"abs_change": np.array([1 / step, 1.0]), "abs_previous": np.ones(2)}
        ...     for alert in rule(Observed(step, 1, layers, {}, sums)):
        ...         print(alert)
        step 13: a changes 0.469 times as much as at its highest, and has settled; it may be frozen (rule 'settled')
    """

    name = "settled"

    def __init__(self, *, share: float = 0.1) -> None:
        if not 0 < share < 1:
            raise ValueError(f"share={share!r} must be between 0 and 1, as in Settled(share=0.1)")
        self._share = share
        self._near: deque[NDArray[np.float64]] = deque(maxlen=_NEAR)
        self._highest: NDArray[np.float64] | None = None
        self._told: set[int] = set()

    def __call__(self, seen: Observed) -> list[Alert]:
        """The layers that have settled with this sample."""
        self._near.append(np.where(np.isfinite(seen.change) & seen.whole, seen.change, 0.0))
        if len(self._near) < _NEAR:
            return []
        level = np.median(self._near, axis=0)
        self._highest = level if self._highest is None else np.maximum(self._highest, level)
        alerts = []
        for place in np.flatnonzero((level > 0) & (level <= self._share * self._highest)).tolist():
            if place not in self._told:
                self._told.add(place)
                times = float(level[place] / self._highest[place])
                said = f"changes {times:.3g} times as much as at its highest, and has settled; it may be frozen"
                alerts.append(seen.alert(self.name, place, times, said))
        return alerts
