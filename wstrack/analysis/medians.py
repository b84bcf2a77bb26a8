"""The medians of a frame, fast: pandas goes through long rows and columns one at a time."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["medians", "medians_before"]


def medians(frame: pd.DataFrame, axis: Literal["index", "columns"] = "index") -> pd.Series[float]:
    """What `frame.median(axis=axis)` gives, NaN left out.

    Example:
        >>> medians(pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [np.nan, 3.0, 4.0]})).to_dict()
        {'a': 2.0, 'b': 3.5}
    """
    table = frame if axis == "index" else frame.T
    values = table.to_numpy(dtype=np.float64)
    if not len(values):
        return table.median()
    holed = np.isnan(values).any(axis=0)
    found = np.empty(len(holed))
    found[~holed] = np.median(values[:, ~holed], axis=0)
    found[holed] = table.loc[:, holed].median().to_numpy()
    return pd.Series(found, index=table.columns)


def medians_before(values: NDArray[np.float64], size: int, *, away: int = 0, least: int = 1) -> NDArray[np.float64]:
    """By row, the median of some rows before it, NaN left out.

    Args:
        values: of shape (rows, columns).
        size: of how many rows, an odd number.
        away: how many rows between are passed over.
        least: with fewer rows that are no NaN the median is NaN.

    Example:
        >>> medians_before(np.array([[1.0], [3.0], [2.0], [9.0]]), 3).ravel().tolist()
        [nan, 1.0, 2.0, 2.0]
    """
    padded = np.vstack([np.full((away + size, values.shape[1]), np.nan), values])
    whole = np.isfinite(padded).all(axis=1)
    windows = np.arange(len(values))[:, None] + np.arange(size)
    easy = whole[windows].all(axis=1)
    found = np.empty(values.shape)
    found[easy] = _sorted([padded[rows] for rows in windows[easy].T])[size // 2]
    rest = windows[~easy].T
    parts = [padded[rows] for rows in rest]
    count = sum(np.isfinite(part).astype(np.int64) for part in parts)
    ordered = np.array(_sorted([np.where(np.isfinite(part), part, np.inf) for part in parts]))
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, size - 1)
    with np.errstate(invalid="ignore"):  # of two that are infinite, where too few are not
        middle = (np.take_along_axis(ordered, low[None], 0)[0] + np.take_along_axis(ordered, high[None], 0)[0]) / 2
    found[~easy] = np.where(count >= max(least, 1), middle, np.nan)
    return found


def _sorted(parts: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Arrays so exchanged, place by place, that each holds less than those after it."""
    ordered = list(parts)
    for first, second in combinations(range(len(parts)), 2):
        one, other = ordered[first], ordered[second]
        ordered[first], ordered[second] = np.minimum(one, other), np.maximum(one, other)
    return ordered
