"""Where along the training the picture changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh

from wstrack.analysis.choice import cluster_layers
from wstrack.analysis.comparison import match_clusters
from wstrack.analysis.cutoffs import FINDING_P
from wstrack.analysis.estimators import one_thread
from wstrack.analysis.preparation import calm
from wstrack.analysis.procedure import Procedure

__all__ = ["Phases", "cluster_phases", "find_phases"]

Matrix = NDArray[np.float64]

_COURSES = 3  # components over time that are looked at
_EXACT_UP_TO = 500  # layers or samples; above it ARPACK finds the same courses in half the time or less
_SHORTEST = 5  # samples: a line and something to tell its noise from
_FINEST = 200  # samples that are looked at; of more, the means of blocks
_REACH = 20  # blocks around a break among which its sample is looked for
_MEMORIES = (20, 12, 8, 5)  # half the widths of the windows in which the memory of the noise is learned
_ATTEMPTS = 5  # at breaks and the noise between them, each learned from the other
_FAR_BEYOND = 1.15  # times the limit: what is left aside as no noise before the noise is known
_SIMULATIONS = 399
_AT_ONCE = 40  # simulations, whose windows fit into a processor's cache
_FORGOTTEN = 50  # samples before those of a simulation, which begins with no memory


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

    The curves are reduced to their three largest common courses, freed of single samples that stick out. In windows of
    many widths around each sample, two straight lines that break in the middle are held against one smooth curve with
    one parameter more (of the fourth degree in time, or in its logarithm where training begins), so that a decay is no
    break. How much better the lines are, in units of the noise, is compared with the most that simulated noise reaches
    in any window: autoregressive (AR(1)) with the memory that each course has between its breaks, and the tails of
    Student's t with four degrees of freedom. Of the windows beyond it the narrowest come first, for they hold no second
    break (narrowest over threshold: Baranowski, Chen and Fryzlewicz 2019).

    Args:
        values: rows = layers, columns = steps, finite (`Prepared.values`).
        alpha: how often noise without a break has one.
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
    breaks: dict[int, float] = {}
    if courses.size and len(courses) >= 2 * _SHORTEST:
        with one_thread():
            breaks = _breaks(courses, alpha, most - 1, seed)
    found = sorted(breaks)
    starts, ends = [0, *found], [*found, len(steps)]
    table = pd.DataFrame(
        {
            "first": [steps[at] for at in starts],
            "last": [steps[at - 1] for at in ends],
            "samples": [b - a for a, b in zip(starts, ends, strict=True)],
            "p": [np.nan, *(breaks[at] for at in found)],
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
        labels = cluster_layers(part, procedure.at_most(len(part.drop_duplicates()))).clustering.labels
        found[f"phase {phase}"] = match_clusters(labels, whole)
    return pd.DataFrame(found, index=values.index)


def _courses(matrix: Matrix) -> Matrix:
    """The largest common courses, (steps, courses): principal components of the layers' curves without their levels."""
    calmed = calm(matrix)
    centred = calmed - calmed.mean(axis=1, keepdims=True)
    over_time = centred.shape[1] <= centred.shape[0]
    with one_thread():
        gram = centred.T @ centred if over_time else centred @ centred.T
        if len(gram) > _EXACT_UP_TO:
            squares, weights = eigsh(gram, _COURSES, v0=np.random.default_rng(0).normal(size=len(gram)))
        else:
            squares, weights = eigh(gram, subset_by_index=(max(0, len(gram) - _COURSES), len(gram) - 1))
        weights = weights[:, ::-1]
        courses = weights * np.sqrt(np.maximum(squares[::-1], 0)) if over_time else centred.T @ weights
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


