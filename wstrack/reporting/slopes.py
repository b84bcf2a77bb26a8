"""How layers go with a setting that has numbers: each layer's slope with its interval, over the depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Span
from bokeh.plotting import figure

from wstrack.analysis.slopes import Slopes
from wstrack.reporting.axes import whole_steps
from wstrack.reporting.comparison import COLOURS
from wstrack.reporting.figures import ABOUT_LAYER
from wstrack.reporting.labels import number, shorten
from wstrack.reporting.marks import GREY

__all__ = ["about_slopes", "draw_slopes", "slope_words"]


def draw_slopes(
    slopes: Slopes,
    source: ColumnDataSource,
    *,
    layers: Sequence[str],
    prefix: str = "by",
    about: Sequence[tuple[str, str]] = ABOUT_LAYER,
) -> figure:
    """Each layer's slope with its interval; grey where it may be chance, a triangle where it is unlike the others.

    Args:
        slopes: of layers by name.
        source: a row a layer, with `depth` and what `about` tells; it gets columns that begin with `prefix`, so that
            several settings may share it.
        layers: the names of its rows.
        prefix: of those columns.
        about: what the tooltip says of a layer beside its slope.
    """
    rows = slopes.layers.reindex(list(layers))
    for column in ("slope", "lower", "upper"):
        source.data[f"{prefix}_{column}"] = rows[column].to_numpy(dtype=np.float64)
    goes = rows["goes"].eq(True).to_numpy(dtype=bool)
    unlike = rows["unlike"].eq(True).to_numpy(dtype=bool)
    source.data[f"{prefix}_colour"] = list(np.where(unlike, COLOURS[1], np.where(goes, COLOURS[0], GREY)))
    source.data[f"{prefix}_marker"] = list(np.where(unlike, "triangle", "circle"))
    source.data[f"{prefix}_words"] = [
        f"{number(slope)}, {number(low)} to {number(high)}"
        for slope, low, high in zip(rows["slope"], rows["lower"], rows["upper"], strict=True)
    ]
    plot = figure(
        height=260, sizing_mode="stretch_width", tools="tap,box_select,xpan,xwheel_zoom,reset", active_drag=None,
        x_axis_label="layer, from the input to the output", y_axis_label=_unit(slopes),
    )  # fmt: skip
    plot.segment(
        "depth", f"{prefix}_lower", "depth", f"{prefix}_upper", source=source, line_color=f"{prefix}_colour",
        line_width=1.5, line_alpha=0.7, nonselection_line_alpha=0.1,
    )  # fmt: skip
    points = plot.scatter(
        "depth", f"{prefix}_slope", source=source, size=7, marker=f"{prefix}_marker", color=f"{prefix}_colour",
        nonselection_fill_alpha=0.1, nonselection_line_alpha=0.1,
    )  # fmt: skip
    plot.add_layout(Span(location=0, dimension="width", line_color=GREY, line_dash=[5, 3]))
    middle = float(slopes.groups["slope"].loc["all"])
    if np.isfinite(middle):
        plot.add_layout(Span(location=middle, dimension="width", line_color=COLOURS[0], line_dash="dotted"))
    plot.add_tools(HoverTool(renderers=[points], tooltips=[*about, ("slope", f"@{prefix}_words")]))
    plot.xgrid.visible = False
    whole_steps(plot)
    return plot


def _unit(slopes: Slopes) -> str:
    """What a slope is in."""
    one, _, other = slopes.by.partition(" * ")
    if other:
        return f"power of {shorten(one, width=16)} per {shorten(other, width=16)}"
    name = shorten(slopes.by, width=24)
    return f"power of {name}" if slopes.logarithmic else f"decades per unit of {name}"


def about_slopes(slopes: Slopes) -> str:
    """What the slopes are of, and over what their intervals are."""
    one, _, other = slopes.by.partition(" * ")
    where = f"{slopes.runs} runs" + (
        "" if other else f", with {slopes.by} from {number(slopes.low)} to {number(slopes.high)}"
    )
    if other:
        kind = (
            f"A slope is how much the slope with {one} changes with {other}, for ten times it where it spans decades, "
            "else for one unit; what each does alone is taken out"
        )
        none = f"0 = {one} does the same at each {other}"
    else:
        kind = (
            f"A slope is the power of {slopes.by} that the change goes with: 1 = ten times the change with ten times it"
            if slopes.logarithmic
            else f"A slope is in decades of the change per unit of {slopes.by}"
        )
        none = "0 = it does not matter"
    return (
        f"{where}. {kind}; {none}. Intervals hold 95 % and are over runs; of the layers that are said to go with it at "
        "most 5 % are expected to be wrong."
    )


def slope_words(slopes: Slopes) -> list[tuple[str, int, str, str, float]]:
    """A row a group: its name, how many layers, the slope, the interval, and p."""
    return [
        (str(name), int(row["layers"]), number(row["slope"]), f"{number(row['lower'])} to {number(row['upper'])}",
         float(row["p"]))
        for name, row in slopes.groups.iterrows()
    ]  # fmt: skip
