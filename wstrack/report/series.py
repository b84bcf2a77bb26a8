"""One series out of one or several runs: which metric, averaged over the runs, on which scale."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

import numpy as np
import pandas as pd

from wstrack.errors import WstrackError
from wstrack.run import Run

__all__ = ["average", "choose_metric", "suited_scale"]


def choose_metric(runs: Sequence[Run], metric: str | None) -> str:
    """The metric to report on: the one asked for, else `rwc`, else the first that the first run holds.

    Raises:
        ValueError: a run does not hold the metric asked for.
        WstrackError: nobody asked for one, and a run holds none of use.
    """
    held = runs[0].metrics
    if metric is None:
        if not held:
            raise WstrackError(f"the run {runs[0].name!r} holds no metric; pull it again with match= (--match)")
        metric = "rwc" if "rwc" in held else held[0]
    for run in runs:
        if metric not in run.series:
            there = ", ".join(run.metrics) or "nothing"
            raise ValueError(f"metric={metric!r} is not in the run {run.name!r}; pass metric= (--metric) of: {there}")
    return metric


def average(runs: Sequence[Run], metric: str) -> pd.DataFrame:
    """The mean over the runs, step by step, of what each run logged there (as the paper averages seeds).

    Returns:
        float64 of shape (steps that any run has, layers); NaN where no run logged a value.

    Raises:
        WstrackError: the runs do not have the same layers in the same order.
    """
    frames = [run.series[metric] for run in runs]
    if not any(len(frame) for frame in frames):
        raise WstrackError(
            f"no samples of {metric} in {', '.join(run.name for run in runs)}; train longer, or sample "
            "more often: watch(..., every=...)"
        )
    for run, frame in zip(runs[1:], frames[1:], strict=True):
        for ours, theirs in zip_longest(frames[0].columns, frame.columns):
            if ours != theirs:
                raise WstrackError(
                    f"the runs differ in their layers: {ours!r} in {runs[0].name!r} against {theirs!r} in "
                    f"{run.name!r}; report on each alone, or log the same layers (layers=)"
                )
    return frames[0] if len(frames) == 1 else pd.concat(frames).groupby(level=0).mean()


def suited_scale(series: pd.DataFrame, metric: str) -> Literal["log10", "linear"]:
    """Log10 for what is a size or a ratio; linear for a cosine and for anything that can be negative.

    Example:
        >>> frame = pd.DataFrame({"a.weight": [0.1, 0.01]})
        >>> suited_scale(frame, "rwc"), suited_scale(-frame, "mine"), suited_scale(frame, "cosine")
        ('log10', 'linear', 'linear')
    """
    values = series.to_numpy()
    return "linear" if metric == "cosine" or (values < 0).any() or not np.any(values > 0) else "log10"
