"""How the change of layers goes with a setting that has numbers, over runs: a power of it, layer by layer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from wstrack.analysis.cutoffs import FALSE_DISCOVERIES, SMALLEST_RATIO
from wstrack.errors import WstrackError

__all__ = ["Slopes", "interaction", "is_logarithmic", "level_of", "line", "numbers_of", "slopes"]

Array = NDArray[np.float64]

MOST = 400  # runs that a slope and its interval are over: they need each pair of them; tests are over all
FEWEST = 5  # runs: of fewer, no order of their changes is beyond chance
_WIDE = 3.0  # from the least to the largest value: beyond it, a setting goes by its logarithm


@dataclass(frozen=True)
class Slopes:
    """How the level of layers goes with a setting.

    A level is the mean of the log10 of a layer's values over the samples of a run. A slope is the power of the setting
    that it goes with (`logarithmic`), or its change in decades per unit of the setting.

    Attributes:
        by: the setting's name.
        logarithmic: whether slopes are against log10 of the setting.
        crossed: whether slopes are of how the power of one setting goes with another (`interaction`); `low` and `high`
            are then of no use to people.
        low, high: the least and the largest value of the setting.
        runs: how many there are.
        layers: a row a layer: `slope`, `lower`, `upper` (95 %), `q` (of no trend, after Benjamini-Hochberg over the
            layers), `goes` (q at most 0.05, and a ratio of at least 1.2 over the range of the setting); `beside`,
            `beside_q` and `unlike`, likewise, of the layer beside the median layer of its run.
        groups: a row a group ("all", "kind: conv", ..., "block: layer1", ..., "early", "middle", "late"): `layers`,
            `slope`, `lower`, `upper`, `p`.
        levels: by run and layer, the levels, for figures; `values` by run, the setting.
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
    crossed: bool = False


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
    levels: pd.DataFrame, values: Array, *, by: str, kinds: Sequence[str], blocks: Sequence[str] | None = None
) -> Slopes:
    """How the level of each layer goes with a setting, with intervals over runs.

    Slopes are Theil and Sen's, the median of those between each two runs, with Sen's interval; tests are of Kendall's
    tau. Both take nothing for granted of the noise but that it is alike in all runs, and stand up to odd runs.

    Args:
        levels: a row a run, by its name, a column a layer: see `level_of`. NaN where a run has no such layer.
        values: of each run, its setting.
        by: the setting's name.
        kinds, blocks: of the layers.

    Raises:
        WstrackError: there are fewer than five runs.

    Example:
        >>> rates = np.geomspace(0.001, 1, 12)
        >>> rng = np.random.default_rng(0)
        >>> def run(rate):
        ...     powers = rate ** np.array([1.0, 1.0, 0.0]) * rng.lognormal(sigma=0.1, size=(20, 3))
        ...     return pd.DataFrame(powers, columns=["a", "b", "c"])
        >>> levels = pd.DataFrame([level_of(run(rate)) for rate in rates], columns=["a", "b", "c"])
        >>> found = slopes(levels, rates, by="lr", kinds=[""] * 3)
        >>> found.layers["slope"].round(1).tolist(), found.layers["goes"].tolist(), found.layers["unlike"].tolist()
        ([1.0, 1.0, 0.0], [True, True, False], [False, False, True])
    """
    if len(levels) < FEWEST:
        raise WstrackError(
            f"by={by!r} (--by) is over {len(levels)} runs, and needs {FEWEST}; hold fewer against each other with "
            f"compare={by!r} (--compare {by})"
        )
    logarithmic = is_logarithmic(values)
    return _slopes(
        levels, np.log10(values) if logarithmic else values, values, by=by, logarithmic=logarithmic, kinds=kinds,
        blocks=blocks,
    )  # fmt: skip


def interaction(
    levels: pd.DataFrame,
    one: Array,
    other: Array,
    *,
    by: str,
    kinds: Sequence[str],
    blocks: Sequence[str] | None = None,
) -> Slopes:
    """How the slope of each layer with one setting goes with another: likewise, of what is left of both alone.

    A slope is the change of the power of the one with ten times the other (or with a unit of it). What the level and
    the product of the two settings owe to each setting alone is taken out by least squares.

    Args:
        levels, kinds, blocks: as in `slopes`.
        one, other: of each run, its settings.
        by: the names of both, as "lr * width".

    Raises:
        WstrackError: there are fewer than five runs.
        ValueError: the settings do not differ apart from each other.
    """
    if len(levels) < FEWEST + 2:
        raise WstrackError(f"by={by!r} (--by) is over {len(levels)} runs, and needs {FEWEST + 2}")
    x, z = (np.log10(each) if is_logarithmic(each) else each for each in (one, other))
    alone = np.column_stack([np.ones(len(x)), x - x.mean(), z - z.mean()])
    product = alone[:, 1] * alone[:, 2]
    left = _without(alone, product)
    if np.ptp(left) < 1e-9 * max(np.ptp(product), 1e-300):
        raise ValueError(f"by={by!r} (--by): the two settings do not differ apart from each other")
    rest = levels.apply(lambda column: pd.Series(_without(alone, column.to_numpy()), index=column.index))
    found = _slopes(rest, left, left, by=by, logarithmic=False, kinds=kinds, blocks=blocks)
    return replace(found, crossed=True)


