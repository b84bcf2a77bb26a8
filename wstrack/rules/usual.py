"""What is usual of several series, as their own past has it: what is to be expected next, and how far off is usual."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Latest", "Usual", "quantile"]

Array = NDArray[np.float64]

NEAR = 16  # samples of which the median is what is expected of the next; half of them must be known
PAST = 60  # samples whose distances from what was expected tell how far is usual
FEWEST = 16  # of those, before anything is far
LEAST = 0.03  # of a scale: closer than 3 % nothing is told apart
NORMAL, TAIL = 1.4826, 1.645  # the median and the 90th percentile of abs(normal) are 1/1.4826 and 1.645 deviations


class Latest:
    """The latest values of several series; NaN where there is none.

    Example:
        >>> latest = Latest(series=2, length=3)
        >>> for values in ([1.0, 9.0], [2.0, 8.0], [3.0, np.nan], [4.0, 6.0]):
        ...     latest.add(np.array(values))
        >>> latest.middle(), latest.known
        (array([3., 7.]), array([3, 2]))
    """

    def __init__(self, *, series: int, length: int) -> None:
        self._values = np.full((series, length), np.nan)

    def add(self, values: Array) -> None:
        """Have one more value of each series, and forget the oldest."""
        self._values[:, :-1] = self._values[:, 1:]
        self._values[:, -1] = values

    @property
    def known(self) -> NDArray[np.intp]:
        """How many values there are of each."""
        known: NDArray[np.intp] = np.isfinite(self._values).sum(axis=1)
        return known

    def middle(self, share: float = 0.5) -> Array:
        """The median of each series, or another quantile of it."""
        return quantile(self._values, share)

    def ahead(self) -> Array:
        """Where a robust line through each series is next (Theil and Sen: the median of all slopes between two)."""
        first, second = _pairs(self._values.shape[1])
        slope = quantile((self._values[:, second] - self._values[:, first]) / (second - first), 0.5)
        back = np.arange(self._values.shape[1], 0, -1)
        return quantile(self._values + slope[:, None] * back, 0.5)


class Usual:
    """Series, of which the median of the latest is what is expected of the next, or where a line through them leads.

    Args:
        series: how many.
        line: whether it is the line.

    Example:
        >>> usual, rng = Usual(series=1), np.random.default_rng(0)
        >>> for value in rng.normal(5.0, 0.1, 100):
        ...     away, scale = usual.add(np.array([value]))
        >>> away, scale = usual.add(np.array([6.0]))
        >>> away.round(1), scale.round(1)
        (array([1.]), array([0.1]))
    """

    def __init__(self, *, series: int, line: bool = False) -> None:
        self.near = Latest(series=series, length=NEAR)
        self._expected = self.near.ahead if line else self.near.middle
        self._past = Latest(series=series, length=PAST)
        self._samples = 0

    def add(self, values: Array) -> tuple[Array, Array]:
        """How far each value is from what was expected, and the scale of what is usual; NaN where too few tell.

        The scale is the larger of what the median and what the 90th percentile of the distances before say of it.
        """
        away = np.full_like(values, np.nan)
        if self._samples >= NEAR:
            away = np.where(2 * self.near.known >= NEAR, values - self._expected(), np.nan)
        scale = np.fmax(NORMAL * self._past.middle(), self._past.middle(0.9) / TAIL)
        scale = np.where(self._past.known >= FEWEST, np.maximum(scale, LEAST), np.nan)
        self._samples += 1
        self.near.add(values)
        self._past.add(np.abs(away))
        return np.where(np.isnan(scale), np.nan, away), scale


def quantile(values: Array, share: float) -> Array:
    """A quantile of what is known of each row, between two values in proportion; NaN where nothing is.

    Example:
        >>> quantile(np.array([[1.0, np.nan, 3.0], [5.0, 4.0, 0.0]]), 0.5)
        array([2., 4.])
    """
    ordered = np.sort(values, axis=1)  # NaN comes last
    known = np.isfinite(ordered).sum(axis=1)
    place = share * np.maximum(known - 1, 0)
    low = place.astype(int)
    rows = np.arange(len(values))
    below, above = ordered[rows, low], ordered[rows, np.minimum(low + 1, np.maximum(known - 1, 0))]
    found: Array = below + (place - low) * (above - below)
    return found


@cache
def _pairs(length: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The places of all pairs, the earlier and the later."""
    return np.triu_indices(length, 1)
