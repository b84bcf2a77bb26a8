"""Axes that the figures have in common."""

from __future__ import annotations

import numpy as np
from bokeh.models import (
    BasicTicker,
    CustomJSTickFormatter,
    FixedTicker,
    LogTickFormatter,
    NumeralTickFormatter,
    TickFormatter,
)
from bokeh.plotting import figure

__all__ = ["plain", "powers", "ticks", "whole_steps", "with_powers"]

_FEWEST = 3  # ticks, to read a value between them


def ticks(low: float, high: float) -> list[float]:
    """Powers of ten; where too few lie from `low` to `high`, also twice and five times as much, or all digits.

    Example:
        >>> [tick for tick in ticks(0.002, 0.03) if 0.002 <= tick <= 0.03]
        [0.002, 0.005, 0.01, 0.02]
    """
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for multiples in ([1], [1, 2, 5], range(1, 10)):
        found = [float(f"{multiple}e{int(decade)}") for decade in decades for multiple in multiples]
        if sum(low <= tick <= high for tick in found) >= _FEWEST:
            return [tick for tick in found if 0 < tick < np.inf]
    from matplotlib.ticker import MaxNLocator  # a quarter of a second, for few ranges

    return [float(tick) for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high) if tick > 0]


def powers(low: float, high: float) -> FixedTicker:
    """Such ticks for an axis of Bokeh's."""
    return FixedTicker(ticks=ticks(low, high))


def with_powers(plot: figure, low: float, high: float) -> None:
    """Such ticks on the vertical axis, and numbers as one would write them."""
    plot.yaxis.ticker = powers(low, high)
    plot.yaxis.formatter = plain(low, high)


def plain(low: float, high: float) -> TickFormatter:
    """Numbers as one would write them, or powers of ten where there are many."""
    if high / low >= 1e4:
        return LogTickFormatter()
    return CustomJSTickFormatter(code="return String(Number(tick.toPrecision(6)))")


def whole_steps(plot: figure) -> None:
    """Ticks at whole steps only, with thousands set apart."""
    plot.xaxis.ticker = BasicTicker(min_interval=1, mantissas=[1, 2, 5])
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