def _without(alone: Array, y: Array) -> Array:
    """What is left of `y` when what goes with the columns of `alone` is taken out; NaN stays."""
    known = np.isfinite(y)
    rest = np.full(len(y), np.nan)
    if known.any():
        rest[known] = y[known] - alone[known] @ np.linalg.lstsq(alone[known], y[known], rcond=None)[0]
    return rest


def is_logarithmic(values: Array) -> bool:
    """Whether a setting goes by its logarithm: all above 0, and the largest at least three times the least."""
    return bool((values > 0).all() and values.max() >= _WIDE * values.min())


def _slopes(
    levels: pd.DataFrame,
    x: Array,
    values: Array,
    *,
    by: str,
    logarithmic: bool,
    kinds: Sequence[str],
    blocks: Sequence[str] | None,
) -> Slopes:
    table = levels.to_numpy(dtype=np.float64)
    names = list(map(str, levels.columns))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a run without a finite value is named as odd
        middle = np.nanmedian(table, axis=1)
    span = float(np.ptp(x))
    each = _fitted(x, table, names)
    each["q"] = _discoveries(each.pop("p"))
    each["goes"] = _matters(each["slope"], each["q"], span)
    beside = _fitted(x, table - middle[:, None], names)
    each["beside"], each["beside_q"] = beside["slope"], _discoveries(beside["p"])
    each["unlike"] = _matters(beside["slope"], each["beside_q"], span)
    return Slopes(
        by=by,
        logarithmic=logarithmic,
        low=float(values.min()),
        high=float(values.max()),
        runs=len(levels),
        layers=each,
        groups=_groups(x, table, kinds, blocks),
        levels=levels,
        values=pd.Series(values, index=levels.index, dtype=np.float64),
    )


def level_of(series: pd.DataFrame) -> pd.Series[float]:
    """The level of each layer of a run: the mean log10 of its values over the samples; NaN without a positive one.

    Args:
        series: (steps, layers).
    """
    values = series.to_numpy(dtype=np.float64)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        logs = np.log10(np.where(np.isfinite(values) & (values > 0), values, np.nan))
        means = np.asarray(np.nanmean(logs, axis=0), dtype=np.float64)
    return pd.Series(means, index=series.columns, dtype=np.float64)


def _fit(x: Array, y: Array) -> tuple[float, float, float, float]:
    """The slope, the ends of its interval, and the p of no trend."""
    known = np.isfinite(y)
    if known.sum() < FEWEST or len(np.unique(x[known])) < 2:
        return np.nan, np.nan, np.nan, np.nan
    if not np.ptp(y[known]):
        return 0.0, 0.0, 0.0, 1.0
    found = line(x[known], y[known])
    return found[0], found[2], found[3], float(stats.kendalltau(x[known], y[known]).pvalue)


def line(x: Array, y: Array) -> tuple[float, float, float, float]:
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


def _groups(x: Array, levels: Array, kinds: Sequence[str], blocks: Sequence[str] | None) -> pd.DataFrame:
    """The slopes of the means of layers: all, each kind, each block, each third of the depth."""
    count = levels.shape[1]
    members: dict[str, NDArray[np.bool_]] = {"all": np.ones(count, dtype=bool)}
    for what, labels in (("kind", kinds), ("block", blocks or ())):
        distinct = [label for label in dict.fromkeys(labels) if label]
        if 1 < len(distinct) < count:
            members |= {f"{what}: {label}": np.array([one == label for one in labels]) for label in distinct}
    third = np.arange(count) * 3 // max(count, 1)
    members |= {name: third == place for place, name in enumerate(("early", "middle", "late")) if count >= 3}
    rows = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for name, those in members.items():
            rows[name] = (int(those.sum()), *_fit(x, np.nanmean(levels[:, those], axis=1)))
    columns = ["layers", "slope", "lower", "upper", "p"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("group")
