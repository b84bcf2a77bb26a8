"""Rules on all layers together, against what is usual of this run: a surge, a collapse, noise that is gone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wstrack.rules.contract import Observed
from wstrack.rules.evidence import STAKE, Evidence, against_usual
from wstrack.rules.usual import FEWEST, LEAST, NORMAL, PAST, Latest, Usual, quantile
from wstrack.runs.alerts import Alert

__all__ = ["Collapse", "Smooth", "Surge"]

Array = NDArray[np.float64]

_TWICE, _THIRD = math.log(2), math.log(3)
_CALM = 0.3  # of the noise: what is far less


class Surge:
    """The change of the layers together that doubles within a few samples: what comes before a spike of the loss.

    Looked at is the median layer, by itself and by the learning rate: both must be twice what the 16 samples before let
    expect, so that a restart of a schedule is no surge. That is their median or where a line through them leads,
    whichever is more, so that a slow rise is none either. How far is usual is told from the line: a slope is no noise.
    (Of Adam the update grows before the loss does: marin #1368.)

    Args:
        rate: of false alarms over a whole run.
    """

    name = "surge"

    def __init__(self, *, rate: float = 0.002) -> None:
        self.rate = rate
        self._usual = Usual(series=2, line=True)
        self._evidence = Evidence(1, rate=rate)
        self._middle = _Middle()
        self._told = False

    def __call__(self, seen: Observed) -> list[Alert]:
        """Once, when the change of many layers has doubled."""
        middle = self._middle(seen, falls=False)
        if self._told or middle is None:
            return []
        before, line = self._usual.near.middle(), self._usual.near.ahead()
        away, scale = self._usual.add(middle)
        away -= np.fmax(before - line, 0.0)
        size = _told(self._evidence, away, scale, _TWICE)
        if size is None:
            return []
        self._told = True
        said = f"the median layer changes {size:.3g} times more than in the samples before, and the learning rate is "
        said += "not why; look at the loss, the norm of the gradients and the data of these steps"
        return [seen.alert(self.name, None, size, said)]


class Collapse:
    """The change of the layers together that falls to a third or less within a few samples.

    Looked at is the median layer, by itself and by the learning rate: both must be a third of the median of the 16
    samples before, or less, so that a schedule that falls is no collapse. A training that has learnt its data
    falls too, but more slowly.

    Args:
        rate: of false alarms over a whole run.
    """

    name = "collapse"

    def __init__(self, *, rate: float = 0.002) -> None:
        self.rate = rate
        self._usual = Usual(series=2)
        self._evidence = Evidence(1, rate=rate)
        self._middle = _Middle()
        self._told = False

    def __call__(self, seen: Observed) -> list[Alert]:
        """Once, when the change of many layers has fallen."""
        middle = self._middle(seen, falls=True)
        if self._told or middle is None:
            return []
        away, scale = self._usual.add(middle)
        size = _told(self._evidence, -away, scale, _THIRD)
        if size is None:
            return []
        self._told = True
        said = f"the median layer changes {size:.3g} times less than in the samples before, and the learning rate is "
        said += "not why; look at whether gradients still reach the layers: dead units, a mask, a loss that is constant"
        return [seen.alert(self.name, None, 1 / size, said)]


class Smooth:
    """The noise of the layers together that is gone: each step repeats the one before, as with one batch for ever.

    Looked at is how far the logarithm of a layer's change is from the line through its two samples before, beside how
    far that usually is; of that the median layer. It is smooth at less than an eighth. A training that is smooth from
    the start, such as one of full batches, has no noise to lose, and layers that have none (3 %) are left out.

    Args:
        rate: of false alarms over a whole run.
    """

    name = "smooth"

    def __init__(self, *, rate: float = 0.001) -> None:
        self.rate = rate
        self._evidence = Evidence(1, rate=rate)
        self._past: Latest | None = None
        self._told = False

    def __call__(self, seen: Observed) -> list[Alert]:
        """Once, when the noise has been gone for long enough."""
        whole = seen.whole
        change = seen.change[whole]
        logs = np.log(np.where(np.isfinite(change) & (change > 0), change, np.nan))
        if self._past is None:
            self._before = self._last = np.full_like(logs, np.nan)
            self._past = Latest(series=len(logs), length=PAST)
        bend = np.abs(logs - 2 * self._last + self._before)
        self._before, self._last = self._last, logs
        usual = NORMAL * self._past.middle()
        noisy = (self._past.known >= FEWEST) & (usual >= LEAST)
        self._past.add(bend)
        if self._told or not len(logs) or 2 * noisy.sum() < len(logs):
            return []
        # Of three noisy samples the bend has the variance of one times 6, but once two are known, what is left to
        # chance is the third: so many times smaller it may be each time.
        size = math.sqrt(6) * quantile((bend[noisy] / usual[noisy])[None], 0.5)
        by_chance = 12 * math.sqrt(3) / (math.pi * (3 + size**2) ** 2)
        factor = 1 - STAKE + STAKE * np.where(size < _CALM, 1 / _CALM, 0.0) / by_chance
        if not self._evidence.add(np.where(np.isnan(size), np.nan, factor))[0] or not size[0] < _CALM:
            return []
        self._told = True
        times = math.sqrt(6) / max(float(size[0]), 1e-3)
        said = (
            f"the changes of the layers are {times:.2g} times less noisy than before; look at whether the same batch "
        )
        said += "comes again and again, or nothing random is left (dropout, augmentation)"
        return [seen.alert(self.name, None, times, said)]


class _Middle:
    """The logarithm of the median layer's change, by itself and by the learning rate."""

    def __init__(self) -> None:
        self._before = np.nan

    def __call__(self, seen: Observed, *, falls: bool) -> Array | None:
        """Two numbers; None if nothing moves. The rate that explains the most counts: it may change within a sample."""
        change = seen.change[seen.whole]
        moves = change[np.isfinite(change) & (change > 0)]
        rate = (np.fmin if falls else np.fmax)(seen.rate, self._before)
        self._before = seen.rate
        if not len(moves):
            return None
        middle = math.log(float(np.median(moves)))
        return np.array([middle, middle - math.log(rate) if rate > 0 else middle])


def _told(evidence: Evidence, away: Array, scale: Array, far: float) -> float | None:
    """How many times more the lesser of two distances says, if there is now evidence enough that it is far."""
    which = int(np.argmin(away))  # NaN, if either is
    factors = against_usual(away[which : which + 1], scale[which : which + 1], far=far, both=False)
    return math.exp(away[which]) if evidence.add(factors)[0] and away[which] >= far else None
