"""From a run's series to a whole matrix, layers x steps, with every replaced value counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wstrack.analysis.medians import in_cache, middles, running_medians
from wstrack.errors import WstrackError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Outliers", "Prepared", "Preset", "Scale", "calm", "check_preparation", "prepare"]

Scale = Literal["log10", "linear"]
Outliers = Literal["2sd", "spikes"]
Preset = Literal["weightscale"]

Matrix = NDArray[np.float64]

_FAR = 5.0  # robust standard deviations
_OUTLIERS = {
    None: "kept",
    "2sd": "beyond 2 standard deviations: the layer's mean",
    "spikes": "beyond 5 robust deviations from the running median: that median",
}


@dataclass(frozen=True)
class Prepared:
    """What is reduced and clustered, and what was done to get it.

    Attributes:
        values: float64, finite; rows = layers in model order, columns = steps; on the scale that `settings` names. Not
            all steps of the series need be there: see `prepare`.
        replaced: by kept layer, how many cells were replaced: `missing` (NaN), `non_finite` (infinite), `zeros`
            (lifted so that they have a logarithm), `outliers`.
        dropped: by layer, why it is not in `values`.
        settings: what was done, in words, for people and for the record.
    """

    values: pd.DataFrame
    replaced: pd.DataFrame
    dropped: dict[str, str]
    settings: dict[str, str]


def prepare(
    series: pd.DataFrame,
    *,
    scale: Scale | None = None,
    outliers: Outliers | None = None,
    preset: Preset | None = None,
) -> Prepared:
    """Make one metric of a run ready for `reduce` and `cluster`.

    What comes before a layer's first value and after its last is not made up: a run that diverged ends where its values
    do. Where layers begin or end at different steps, the largest block of layers and steps is taken that all these
    layers span; a layer outside of it is dropped, with the reason. In between, missing and infinite cells are
    interpolated linearly over the steps, within their layer and on the chosen scale.

    `preset="weightscale"` is the published procedure of the WeightScale authors (arXiv 2107.07005) instead, in its
    order: an infinite value becomes the sum of the layer's finite values divided by the number of all its values; the
    first and the last layer are dropped; in each layer a value further than two standard deviations from the mean
    becomes the mean; no logarithm. Missing values, which it does not know, are interpolated before it.

    Args:
        series: index = step, columns = layers in model order, NaN = not logged (`Run.series[metric]`).
        scale: "log10" (the default) or "linear" (what the preset uses). Under "log10" a zero is lifted to the
            smallest positive value of the whole series.
        outliers: None, or "2sd": in each layer a value further than two population standard deviations from the
            layer's mean becomes that mean; mean and deviation are taken once, on the chosen scale; or "spikes",
            which is robust: a value further than five deviations (by the median of the distances) from the layer's
            running median of seven samples becomes that median, so that trends, phases and level stay.
        preset: None or "weightscale".

    Raises:
        ValueError: an unknown setting, settings that contradict the preset, or negative values under "log10".
        WstrackError: fewer than two layers or no step are left, or under "log10" no value is above zero.

    Example:
        >>> series = pd.DataFrame({"a": [1e-3, np.nan, 1e-1], "b": [1e-2, 1e-2, 0.0]}, index=[10, 20, 30])
        >>> prepared = prepare(series)
        >>> prepared.values.loc["a"].tolist()
        [-3.0, -2.0, -1.0]
        >>> prepared.replaced.loc["b"].to_dict()
        {'missing': 0, 'non_finite': 0, 'zeros': 1, 'outliers': 0}
    """
    check_preparation(scale, outliers, preset)
    scale = scale or ("linear" if preset else "log10")

    values: Matrix = series.to_numpy(dtype=np.float64).T.copy()
    finite = np.isfinite(values)
    kept: NDArray[np.bool_] = np.asarray(finite.any(axis=1))
    dropped = {str(name): "no finite value" for name in series.columns[~kept]}
    if preset:
        dropped |= {str(name): f"first layer (preset {preset})" for name in series.columns[:1]}
        dropped |= {str(name): f"last layer (preset {preset})" for name in series.columns[-1:]}
        kept[:1] = kept[-1:] = False
    known = ~np.isnan(values) if preset else finite  # an infinite value is one that the preset replaces
    spanning, window = _block(known, kept)
    for place in np.flatnonzero(kept & ~spanning):
        dropped[str(series.columns[int(place)])] = _outside(known[place], window, series.index.to_numpy())
    values, names = values[np.ix_(spanning, window)], series.columns[spanning]
    index = series.index[window]
    _check_size(len(names), len(index), dropped, preset)

    missing, non_finite = np.isnan(values), np.isinf(values)
    zeros = np.zeros_like(missing)
    steps = index.to_numpy(dtype=np.float64)
    if preset:
        values = _interpolated(values, missing, steps)
        values = _infinite_replaced(values)
    else:
        if scale == "log10":
            values, zeros = _log10(values)
        values = _interpolated(values, missing | non_finite, steps)
    far = np.zeros_like(missing)
    if outliers == "spikes":
        calmed = calm(values)
        values, far = calmed, calmed != values
    elif preset or outliers:
        values, far = _outliers_replaced(values)

    layers = pd.Index(names, name="layer", dtype=object)
    counts = {"missing": missing, "non_finite": non_finite, "zeros": zeros, "outliers": far}
    return Prepared(
        values=pd.DataFrame(values, index=layers, columns=pd.Index(index, name="step")),
        replaced=pd.DataFrame({kind: cells.sum(axis=1) for kind, cells in counts.items()}, index=layers),
        dropped=dropped,
        settings={
            "preset": preset or "none",
            "scale": scale,
            "steps": _of_steps(index, series.index),
            "missing": "interpolated over the steps",
            "non_finite": "sum of finite / number of all values" if preset else "interpolated over the steps",
            "zeros": "lifted to the smallest positive value" if scale == "log10" else "kept",
            "outliers": _OUTLIERS["2sd" if preset else outliers],
            "first_and_last_layer": "dropped" if preset else "kept",
        },
    )


def _block(known: NDArray[np.bool_], kept: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the kept layers and which steps make the largest block that each of its layers spans.

    Args:
        known: (layers, steps), where there are values.
        kept: (layers,), those that are to be looked at; each has a value.
    """
    if not kept.any():
        return kept, np.ones(known.shape[1], dtype=bool)
    places = np.flatnonzero(known[kept].any(axis=0))
    there = known[:, places]
    begins, ends = there.argmax(axis=1), there.shape[1] - there[:, ::-1].argmax(axis=1)
    firsts, lasts = np.unique(begins[kept]), np.unique(ends[kept])
    count = np.zeros((len(firsts), len(lasts)), dtype=np.int64)
    np.add.at(count, (np.searchsorted(firsts, begins[kept]), np.searchsorted(lasts, ends[kept])), 1)
    count = count.cumsum(axis=0)[:, ::-1].cumsum(axis=1)[:, ::-1]  # layers that begin by then and go on until then
    length = np.maximum(lasts[None, :] - firsts[:, None], 0)
    area = np.where((count >= 2) & (length >= 2), count * length, 0)
    if not area.any():  # too little in every way, which the caller says
        area = count * length
    first, last = np.unravel_index(area.argmax(), area.shape)
    window = np.zeros(known.shape[1], dtype=bool)
    window[places[firsts[first] : lasts[last]]] = True
    return kept & (begins <= firsts[first]) & (ends >= lasts[last]), window


