"""The heat map: layers by steps, the clusters beside the layers, what was chosen left bright."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTicker,
    BasicTickFormatter,
    ColorBar,
    ColumnDataSource,
    CustomJSHover,
    FixedTicker,
    HBar,
    HoverTool,
    Image,
    LinearColorMapper,
    LogColorMapper,
    Model,
    Range1d,
    Row,
    TapTool,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from wstrack.analysis.analysis import Analysis
from wstrack.messages import printable
from wstrack.reporting.axes import plain, powers, whole_steps
from wstrack.reporting.glyphs import draw
from wstrack.reporting.labels import labels, shorten
from wstrack.reporting.marks import GREY, Mark, layer_colours
from wstrack.reporting.named import edges
from wstrack.reporting.thin import Tiles

__all__ = ["HeatMap", "draw_heatmap"]

INFINITE = "#ffffff"


@dataclass(frozen=True)
class HeatMap:
    """The figure and what the page's switches change in it.

    Attributes:
        layout: what is shown.
        image: the glyph with the colour mapper; `bar` its colour bar; `veil` what lies over the layers not chosen.
        scales: by "log" and "linear", the mapper, ticker and formatter; only "linear" where there is no logarithm.
    """

    layout: Row
    image: Model
    bar: ColorBar
    veil: Model
    scales: dict[str, list[Model]]


def draw_heatmap(
    analysis: Analysis, tiles: Tiles, source: ColumnDataSource, marks: Sequence[Mark], x_range: Range1d
) -> HeatMap:
    """Layers from input (top) to output (bottom) by steps, with the clusters as a strip beside the layers."""
    layers = [printable(str(layer)) for layer in analysis.series.columns]
    rows = len(tiles.rows)
    scales = _scales(tiles, logarithmic=analysis.logarithmic)
    mapper, ticker, formatter = next(iter(scales.values()))

    # Both halves get the same borders above and below: that is what keeps their rows level.
    frame: dict[str, Any] = {
        "frame_height": int(np.clip(24 * rows, 120, 620)),
        "y_range": Range1d(start=rows - 0.5, end=-0.5, bounds=(-0.5, rows - 0.5)),
        "min_border_top": 58,
        "min_border_bottom": 46,
        "min_border_left": 4,
    }
    strip = _strip(analysis, tiles, source, marks, frame)
    image = figure(
        **frame, x_range=x_range, tools="xpan,xwheel_zoom,box_zoom,reset", active_drag=None, min_border_right=12,
        sizing_mode="stretch_width", x_axis_label="step",
    )  # fmt: skip
    image.yaxis.visible = False
    image.grid.visible = False
    whole_steps(image)
    end = tiles.start + tiles.image.shape[1] * tiles.width
    tiled = Image(image="image", x=tiles.start, y=-0.5, dw=end - tiles.start, dh=rows, color_mapper=mapper)
    drawn = draw(image, tiled, {"image": [tiles.image]})
    names = [
        layers[first] if last - first == 1 else f"{layers[first]} … {layers[last - 1]}" for first, last in tiles.rows
    ]
    image.add_tools(
        HoverTool(
            renderers=[drawn],
            tooltips=[("layer", "$y{custom}"), ("step", "$x{custom}"), ("value", "@image{%.3g}")],
            formatters={
                "@image": "printf",
                "$x": _nth(tiles.steps, start=tiles.start, width=tiles.width),
                "$y": _nth(names, start=-0.5, width=1),
            },
        )
    )
    veil = image.hbar(
        y="row", height="height", left=tiles.start, right=end, source=source, line_color=None, fill_color="white",
        fill_alpha=0, selection_fill_alpha=0, nonselection_fill_alpha=0.72,
    )  # fmt: skip
    image.add_tools(TapTool(renderers=[veil]))
    for edge in edges(analysis, tiles.width):
        for width, colour, pattern in ((2, "black", "solid"), (1, "white", [1, 3])):
            image.vspan(x=[edge], line_color=colour, line_width=width, line_dash=pattern, line_alpha=0.5)
    for at in analysis.phases.breaks if analysis.phases else ():
        # White on black is seen on every colour of the map.
        for width, colour, dash in ((2, "black", "solid"), (1, "white", [6, 4])):
            image.vspan(x=[at - tiles.width / 2], line_color=colour, line_width=width, line_dash=dash, line_alpha=0.8)
    bar = ColorBar(
        color_mapper=mapper, orientation="horizontal", height=8, padding=4, margin=0, label_standoff=4,
        title=shorten(analysis.metric, width=60), title_standoff=4, ticker=ticker, formatter=formatter,
    )  # fmt: skip
    image.add_layout(bar, "above")
    layout = Row(children=[strip, image], sizing_mode="stretch_width", spacing=0)
    return HeatMap(layout, drawn.glyph, bar, veil.nonselection_glyph, scales)


def _scales(tiles: Tiles, *, logarithmic: bool) -> dict[str, list[Model]]:
    """The scale of the report first."""
    finite = tiles.image[np.isfinite(tiles.image)]
    scales: dict[str, list[Model]] = {}
    colours = {"palette": Viridis256, "nan_color": GREY, "high_color": INFINITE}
    positive = finite[finite > 0]
    if positive.size and not (finite < 0).any():
        low, high = _extent(positive)
        scales["log"] = [LogColorMapper(low=low, high=high, **colours), powers(low, high), plain(low, high)]
    low, high = _extent(finite)
    scales["linear"] = [
        LinearColorMapper(low=low, high=high, **colours), BasicTicker(desired_num_ticks=5), BasicTickFormatter(),
    ]  # fmt: skip
    return scales if logarithmic else dict(reversed(scales.items()))


def _extent(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """A mapper needs a range, even for one value."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    return low, high if high > low else low + (abs(low) or 1.0)


