"""How layers go with a setting that has numbers: each layer's slope with its interval, over the depth."""

from __future__ import annotations

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Span
from bokeh.plotting import figure

from wstrack.analysis.analysis import Analysis
from wstrack.analysis.slopes import Slopes
from wstrack.reporting.axes import whole_steps
from wstrack.reporting.comparison import COLOURS
from wstrack.reporting.figures import ABOUT_LAYER
from wstrack.reporting.labels import number, shorten
from wstrack.reporting.marks import GREY

__all__ = ["about_slopes", "draw_slopes", "slope_words"]


def draw_slopes(analysis: Analysis, slopes: Slopes, source: ColumnDataSource) -> figure:
    """Each layer's slope with its interval; grey where it may be chance, a triangle where it is unlike the others."""
    rows = slopes.layers.reindex(list(map(str, analysis.series.columns)))
    for column in ("slope", "lower", "upper"):
        source.data[f"by_{column}"] = rows[column].to_numpy(dtype=np.float64)
    goes = rows["goes"].fillna(False).to_numpy(dtype=bool)
    unlike = rows["unlike"].fillna(False).to_numpy(dtype=bool)
    source.data["by_colour"] = list(np.where(unlike, COLOURS[1], np.where(goes, COLOURS[0], GREY)))
    source.data["by_marker"] = list(np.where(unlike, "triangle", "circle"))
    source.data["by_words"] = [
        f"{number(slope)}, {number(low)} to {number(high)}"
        for slope, low, high in zip(rows["slope"], rows["lower"], rows["upper"], strict=True)
    ]
    name = shorten(slopes.by, width=24)
    plot = figure(
        height=260, sizing_mode="stretch_width", tools="tap,box_select,xpan,xwheel_zoom,reset", active_drag=None,
        x_axis_label="layer, from the input to the output",
        y_axis_label=f"power of {name}" if slopes.logarithmic else f"decades per unit of {name}",
    )  # fmt: skip
    plot.segment(
        "depth", "by_lower", "depth", "by_upper", source=source, line_color="by_colour", line_width=1.5,
        line_alpha=0.7, nonselection_line_alpha=0.1,
    )  # fmt: skip
    points = plot.scatter(
        "depth", "by_slope", source=source, size=7, marker="by_marker", color="by_colour",
        nonselection_fill_alpha=0.1, nonselection_line_alpha=0.1,
    )  # fmt: skip
    plot.add_layout(Span(location=0, dimension="width", line_color=GREY, line_dash=[5, 3]))
    middle = float(slopes.groups["slope"].loc["all"])
    if np.isfinite(middle):
        plot.add_layout(Span(location=middle, dimension="width", line_color=COLOURS[0], line_dash="dotted"))
    plot.add_tools(HoverTool(renderers=[points], tooltips=[*ABOUT_LAYER, ("slope", "@by_words")]))
    plot.xgrid.visible = False
    whole_steps(plot)
    return plot


def about_slopes(analysis: Analysis) -> str:
    """What the slopes are of, and over what their intervals are."""
    slopes = analysis.slopes
    if slopes is None:
        return ""
    kind = (
        f"A slope is the power of {slopes.by} that the change goes with: 1 = ten times the change with ten times it"
        if slopes.logarithmic
        else f"A slope is in decades of the change per unit of {slopes.by}"
    )
    return (
        f"{slopes.runs} runs, with {slopes.by} from {number(slopes.low)} to {number(slopes.high)}. {kind}; 0 = it does "
        "not matter. Intervals hold 95 % and are over runs; of the layers that are said to go with it at most 5 % are "
        "expected to be wrong."
    )


def slope_words(slopes: Slopes) -> list[tuple[str, int, str, str, float]]:
    """A row a group: its name, how many layers, the slope, the interval, and p."""
    return [
        (str(name), int(row["layers"]), number(row["slope"]), f"{number(row['lower'])} to {number(row['upper'])}",
         float(row["p"]))
        for name, row in slopes.groups.iterrows()
    ]  # fmt: skip
