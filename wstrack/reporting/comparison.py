"""What stands side by side in a report: groups of layers, and settings of runs."""

from __future__ import annotations

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d, Span
from bokeh.plotting import figure

from wstrack.analysis import Comparison
from wstrack.analysis.analysis import Analysis
from wstrack.reporting.axes import whole_steps, with_powers
from wstrack.reporting.figures import ABOUT_LAYER
from wstrack.reporting.labels import number, shorten
from wstrack.reporting.layers import group_names
from wstrack.reporting.marks import GREY
from wstrack.reporting.named import named_steps
from wstrack.reporting.thin import thin

__all__ = ["COLOURS", "groups", "ratios", "setting_curves"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", GREY)
_MOST = 6  # settings with a figure of their own; the table has all


def groups(analysis: Analysis, source: ColumnDataSource) -> figure:
    """Every layer as a point at its median, a row a group."""
    names = group_names(analysis)
    plot = figure(
        height=70 + 26 * len(names), sizing_mode="stretch_width", tools="tap,xpan,xwheel_zoom,reset",
        active_drag=None, x_axis_type="log" if analysis.logarithmic else "linear",
        y_range=Range1d(start=len(names) - 0.5, end=-0.5), x_axis_label=f"median {shorten(analysis.metric, width=40)}",
    )  # fmt: skip
    points = plot.scatter(
        "median", "group_row", source=source, marker="marker", size=9, fill_color="colour", line_color="colour",
        fill_alpha=0.5, line_alpha=0.9, nonselection_fill_alpha=0.1, nonselection_line_alpha=0.1,
    )  # fmt: skip
    middle = list(analysis.groups.table["median"]) if analysis.groups is not None else []
    plot.scatter(x=middle, y=list(range(len(names))), marker="dash", angle=np.pi / 2, size=22, line_width=2,
                 line_color=GREY)  # fmt: skip
    plot.yaxis.ticker = FixedTicker(ticks=list(range(len(names))))
    plot.yaxis.major_label_overrides = {row: shorten(name, width=28) for row, name in enumerate(names)}
    plot.ygrid.visible = False
    plot.add_tools(HoverTool(renderers=[points], tooltips=[*ABOUT_LAYER, ("group", "@group")]))
    return plot


def ratios(analysis: Analysis, comparison: Comparison, source: ColumnDataSource) -> dict[str, figure]:
    """By setting, each layer's ratio to the reference with its interval; grey where it may be chance."""
    plots = {}
    rows = comparison.layers.set_index(["setting", "layer"])
    names = {name: place for place, name in enumerate(analysis.series.columns)}
    for place, setting in enumerate(comparison.settings[1 : _MOST + 1], 1):
        here = rows.loc[setting]
        at = [names[name] for name in here.index if name in names]
        here = here.loc[[name for name in here.index if name in names]]
        for column in ("ratio", "low", "high"):
            values = np.full(len(names), np.nan)
            values[at] = here[column]
            source.data[f"{column}_{place}"] = values
        colours = np.full(len(names), GREY, dtype=object)
        colours[np.array(at, dtype=int)[here["differs"].to_numpy(dtype=bool)]] = COLOURS[place % len(COLOURS)]
        source.data[f"differs_{place}"] = list(colours)
        source.data[f"words_{place}"] = [
            f"{number(ratio)}, {number(low)} to {number(high)}"
            for ratio, low, high in zip(
                *(source.data[f"{column}_{place}"] for column in ("ratio", "low", "high")), strict=True
            )
        ]
        plot = figure(
            height=240, sizing_mode="stretch_width", y_axis_type="log", tools="tap,box_select,xpan,xwheel_zoom,reset",
            active_drag=None, x_axis_label="layer, from the input to the output",
            y_axis_label=f"{shorten(setting, width=18)} / {shorten(comparison.settings[0], width=18)}",
        )  # fmt: skip
        plot.segment(
            "depth", f"low_{place}", "depth", f"high_{place}", source=source, line_color=f"differs_{place}",
            line_width=1.5, line_alpha=0.7, nonselection_line_alpha=0.1,
        )  # fmt: skip
        points = plot.scatter(
            "depth", f"ratio_{place}", source=source, size=6, color=f"differs_{place}", nonselection_fill_alpha=0.1,
            nonselection_line_alpha=0.1,
        )  # fmt: skip
        plot.add_layout(Span(location=1, dimension="width", line_color=GREY, line_dash=[5, 3]))
        spread = here[["low", "high"]].to_numpy()
        spread = spread[np.isfinite(spread) & (spread > 0)]
        with_powers(plot, min(spread.min(initial=0.5), 0.5), max(spread.max(initial=2), 2))
        plot.add_tools(HoverTool(renderers=[points], tooltips=[*ABOUT_LAYER, ("ratio", f"@words_{place}")]))
        plot.xgrid.visible = False
        whole_steps(plot)
        plots[f"ratio_{place}"] = plot
    return plots


def setting_curves(analysis: Analysis, x_range: Range1d) -> figure | None:
    """The course of each setting, with one standard deviation over its runs."""
    if analysis.comparison is None or not analysis.logarithmic:
        return None
    plot = figure(
        height=280, sizing_mode="stretch_width", x_range=x_range, y_axis_type="log", tools="pan,wheel_zoom,reset",
        active_drag=None, x_axis_label="step", y_axis_label=shorten(analysis.metric, width=40),
    )  # fmt: skip
    low, high = np.inf, -np.inf
    for place, (_, course) in enumerate(analysis.comparison.courses.groupby("setting", sort=False)):
        course = course.dropna(subset="mean")
        picked = thin(course["mean"].to_numpy(dtype=np.float64)[None], points=300)[0]
        x, y = course["step"].to_numpy()[picked], course["mean"].to_numpy()[picked]
        away = 10 ** course["deviation"].fillna(0).to_numpy()[picked]
        colour = COLOURS[place % len(COLOURS)]
        plot.varea(x=x, y1=y / away, y2=y * away, fill_color=colour, fill_alpha=0.18)
        plot.line(x=x, y=y, line_color=colour, line_width=2.5, line_dash="solid" if place < len(COLOURS) else "dashed")
        low, high = min(low, (y / away).min()), max(high, (y * away).max())
    for at in named_steps(analysis):
        plot.vspan(x=[at], line_color=GREY, line_width=1, line_dash="dotted")
    with_powers(plot, low, high)
    plot.xgrid.visible = False
    whole_steps(plot)
    return plot
