"""Whether the course of the values repeats itself, as where each epoch has the same batches in the same order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.ndimage import median_filter

from wstrack.analysis.cutoffs import FINDING_P, SMALLEST_RATIO
from wstrack.analysis.periods import Period, find_period, rises_of

__all__ = ["Repeat", "find_epochs", "find_repeat"]

Vector = NDArray[np.float64]

_SLOPE = 5  # samples whose median is the course's own slope
_SHORTEST = _SLOPE  # samples, from where on two rises share no slope
_FEWEST = 5  # times that it must be there
_TIMES = 3  # a sample is held against those so many periods later
_FINENESS = 3  # periods that are looked at within one sample
_ALIKE = 0.7  # of the highest correlation with the next three: of a period and its multiples, the period
_MOST_TOLD = 0.5  # of the times that it begins
_LONGER = 1.5  # times as long as the distance of the jumps: what they are only a part of


@dataclass(frozen=True)
class Repeat:
    """A course that comes again and again.

    Attributes:
        length: of the period, in samples, to a third of one.
        correlation: of the median layer's course with itself one period later, without its trend.
        ratio: how many times larger the highest sample of the mean period is than its lowest.
        p: the chance that noise correlates as much at any distance.
    """

    length: float
    correlation: float
    ratio: float
    p: float


def find_epochs(values: pd.DataFrame, *, told: Iterable[int] = ()) -> Period | Repeat | None:
    """What shows the epochs: jumps at one distance (`find_period`), or else a course that repeats (`find_repeat`).

    Jumps that are less beyond chance than a longer course that repeats are a part of that.
    """
    steps = tuple(told)
    jumps, course = find_period(values, told=steps), find_repeat(values, told=steps)
    if jumps is None or course is None:
        return jumps or course
    return course if course.length > _LONGER * jumps.length and course.p < jumps.p else jumps


def find_repeat(values: pd.DataFrame, *, told: Iterable[int] = (), alpha: float = FINDING_P) -> Repeat | None:
    """The distance at which the common course of the layers is like itself, if it is so beyond chance.

    What is looked at is the rise of each sample over the one before, in decades, by the median layer, and beyond the
    slope of the samples around, as normal scores of its ranks. Of autoregressive noise such rises do not correlate
    positively over five samples or more, however long it remembers; of a smooth course nothing is left, and a drop is
    one rise. They are multiplied with those one, two and three periods later. The sum of these products, in units of
    the root of the sum of their squares (as loud stretches and calm ones have it), is normal but for a known skewness;
    that rises remember their neighbours widens it (Bartlett 1946). Its chance is multiplied by the number of periods.

    Args:
        values: index = step, columns = layers; those of one size of interval (`comparable_steps`), none below 0.
        told: steps at which phases begin. A period of which they are half of the beginnings or more is no news.
        alpha: how often noise may repeat itself.

    Returns:
        None where it does not, where the steps are not equally distant (but for the first), or are too few.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> once = rng.normal(size=14)
        >>> curves = 10 ** (0.1 * np.tile(once, 12)[:, None] + 0.05 * rng.normal(size=(168, 8)))
        >>> found = find_repeat(pd.DataFrame(curves, index=np.arange(168) * 50))
        >>> round(found.length, 1), round(found.correlation, 2)
        (14.0, 0.92)
    """
    found = rises_of(values)
    if found is None or len(found[0]) < _SHORTEST * _FEWEST:
        return None
    steps, _, rises = found
    samples = len(steps)
    if not np.median(np.abs(rises)) > 1e-9:
        return None
    scores = _normal_scores(rises - median_filter(rises, size=_SLOPE, mode="nearest"))
    periods = np.arange(_SHORTEST * _FINENESS, samples * _FINENESS // _FEWEST + 1) / _FINENESS
    next_one, correlations, chances = _by_period(scores, periods)
    beyond = np.flatnonzero(chances * len(periods) < alpha)
    if not len(beyond):
        return None
    best = int(beyond[chances[beyond].argmin()])
    many = np.round(periods[best] / periods[beyond])
    parts = beyond[np.abs(periods[best] - many * periods[beyond]) <= many / _FINENESS]
    best = int(parts[next_one[parts] >= _ALIKE * correlations[best]].min(initial=best))
    length = float(periods[best])
    correlation, ratio = _likeness(np.concatenate([[0.0], np.cumsum(rises)]), length)
    known = np.searchsorted(steps, sorted(told))
    turns = np.diff(known) / length
    if (np.abs(turns - np.round(turns)) * length <= 1).sum() + 1 >= _MOST_TOLD * samples / length:
        return None
    if not (correlation > 0 and ratio >= SMALLEST_RATIO):
        return None
    return Repeat(length, correlation, ratio, float(min(chances[best] * len(periods), 1.0)))


def _normal_scores(values: Vector) -> Vector:
    scores: Vector = stats.norm.ppf((stats.rankdata(values) - 0.5) / len(values))
    return scores


def _at_lags(values: Vector) -> Vector:
    """The sum of the products of samples so far apart, for every distance."""
    spectrum = np.fft.rfft(values, 2 * len(values))
    return np.asarray(np.fft.irfft(np.abs(spectrum) ** 2)[: len(values)])


def _by_period(scores: Vector, periods: Vector) -> tuple[Vector, Vector, Vector]:
    """By period, how far the scores correlate with the next, and with the next three, and the chance in noise."""
    samples = len(scores)
    lags = np.round(np.arange(1, _TIMES + 1) * periods[:, None]).astype(int)
    products, squares, sizes = _at_lags(scores), _at_lags(scores**2), np.arange(samples, 0.0, -1.0)
    near = products[1:_SHORTEST] / max(float(products[0]), 1e-300)
    widened = 1 + 2 * float((near**2).sum())
    sums, count = products[lags].sum(axis=1), sizes[lags].sum(axis=1)
    distance = sums / np.sqrt(np.maximum(widened * squares[lags].sum(axis=1), 1e-300))
    # Each three samples of which all pairs are multiplied add to the third moment.
    threes = np.maximum(samples - 2 * periods, 0) + 2 * np.maximum(samples - 3 * periods, 0)
    skew = 6 * threes / count**1.5 * np.sqrt(widened)
    return (products / sizes)[lags[:, 0]], sums / count, np.asarray(stats.pearson3.sf(distance, skew))


def _likeness(course: Vector, length: float) -> tuple[float, float]:
    """How far a course without its trend correlates with itself one period later, and how far it goes in a period."""
    wide = round(length)
    trend = pd.Series(course).rolling(wide, center=True, min_periods=wide // 2).mean().to_numpy()
    rest = course - trend
    once = pd.Series(rest).groupby((np.arange(len(rest)) % length).astype(int)).median()
    return float(np.corrcoef(rest[:-wide], rest[wide:])[0, 1]), float(10 ** np.ptp(once.to_numpy()))
