"""Which samples are missing, by the intervals of the others, and which stand where training went on from a checkpoint.

An interval says from which step on a change was taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

import numpy as np
from numpy.typing import NDArray

__all__ = ["last_standing", "left_out", "lost_between"]


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


def last_standing(layers: Set[str], later: Iterable[tuple[int | None, Set[str]]]) -> int:
    """The last step of a session whose samples stand, where later ones went on from older checkpoints.

    Args:
        layers: of the session.
        later: of each later session, the step that it went on after (None = it did not), and its layers.

    Example:
        >>> last_standing({"a", "b"}, [(100, {"a", "b"}), (50, {"b"}), (10, {"c"}), (None, {"a"})])
        50
    """
    return min((after for after, others in later if after is not None and layers & others), default=2**63 - 1)


def left_out(samples: int) -> list[str]:
    """What to say of samples that do not stand; nothing if there are none."""
    if not samples:
        return []
    return [
        f"training went on from an older checkpoint: {samples} samples of later steps, from before that, are left out"
    ]
