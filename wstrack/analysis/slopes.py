"""How the change of layers goes with a setting that has numbers, over runs: a power of it, layer by layer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from wstrack.analysis.cutoffs import FALSE_DISCOVERIES, SMALLEST_RATIO
from wstrack.errors import WstrackError

__all__ = ["Slopes", "numbers_of", "slopes"]

Array = NDArray[np.float64]

MOST = 400  # runs that a slope and its interval are over: they need each pair of them; tests are over all
FEWEST = 5  # runs: of fewer, no order of their changes is beyond chance
ODD_P = 0.025  # with which any run is called odd by chance, as a whole, and likewise for how its layers stand
_WIDE = 3.0  # from the least to the largest value: beyond it, a setting goes by its logarithm


@dataclass(frozen=True)
class Slopes:
    """How the level of layers goes with a setting.

    A level is the mean of the log10 of a layer's values over the samples of a run. A slope is the power of the setting
    that it goes with (`logarithmic`), or its change in decades per unit of the setting.

    Attributes:
        by: the setting's name.
        logarithmic: whether slopes are against log10 of the setting.
        low, high: the least and the largest value of the setting.
        runs: how many there are.
        layers: a row a layer: `slope`, `lower`, `upper` (95 %), `q` (of no trend, after Benjamini-Hochberg over the
            layers), `goes` (q at most 0.05, and a ratio of at least 1.2 over the range of the setting); `beside`,
            `beside_q` and `unlike`, likewise, of the layer beside the median layer of its run.
        groups: a row a group ("all", then "kind: conv", ..., then "early", "middle", "late"): `layers`, `slope`,
            `lower`, `upper`, `p`.
        levels: by run and layer, the levels, for figures; `values` by run, the setting.
        odd: runs that are unlike all others, by name: what is odd about each.
    """

    by: str
    logarithmic: bool
    low: float
    high: float
    runs: int
    layers: pd.DataFrame
    groups: pd.DataFrame
    levels: pd.DataFrame
    values: pd.Series[float]
    odd: Mapping[str, str]


def numbers_of(settings: Sequence[Mapping[str, object]], names: Sequence[str], by: str) -> Array:
    """The numbers that runs have for a setting.

    Args:
        settings: of each run.
        names: of each run, for messages.
        by: the setting.

    Raises:
        ValueError: a run does not have it, or it is no number, or it is the same in all.

    Example:
        >>> numbers_of([{"lr": 0.1}, {"lr": 1}], ["a", "b"], "lr")
        array([0.1, 1. ])
    """
    found = []
    for one, name in zip(settings, names, strict=True):
        if by not in one:
            known = ", ".join(dict.fromkeys(key for each in settings for key in each)) or "none"
            raise ValueError(f"by={by!r} (--by) is no setting of {name!r}; settings of these runs: {known}")
        value = one[by]
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise ValueError(
                f"by={by!r} (--by) is {value!r} in {name!r}, and takes numbers; hold names against each other with "
                f"compare={by!r} (--compare {by})"
            )
        found.append(float(value))
    if len(set(found)) < 2:
        raise ValueError(f"by={by!r} (--by) is {found[0]:g} in all runs; pass a setting that differs between them")
    return np.array(found)


def slopes(
    frames: Sequence[pd.DataFrame], values: Array, *, by: str, names: Sequence[str], kinds: Sequence[str]
) -> Slopes:
    """How the level of each layer goes with a setting, with intervals over runs.

    Slopes are Theil and Sen's, the median of those between each two runs, with Sen's interval; tests are of Kendall's
    tau. Both take nothing for granted of the noise but that it is alike in all runs, and stand up to odd runs.

    Args:
        frames: of each run, (steps, layers), all with the same layers.
        values: of each run, its setting.
        by: the setting's name.
        names: of the runs.
        kinds: of the layers.

    Raises:
        WstrackError: there are fewer than five runs.

    Example:
        >>> rates = np.geomspace(0.001, 1, 12)
        >>> rng = np.random.default_rng(0)
        >>> def run(rate):
        ...     powers = rate ** np.array([1.0, 1.0, 0.0]) * rng.lognormal(sigma=0.1, size=(20, 3))
        ...     return pd.DataFrame(powers, columns=["a", "b", "c"])
        >>> found = slopes([run(r) for r in rates], rates, by="lr", names=[f"{r:g}" for r in rates], kinds=[""] * 3)
        >>> found.layers["slope"].round(1).tolist(), found.layers["goes"].tolist(), found.layers["unlike"].tolist()
        ([1.0, 1.0, 0.0], [True, True, False], [False, False, True])
    """
    if len(frames) < FEWEST:
        raise WstrackError(
            f"by={by!r} (--by) is over {len(frames)} runs, and needs {FEWEST}; hold fewer against each other with "
            f"compare={by!r} (--compare {by})"
        )
    columns = frames[0].columns
    levels = np.array([_level(frame[columns].to_numpy(dtype=np.float64)) for frame in frames])
    logarithmic = bool((values > 0).all() and values.max() >= _WIDE * values.min())
    x = np.log10(values) if logarithmic else values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a run without a finite value is named below
        middle = np.nanmedian(levels, axis=1)
    span = float(np.ptp(x))
    each = _fitted(x, levels, list(map(str, columns)))
    each["q"] = _discoveries(each.pop("p"))
    each["goes"] = _matters(each["slope"], each["q"], span)
    beside = _fitted(x, levels - middle[:, None], list(map(str, columns)))
    each["beside"], each["beside_q"] = beside["slope"], _discoveries(beside["p"])
    each["unlike"] = _matters(beside["slope"], each["beside_q"], span)
    return Slopes(
        by=by,
        logarithmic=logarithmic,
        low=float(values.min()),
        high=float(values.max()),
        runs=len(frames),
        layers=each,
        groups=_groups(x, levels, kinds),
        levels=pd.DataFrame(levels, index=list(names), columns=columns),
        values=pd.Series(values, index=list(names), dtype=np.float64),
        odd=_odd(x, levels, names, list(map(str, columns))),
    )


def _level(values: Array) -> Array:
    """The mean log10 of each layer over the samples; NaN for one without a positive value."""
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        logs = np.log10(np.where(np.isfinite(values) & (values > 0), values, np.nan))
        return np.asarray(np.nanmean(logs, axis=0), dtype=np.float64)


def _fit(x: Array, y: Array) -> tuple[float, float, float, float]:
    """The slope, the ends of its interval, and the p of no trend."""
    known = np.isfinite(y)
    if known.sum() < FEWEST or len(np.unique(x[known])) < 2:
        return np.nan, np.nan, np.nan, np.nan
    if not np.ptp(y[known]):
        return 0.0, 0.0, 0.0, 1.0
    found = _line(x[known], y[known])
    return found[0], found[2], found[3], float(stats.kendalltau(x[known], y[known]).pvalue)


def _line(x: Array, y: Array) -> tuple[float, float, float, float]:
    """The slope, the intercept and the ends of the slope's interval; of very many runs, of some over their range."""
    if len(x) > MOST:
        some = np.argsort(x, kind="stable")[np.linspace(0, len(x) - 1, MOST).astype(int)]
        x, y = x[some], y[some]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # so many are alike that there is no interval
        slope, intercept, low, high = stats.theilslopes(y, x, alpha=0.95)
    return float(slope), float(intercept), float(low), float(high)


