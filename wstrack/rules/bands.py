"""A rule on how much a layer changes beside the others, against what is usual of it in this run."""

from __future__ import annotations

import math

import numpy as np

from wstrack.rules.contract import Observed
from wstrack.rules.evidence import Evidence, against_usual
from wstrack.rules.usual import Usual
from wstrack.runs.alerts import Alert

__all__ = ["Band"]

_FAR = math.log(3)


class Band:
    """A layer whose change has left the usual band of its own past, far above or far below.

    Looked at is the logarithm of a layer's change beside the median layer's of the same sample, so that what moves all
    layers alike (a schedule, a warm-up, decay) is no news; and its distance from the median of the layer's 16 samples
    before, so that slow trends are none. Far is 3 times as much or as little. Three whole layers are needed, of which
    one would be told apart.

    Args:
        rate: of false alarms over all layers and a whole run.
    """

    name = "band"

    def __init__(self, *, rate: float = 0.004) -> None:
        self.rate = rate
        self._evidence: Evidence | None = None
        self._told: set[int] = set()

    def __call__(self, seen: Observed) -> list[Alert]:
        """The layers that left their band with this sample."""
        whole = np.flatnonzero(seen.whole)
        if self._evidence is None:
            self._evidence = Evidence(len(whole), rate=self.rate)
            self._usual = Usual(series=len(whole))
        change = seen.change[whole]
        moves = np.isfinite(change) & (change > 0)
        if moves.sum() < 3:
            return []
        logs = np.log(np.where(moves, change, np.nan))
        away, scale = self._usual.add(logs - np.median(logs[moves]))
        out = self._evidence.add(against_usual(away, scale, far=_FAR, both=True)) & (np.abs(away) >= _FAR)
        alerts = []
        for place in np.flatnonzero(out).tolist():
            if place in self._told:
                continue
            self._told.add(place)
            times = math.exp(abs(away[place]))
            said = f"changes {times:.3g} times more than usual beside the other layers; look at its learning rate, its "
            said += "gradients and the data of these steps"
            if away[place] < 0:
                said = f"changes {times:.3g} times less than usual beside the other layers; look at whether gradients "
                said += "still reach it, and whether it or its group was frozen"
            alerts.append(seen.alert(self.name, int(whole[place]), math.exp(away[place]), said))
        return alerts
