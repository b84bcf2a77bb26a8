"""Rules on how much changes, against what is usual in this run: a layer by itself, and all layers together."""

from __future__ import annotations

import math
import warnings
from collections import deque

import numpy as np
from numpy.typing import NDArray

from wstrack.rules.contract import Observed
from wstrack.rules.evidence import Evidence, against_usual
from wstrack.runs.alerts import Alert

__all__ = ["Band", "Surge"]

Array = NDArray[np.float64]

_NEAR = 8  # samples of which the median is what is expected of the next
_PAST = 60  # samples whose distances from that tell how far is usual
_FEWEST = 16  # of those, before anything is far
_LEAST = 0.03  # of a scale: closer than 3 % nothing is told apart
_NORMAL, _TAIL = 1.4826, 1.645  # the median and the 90th percentile of abs(normal) are 1/1.4826 and 1.645 deviations


class _Usual:
    """Series of logarithms: how far each new value is from its own latest ones, and how far is usual."""

    def __init__(self) -> None:
        self._near: deque[Array] = deque(maxlen=_NEAR)
        self._past: deque[Array] = deque(maxlen=_PAST)

    def add(self, values: Array) -> tuple[Array, Array]:
        """The distance of each value from the median of the latest, and the scale of earlier distances.

        The distance is NaN as long as there are too few to tell either.
        """
        away, scale = np.full_like(values, np.nan), np.full_like(values, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # medians of nothing are NaN, which is right
            if len(self._near) == _NEAR:
                away = values - np.nanmedian(self._near, axis=0)
            if len(self._past) >= _FEWEST:
                past = np.abs(self._past)
                scale = np.maximum(_NORMAL * np.nanmedian(past, axis=0), np.nanquantile(past, 0.9, axis=0) / _TAIL)
                scale[np.isfinite(past).sum(axis=0) < _FEWEST] = np.nan
        self._near.append(values)
        if np.isfinite(away).any():
            self._past.append(away)
        return np.where(np.isnan(scale), np.nan, away), np.maximum(scale, _LEAST)


class Band:
    """A layer whose change has left the usual band of its own past, far above or far below.

    Looked at is the logarithm of a layer's change beside the median layer's of the same sample, so that what moves all
    layers alike (a schedule, a warm-up, decay) is no news; and its distance from the median of the layer's 8 samples
    before, so that slow trends are none. Far is 3 times as much or as little. Three whole layers are needed, of which
    one would be told apart.

    Args:
        rate: of false alarms over all layers and a whole run.
    """

    name = "band"

    def __init__(self, *, rate: float = 0.005) -> None:
        self._rate = rate
        self._usual = _Usual()
        self._evidence: Evidence | None = None
        self._told: set[int] = set()

    def __call__(self, seen: Observed) -> list[Alert]:
        """The layers that left their band with this sample."""
        whole = np.flatnonzero(seen.whole)
        if len(whole) < 3:
            return []
        if self._evidence is None:
            self._evidence = Evidence(len(whole), rate=self._rate)
        change = seen.change[whole]
        logs = np.log(np.where(np.isfinite(change) & (change > 0), change, np.nan))
        if np.isfinite(logs).sum() < 3:
            return []
        away, scale = self._usual.add(logs - np.nanmedian(logs))
        out = np.flatnonzero(self._evidence.add(against_usual(away, scale, far=math.log(3), both=True)))
        alerts = []
        for place in out.tolist():
            if place in self._told or not abs(away[place]) >= math.log(3):
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


class Surge:
    """The change of the layers together that doubles within a few samples: what comes before a spike of the loss.

    Looked at is the median layer, by itself and by the learning rate: both must be twice what the 8 samples before
    had, so that a restart of a schedule is none. (Of Adam the update grows before the loss does: marin #1368.)

    Args:
        rate: of false alarms over a whole run.
    """

    name = "surge"

    def __init__(self, *, rate: float = 0.004) -> None:
        self._usual = _Usual()
        self._evidence = Evidence(1, rate=rate)
        self._rate = np.nan  # the learning rate of the sample before
        self._told = False

    def __call__(self, seen: Observed) -> list[Alert]:
        """Once, when the change of many layers has doubled."""
        change = seen.change[seen.whole]
        logs = np.log(change[np.isfinite(change) & (change > 0)])
        if self._told or not len(logs):
            return []
        middle = float(np.median(logs))
        # A rate that fell within the sample still had its part in it.
        most = np.fmax(seen.rate, self._rate)
        by_rate = middle - math.log(most) if most > 0 else middle
        self._rate = seen.rate
        away, scale = self._usual.add(np.array([middle, by_rate]))
        which = int(np.argmin(away))
        factors = against_usual(away[which : which + 1], scale[which : which + 1], far=math.log(2), both=False)
        if not self._evidence.add(factors)[0] or not away[which] >= math.log(2):
            return []
        self._told = True
        times = math.exp(away[which])
        said = f"the median layer changes {times:.3g} times more than in the samples before, and the learning rate is "
        said += "not why; look at the loss, the norm of the gradients and the data of these steps"
        return [seen.alert(self.name, None, times, said)]
