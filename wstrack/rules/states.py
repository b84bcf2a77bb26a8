"""Rules on layers that are in a state that they should not be in: still, not finite, a part that does not learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wstrack.rules.contract import Observed
from wstrack.rules.evidence import Evidence
from wstrack.rules.usual import quantile
from wstrack.runs.alerts import Alert

__all__ = ["IdlePart", "NotFinite", "Stopped"]

_FEWEST = 8  # samples in which a layer moved, before it can be said to have stopped
_MOSTLY = 0.8  # of the samples: more often nothing is held to move
_IDLE = 0.02  # of the median of the other parts: what weight decay alone, or old momentum, may still do


class NotFinite:
    """Weights of a layer that have become NaN or infinite. A fact, and no matter of chance.

    Said is it at once where a sample begins with finite weights and does not end with such, and at the second sample
    that has none at all: a single one may be a gap, which a process leaves that could not measure.
    """

    name = "not finite"

    def __init__(self) -> None:
        self._told: set[int] = set()
        self._missing: NDArray[np.bool_] | None = None

    def __call__(self, seen: Observed) -> list[Alert]:
        """The layers whose weights have just become so."""
        before, change = seen.sums["abs_previous"], seen.sums["abs_change"]
        missing = np.isnan(before) & np.isnan(change)
        if self._missing is None:
            self._missing, self._known = np.zeros_like(missing), np.zeros_like(missing)
        again = missing & self._missing & self._known
        lost = (np.isfinite(before) & ~np.isfinite(change)) | np.isinf(before) | again
        self._missing = missing
        self._known |= np.isfinite(before)
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
        self.rate = rate
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
            self._evidence = Evidence(int(seen.whole.sum()), rate=self.rate)
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
    its moving as often as it did so far, or a quarter as often as the parts of its layer do, whichever is more; of
    five samples one may always be still.

    Args:
        rate: of false alarms over all parts and a whole run.
    """

    name = "idle part"

    def __init__(self, *, rate: float = 0.0005) -> None:
        self.rate = rate
        self._evidence: Evidence | None = None
        self._told: set[int] = set()

    def __call__(self, seen: Observed) -> list[Alert]:
        """The parts that have not moved for too long with this sample."""
        parts = np.flatnonzero(~seen.whole)
        if not len(parts):
            return []
        change = seen.change[parts]
        if self._evidence is None:
            self._evidence = Evidence(len(parts), rate=self.rate)
            self._layer, self._table = _grouped([seen.layers[place].of for place in parts.tolist()])
            self._moved, self._still = np.zeros(len(parts)), np.zeros(len(parts))
            self._samples = 0
        moving = np.isfinite(change) & (change > 0)
        of_layer = np.append(np.where(moving, change, np.nan), np.nan)[self._table]
        middle = np.where(np.isfinite(of_layer).sum(axis=1) >= 2, quantile(of_layer, 0.5), np.nan)[self._layer]
        moved = change >= _IDLE * middle
        often = np.bincount(self._layer, self._moved) / np.bincount(self._layer)
        often = np.maximum(self._moved, often[self._layer] / 4) / (self._samples + 1)  # before this sample
        factors = np.where(moved, 0.0, 1 / (1 - np.minimum(often, _MOSTLY)))
        factors[np.isnan(change) | np.isnan(middle)] = np.nan
        known = ~np.isnan(factors)
        self._samples += 1
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


def _grouped(of: list[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The number of each part's layer, and for each layer the places of its parts; -1 where it has fewer than others.

    Example:
        >>> _grouped(["up", "down", "up"])
        (array([0, 1, 0]), array([[ 0,  2],
               [ 1, -1]]))
    """
    _, first, layer = np.unique(of, return_index=True, return_inverse=True)
    layer = np.argsort(np.argsort(first))[layer]
    order = np.argsort(layer, kind="stable")
    sizes = np.bincount(layer)
    table = np.full((len(sizes), sizes.max()), -1)
    table[layer[order], np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)] = order
    return layer, table
