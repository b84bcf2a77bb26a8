"""Several runs on one axis, and their mean with bands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

__all__ = ["Align", "Bands", "align", "average"]

Align = Literal["step", "share"]


@dataclass(frozen=True)
class Bands:
    """Several runs as one.

    Attributes:
        mean: index = step, columns = layers; of what was logged there, NaN where no run logged anything.
        deviation: the standard deviation between runs of the logarithm (base 10) of the positive finite values; NaN
            where fewer than two runs have one. A band of one deviation is mean / 10**d to mean * 10**d.
        runs: how many runs logged a value.
    """

    mean: pd.DataFrame
    deviation: pd.DataFrame
    runs: pd.DataFrame


def align(series: Sequence[pd.DataFrame], by: Align = "step") -> list[pd.DataFrame]:
    """Put runs of different length or cadence on one axis.

    Args:
        series: of each run; index = step, columns = layers.
        by: "step" leaves them as they are: the same optimizer step is the same row. "share" stretches each run so that
            its last step falls on the last step of the longest one (of those with the last step furthest on, the one
            with most samples), and reads it at that run's steps: linear between samples, NaN where either neighbour is
            missing.

    Raises:
        ValueError: another `by`.

    Example:
        >>> short = pd.DataFrame({"a": [1.0, 2.0]}, index=[5, 10])
        >>> long = pd.DataFrame({"a": [7.0, 8.0, 9.0]}, index=[50, 75, 100])
        >>> align([short, long], "share")[0]["a"].to_dict()
        {50: 1.0, 75: 1.5, 100: 2.0}
    """
    if by not in get_args(Align):
        raise ValueError(f"unknown align {by!r}; pass align= (--align) one of: {', '.join(get_args(Align))}")
    frames = list(series)
    if by == "step" or not any(len(frame) for frame in frames):
        return frames
    longest = max((frame for frame in frames if len(frame)), key=lambda frame: (frame.index[-1], len(frame)))
    return [frame if frame.index.equals(longest.index) else _stretched(frame, longest.index) for frame in frames]


def _stretched(frame: pd.DataFrame, onto: pd.Index) -> pd.DataFrame:
    if not len(frame):
        return frame
    steps = frame.index.to_numpy(dtype=np.float64)
    wanted = onto.to_numpy(dtype=np.float64) * (steps[-1] / float(onto[-1]))
    after = np.clip(np.searchsorted(steps, wanted - 1e-9), 1 if len(steps) > 1 else 0, len(steps) - 1)
    before = np.maximum(after - 1, 0)
    gap = np.maximum(steps[after] - steps[before], 1e-300)
    part = np.clip((wanted - steps[before]) / gap, 0.0, 1.0)[:, None]
    values = frame.to_numpy(dtype=np.float64)
    # A neighbour that does not count must not make the value NaN or infinite.
    low, high = np.where(part == 1, 0.0, values[before]), np.where(part == 0, 0.0, values[after])
    with np.errstate(invalid="ignore"):
        between = low * (1 - part) + high * part
    return pd.DataFrame(between, index=onto, columns=frame.columns)


def average(series: Iterable[pd.DataFrame]) -> Bands:
    """The mean over runs, step by step, of what each logged there (as the papers average seeds), and its bands.

    Runs are added up one after the other, so that hundreds need the memory of a few.

    Args:
        series: of each run, with the same layers; index = step.

    Raises:
        ValueError: there is none.

    Example:
        >>> first, second = pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"a": [100.0]})
        >>> bands = average([first, second])
        >>> bands.mean["a"].tolist(), bands.deviation["a"].round(3).tolist(), bands.runs["a"].tolist()
        ([50.5, 2.0], [1.414, nan], [2, 1])
    """
    total: pd.DataFrame | None = None
    for frame in series:
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log10(frame.to_numpy(dtype=np.float64))
        usable = np.isfinite(logs)
        logs = np.where(usable, logs, 0.0)
        logged = frame.notna().to_numpy()
        # Side by side: sum, how many, sum of logs, of their squares, how many.
        parts = np.hstack([frame.fillna(0.0).to_numpy(np.float64), logged, logs, logs**2, usable])
        columns = pd.MultiIndex.from_product([range(5), frame.columns])
        one = pd.DataFrame(parts, index=frame.index, columns=columns)
        if total is None:
            total, names = one, frame.columns
        elif total.index.equals(one.index):
            total += one
        else:
            total = total.add(one, fill_value=0.0)
    if total is None:
        raise ValueError("series=[] holds no run; pass at least one")
    sums, runs, logs, squares, many = (total[part][names].to_numpy() for part in range(5))
    mean = np.divide(sums, runs, out=np.full_like(sums, np.nan), where=runs > 0)
    variance = np.full_like(sums, np.nan)
    enough = many > 1
    variance[enough] = (squares[enough] - logs[enough] ** 2 / many[enough]) / (many[enough] - 1)
    index = total.index
    return Bands(
        mean=pd.DataFrame(mean, index=index, columns=names),
        deviation=pd.DataFrame(np.sqrt(np.maximum(variance, 0.0)), index=index, columns=names),
        runs=pd.DataFrame(runs.astype(np.int64), index=index, columns=names),
    )
