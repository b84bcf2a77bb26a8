"""What falls on named steps."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from wstrack.runs.alerts import is_alert

__all__ = ["on_marks"]

_MANY = 0.8  # of the jumps, and of the marks among the samples: many marks would lie near anything


def on_marks(jumps: Sequence[int], samples: pd.Index[int], marks: Sequence[tuple[int, str]]) -> str:
    """Where jumps at one distance are, if most of them follow a mark and most marks are followed by one; else "".

    Args:
        jumps: the steps of the samples that jump up, each the first after a mark.
        samples: the steps of all.
        marks: named steps.

    Example:
        >>> epochs = [(step, f"epoch {step // 100}") for step in range(0, 1000, 100)]
        >>> steps = pd.Index(range(20, 1001, 20))
        >>> on_marks(range(120, 1000, 100), steps, epochs), on_marks(range(160, 1000, 100), steps, epochs)
        ('at the begin of each epoch', '')
    """
    marks = [mark for mark in marks if is_alert(mark[1]) is None]
    # A mark is the last step before what begins there; one before the first sample is that of training.
    first = np.searchsorted(samples.to_numpy(), [step for step, _ in marks], side="right")
    named: dict[int, set[str]] = {}
    for place, (_, name) in zip(first.tolist(), marks, strict=True):
        if 0 < place < len(samples):
            named.setdefault(place, set()).add(re.sub(r"[\W\d_]+$", "", name))
    at = set(samples.get_indexer(pd.Index(list(jumps))).tolist())
    hit = at & set(named)
    if not hit or len(hit) < _MANY * max(len(at), len(named)):
        return ""
    words = set.union(*(named[place] for place in hit))
    word = words.pop() if len(words) == 1 else ""
    return f"at the begin of each {word}" if word else "at the marks"
