"""Fewer points to draw, never to compute with: a screen has no room for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tiles", "compact", "thin", "tile"]


@dataclass(frozen=True)
class Tiles:
    """A series as an image of equal tiles.

    Attributes:
        image: of shape (rows, columns), float32 where that has room; NaN where nothing was logged.
        start: the step at the left edge of the first column.
        width: steps a column.
        steps: the steps behind each column, for people.
        rows: for each row the first layer in it, and one past the last.
        samples_per_column: how many samples, at most, one column averages.
    """

    image: NDArray[np.floating]
    start: float
    width: int
    steps: list[str]
    rows: list[tuple[int, int]]
    samples_per_column: int


def tile(values: NDArray[np.float64], steps: NDArray[np.int64], *, columns: int = 800, rows: int = 700) -> Tiles:
    """`values` (samples x layers) as at most `rows` x `columns` tiles, each the mean of what was logged in it.

    Columns are equally wide in steps. One without a sample shows the nearest sample; but where the samples are mostly
    evenly spaced, a wider gap stays empty.

    Example:
        >>> tiles = tile(np.array([[1.0], [3.0], [5.0], [7.0]]), np.array([10, 20, 30, 60]))
        >>> tiles.image, tiles.start, tiles.width
        (array([[ 1.,  3.,  5., nan, nan,  7.]], dtype=float32), 5.0, 10)
    """
    gaps = np.diff(steps) if len(steps) > 1 else np.ones(1, dtype=np.int64)
    finest = int(gaps.min())
    width = finest * -(-(int(steps[-1] - steps[0]) // finest + 1) // columns)
    column = (steps - steps[0]) // width
    filled, first = np.unique(column, return_index=True)
    count = int(column[-1]) + 1

    usual = np.median(gaps)
    reach = usual if np.mean(gaps == usual) >= 0.5 else np.inf
    centres = steps[0] - finest / 2 + width * (np.arange(count) + 0.5)
    after = np.clip(np.searchsorted(steps, centres), min(1, len(steps) - 1), len(steps) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(centres - steps[before] <= steps[after] - centres, before, after)
    source = np.searchsorted(filled, column[nearest])
    source[filled] = np.arange(len(filled))
    empty = np.abs(centres - steps[nearest]) > reach / 2
    empty[filled] = False

    layer_starts = np.arange(0, values.shape[1], -(-values.shape[1] // rows))
    means = _means(_means(values, first, axis=0), layer_starts, axis=1).T[:, source]
    means[:, empty] = np.nan
    last = np.append(first[1:], len(steps)) - 1
    spans = [f"{steps[a]}" if a == b else f"{steps[a]} to {steps[b]}" for a, b in zip(first, last, strict=True)]
    return Tiles(
        image=compact(means),
        start=float(steps[0] - finest / 2),
        width=width,
        steps=["" if hole else spans[i] for i, hole in zip(source, empty, strict=True)],
        rows=list(zip(layer_starts.tolist(), [*layer_starts[1:].tolist(), values.shape[1]], strict=True)),
        samples_per_column=int((last - first).max()) + 1,
    )


def compact(values: NDArray[np.float64]) -> NDArray[np.floating]:
    """`values` in float32, unless one of them is too large or too small for that.

    Example:
        >>> compact(np.array([0.5, np.nan])).dtype, compact(np.array([1e300])).dtype
        (dtype('float32'), dtype('float64'))
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    room = np.finfo(np.float32)
    return values.astype(np.float32) if ((sizes >= room.tiny) & (sizes <= room.max)).all() else values


def _means(values: NDArray[np.float64], starts: NDArray[np.int64], *, axis: int) -> NDArray[np.float64]:
    """The mean of each group along `axis`, NaN left out; a group of NaN alone is NaN."""
    logged = ~np.isnan(values)
    sums = np.add.reduceat(np.where(logged, values, 0.0), starts, axis=axis)
    counts = np.add.reduceat(logged.astype(np.float64), starts, axis=axis)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def thin(values: NDArray[np.float64], *, points: int = 150) -> NDArray[np.int64]:
    """Which positions of each row to draw: the lowest and the highest of every stretch, so that spikes survive.

    Args:
        values: finite, of shape (layers, samples).

    Returns:
        Ascending positions, of shape (layers, at most `points`).

    Example:
        >>> thin(np.array([[0.0, 1.0, 9.0, 1.0, 0.0, 0.0]]), points=4)
        array([[0, 2, 3, 4]])
    """
    layers, samples = values.shape
    if samples <= points:
        return np.tile(np.arange(samples), (layers, 1))
    edges = np.linspace(0, samples, points // 2 + 1).astype(np.int64)
    picked = [
        low + np.sort([stretch.argmin(axis=1), stretch.argmax(axis=1)], axis=0)
        for low, high in pairwise(edges)
        for stretch in [values[:, low:high]]
    ]
    return np.concatenate(picked).T
