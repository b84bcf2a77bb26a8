"""Whether the values jump up again and again at the same distance, as at the begin of each epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.ndimage import median_filter
from scipy.special import gammaln

from wstrack.analysis.cutoffs import FINDING_P, SMALLEST_RATIO
from wstrack.analysis.medians import medians

__all__ = ["Period", "find_period", "rises_of"]

Vector = NDArray[np.float64]
Places = NDArray[np.int64]

_SHORTEST = 5  # samples: as wide as `_SLOPE`, so that no sample is in the slopes of two neighbouring teeth
_FEWEST = 5  # jumps
_MOST = 200  # jumps that are looked through, for the cost
_MANY = 0.6  # of the times there must be one
_SLOPE = 5  # samples whose median is the course's own slope
_STARTS = 4  # of a comb within one sample
_ASIDE = 0.1  # of a sample, so that where a period is a whole number no sample lies on the edge of a tooth
_AMONG = (1, 2)  # times as many of the largest rises as there are periods are looked at


@dataclass(frozen=True)
class Period:
    """Jumps at one distance.

    Attributes:
        length: in samples; epochs are seldom a whole number of them.
        places: the samples at which a jump is due, by their position, the first included.
        jumps: at which of them there is one: its rise is among the largest.
        ratios: by layer, how many times larger the values are there than in the three samples before; median over
            `places`.
        p: the chance that so many of the largest rises lie on any such comb, times the number of combs.
    """

    length: float
    places: Places
    jumps: NDArray[np.bool_]
    ratios: pd.Series[float]
    p: float

    @property
    def ratio(self) -> float:
        """Of the median layer."""
        return float(self.ratios.median())


def find_period(values: pd.DataFrame, *, told: Iterable[int] = (), alpha: float = FINDING_P) -> Period | None:
    """The distance at which the layers jump up together, if there is one beyond chance.

    What is looked at is the rise of each sample over the one before, in decades, by the median layer, and beyond the
    slope of the samples around: so a smooth course, however steep, has none. The largest rises are held against every
    comb of equally distant samples. That so many of them lie on one has the chance of drawing as many from an urn
    (hypergeometric), whatever their distribution and however long the noise remembers, since the rises of samples five
    or more apart are all but independent of each other. It is multiplied by the number of combs.

    Args:
        values: index = step, columns = layers; those of one size of interval (`comparable_steps`), none below 0.
        told: steps whose jumps are no news, such as those at which phases begin.
        alpha: how often noise may have a period.

    Returns:
        None where there is none, where the steps are not equally distant (but for the first), or are too few.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> curves = 10 ** (0.05 * rng.normal(size=(120, 8)) + 0.3 * (np.arange(120) % 15 == 4)[:, None])
        >>> found = find_period(pd.DataFrame(curves, index=np.arange(120) * 50))
        >>> round(found.length, 1), found.places.tolist()
        (15.0, [4, 19, 34, 49, 64, 79, 94, 109])
    """
    known = rises_of(values)
    if known is None or len(known[0]) < _SHORTEST * _FEWEST:
        return None
    steps, logs, rises = known
    samples, begin = len(steps), len(values) - len(steps)
    rises = np.concatenate([[-np.inf], rises - median_filter(rises, size=_SLOPE, mode="nearest")])
    rises[np.isin(steps, list(told))] = -np.inf
    if not (np.sort(rises)[-_FEWEST:] > 1e-9).all():
        return None
    length, start, among, chance = _best_comb(rises)
    if not chance < alpha:
        return None
    places = _strongest(_comb(length, start, samples), rises)
    largest = _largest(rises, among)
    jumps = np.isin(places, largest)
    after_three = places[places > 2]
    before = np.median([logs[after_three - lag] for lag in (1, 2, 3)], axis=0)
    ratios = 10 ** medians(pd.DataFrame(logs[after_three] - before, columns=values.columns))
    if jumps.mean() < _MANY or not ratios.median() >= SMALLEST_RATIO:
        return None
    turns, hits = np.flatnonzero(jumps), places[jumps]
    return Period(float(np.polyfit(turns, hits, 1)[0]), places + begin, jumps, ratios, chance)


def rises_of(values: pd.DataFrame) -> tuple[Places, NDArray[np.float64], Vector] | None:
    """Steps, logarithms by layer, and the median layer's rise from each sample to the next.

    The first step may be nearer to the second than the others are to each other, and is left out then; where more are
    not equally distant there is nothing to find.
    """
    steps = values.index.to_numpy(dtype=np.int64)
    begin = int(len(steps) > 2 and steps[1] - steps[0] != steps[2] - steps[1])
    if len(steps) < 3 or np.ptp(np.diff(steps[begin:])):
        return None
    logs = np.log10(values.iloc[begin:].where(values > 0).to_numpy(dtype=np.float64))
    rises = np.nan_to_num(medians(pd.DataFrame(np.diff(logs, axis=0)), "columns"), posinf=np.inf, neginf=-np.inf)
    return steps[begin:], logs, rises


def _best_comb(rises: Vector) -> tuple[float, float, int, float]:
    """The comb that holds most of the largest rises beyond chance.

    Returns:
        Its period, where its teeth begin (each is a sample wide), among how many rises, and the chance times the number
        of combs.
    """
    samples = len(rises)
    # Over the whole run one period drifts from the next by half a sample.
    shortest, longest = max(_SHORTEST, samples / _MOST), samples / _FEWEST
    count = int(np.ceil(2 * samples * np.log(longest / shortest))) + 1
    periods = np.geomspace(shortest, longest, count)
    tests = len(_AMONG) * int(np.ceil(_STARTS * periods).sum())
    best = (shortest, 0.0, 0, np.inf)
    # Periods of about as many teeth together: in one go, among as many rises.
    for some in np.array_split(periods, max(1, int(np.ceil(np.log2(longest / shortest) * 2)))):
        if not len(some):
            continue
        for times in _AMONG:
            among = round(times * samples / float(np.sqrt(some[0] * some[-1])))
            spread = some[:, None].astype(np.float32)
            turns = (_largest(rises, among) + _ASIDE).astype(np.float32) / spread
            turns -= np.floor(turns)
            width = int(_STARTS * some[-1]) + 2
            part = (turns * (_STARTS * spread)).astype(np.intp)
            part += np.arange(len(some))[:, None] * width
            found = np.bincount(part.ravel(), minlength=len(some) * width)
            counts = found.astype(np.int16).reshape(len(some), width)
            hits = counts[:, : width + 1 - _STARTS].copy()
            for first in range(1, _STARTS):
                hits += counts[:, first : width + 1 - _STARTS + first]
            at = hits.argmax(axis=1)
            chances = _log_chance(hits[np.arange(len(some)), at], samples, among, np.ceil(samples / some))
            place = int(chances.argmin())
            chance = float(np.exp(min(chances[place] + np.log(tests), 0.0)))
            if chance < best[3]:
                best = (float(some[place]), float(at[place]) / _STARTS, among, chance)
    return best


def _strongest(places: Places, rises: Vector) -> Places:
    """Those of the teeth that jump most: where each second or third one does so beyond chance, the period is longer.

    An epoch may have several jumps, of which the comb with most teeth holds more than that of the epoch.
    """
    every = range(2, len(places) // _FEWEST + 1)
    parts = {many: [rises[places[first::many]] for first in range(many)] for many in every}
    chances = {many: float(stats.kruskal(*part).pvalue) for many, part in parts.items()}
    many = min(chances, key=lambda one: chances[one], default=1)
    if many == 1 or chances[many] * len(chances) >= FINDING_P:
        return places
    return places[int(np.argmax([np.median(part) for part in parts[many]])) :: many]


def _largest(rises: Vector, many: int) -> Places:
    """Where the largest rises are."""
    return np.argpartition(-rises, many)[:many]


def _comb(period: float, start: float, samples: int) -> Places:
    """The samples in the teeth, which begin at `start` and are one sample wide."""
    places = np.ceil(start - _ASIDE + period * np.arange(samples / period)).astype(np.int64)
    return places[places < samples]


def _log_chance(hits: NDArray[np.int64], samples: int, among: int, teeth: Vector) -> Vector:
    """The logarithm of the chance (at most) that so many or more of `among` samples, drawn from all, lie in the teeth.

    Each term of the hypergeometric tail is a smaller part of the one before, so the first, and how much smaller the
    second is, bound it.
    """

    def log_choose(n: Vector | float, k: Vector) -> Vector:
        return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(np.maximum(n - k, 0) + 1.0))

    drawn = np.minimum(hits, teeth).astype(np.float64)
    first = log_choose(teeth, drawn) + log_choose(samples - teeth, among - drawn)
    first = first - log_choose(float(samples), np.full_like(drawn, among))
    falls = (teeth - drawn) * (among - drawn) / ((drawn + 1) * (samples - teeth - among + drawn + 1))
    return np.where(falls < 1, first - np.log1p(-np.minimum(falls, 1 - 1e-9)), 0.0)
