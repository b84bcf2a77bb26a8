"""Rules of fixed numbers: a learning rate that jumps, updates that a type swallows, the 1e-3 rule."""

from __future__ import annotations

import numpy as np

from wstrack.rules.contract import Observed
from wstrack.runs.alerts import Alert

__all__ = ["OneStep", "RateJump", "Swallowed"]

_HIGHER = 3.0  # times the highest learning rate so far, in one sample
_PASSED = 8  # samples in which a rate may begin as it likes
_FEW = 0.03  # of the weights, that move; see wstrack/analysis/findings/swallowed.py
_LONG = 10  # samples in a row
_DIGITS = {"float16": 11, "bfloat16": 8, "float8_e4m3fn": 4, "float8_e5m2": 3}


class RateJump:
    """A learning rate that rises to 3 times its highest so far within one sample, once training has begun.

    Each layer has its own; if all jump alike, it is the run's. A warm-up rises by less, and a restart returns to what
    was there; the first 8 samples in which a layer has a rate are passed over.
    """

    name = "rate jump"

    def __init__(self) -> None:
        self._highest: np.ndarray | None = None
        self._told: set[int] = set()

    def __call__(self, seen: Observed) -> list[Alert]:
        """The layers whose rate has just jumped, or once for all of them."""
        if "lr" not in seen.sums:
            return []
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = seen.sums["lr"] / seen.sums["told"]
        known = seen.whole & np.isfinite(rates) & (rates > 0)
        if self._highest is None:
            self._highest, self._samples = np.zeros(len(rates)), np.zeros(len(rates))
        self._samples += known
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.where(known, rates / self._highest, 0.0)
        self._highest = np.where(known, np.maximum(self._highest, rates), self._highest)
        jumped = np.flatnonzero((times >= _HIGHER) & (self._samples > _PASSED))
        new = [place for place in jumped.tolist() if place not in self._told]
        self._told.update(new)
        if new and len(jumped) == known.sum():
            said = "the learning rate is " + _jump(np.median(rates[jumped]), np.median(times[jumped]))
            return [seen.alert(self.name, None, np.median(times[jumped]), said)]
        said = "has a learning rate of "
        return [seen.alert(self.name, at, times[at], said + _jump(rates[at], times[at])) for at in new]


def _jump(rate: float, times: float) -> str:
    what = "look at the schedule, and at what a checkpoint was resumed with"
    return f"{rate:.3g}, {times:.3g} times its highest before; {what}"


class Swallowed:
    """A layer whose type swallows its updates: at most 3 % of the weights move in a step, and those are small ones.

    Needs the metric `changed`, samples that span one step each, and weights of one type of at most 16 bits; 10 samples
    in a row. What is asked for is explained with the finding of the same name (docs/analysis.md).
    """

    name = "swallowed"

    def __init__(self) -> None:
        self._row: np.ndarray | None = None
        self._told: set[int] = set()

    def __call__(self, seen: Observed) -> list[Alert]:
        """The layers that have been so for long enough with this sample."""
        if seen.interval != 1 or "changed" not in seen.sums or seen.dtype not in _DIGITS:
            return []
        numel = np.array([max(layer.numel, 1) for layer in seen.layers])
        share = seen.sums["changed"] / numel
        with np.errstate(divide="ignore", invalid="ignore"):
            small = share**2 / seen.change >= 2.0 ** (_DIGITS[seen.dtype] - 3)
        hit = seen.whole & (share > 0) & (share <= _FEW) & small
        self._row = np.where(hit, (0 if self._row is None else self._row) + 1, 0)
        alerts = []
        for place in np.flatnonzero(self._row >= _LONG).tolist():
            if place not in self._told:
                self._told.add(place)
                said = f"moves only {100 * share[place]:.2g} % of its weights in a step: {seen.dtype} swallows the "
                said += "other updates; keep weights in float32, or round by chance"
                alerts.append(seen.alert(self.name, place, float(share[place]), said))
        return alerts


class OneStep:
    """The rule of thumb of 1e-3: a layer that changes by over 1e-2 or under 1e-4 in one step, 10 samples in a row.

    No default rule: sound trainings break it, at their end at the latest. Only samples that span one step are looked at
    (`window="step"` or `every=1`).
    """

    name = "one step"

    def __init__(self, *, least: float = 1e-4, most: float = 1e-2) -> None:
        self._least, self._most = least, most
        self._row: np.ndarray | None = None
        self._told: set[int] = set()

    def __call__(self, seen: Observed) -> list[Alert]:
        """The layers that have been beyond for long enough with this sample."""
        if seen.interval != 1:
            return []
        change = seen.change
        beyond = np.where(change > self._most, 1, np.where((change < self._least) & (change > 0), -1, 0)) * seen.whole
        row = np.zeros(len(change)) if self._row is None else self._row
        self._row = np.where(np.sign(row) == beyond, row + beyond, beyond)
        alerts = []
        for place in np.flatnonzero(np.abs(self._row) >= _LONG).tolist():
            if place not in self._told:
                self._told.add(place)
                much = change[place] > self._most
                limit = f"over {self._most:g}" if much else f"under {self._least:g}"
                said = f"changes by {change[place]:.2g} in one step, {limit} for {_LONG} samples; look "
                said += "at its learning rate"
                alerts.append(seen.alert(self.name, place, float(change[place]), said))
        return alerts
