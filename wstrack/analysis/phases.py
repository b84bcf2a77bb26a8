"""Where along the training the picture changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from wstrack.analysis.choice import cluster_layers
from wstrack.analysis.comparison import match_clusters
from wstrack.analysis.cutoffs import FINDING_P
from wstrack.analysis.estimators import one_thread
from wstrack.analysis.preparation import calm
from wstrack.analysis.procedure import Procedure

__all__ = ["Phases", "cluster_phases", "find_phases"]

Matrix = NDArray[np.float64]

_COURSES = 3  # components over time that are looked at
_SHORTEST = 5  # samples: a line and something to tell its noise from
_SIMULATIONS = 399
_ROUNDING = 1e-12  # of the squares of the courses: what a millionth of them leaves is no noise to learn from


@dataclass(frozen=True)
class Phases:
    """The training cut where the courses of the layers break off.

    Attributes:
        table: a row a phase: `first` and `last` step, `samples`, and `p`, the chance that noise of the same
            autocorrelation breaks as sharply where the phase begins (NaN for the first).
        breaks: the first steps of the second and later phases.
    """

    table: pd.DataFrame
    breaks: tuple[int, ...]


def find_phases(values: pd.DataFrame, *, alpha: float = FINDING_P, most: int = 6, seed: int = 0) -> Phases:
    """Find the steps at which the courses of many layers break off.

    The curves are reduced to their three largest common courses, freed of single samples that stick out. Two straight
    lines with a break between them are held against one smooth curve with as many parameters (a cubic in time or in its
    logarithm), so that a decay is not a break. The break is kept if the lines are as much better on simulated noise,
    with the autocorrelation of what the smooth curve leaves over (AR(1), each course its own), in at most `alpha` of
    the cases; then each side is looked at in the same way (binary segmentation), and at last each break is moved to the
    best place between its neighbours.

    Args:
        values: rows = layers, columns = steps, finite (`Prepared.values`).
        alpha: of each break.
        most: the largest number of phases.
        seed: of the simulated noise.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> curves = np.where(np.arange(60) < 25, 0.0, 1.0) + 0.2 * rng.normal(size=(12, 60))
        >>> find_phases(pd.DataFrame(curves, columns=np.arange(60) * 10)).breaks
        (250,)
    """
    steps = values.columns.to_numpy()
    courses = _courses(values.to_numpy(dtype=np.float64))
    rng = np.random.default_rng(seed)
    breaks: dict[int, float] = {}
    waiting = [(0, len(steps))] if courses.size else []
    while waiting and len(breaks) < most - 1:
        start, end = waiting.pop(0)
        if end - start < 2 * _SHORTEST:
            continue
        at, p = _break(courses[start:end], start, rng)
        if p <= alpha:
            breaks[start + at] = p
            waiting += [(start, start + at), (start + at, end)]
    found = _moved(courses, sorted(breaks))
    chances = [breaks[at] for at in sorted(breaks)]
    starts, ends = [0, *found], [*found, len(steps)]
    table = pd.DataFrame(
        {
            "first": [steps[at] for at in starts],
            "last": [steps[at - 1] for at in ends],
            "samples": [b - a for a, b in zip(starts, ends, strict=True)],
            "p": [np.nan, *chances],
        },
        index=pd.RangeIndex(1, len(starts) + 1, name="phase"),
    )
    return Phases(table, tuple(int(steps[at]) for at in found))


def cluster_phases(values: pd.DataFrame, phases: Phases, whole: pd.Series[int], procedure: Procedure) -> pd.DataFrame:
    """By layer, a column a phase: its cluster there, with numbers matched to the clusters of the whole run.

    Args:
        values: as in `find_phases`, of the whole run.
        phases: what that found; with one phase there is no column.
        whole: by layer, its cluster over the whole run.
        procedure: how the whole run was clustered, with the number of its clusters.
    """
    found = {}
    for phase, row in phases.table.iterrows() if phases.breaks else ():
        part = values.loc[:, (values.columns >= row["first"]) & (values.columns <= row["last"])]
        found[f"phase {phase}"] = match_clusters(cluster_layers(part, procedure).clustering.labels, whole)
    return pd.DataFrame(found, index=values.index)


def _courses(matrix: Matrix) -> Matrix:
    """The largest common courses, (steps, courses): principal components of the layers' curves without their levels."""
    calmed = calm(matrix)
    centred = calmed - calmed.mean(axis=1, keepdims=True)
    with one_thread():
        gram = centred.T @ centred if centred.shape[1] <= centred.shape[0] else None
        if gram is not None:
            squares, courses = np.linalg.eigh(gram)
            courses, lengths = courses[:, ::-1], np.sqrt(np.maximum(squares[::-1], 0))
        else:
            squares, weights = np.linalg.eigh(centred @ centred.T)
            courses, lengths = centred.T @ weights[:, ::-1], np.ones(len(squares))
    courses = (courses * lengths)[:, :_COURSES]
    return calm(courses[:, courses.std(axis=0) > 1e-9].T).T