def _fitted(x: Array, levels: Array, names: Sequence[str]) -> pd.DataFrame:
    rows = [_fit(x, column) for column in levels.T]
    index = pd.Index(np.array(names, dtype=object), name="layer")
    return pd.DataFrame(rows, index=index, columns=["slope", "lower", "upper", "p"], dtype=np.float64)


def _discoveries(p: pd.Series[float]) -> pd.Series[float]:
    q: pd.Series[float] = pd.Series(np.nan, index=p.index, dtype=float)
    known = p.notna()
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return q


def _matters(slope: pd.Series[float], q: pd.Series[float], span: float) -> pd.Series[bool]:
    """Beyond chance, and worth a word over the range of the setting."""
    found: pd.Series[bool] = (q <= FALSE_DISCOVERIES) & (slope.abs() * span >= np.log10(SMALLEST_RATIO))
    return found


def _groups(x: Array, levels: Array, kinds: Sequence[str]) -> pd.DataFrame:
    """The slopes of the means of layers: all, each kind, each third of the depth."""
    count = levels.shape[1]
    members: dict[str, NDArray[np.bool_]] = {"all": np.ones(count, dtype=bool)}
    distinct = [kind for kind in dict.fromkeys(kinds) if kind]
    members |= {f"kind: {kind}": np.array([one == kind for one in kinds]) for kind in distinct if len(distinct) > 1}
    third = np.arange(count) * 3 // max(count, 1)
    members |= {name: third == place for place, name in enumerate(("early", "middle", "late")) if count >= 3}
    rows = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for name, those in members.items():
            rows[name] = (int(those.sum()), *_fit(x, np.nanmean(levels[:, those], axis=1)))
    columns = ["layers", "slope", "lower", "upper", "p"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("group")


def _odd(x: Array, levels: Array, names: Sequence[str], layers: Sequence[str]) -> dict[str, str]:
    """The runs that are far from where the setting has all others: as a whole, or in how their layers stand."""
    away = np.column_stack([_away(x, column) for column in levels.T])
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        whole = np.nanmedian(away, axis=1)
        within = away - whole[:, None]
        scale = np.nanmedian(np.abs(within), axis=0)
        distance = np.log(np.nanmean(np.abs(within) / np.where(scale > 0, scale, np.nan), axis=1))
        far = _outlying(np.abs(whole), freedom=3)
        apart = _outlying(distance - np.nanmedian(distance), freedom=10)  # a mean over layers, and its logarithm
    odd = {}
    lost = (~np.isfinite(levels)).sum(axis=1)
    for place, name in enumerate(names):
        if lost[place] == len(layers):
            odd[name] = "no layer has a finite change"
        elif apart[place]:
            where = int(np.nanargmax(np.abs(within[place]) / np.where(scale > 0, scale, np.inf)))
            odd[name] = (
                f"its layers stand otherwise to each other than in the other runs; most unlike is {layers[where]}"
            )
            odd[name] += f", which changes {_times(within[place, where])} beside the others"
        elif far[place]:
            odd[name] = f"its layers change {_times(whole[place])} than the setting has it in the other runs"
        elif lost[place] > max(1, 2 * np.median(lost)):
            odd[name] = f"{lost[place]} of its {len(layers)} layers have no finite change"
    return odd


def _away(x: Array, y: Array) -> Array:
    """How far each run is from the line through all."""
    known = np.isfinite(y)
    if known.sum() < FEWEST or len(np.unique(x[known])) < 2:
        return np.full(len(y), np.nan)
    slope, intercept, *_ = _line(x[known], y[known])
    return np.asarray(y - slope * x - intercept, dtype=np.float64)


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