def _outside(known: NDArray[np.bool_], window: NDArray[np.bool_], steps: NDArray[Any]) -> str:
    """Why a layer is in no block of these steps."""
    has, block = steps[known], steps[window]
    late, over = has[0] > block[0], has[-1] < block[-1]
    words = ([f"before step {has[0]:,}"] if late else []) + ([f"after step {has[-1]:,}"] if over else [])
    return f"no value {' and '.join(words)}"


def _of_steps(taken: pd.Index[int], all_of: pd.Index[int]) -> str:
    """Which steps were taken, in words."""
    if len(taken) == len(all_of):
        return "all"
    return f"{len(taken):,} of {len(all_of):,}, from {taken[0]:,} to {taken[-1]:,}: where the layers have values"


def _log10(values: Matrix) -> tuple[Matrix, NDArray[np.bool_]]:
    """The logarithm of the finite values, zeros lifted; and where the zeros were."""
    finite = np.isfinite(values)
    if ((values < 0) & finite).any():
        raise ValueError("scale='log10' cannot show negative values; pass scale='linear' (--scale linear)")
    least = values.min(where=finite & (values > 0), initial=np.inf)
    if not np.isfinite(least):
        raise WstrackError("every value is zero: nothing changed in this run, so there is nothing to compare")
    zeros = values == 0
    logs = np.log10(values, out=np.full_like(values, np.nan), where=finite & ~zeros)
    logs[zeros] = np.log10(least)
    return logs, zeros


