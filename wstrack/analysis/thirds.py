"""Early and late in a run: the first and the last third of its samples."""

from __future__ import annotations

import pandas as pd

from wstrack.analysis.medians import medians

__all__ = ["early_and_late"]


def early_and_late(series: pd.DataFrame) -> pd.DataFrame:
    """By layer, the medians of the first and of the last third of the samples, and late over early.

    Args:
        series: index = step, columns = layers, finite or NaN, of samples that can be held against each other
            (`comparable_steps`).

    Returns:
        By layer `early`, `late` and `ratio`; the ratio is NaN throughout where any value is negative.

    Example:
        >>> early_and_late(pd.DataFrame({"a": [4.0, 9.0, 1.0], "b": [2.0, 9.0, 2.0]}))["ratio"].tolist()
        [0.25, 1.0]
    """
    third = max(1, len(series) // 3)
    early, late = medians(series.head(third)), medians(series.tail(third))
    negative = bool((series < 0).any(axis=None))
    return pd.DataFrame({"early": early, "late": late, "ratio": late / early * (float("nan") if negative else 1.0)})