def _costs(courses: Matrix) -> Matrix:
    """The squared error of one line through the first n samples, for every n, of courses (..., steps, courses)."""
    steps = courses.shape[-2]
    time = np.arange(steps, dtype=np.float64)[:, None]
    count = time + 1
    sums, squares = courses.cumsum(axis=-2), (courses**2).cumsum(axis=-2)
    with_time = (courses * time).cumsum(axis=-2) - sums * time.cumsum(axis=0) / count
    of_time = (time**2).cumsum(axis=0) - time.cumsum(axis=0) ** 2 / count
    explained = np.divide(with_time**2, of_time, out=np.zeros_like(with_time), where=of_time > 0)
    cost: Matrix = (squares - sums**2 / count - explained).sum(axis=-1)
    return np.maximum(cost, 0.0)


def _places(courses: Matrix) -> tuple[NDArray[np.int64], Matrix]:
    """The best break, as the number of samples before it, and the squared error of the two lines."""
    before = _costs(courses)
    after = _costs(courses[..., ::-1, :])[..., ::-1]
    places = np.arange(_SHORTEST, courses.shape[-2] - _SHORTEST + 1)
    left = before[..., places - 1] + after[..., places]
    best = left.argmin(axis=-1)
    return places[best], np.take_along_axis(left, best[..., None], axis=-1)[..., 0]


def _smooth(courses: Matrix, start: int) -> Matrix:
    """What the better of two smooth curves leaves over: a cubic in time, or in its logarithm, as decays are."""
    steps = courses.shape[-2]
    time = np.arange(start, start + steps, dtype=np.float64)
    left = []
    for scale in (time, np.log1p(time)):
        basis, _ = np.linalg.qr(np.vander(scale - scale.mean(), 4))
        left.append(courses - basis @ (basis.T @ courses))
    costs = [(one**2).sum(axis=(-2, -1))[..., None, None] for one in left]
    return np.where(costs[0] <= costs[1], left[0], left[1])


def _break(courses: Matrix, start: int, rng: np.random.Generator) -> tuple[int, float]:
    """Where one stretch breaks best, and the chance that noise alike in autocorrelation breaks as sharply."""

    def gain(these: Matrix) -> tuple[NDArray[np.int64], Matrix]:
        at, lines = _places(these)
        return at, (_smooth(these, start) ** 2).sum(axis=(-2, -1)) / np.maximum(lines, 1e-300)

    at, ours = gain(courses)
    left = _smooth(courses, start)
    if (left**2).sum() <= _ROUNDING * (courses**2).sum():
        return int(at), 1.0
    spread = np.maximum((left**2).sum(axis=0), 1e-300)
    memory = (left[1:] * left[:-1]).sum(axis=0) / spread
    memory = np.clip(memory + (1 + 4 * memory) / len(left), 0.0, 0.98)  # least squares finds too little (Kendall 1954)
    noise = rng.normal(size=(_SIMULATIONS, len(courses) + 50, courses.shape[1])) * np.sqrt(spread)
    for course, phi in enumerate(memory):
        noise[..., course] = lfilter([np.sqrt(1 - phi**2)], [1.0, -phi], noise[..., course], axis=1)
    _, simulated = gain(noise[:, 50:])
    return int(at), float((1 + (simulated >= ours).sum()) / (1 + _SIMULATIONS))


def _moved(courses: Matrix, breaks: list[int]) -> list[int]:
    """Each break at the best place between its neighbours."""
    found = list(breaks)
    for place in range(len(found)):
        start = found[place - 1] if place else 0
        end = found[place + 1] if place + 1 < len(found) else len(courses)
        if end - start >= 2 * _SHORTEST:
            found[place] = start + int(_places(courses[start:end])[0])
    return found
