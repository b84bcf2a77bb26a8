"""How fast two runs that began almost alike part: the finite-time exponent of their distance.

After the window of "Dynamical stability and chaos in artificial neural network trajectories along training" (arXiv
2404.05782, as its authors' code has it): the logarithm of the distance is fitted by a line in many windows, and the one
that a line fits best counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

__all__ = ["LEAST_GROWTH", "LEAST_R2", "LENGTHS", "STARTS", "Exponent", "exponent", "exponents"]

STARTS = range(0, 101, 5)  # samples
LENGTHS = range(30, 101, 5)  # samples
LEAST_R2 = 0.9
LEAST_GROWTH = 0.05  # of the logarithm, from one sample to the next

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Exponent:
    """The rate at which a distance grows, as exp(rate * steps).

    Attributes:
        rate: the slope of the natural logarithm of the distance, per step; below 0 the runs draw together.
        low, high: its 95 % interval.
        first, last: the steps of the window, both within it.
        r2: how well a line fits there, at most 1.
        grows: whether the paper would keep it: R^2 of 0.9, and 0.05 or more from one sample to the next.
    """

    rate: float
    low: float
    high: float
    first: int
    last: int
    r2: float
    grows: bool


def exponent(steps: ArrayLike, distances: ArrayLike) -> Exponent | None:
    """The exponent of a distance, in the window in which the logarithm of its mean is best fitted by a line.

    The interval: of several twins, that of the mean of the slopes that each has in this window (Student's t); of one,
    that of the slope, with errors that go on from sample to sample as far as those of the line do. It does not know
    that the window was chosen: of errors that go on by 0.7 it holds the slope in 86 of 100, not in 95.

    Args:
        steps: (samples,), ascending.
        distances: (samples,), or (samples, twins) of several pairs that are taken together. A window with a distance
            that is 0, or not finite, does not count: there the two are the same, or no numbers any more.

    Returns:
        None where no window of 30 samples is left.

    Raises:
        ValueError: the two are not as long, or a distance is negative.

    Example:
        >>> steps = np.arange(120)
        >>> found = exponent(steps, 1e-8 * np.exp(0.2 * steps))
        >>> round(found.rate, 6), found.grows, (found.first, found.last)
        (0.2, True, (0, 29))
    """
    at, apart = np.asarray(steps, dtype=np.float64), np.asarray(distances, dtype=np.float64)
    apart = apart[:, None] if apart.ndim == 1 else apart
    if len(at) != len(apart):
        raise ValueError(f"distances: {len(apart)} samples, and steps has {len(at)}; give one distance for each step")
    if (apart < 0).any():
        raise ValueError(f"distances: {float(np.nanmin(apart))!r} is negative; give sums of absolute differences")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        heights = np.log(apart.mean(axis=1))
    known = np.isfinite(heights)
    best: tuple[float, int, int] | None = None
    for start, length in product(STARTS, LENGTHS):
        end = start + length
        if end > len(at) or not known[start:end].all():
            continue
        r2 = _line(at[start:end], heights[start:end])[1]
        if best is None or r2 > best[0] + 1e-12:  # of equal ones the first, and not what rounding makes of them
            best = r2, start, end
    if best is None:
        return None
    r2, start, end = best
    x, y = at[start:end], heights[start:end]
    rate = _line(x, y)[0]
    low, high = _interval(x, y, apart[start:end], rate)
    grows = bool(r2 >= LEAST_R2 and rate * (x[-1] - x[0]) / (len(x) - 1) >= LEAST_GROWTH)
    return Exponent(rate, low, high, int(x[0]), int(x[-1]), r2, grows)


def exponents(distances: pd.DataFrame) -> pd.DataFrame:
    """The exponent of each layer's distance.

    Args:
        distances: index = step, columns = layers: `wstrack.diff(run_a, run_b).sums["abs_apart"]`.

    Returns:
        By layer the fields of `Exponent`; a layer without one is left out.

    Example:
        >>> steps = np.arange(60)
        >>> apart = pd.DataFrame({"fc1": np.exp(0.1 * steps), "fc2": np.exp(0.3 * steps), "still": 0.0}, index=steps)
        >>> exponents(apart)["rate"].round(6).to_dict()
        {'fc1': 0.1, 'fc2': 0.3}
    """
    found = {name: exponent(distances.index, distances[name]) for name in distances.columns}
    rows = {name: vars(one) for name, one in found.items() if one is not None}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(Exponent.__dataclass_fields__))


def _line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and R^2 of the line by least squares; what does not vary at all is fitted by it."""
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    total = float(dy @ dy)
    return slope, 1.0 - float(np.square(dy - slope * dx).sum()) / total if total else 1.0


def _interval(x: Array, y: Array, apart: Array, rate: float) -> tuple[float, float]:
    """The 95 % interval of a slope, see `exponent`."""
    twins = apart.shape[1]
    if twins > 1:
        with np.errstate(divide="ignore"):
            each = np.array([_line(x, column)[0] for column in np.log(apart).T if np.isfinite(column).all()])
        if len(each) < 2:
            return float("nan"), float("nan")
        half = float(student.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
        return rate - half, rate + half
    dx = x - x.mean()
    errors = y - y.mean() - rate * dx
    size = float(errors @ errors)
    kept = float(errors[1:] @ errors[:-1]) / size if size else 0.0
    kept = min(kept + (1 + 3 * kept) / len(x), 0.97)  # Kendall, 1954: short series show too little of it
    variance = size / (len(x) - 2) / float(dx @ dx) * max(1.0, (1 + kept) / (1 - kept))
    half = float(student.ppf(0.975, len(x) - 2) * np.sqrt(variance))
    return rate - half, rate + half
