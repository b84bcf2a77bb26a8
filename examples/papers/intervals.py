"""What the experiments beside this file print: Markdown tables of means with their 95 % intervals over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = ["interval", "shown", "table"]


def interval(values: ArrayLike) -> tuple[float, float, float]:
    """The mean and its 95 % interval (Student's t); the interval is NaN where there is one value.

    Example:
        >>> tuple(round(value, 2) for value in interval([1.0, 2.0, 3.0]))
        (2.0, -0.48, 4.48)
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    mean = float(known.mean()) if len(known) else float("nan")
    if len(known) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
    return mean, mean - half, mean + half


def shown(values: ArrayLike, digits: int) -> str:
    """Mean and interval over seeds, with as many decimals.

    Example:
        >>> shown([1.0, 2.0, 3.0], 1), shown([0.25], 2), shown([], 2)
        ('2.0 [-0.5, 4.5]', '0.25', '–')
    """
    mean, low, high = interval(values)
    if np.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" if np.isnan(low) else f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown under its title."""
    print(f"\n### {title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