def _strip(
    analysis: Analysis, tiles: Tiles, source: ColumnDataSource, marks: Sequence[Mark], frame: dict[str, Any]
) -> figure:
    """The layers' names and clusters, as wide as the names need; all other width is the image's.

    A layer that is chosen gets a triangle, for its row may be thinner than a pixel.
    """
    firsts = [str(analysis.series.columns[first]) for first, _ in tiles.rows]
    strip = figure(
        **frame, x_range=(0, 2), tools="", toolbar_location=None, frame_width=18, width=None, min_border_right=0,
        stylesheets=[":host { flex: none !important; }"],
    )  # fmt: skip
    colours = layer_colours(marks)
    # One bar a stretch of equal colour: a bar a layer would let the page shine through between a thousand of them.
    stretches = [list(rows) for _, rows in groupby(range(len(firsts)), key=lambda row: colours.get(firsts[row]))]
    bars = {
        "row": [(rows[0] + rows[-1]) / 2 for rows in stretches],
        "height": [len(rows) for rows in stretches],
        "colour": [colours.get(firsts[rows[0]], "transparent") for rows in stretches],
    }
    draw(strip, HBar(y="row", height="height", left=1.1, right=2, fill_color="colour", line_color=None), bars)
    strip.scatter(
        x=0.5, y="row", source=source, marker="triangle", angle=-np.pi / 2, size=7, fill_color="colour",
        line_color=None, fill_alpha=0, nonselection_fill_alpha=0, selection_fill_alpha=1,
    )  # fmt: skip
    few = 16 * len(firsts) <= frame["frame_height"]
    strip.yaxis.ticker = (
        FixedTicker(ticks=list(range(len(firsts))))
        if few
        else BasicTicker(desired_num_ticks=frame["frame_height"] // 24, min_interval=1, mantissas=[1, 2, 5])
    )
    strip.yaxis.major_label_overrides = dict(enumerate(labels(firsts)))
    strip.yaxis.axis_line_alpha = strip.yaxis.major_tick_line_alpha = 0
    strip.xaxis.visible = False
    strip.grid.visible = False
    return strip


def _nth(names: Sequence[str], *, start: float, width: float) -> CustomJSHover:
    """Shows the name at a coordinate, for axes whose cells have names."""
    return CustomJSHover(
        args={"names": list(names), "start": start, "width": width},
        code="return names[Math.floor((value - start) / width)] ?? ''",
    )
