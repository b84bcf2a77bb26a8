"""What the intervals of samples tell of those that are not there: each says from which step on its change was taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["lost_between"]


def lost_between(
    steps: NDArray[np.int64],
    intervals: NDArray[np.int64],
    *,
    every: int,
    window: str,
    elsewhere: NDArray[np.int64],
) -> int:
    """How many samples must have been lost between those of one session, by ascending step; at least.

    Only changes since the sample before (`window="interval"`) join up; of others nothing can be told. Samples with the
    steps `elsewhere` fill a gap in which they lie.

    Example:
        >>> steps, intervals = np.array([10, 20, 50]), np.array([10, 10, 10])
        >>> lost_between(steps, intervals, every=10, window="interval", elsewhere=np.array([30]))
        1
    """
    if window != "interval" or len(steps) < 2:
        return 0
    begins = steps[1:] - intervals[1:]
    gap = begins > steps[:-1]
    lost = np.maximum(np.round((begins - steps[:-1])[gap] / max(every, 1)), 1)
    there = np.unique(elsewhere)
    lost = lost - (np.searchsorted(there, begins[gap], "right") - np.searchsorted(there, steps[:-1][gap], "right"))
    return int(np.maximum(lost, 0).sum())
