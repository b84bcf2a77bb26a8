"""One sample of every layer, as of two checkpoints: a bar a layer, for there is no course to draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from bokeh.models import BasicTicker, ColumnDataSource, FixedTicker, HoverTool, TapTool
from bokeh.plotting import figure

from wstrack.analysis.analysis import Analysis
from wstrack.reporting.axes import plain, powers
from wstrack.reporting.figures import ABOUT_LAYER
from wstrack.reporting.labels import labels, shorten
from wstrack.reporting.marks import Mark, layer_colours

__all__ = ["base", "draw_bars"]


WIDE = 100.0  # times the smallest value that the largest is: what bars from zero cannot show


def base(analysis: Analysis) -> float:
    """Where bars begin: at zero, or on a log scale at the power of ten below the smallest value.

    A log scale is for values that are far apart: bars that begin at zero can be compared by their length.
    """
    values = analysis.series.to_numpy()
    positive = values[np.isfinite(values) & (values > 0)]
    wide = positive.size and positive.max() > WIDE * positive.min()
    return float(10.0 ** np.floor(np.log10(positive.min()))) if analysis.logarithmic and wide else 0.0


def draw_bars(analysis: Analysis, source: ColumnDataSource, marks: Sequence[Mark]) -> figure:
    """Layers from the input (top) to the output (bottom), each a bar as long as its value."""
    names = [str(layer) for layer in analysis.series.columns]
    count, start = len(names), base(analysis)
    height = int(np.clip(24 * count, 120, 900))
    plot = figure(
        height=height + 50, sizing_mode="stretch_width", y_range=(count - 0.5, -0.5), active_drag=None,
        tools="ypan,ywheel_zoom,reset,tap", x_axis_type="log" if start else "linear",
        x_axis_label=shorten(analysis.metric, width=40),
    )  # fmt: skip
    colours = layer_colours(marks)
    source.data["bar"] = np.arange(count)
    source.data["bar_colour"] = [colours.get(name, "#8c8c8c") for name in names]
    bars = plot.hbar(
        y="bar", right="median", left=start, height=0.8, source=source, fill_color="bar_colour", line_color=None,
        fill_alpha=0.85, nonselection_fill_alpha=0.2,
    )  # fmt: skip
    plot.add_tools(HoverTool(renderers=[bars], tooltips=[*ABOUT_LAYER, ("value", "@median{0.000e+0}")]))
    plot.select_one(TapTool).renderers = [bars]
    plot.yaxis.ticker = (
        FixedTicker(ticks=list(range(count)))
        if 16 * count <= height
        else BasicTicker(desired_num_ticks=height // 24, min_interval=1, mantissas=[1, 2, 5])
    )
    plot.yaxis.major_label_overrides = dict(enumerate(labels(names)))
    plot.ygrid.visible = False
    if start:
        extent = start, float(np.nanmax(analysis.series.to_numpy()))
        plot.xaxis.ticker, plot.xaxis.formatter = powers(*extent), plain(*extent)
    return plot