@dataclass(frozen=True)
class _Window:
    """What is fitted in windows of one width: orthonormal bases (samples, vectors)."""

    half: int
    lines: Matrix
    smooth: Matrix  # of the fourth degree in time
    early: Matrix  # in its logarithm, for each of the first windows, where that is another curve

    @classmethod
    def of(cls, half: int, samples: int) -> _Window:
        time = np.arange(2 * half) - (half - 0.5)
        left = (time < 0).astype(np.float64)
        lines = np.stack([left, left * (time + half / 2), 1 - left, (1 - left) * (time - half / 2)], axis=1)
        starts = np.arange(min(2 * half, samples - 2 * half + 1))
        log = np.log1p(starts[:, None] + np.arange(2 * half))
        log -= log.mean(axis=1, keepdims=True)
        log /= np.abs(log).max(axis=1, keepdims=True)
        bases = np.vander(time / half, 5), lines, log[:, :, None] ** np.arange(5)
        smooth, two, early = (np.linalg.qr(basis)[0] for basis in bases)
        return cls(half, two, smooth, early)


def _breaks(courses: Matrix, alpha: float, most: int, seed: int) -> dict[int, float]:
    """The samples at which phases begin, and the chance of each."""
    block = -(-len(courses) // _FINEST)
    coarse = np.add.reduceat(courses, np.arange(0, len(courses), block)) / block
    coarse = coarse[: len(courses) // block] - coarse.mean(axis=0)
    samples, halves = len(coarse), [_SHORTEST]
    while (wider := round(1.5 * halves[-1])) <= samples // 2:
        halves.append(wider)
    windows = [_Window.of(half, samples) for half in halves]
    ours = _better(coarse, windows, 1e-12 * (coarse**2).mean(axis=0))
    shocks = np.random.default_rng(seed).standard_t(4, size=(_SIMULATIONS, coarse.shape[1], samples + _FORGOTTEN))
    breaks: dict[int, float] = {}
    for attempt in range(_ATTEMPTS):
        # A break is no noise, but until one is known its jump is in all that noise is learned from. So at first noise
        # is taken to remember as little as any windows say, and only what is far beyond it then is left aside.
        memory = _memory(coarse, breaks) if attempt else _least_memory(coarse)
        simulated = _simulated(shocks, memory, windows)
        mean, deviation = [one.mean() for one in simulated], [one.std() for one in simulated]
        highest = np.max(
            [(one.max(axis=1) - m) / d for one, m, d in zip(simulated, mean, deviation, strict=True)], axis=0
        )
        limit = float(np.quantile(highest, 1 - alpha)) * (1.0 if attempt else _FAR_BEYOND)
        heights = [(one - m) / d for one, m, d in zip(ours, mean, deviation, strict=True)]
        found = _narrowest(coarse, windows, heights, limit, most)
        known, breaks = breaks, {at: float((1 + (highest >= z).sum()) / (1 + len(highest))) for at, z in found.items()}
        if attempt and set(breaks) <= set(known):
            break
    fine = {}
    for at, p in breaks.items():
        # Where exactly, among the samples of the blocks around; a neighbour's jump is not among them.
        others = [0, samples, *(one for one in breaks if one != at)]
        reach = min(_REACH, *(abs(at - one) for one in others))
        start, end = (at - reach) * block, min((at + reach) * block, len(courses))
        fine[start + int(_places(courses[start:end])[0])] = p
    return fine


def _better(courses: Matrix, windows: Sequence[_Window], floor: Matrix | float = 0.0) -> list[Matrix]:
    """By width, how much smaller the squared error of two lines is than that of one smooth curve, (..., windows).

    In units of the noise, of which there is at least `floor`: the median over the narrowest windows of what the better
    of both leaves. Summed over the courses.
    """
    better: list[Matrix] = []
    noise: Matrix | None = None
    # (samples, all courses): each window is a stretch of it, which linear algebra takes as it lies in memory.
    rows = np.moveaxis(courses, -2, 0)
    shape, rows = rows.shape[1:], np.ascontiguousarray(rows.reshape(len(rows), -1))
    for window in windows:
        width, first = 2 * window.half, len(window.early)
        pieces = sliding_window_view(rows, width, axis=0).swapaxes(1, 2)
        squares = (np.concatenate([window.lines, window.smooth], axis=1).T @ pieces) ** 2
        explained, curved = squares[:, :4].sum(axis=1), squares[:, 4:].sum(axis=1)
        early = ((window.early.swapaxes(1, 2) @ pieces[:first]) ** 2).sum(axis=1)
        curved[:first] = np.maximum(curved[:first], early)
        if noise is None:
            left = (pieces**2).sum(axis=1) - np.maximum(explained, curved)
            noise = np.maximum(np.median(left, axis=0).reshape(shape) / (width - 4), floor)
        gains = (explained - curved).reshape(-1, *shape) / noise
        better.append(np.moveaxis(gains.sum(axis=-1), 0, -1))
    return better


def _narrowest(
    courses: Matrix, windows: Sequence[_Window], heights: Sequence[Matrix], limit: float, most: int
) -> dict[int, float]:
    """The breaks beyond a limit, those of the narrowest windows first, and how high each stands."""
    open_still = [one.copy() for one in heights]
    found: dict[int, float] = {}
    while len(found) < most:
        beyond = [place for place, one in enumerate(open_still) if one.max() > limit]
        if not beyond:
            break
        width = 2 * windows[beyond[0]].half
        start = int(open_still[beyond[0]].argmax())
        at = start + int(_places(courses[start : start + width])[0])
        found[at] = float(open_still[beyond[0]][start])
        for window, one in zip(windows, open_still, strict=True):
            starts = np.arange(len(one))
            one[(starts < at) & (at < starts + 2 * window.half)] = -np.inf
    return found


def _simulated(shocks: Matrix, memory: Matrix, windows: Sequence[_Window]) -> list[Matrix]:
    """`_better` of simulated noise, (simulations, windows) by width, from shocks (simulations, courses, samples)."""
    noise = shocks.copy()
    for sample in range(1, noise.shape[-1]):
        noise[..., sample] += memory * noise[..., sample - 1]
    noise = noise[..., _FORGOTTEN:]
    calmed = calm(noise.reshape(-1, noise.shape[-1])).reshape(noise.shape).swapaxes(1, 2)
    parts = [_better(calmed[first : first + _AT_ONCE], windows) for first in range(0, len(calmed), _AT_ONCE)]
    return [np.concatenate(of_width) for of_width in zip(*parts, strict=True)]


def _least_memory(courses: Matrix) -> Matrix:
    halves = [half for half in _MEMORIES if 2 * half <= len(courses)]
    return np.asarray(np.min([_memory_within(courses, half, ()) for half in halves], axis=0))


def _memory(courses: Matrix, breaks: Collection[int]) -> Matrix:
    """The lag-one correlation of each course, from the widest windows of which enough hold no break."""
    for half in _MEMORIES:
        fits = len(courses) - 2 * half + 1
        if fits > 0 and _free(len(courses), half, breaks).sum() >= max(1, fits // 3):
            return _memory_within(courses, half, breaks)
    return _memory_within(courses, _SHORTEST, ())


def _free(samples: int, half: int, breaks: Collection[int]) -> NDArray[np.bool_]:
    """Which windows, by their first sample, hold no break."""
    starts = np.arange(samples - 2 * half + 1)
    free = np.ones(len(starts), dtype=bool)
    for at in breaks:
        free &= ~((starts < at) & (at < starts + 2 * half))
    return free


def _memory_within(courses: Matrix, half: int, breaks: Collection[int]) -> Matrix:
    """By what cubics in windows leave over: the memory of which that much is left, for a fit takes some away."""
    time = np.arange(2 * half) - (half - 0.5)
    basis = np.linalg.qr(np.vander(time / half, 4))[0]
    rest = np.eye(2 * half) - basis @ basis.T
    left = sliding_window_view(courses, 2 * half, axis=0)[_free(len(courses), half, breaks)] @ rest
    size = np.maximum((left**2).sum(axis=-1), 1e-300)
    seen = np.median((left[..., 1:] * left[..., :-1]).sum(axis=-1) / size, axis=0)
    memories = np.linspace(0.0, 0.98, 50)
    apart = np.abs(np.subtract.outer(time, time))
    covariances = [rest @ memory**apart @ rest for memory in memories]
    expected = [np.trace(one, offset=1) / np.trace(one) for one in covariances]
    return np.asarray(np.interp(seen, expected, memories))
