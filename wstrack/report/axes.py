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

__all__ = ["plain", "powers", "whole_steps", "with_powers"]


def powers(low: float, high: float) -> FixedTicker:
    """Ticks at powers of ten; over less than two decades also at twice and five times as much."""
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    multiples = [1] if high / low >= 100 else [1, 2, 5]
    return FixedTicker(ticks=[float(f"{multiple}e{int(decade)}") for decade in decades for multiple in multiples])


def with_powers(plot: figure, low: float, high: float) -> None:
    """Such ticks on the vertical axis, and numbers as one would write them."""
    plot.yaxis.ticker = powers(low, high)
    plot.yaxis.formatter = plain(low, high)


def plain(low: float, high: float) -> TickFormatter:
    """Numbers as one would write them, or powers of ten where there are many."""
    if high / low >= 1e4:
        return LogTickFormatter()
    return CustomJSTickFormatter(code="return String(Number(tick.toPrecision(3)))")


def whole_steps(plot: figure) -> None:
    """Ticks at whole steps only, with thousands set apart."""
    plot.xaxis.ticker = BasicTicker(min_interval=1, mantissas=[1, 2, 5])
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
