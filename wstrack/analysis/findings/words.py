"""What all findings are made of: the sentence with its numbers, and how numbers read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Figure", "Finding", "Kind", "Numbers", "batches", "chance", "holm", "names", "number", "times"]

MOST_NAMED = 8

Figure = Literal["heatmap", "curves", "plane", "k"]
Kind = Literal[
    "clusters", "differences", "depth", "spread", "groups", "course", "against", "phases", "stopped", "rule",
    "unstable", "spikes", "missing", "incomplete", "not_finite", "still",
]  # fmt: skip
Numbers = dict[str, float | str | int]


@dataclass(frozen=True)
class Finding:
    """One thing to know about a run.

    Attributes:
        kind: of what; docs/analysis.md says what each is.
        text: for people; plain text with layer names as they are, lines separated by newlines.
        figure: the figure that shows it: "heatmap", "curves", "plane" or "k".
        numbers: the numbers of the text, unrounded.
        layers: the layers that it is about, in model order; empty where it is about all.
        steps: the steps that it is about; empty where it is about all.
    """

    kind: Kind
    text: str
    figure: Figure
    numbers: Numbers
    layers: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def chance(p: float) -> str:
    """A p-value."""
    return "p < 0.001" if p < 0.001 else f"p = {number(p)}"


def times(ratio: float) -> str:
    """A ratio in words."""
    return f"{number(1 / ratio)} times smaller" if ratio < 1 else f"{number(ratio)} times larger"


def names(named: Iterable[str]) -> str:
    """The first eight, and how many more there are."""
    every = list(named)
    more = f" and {len(every) - MOST_NAMED} more" if len(every) > MOST_NAMED else ""
    return ", ".join(every[:MOST_NAMED]) + more


def batches(values: pd.DataFrame) -> pd.DataFrame:
    """The medians of stretches of neighbouring samples, which are nearly independent where samples are not.

    A stretch is twice as long as the samples remember, by the median lag-one correlation of what the layers do apart
    from their common course; but there are five stretches at least.
    """
    steps = len(values)
    ranks = values.rank()
    centred = ranks - ranks.mean()
    common = centred.median(axis="columns") if values.shape[1] > 2 else 0.0 * centred.sum(axis="columns")
    apart = centred.sub(common, axis="index").fillna(0.0).to_numpy()
    size = np.maximum((apart**2).sum(axis=0), 1e-300)
    memory = float(np.median((apart[1:] * apart[:-1]).sum(axis=0) / size))
    memory = min(max(memory + (1 + 4 * memory) / max(steps, 1), 0.0), 0.9)
    length = max(1, min(round(2 * (1 + memory) / (1 - memory)) if memory > 0.15 else 1, steps // 5))
    return values.groupby(np.minimum(np.arange(steps) // length, max(1, steps // length) - 1)).median()


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values of many tests of one kind, so adjusted that the chance of any wrong one stays (Holm 1979).

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(adjusted, 1.0)
    return result


def above(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """One-sided chance that `ours` lie above `theirs` (Mann-Whitney); 1 where either is empty."""
    ours, theirs = ours[~np.isnan(ours)], theirs[~np.isnan(theirs)]
    if not len(ours) or not len(theirs):
        return 1.0
    return float(stats.mannwhitneyu(ours, theirs, alternative="greater").pvalue)
