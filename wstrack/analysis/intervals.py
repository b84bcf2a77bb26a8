"""Which samples of a run can be held against each other: a k-step change is not k one-step changes."""

from __future__ import annotations

import pandas as pd

__all__ = ["comparable_steps"]

_SAME_INTERVAL = 0.1
_ENOUGH = 0.8


def comparable_steps(steps: pd.Index[int], metric: str, intervals: pd.Series[int] | None) -> pd.Index[int]:
    """The steps whose samples span as many optimizer steps as most do, to a tenth.

    Where the sampling changes, so does the size of the changes, and neither a course nor a spike can be told from it.
    A few odd samples (the first, one after a pause) can be left out; where less than four fifths are alike, none are
    comparable.

    Args:
        steps: of the samples.
        metric: only the `rwc` metrics are of an interval; of others all samples are comparable.
        intervals: by step, how many optimizer steps the sample spans (`Run.intervals`); None where nobody knows.

    Example:
        >>> spans = pd.Series([10] + [50] * 9, index=[10, *range(60, 501, 50)])
        >>> len(comparable_steps(spans.index, "rwc", spans)), len(comparable_steps(spans.index, "norm", spans))
        (9, 10)
    """
    if intervals is None or not metric.startswith("rwc"):
        return steps
    spans = intervals.reindex(steps)
    usual = spans.median()
    other = (spans - usual).abs() > _SAME_INTERVAL * usual
    return steps[~other] if (~other).mean() >= _ENOUGH else steps[:0]
