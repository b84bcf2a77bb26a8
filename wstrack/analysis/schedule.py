"""What the learning rates of a run do, and whether the layers' courses break off where theirs does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wstrack.analysis.cutoffs import SMALLEST_RATIO
from wstrack.analysis.medians import medians
from wstrack.runs.run import Run

__all__ = ["Schedule", "Turn", "schedule_of", "turn_at"]

Vector = NDArray[np.float64]

_NEAR = 2  # samples between a turn of the rate and where it is seen in the changes, which span the steps before
_WINDOWS = (10, 5)  # samples on either side
_FEW = 6  # samples, up to which a piece is a line and no parabola
_SMOOTH = 5  # the degree of what has as many parameters as two parabolas
_SHARE = 0.25  # of the error of one smooth curve, that two pieces leave where it turns
_FLOOR = 3e-4  # of that error at least, in decades or of the largest rate: a rate has no noise, but only so many digits
_ASIDE = 3  # samples whose median is the level on either side
_SLOPE = 5  # samples on either side from which a slope is told


@dataclass(frozen=True)
class Schedule:
    """The learning rates of a run, each course once.

    Attributes:
        courses: index = step, a column a distinct course, numbered from 1: that of the most layers first.
        layers: by course, its layers.
    """

    courses: pd.DataFrame
    layers: dict[int, tuple[str, ...]]

    @property
    def main(self) -> pd.Series[float]:
        """The course that the most layers have."""
        return self.courses.iloc[:, 0]


@dataclass(frozen=True)
class Turn:
    """A break in the layers' courses that follows the learning rate.

    Attributes:
        step: where the layers' courses break off.
        before, after: the rate in the samples before and after it turns.
        ratio: of the median layer's value after it over that before.
        jumps: whether the rate jumps there, or only its slope changes.
        slopes: the rate's slope before and after, in decades a sample.
    """

    step: int
    before: float
    after: float
    ratio: float
    jumps: bool
    slopes: tuple[float, float]


def schedule_of(runs: Sequence[Run], steps: pd.Index[int], of: str = "lr") -> Schedule | None:
    """The learning rates of a run, or of several that have the same; None where nobody knows them.

    Args:
        runs: what is analysed.
        steps: of the samples that are.
        of: which metric of the optimizers, if not the learning rate.

    Example:
        >>> from wstrack.runs.manifest import Layer, Manifest
        >>> manifest = Manifest("demo", tuple(Layer(name) for name in "abc"), ("lr",), every=1)
        >>> run = Run.from_values(manifest, [1, 2], {"lr": np.array([[0.2, 0.1, 0.1], [0.1, 0.1, 0.1]])})
        >>> schedule_of([run], run.series["lr"].index).layers
        {1: ('b', 'c'), 2: ('a',)}
    """
    frames = [run.series[of].reindex(steps) for run in runs if of in run.series]
    if len(frames) < len(runs) or not all(_same(frame, frames[0]) for frame in frames[1:]):
        return None
    frame = frames[0].dropna(axis="columns", how="all")
    if frame.empty:
        return None
    # Trackers and tensors have rates in float32: what is equal in it is one course.
    alike: dict[bytes, list[str]] = {}
    for layer, column in zip(frame.columns, frame.to_numpy(np.float32).T, strict=True):
        alike.setdefault(column.tobytes(), []).append(layer)
    largest_first = sorted(alike.values(), key=len, reverse=True)
    courses = frame[[layers[0] for layers in largest_first]].set_axis(range(1, len(alike) + 1), axis="columns")
    return Schedule(courses, {number: tuple(layers) for number, layers in enumerate(largest_first, 1)})


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    here, there = one.to_numpy(np.float32), other.to_numpy(np.float32)
    return here.shape == there.shape and np.array_equal(here, there, equal_nan=True)


def turn_at(values: pd.DataFrame, rate: pd.Series[float], step: int) -> Turn | None:
    """How the learning rate turns where the layers' courses break off, if it does so and they follow.

    A rate turns where two pieces, parabolas or lines, that meet within two samples of the step leave at most a quarter
    of the error of one polynomial with as many parameters, on a log scale or a linear one: so no smooth decay does,
    however steep. The layers follow if the median layer goes the same way as a rate that jumps, or its slope changes
    the same way.

    Args:
        values: index = step, columns = layers, none below 0.
        rate: by the same steps.
        step: where the courses break off.

    Example:
        >>> steps = np.arange(30) * 50
        >>> rate = pd.Series(np.where(np.arange(30) < 12, 0.1, 0.01), index=steps)
        >>> turn = turn_at(pd.DataFrame({"a": rate * 0.3}), rate, 600)
        >>> turn.before, turn.after, round(turn.ratio, 3), turn.jumps
        (0.1, 0.01, 0.1, True)
        >>> turn_at(pd.DataFrame({"a": rate * 0.3}), rate, 1000) is None
        True
    """
    known = rate.reindex(values.index)
    at = int(values.index.get_indexer(pd.Index([step]))[0])
    if known.isna().any() or at < _ASIDE or at > len(values) - _ASIDE:
        return None
    # A warm-up may begin at 0, which has no logarithm.
    logs = np.log10(np.maximum(known.to_numpy(), known[known > 0].min() / 10 if (known > 0).any() else 1.0))
    scales = (
        logs,
        np.asarray(known / known.max(), np.float64),
    )  # a warm-up is a line on the one, a decay perhaps on the other
    turn = next(filter(None, (_turn(scale, at, half) for half in _WINDOWS for scale in scales)), None)
    if turn is None:
        return None
    low, high = min(at, turn), max(at, turn)
    course = np.log10(medians(values.where(values > 0), "columns").to_numpy())
    change = float(np.nanmedian(course[high : high + _ASIDE]) - np.nanmedian(course[max(0, low - _ASIDE) : low]))
    slopes = _slope(logs[max(0, turn - _SLOPE) : turn]), _slope(logs[turn : turn + _SLOPE])
    before, after = float(known.iloc[turn - 1]), float(known.iloc[turn])
    # A slope that goes on is no jump.
    least = np.log10(SMALLEST_RATIO)
    jump = logs[turn] - logs[turn - 1] - sorted((0.0, *slopes))[1]
    if abs(jump) >= least:
        follows = change * jump > 0 and abs(change) >= least
    else:
        bend = _slope(course[high : high + _SLOPE]) - _slope(course[max(0, low - _SLOPE) : low])
        follows = bend * (slopes[1] - slopes[0]) > 0
    return Turn(step, before, after, 10**change, bool(abs(jump) >= least), slopes) if follows else None


def _turn(course: Vector, at: int, half: int) -> int | None:
    """The sample, near another, from which on the rate goes another way; None if it does not."""
    start, end = max(0, at - half), min(len(course), at + half)
    window = course[start:end]
    whole = _error(window, min(_SMOOTH, len(window) - 2))
    if whole < len(window) * _FLOOR**2:
        return None
    errors = {
        place: sum(_error(piece, 1 if len(piece) < _FEW else 2) for piece in (course[start:place], course[place:end]))
        for place in range(max(start + 2, at - _NEAR), min(end - 2, at + _NEAR) + 1)
    }
    best = min(errors, key=errors.__getitem__, default=None)
    return best if best is not None and errors[best] < _SHARE * whole else None


def _error(values: Vector, degree: int) -> float:
    """What the best polynomial leaves, squared and added up."""
    time = np.linspace(-1, 1, len(values))
    basis = np.linalg.qr(np.vander(time, min(degree, len(values) - 1) + 1))[0]
    return float(((values - basis @ (basis.T @ values)) ** 2).sum())


def _slope(values: Vector) -> float:
    """A sample's rise, by least squares; 0 of too few."""
    known = values[np.isfinite(values)]
    return float(np.polyfit(np.arange(len(known)), known, 1)[0]) if len(known) > 1 else 0.0