def _interpolated(values: Matrix, gaps: NDArray[np.bool_], steps: Matrix) -> Matrix:
    """`values` with the gaps filled from the finite values of the same layer."""
    filled = values.copy()
    for row in np.flatnonzero(gaps.any(axis=1)):
        known = np.isfinite(values[row])
        filled[row, gaps[row]] = np.interp(steps[gaps[row]], steps[known], values[row, known])
    return filled


def _infinite_replaced(values: Matrix) -> Matrix:
    """Step 1 of the authors' procedure: infinite -> sum of the finite values / number of all values, by layer."""
    finite = np.isfinite(values)
    stand_in = np.where(finite, values, 0.0).sum(axis=1, keepdims=True) / values.shape[1]
    return np.where(finite, values, stand_in)


def _outliers_replaced(values: Matrix) -> tuple[Matrix, NDArray[np.bool_]]:
    """Step 3 of the authors' procedure, and where the outliers were."""
    mean = values.mean(axis=1, keepdims=True)
    far = np.abs(values - mean) > 2 * values.std(axis=1, keepdims=True)
    return np.where(far, mean, values), far


def calm(values: Matrix) -> Matrix:
    """Each row with single samples that stick out moved to the running median of seven."""
    calmed = np.empty(values.shape)
    for rows in in_cache(values):  # else each of the many steps would go through memory
        row = values[rows]
        middle = running_medians(row, 7)
        away = np.abs(row - middle)
        spread = 1.4826 * middles(away)[:, None]
        calmed[rows] = np.where(away > _FAR * np.maximum(spread, 1e-12), middle, row)
    return calmed


def check_preparation(scale: Scale | None, outliers: Outliers | None, preset: Preset | None) -> None:
    """Refuse unknown settings, and such as contradict each other."""
    _check_choice("scale", scale, get_args(Scale))
    _check_choice("outliers", outliers, get_args(Outliers))
    _check_choice("preset", preset, get_args(Preset))
    if preset and outliers == "spikes":
        raise ValueError(f"outliers='spikes' contradicts preset={preset!r}, which has 2sd; leave out one of them")
    if preset and scale == "log10":
        raise ValueError(f"scale='log10' contradicts preset={preset!r}, which is linear; leave out one of them")


def _check_choice(argument: str, value: str | None, choices: Sequence[str]) -> None:
    if value is not None and value not in choices:
        flag = f"{argument}= (--{argument})"
        raise ValueError(f"unknown {argument} {value!r}; pass {flag} one of: {', '.join(choices)}")


def _check_size(layers: int, steps: int, dropped: dict[str, str], preset: Preset | None) -> None:
    if steps < 1:
        raise WstrackError("there is no sample; train longer, or log more often: watch(..., every=...)")
    if layers < 2:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(dropped.items())[:3])
        raise WstrackError(
            f"at least 2 layers with values are needed to compare, and there are {layers}"
            + (f" after {len(dropped)} were dropped ({reasons})" if dropped else "")
            + (
                f"; leave out preset={preset!r} (--preset), which drops the first and the last"
                if preset
                else "; watch more of them: watch(..., layers=...)"
            )
        )
