"""Rules on layers that are in a state that they should not be in: still, not finite, a part that does not learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wstrack.rules.contract import Observed
from wstrack.rules.evidence import Evidence
from wstrack.runs.alerts import Alert

__all__ = ["IdlePart", "NotFinite", "Stopped"]

_FEWEST = 8  # samples in which a layer moved, before it can be said to have stopped
_IDLE = 0.02  # of the median of the other parts: what weight decay alone, or old momentum, may still do


class NotFinite:
    """Weights of a layer that have become NaN or infinite. A fact, and no matter of chance."""

    name = "not finite"

    def __init__(self) -> None:
        self._told: set[int] = set()

    def __call__(self, seen: Observed) -> list[Alert]:
        """The layers that have just become so: their weights are not, and those of the sample before were."""
        before, change = seen.sums["abs_previous"], seen.sums["abs_change"]
        lost = (np.isfinite(before) & ~np.isfinite(change)) | np.isinf(before)
        alerts = []
        for place in np.flatnonzero(lost & seen.whole).tolist():
            if place not in self._told:
                self._told.add(place)
                said = "has weights that are NaN or infinite; go back to a checkpoint from before, and look at the "
                said += "loss and the gradients of these steps"
                alerts.append(seen.alert(self.name, place, float(change[place]), said))
        return alerts


class Stopped:
    """A layer that moved and does not change at all any more, while others do.

    How often it stood still so far says how likely it would again (Krichevsky and Trofimov); bet is on always.

    Args:
        rate: of false alarms over all layers and a whole run.
    """

    name = "stopped"

    def __init__(self, *, rate: float = 0.0005) -> None:
        self._rate = rate
        self._evidence: Evidence | None = None
        self._told: set[int] = set()

    def __call__(self, seen: Observed) -> list[Alert]:
        """The layers that have been still for too long with this sample."""
        change = seen.change
        known = np.isfinite(change) & seen.whole
        moved = known & (change > 0)
        if not moved.any():
            return []
        if self._evidence is None:
            self._evidence = Evidence(int(seen.whole.sum()), rate=self._rate)
            self._samples, self._moved, self._still = (np.zeros(len(change)) for _ in range(3))
        likely = (self._samples - self._moved + 0.5) / (self._samples + 1)
        with np.errstate(divide="ignore"):
            factors = np.where(moved, 0.0, 1 / likely)
        factors[~known | (self._moved < _FEWEST)] = np.nan
        self._samples += known
        self._moved += moved
        self._still = np.where(known, np.where(moved, 0, self._still + 1), self._still)
        whole = np.flatnonzero(seen.whole)
        alerts = []
        for place in whole[self._evidence.add(factors[whole])].tolist():
            if place not in self._told and not moved[place]:
                self._told.add(place)
                still = int(self._still[place])
                said = f"has not changed in {still} samples, and did before; look at whether it was frozen, whether "
                said += "gradients reach it, and whether the units before it are dead"
                alerts.append(seen.alert(self.name, place, still, said))
        return alerts


class IdlePart:
    """A part of a layer, such as an expert, that does not learn while the others do.

    It is still in a sample in which it changes by less than a fiftieth of the median part that moves. Bet is against
    its moving at least half as often as the parts of its layer do.

    Args:
        rate: of false alarms over all parts and a whole run.
    """

    name = "idle part"

    def __init__(self, *, rate: float = 0.0005) -> None:
        self._rate = rate
        self._evidence: Evidence | None = None
        self._told: set[int] = set()

    def __call__(self, seen: Observed) -> list[Alert]:
        """The parts that have not moved for too long with this sample."""
        parts = np.flatnonzero(~seen.whole)
        if not len(parts):
            return []
        change = seen.change[parts]
        if self._evidence is None:
            self._evidence = Evidence(len(parts), rate=self._rate)
            self._groups = _groups([seen.layers[place].of for place in parts.tolist()])
            self._moved, self._still = np.zeros(len(parts)), np.zeros(len(parts))
            self._samples = 0
        self._samples += 1
        factors = np.full(len(parts), np.nan)
        moved = np.zeros(len(parts), dtype=bool)
        for group in self._groups:
            its = change[group]
            moving = its[np.isfinite(its) & (its > 0)]
            if len(moving) < 2:
                continue
            moved[group] = its >= _IDLE * np.median(moving)
            share = (self._moved[group].mean() + 0.5) / (self._samples + 1)  # before this sample
            factors[group] = np.where(np.isnan(its), np.nan, np.where(moved[group], 0.0, 1 / (1 - share / 2)))
        known = ~np.isnan(factors)
        self._moved += moved
        self._still = np.where(known, np.where(moved, 0, self._still + 1), self._still)
        alerts = []
        for place in np.flatnonzero(self._evidence.add(factors)).tolist():
            if place not in self._told and not moved[place]:
                self._told.add(place)
                still = int(self._still[place])
                said = f"has not learnt in {still} samples, while the other parts of its layer do; look at how often "
                said += "the router chooses it, and at the loss that balances"
                alerts.append(seen.alert(self.name, int(parts[place]), still, said))
        return alerts


def _groups(of: list[str]) -> list[NDArray[np.intp]]:
    """The places of the parts of each layer."""
    return [np.flatnonzero(np.array(of) == name) for name in dict.fromkeys(of)]
