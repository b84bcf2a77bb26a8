"""What the intervals of samples tell of those that are not there: each says from which step on its change was taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["lost_between", "stands"]


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


def stands(steps: NDArray[np.int64], intervals: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which samples stand, in the order in which they were logged, where training went on from an older checkpoint.

    It did where a step is not beyond all before it. The sample says by its interval from which step it went on; what
    was logged of later steps until then is of a branch that was given up.

    Example:
        >>> stands(np.array([10, 20, 30, 40, 15, 25]), np.array([10, 10, 10, 10, 5, 10])).tolist()
        [True, False, False, False, True, True]
    """
    kept = np.ones(len(steps), dtype=bool)
    highest = np.maximum.accumulate(steps) if len(steps) else steps
    for place in np.flatnonzero(steps[1:] <= highest[:-1]) + 1:
        if steps[place] <= steps[place - 1]:  # where it went back, not those that follow there
            kept[:place] &= steps[:place] <= steps[place] - intervals[place]
    return kept
