"""The learning rate under the curves: a line for each course that layers have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Line, Range1d
from bokeh.plotting import figure
from numpy.typing import NDArray

from wstrack.analysis.schedule import Schedule
from wstrack.reporting.axes import whole_steps, with_powers
from wstrack.reporting.glyphs import draw
from wstrack.reporting.marks import GREY
from wstrack.reporting.thin import thin

__all__ = ["MOST", "courses_of", "draw_rates", "on_a_log_scale"]

MOST = 6  # courses that are drawn
_DASHES: tuple[list[int], ...] = ([], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [4, 1])  # colours are the clusters'
_BORDER = 76  # pixels on the left, for the steps of both figures to stand above each other


def courses_of(schedule: Schedule) -> Iterator[tuple[str, list[int], NDArray[np.int64], NDArray[np.float64]]]:
    """Of the first few courses what it is called, its dashes, its steps and its rates; thinned as curves are."""
    for (number, course), dash in zip(list(schedule.courses.items())[:MOST], _DASHES, strict=False):
        known = course.dropna()
        picked = np.unique(thin(known.to_numpy()[None], points=400))
        layers = len(schedule.layers[int(str(number))])
        name = f"{layers} layer{'s' * (layers > 1)}"
        yield name, dash, known.index.to_numpy(np.int64)[picked], known.to_numpy()[picked]


def on_a_log_scale(schedule: Schedule) -> bool:
    """Whether the rates are best seen on a log scale: they are of several sizes, and none is 0."""
    values = schedule.courses.iloc[:, :MOST].to_numpy()
    low, high = np.nanmin(values), np.nanmax(values)
    return bool(low > 0 and high / low >= 10)


def draw_rates(schedule: Schedule, x_range: Range1d, above: list[figure]) -> figure:
    """The figure, in line with those above it."""
    logarithmic = on_a_log_scale(schedule)
    plot = figure(
        height=150, sizing_mode="stretch_width", x_range=x_range, y_axis_type="log" if logarithmic else "linear",
        tools="xpan,xwheel_zoom,reset", active_drag=None, toolbar_location=None, x_axis_label="step",
        y_axis_label="learning rate",
    )  # fmt: skip
    lines = []
    for name, dash, steps, rates in courses_of(schedule):
        source = ColumnDataSource({"step": steps, "rate": rates, "layers": [name] * len(steps)})
        lines.append(draw(plot, Line(x="step", y="rate", line_color=GREY, line_dash=dash, line_width=2), source))
    values = schedule.courses.iloc[:, :MOST].to_numpy()
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if logarithmic:
        with_powers(plot, low, high)
    elif 0 < low == high:  # Bokeh's own range about one value is 2 wide, on which a rate looks like 0
        plot.y_range = Range1d(0, 2 * high)
    plot.add_tools(
        HoverTool(renderers=lines, tooltips=[("of", "@layers"), ("step", "@step"), ("rate", "@rate{0.[000000]}")])
    )
    for one in (*above, plot):
        one.min_border_left = _BORDER
    plot.xgrid.visible = False
    whole_steps(plot)
    return plot
