"""Medians and ranks of a frame, fast: pandas goes through long rows and columns one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["in_cache", "medians", "medians_beside", "middles", "quantiles", "ranks", "running_medians"]

_CELLS_AT_ONCE = 50_000  # what fits into a processor's cache, with all that is made of it

Matrix = NDArray[np.float64]


def medians(frame: pd.DataFrame, axis: Literal["index", "columns"] = "index") -> pd.Series[float]:
    """What `frame.median(axis=axis)` gives, NaN left out.

    Example:
        >>> medians(pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [np.nan, 3.0, 4.0]})).to_dict()
        {'a': 2.0, 'b': 3.5}
    """
    table = frame if axis == "index" else frame.T
    lines = table.to_numpy(dtype=np.float64).T
    if not lines.size:
        return table.median()
    return pd.Series(middles(lines), index=table.columns)


def middles(lines: Matrix) -> Matrix:
    """The median of each row, NaN left out; NumPy's goes through them three times as often.

    Example:
        >>> middles(np.array([[1.0, 4.0, 2.0], [5.0, np.nan, 6.0]])).tolist()
        [2.0, 5.5]
    """
    found = np.empty(len(lines))
    for rows in in_cache(lines):
        found[rows] = _middle(np.array(lines[rows], order="C"))
    return found


def _middle(lines: Matrix) -> Matrix:
    """The median of each row, whose order is lost."""
    holed = np.isnan(lines).any(axis=1)
    half = lines.shape[1] // 2
    if not holed.any():
        lines.partition(half, axis=1)
        upper: Matrix = lines[:, half]
        return upper if lines.shape[1] % 2 else (lines[:, :half].max(axis=1) + upper) / 2
    lines.sort(axis=1)  # NaN last
    count, rows = (~np.isnan(lines)).sum(axis=1), np.arange(len(lines))
    low, high = lines[rows, np.maximum(count - 1, 0) // 2], lines[rows, count // 2]
    return np.asarray((low + high) / 2)


def quantiles(lines: Matrix, shares: Sequence[float]) -> Matrix:
    """What `numpy.nanquantile(lines, shares, axis=1)` gives, of shape (shares, rows).

    Example:
        >>> quantiles(np.array([[1.0, 5.0, 3.0], [4.0, np.nan, 8.0]]), [0.25, 0.5]).tolist()
        [[2.0, 5.0], [3.0, 6.0]]
    """
    found = np.empty((len(shares), len(lines)))
    for rows in in_cache(lines):
        ordered = np.sort(lines[rows], axis=1)  # NaN last
        last = np.maximum((~np.isnan(ordered)).sum(axis=1) - 1, 0)
        for place, share in enumerate(shares):
            below, between = np.divmod(share * last, 1.0)
            low, high = (
                np.take_along_axis(ordered, at.astype(np.int64)[:, None], axis=1)[:, 0]
                for at in (below, np.minimum(below + 1, last))
            )
            found[place, rows] = low + (high - low) * between
    return found


def ranks(frame: pd.DataFrame, axis: Literal["index", "columns"] = "index") -> Matrix:
    """What `frame.rank(axis=axis)` gives, as an array.

    Example:
        >>> ranks(pd.DataFrame({"a": [1.0, 4.0, 2.0], "b": [5.0, 5.0, np.nan]})).T.tolist()
        [[1.0, 3.0, 2.0], [1.5, 1.5, nan]]
    """
    table = frame if axis == "index" else frame.T
    lines = table.to_numpy(dtype=np.float64).T
    found, tied = np.empty(lines.shape), np.zeros(len(lines), dtype=bool)
    for rows in in_cache(lines):
        line = np.ascontiguousarray(lines[rows])
        order = line.argsort(axis=1)
        ordered = np.take_along_axis(line, order, axis=1)
        tied[rows] = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        places = np.where(np.isnan(ordered), np.nan, np.arange(1.0, line.shape[1] + 1))
        np.put_along_axis(found[rows], order, places, axis=1)
    if tied.any():
        found[tied] = table.loc[:, tied].rank().to_numpy().T
    return found.T if axis == "index" else found


def medians_beside(values: Matrix, size: int, *, away: int = 0, least: int = 1) -> tuple[Matrix, Matrix]:
    """By row, the median of some rows before it, and that of as many after it, NaN left out.

    Args:
        values: of shape (rows, columns).
        size: of how many rows, an odd number.
        away: how many rows between are passed over.
        least: with fewer rows that are no NaN the median is NaN.

    Example:
        >>> before, after = medians_beside(np.array([[1.0], [3.0], [2.0], [9.0]]), 3)
        >>> before.ravel().tolist(), after.ravel().tolist()
        ([nan, 1.0, 2.0, 2.0], [3.0, 5.5, 9.0, nan])
    """
    beside = away + size
    found = _running(np.pad(values, ((beside, beside), (0, 0)), constant_values=np.nan), size, least)
    return found[: len(values)], found[beside + away + 1 :]


def in_cache(lines: Matrix) -> Iterator[slice]:
    """The rows, so many at a time as fit into a processor's cache with all that is made of them."""
    at_once = max(1, _CELLS_AT_ONCE // max(lines.shape[1], 1))
    for first in range(0, len(lines), at_once):
        yield slice(first, first + at_once)


def running_medians(lines: Matrix, size: int) -> Matrix:
    """The medians of so many neighbours around each place of a row, an odd number; the ends go on beyond themselves.

    Example:
        >>> running_medians(np.array([[1.0, 9.0, 2.0, 3.0]]), 3).tolist()
        [[1.0, 2.0, 3.0, 3.0]]
    """
    padded = np.pad(lines, ((0, 0), (size // 2, size // 2)), mode="edge")
    return _sorted([padded[:, place : place + lines.shape[1]] for place in range(size)])[size // 2]


def _running(values: Matrix, size: int, least: int) -> Matrix:
    """The medians of each so many neighbouring rows."""
    known = np.isfinite(values)
    many = len(values) - size + 1
    filled = np.where(known, values, np.inf)
    parts = [filled[place : place + many] for place in range(size)]
    count = np.sum([known[place : place + many] for place in range(size)], axis=0)
    found = _sorted(parts)[size // 2]
    holed = count < size
    few, ordered = count[holed], np.array(_sorted([part[holed] for part in parts]))
    low, high = np.maximum(few - 1, 0) // 2, np.minimum(few // 2, size - 1)
    with np.errstate(invalid="ignore"):  # of two that are infinite, where too few are not
        middle = (np.take_along_axis(ordered, low[None], 0)[0] + np.take_along_axis(ordered, high[None], 0)[0]) / 2
    found[holed] = np.where(few >= max(least, 1), middle, np.nan)
    return found


def _sorted(parts: list[Matrix]) -> list[Matrix]:
    """Arrays so exchanged, place by place, that each holds less than those after it."""
    ordered = list(parts)
    for first, second in combinations(range(len(parts)), 2):
        one, other = ordered[first], ordered[second]
        ordered[first], ordered[second] = np.minimum(one, other), np.maximum(one, other)
    return ordered
