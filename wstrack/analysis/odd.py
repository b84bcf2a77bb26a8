"""Runs that are unlike all others of their sweep: far from where their settings have the others, or broken."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from wstrack.analysis.slopes import FEWEST, line

__all__ = ["odd_runs"]

Array = NDArray[np.float64]

ODD_P = 0.025  # with which any run is called odd by chance, as a whole, and likewise for how its layers stand


def odd_runs(levels: pd.DataFrame, settings: Sequence[Array] = ()) -> dict[str, str]:
    """The runs that are far from where their settings have all others: as a whole, or in how their layers stand.

    Args:
        levels: a row a run, by its name, a column a layer (`wstrack.analysis.slopes.level_of`).
        settings: of each run, its values, as the levels go with them; their lines are taken out one after the other.

    Returns:
        By run, what is odd about it. Any run of a sweep is called odd by chance in at most one sweep of twenty.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> levels = pd.DataFrame(rng.normal(-3, 0.1, (12, 8)), index=[f"run {place}" for place in range(12)])
        >>> levels.iloc[4] += 2
        >>> odd_runs(levels)
        {'run 4': 'its layers change 101 times more than in the other runs'}
    """
    table = levels.to_numpy(dtype=np.float64)
    names, layers = list(map(str, levels.index)), list(map(str, levels.columns))
    away = np.column_stack([_away(settings, column) for column in table.T])
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        whole = np.nanmedian(away, axis=1)
        within = away - whole[:, None]
        scale = np.nanmedian(np.abs(within), axis=0)
        distance = np.log(np.nanmean(np.abs(within) / np.where(scale > 0, scale, np.nan), axis=1))
        far = _outlying(np.abs(whole), freedom=3)
        apart = _outlying(distance - np.nanmedian(distance), freedom=10)  # a mean over layers, and its logarithm
    odd = {}
    lost = (~np.isfinite(table)).sum(axis=1)
    for place, name in enumerate(names):
        if lost[place] == len(layers):
            odd[name] = "no layer has a finite change"
        elif apart[place]:
            at = int(np.nanargmax(np.abs(within[place]) / np.where(scale > 0, scale, np.inf)))
            odd[name] = (
                "its layers stand otherwise to each other than in the other runs; most unlike is "
                f"{layers[at]}, which changes {_times(within[place, at])} beside the others"
            )
        elif far[place]:
            where = "the setting has it in the other runs" if settings else "in the other runs"
            odd[name] = f"its layers change {_times(whole[place])} than {where}"
        elif lost[place] > max(1, 2 * np.median(lost)):
            odd[name] = f"{lost[place]} of its {len(layers)} layers have no finite change"
    return odd


def _away(settings: Sequence[Array], y: Array) -> Array:
    """How far each run is from where the settings have it, or else from the middle."""
    known = np.isfinite(y)
    if known.sum() < FEWEST:
        return np.full(len(y), np.nan)
    rest = y - np.median(y[known])
    for x in settings:
        if len(np.unique(x[known])) > 1:
            slope, intercept, *_ = line(x[known], rest[known])
            rest = rest - slope * x - intercept
    return np.asarray(rest, dtype=np.float64)


def _outlying(distance: Array, *, freedom: int) -> NDArray[np.bool_]:
    """Which are beyond what the noise of so many has, were it Student's t of so many degrees of freedom."""
    count = int(np.isfinite(distance).sum())
    noise = stats.t(freedom)
    usual = float(np.nanmedian(np.abs(distance))) / float(noise.ppf(0.75)) if count else np.nan
    # Of few, the median is not well known, and two of them have gone into the line.
    far = noise.isf(ODD_P / max(count, 1) / 2) * (1 + 4 / max(count - 2, 1))
    found: NDArray[np.bool_] = distance > far * usual
    return found


def _times(decades: float) -> str:
    return f"{10 ** abs(decades):.3g} times {'more' if decades > 0 else 'less'}"
