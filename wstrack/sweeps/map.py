"""The heat map of a sweep: runs by layers, in the order and of the runs that the reader chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTicker,
    ColorBar,
    ColumnDataSource,
    CustomJSHover,
    CustomJSTickFormatter,
    FixedTicker,
    HBar,
    HoverTool,
    Image,
    LinearColorMapper,
    LogColorMapper,
    Model,
    NoOverlap,
    Range1d,
    Row,
    Scatter,
    VBar,
)
from bokeh.palettes import Viridis256, interp_palette
from bokeh.plotting import figure
from numpy.typing import NDArray

from wstrack.reporting.axes import plain, powers
from wstrack.reporting.glyphs import draw
from wstrack.reporting.labels import labels, shorten
from wstrack.reporting.marks import GREY

__all__ = ["MISSING", "Levels", "Map", "draw_map", "quantised"]

MISSING = 65535  # the code of what is not there; those of levels are below it
_MOST = 3_000_000  # cells that the page holds
_DIVERGING = interp_palette(["#053061", "#4393c3", "#f7f7f7", "#d6604d", "#67001f"], 256)
ODD = "#D55E00"


@dataclass(frozen=True)
class Levels:
    """Levels as codes of 16 bits, which take a quarter of what numbers take.

    Attributes:
        codes: (runs, places); a place is a layer, or of very many the mean of some neighbours.
        low, high: the log10 of the codes 0 and `MISSING` - 1.
        places: the first layer of each place, and one past its last.
    """

    codes: NDArray[np.uint16]
    low: float
    high: float
    places: list[tuple[int, int]]


def quantised(levels: NDArray[np.float64]) -> Levels:
    """The levels of runs by layers, NaN where there is none, for a page.

    Example:
        >>> found = quantised(np.array([[-3.0, np.nan], [-1.0, -2.0]]))
        >>> found.codes.tolist(), found.low, found.high
        ([[0, 65535], [65534, 32767]], -3.0, -1.0)
    """
    runs, layers = levels.shape
    wide = max(1, -(-runs * layers // _MOST))
    places = [(first, min(first + wide, layers)) for first in range(0, layers, wide)]
    if wide > 1:
        starts = np.array([first for first, _ in places])
        known = np.isfinite(levels)
        counts = np.add.reduceat(known.astype(np.float64), starts, axis=1)
        sums = np.add.reduceat(np.where(known, levels, 0.0), starts, axis=1)
        levels = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    there = np.isfinite(levels)
    low, high = (float(levels[there].min()), float(levels[there].max())) if there.any() else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    scaled = np.rint((np.where(there, levels, low) - low) / (high - low) * (MISSING - 1))
    return Levels(np.where(there, scaled, MISSING).astype(np.uint16), low, high, places)


@dataclass(frozen=True)
class Map:
    """The figure and what the page's script changes in it.

    Attributes:
        layout: what is shown.
        image: the source of the cells; `mapper` of their colours, `plot` their figure.
        order: the source of the runs by row; `beside` that of the marks beside the rows.
        chosen_run, chosen_layer: the sources of the frames round what is chosen.
        bars: by "level" and "beside", the colour bar, which has the palette of the cells too.
        rows, axis: the range of the rows, and the axis that names them.
    """

    layout: Row
    plot: Model
    image: ColumnDataSource
    mapper: Model
    order: ColumnDataSource
    beside: ColumnDataSource
    chosen_run: ColumnDataSource
    chosen_layer: ColumnDataSource
    bars: Mapping[str, ColorBar]
    rows: Range1d
    axis: Model


def draw_map(levels: Levels, layers: Sequence[str], runs: ColumnDataSource, *, metric: str, told: Sequence[str]) -> Map:
    """Runs (rows) by layers from the input (left) to the output (right).

    Args:
        levels: of the runs.
        layers: their names.
        runs: a row a run, in the order of `levels`.
        metric: for the colour bar.
        told: by field of `runs`, what the tooltip tells of a run beside its name; each with its title in `runs.tags`.
    """
    rows, columns = levels.codes.shape
    frame: dict[str, Any] = {
        "frame_height": int(np.clip(24 * rows, 120, 620)),
        "y_range": Range1d(start=rows - 0.5, end=-0.5, bounds=(-0.5, rows - 0.5)),
        "min_border_top": 58,
    }
    order = ColumnDataSource({"run": np.arange(rows)}, name="order")
    image = ColumnDataSource({"image": [levels.codes]}, name="levels")
    # One mapper whose palette changes: Bokeh's copies of a glyph keep another, and paint on the same canvas with it.
    mapper = LinearColorMapper(palette=Viridis256, low=0, high=MISSING - 1, high_color=GREY)
    plot = figure(
        **frame, x_range=Range1d(start=-0.5, end=columns - 0.5, bounds=(-0.5, columns - 0.5)), active_drag=None,
        tools="xpan,ypan,xwheel_zoom,ywheel_zoom,box_zoom,reset", sizing_mode="stretch_width", min_border_left=4,
        min_border_right=12, x_axis_label="layer",
    )  # fmt: skip
    plot.yaxis.visible = False
    plot.grid.visible = False
    names = [
        shorten(layers[first], width=60) if last - first == 1
        else f"{shorten(layers[first], width=60)} … {shorten(layers[last - 1], width=60)}"
        for first, last in levels.places
    ]  # fmt: skip
    ticker = (
        FixedTicker(ticks=list(range(columns)))
        if columns <= 40
        else BasicTicker(desired_num_ticks=12, min_interval=1, mantissas=[1, 2, 5])
    )
    plot.xaxis.ticker = ticker
    plot.xaxis.major_label_overrides = dict(enumerate(labels([layers[first] for first, _ in levels.places], width=18)))
    plot.xaxis.major_label_policy = NoOverlap()
    plot.xaxis.major_label_orientation = np.pi / 4 if columns > 4 else "horizontal"
    cells = draw(plot, Image(image="image", x=-0.5, y=-0.5, dw=columns, dh=rows, color_mapper=mapper), image)
    chosen_run, chosen_layer = ColumnDataSource({"row": []}), ColumnDataSource({"place": []})
    for colour, width in (("black", 4), ("white", 2)):  # seen on every colour
        look = {"fill_color": None, "line_color": colour, "line_width": width}
        draw(plot, HBar(y="row", left=-0.5, right=columns - 0.5, height=1, **look), chosen_run)
        draw(plot, VBar(x="place", bottom=-0.5, top=rows - 0.5, width=1, **look), chosen_layer)
    args = {
        "order": order, "runs": runs, "names": names, "told": list(told), "image": image,
        "low": levels.low, "step": (levels.high - levels.low) / (MISSING - 1), "missing": MISSING,
    }  # fmt: skip
    custom = CustomJSHover(args=args, code=_TOLD)
    tooltips = [(what, f"$y{{{what}}}") for what in ("run", "layer", "level", "settings")]
    plot.add_tools(HoverTool(renderers=[cells], tooltips=tooltips, formatters={"$y": custom}))
    bars = _bars(levels, metric)
    for bar in bars.values():
        plot.add_layout(bar, "above")
    bars["beside"].visible = False
    strip, beside = _strip(frame, runs, order, chosen_run)
    layout = Row(children=[strip, plot], sizing_mode="stretch_width", spacing=0)
    return Map(
        layout=layout, plot=plot, image=image, order=order, beside=beside, chosen_run=chosen_run,
        chosen_layer=chosen_layer, bars=bars, mapper=mapper, rows=frame["y_range"], axis=strip.yaxis[0],
    )  # fmt: skip


_TOLD = """
const place = Math.round(special_vars.x), run = order.data.run[Math.round(special_vars.y)]
if (run === undefined) return ""
const short = (text) => text.length > 60 ? text.slice(0, 30) + "…" + text.slice(-29) : text
if (format === "run") return short(String(runs.data.name[run]))
if (format === "layer") return names[place] ?? ""
if (format === "settings")
  return told.map((field) => [runs.tags[0][field], runs.data[field][run]])
    .filter(([, value]) => value !== null && value === value)
    .map(([title, value]) => [short(title), typeof value === "number" ? Number(value.toPrecision(6)) : short(value)])
    .map((pair) => pair.join(" = "))
    .join(", ")
const { stock } = image.data
const columns = names.length, code = (stock ?? image.data.image)[0][run * columns + place]
if (code === undefined || code === missing) return "none"
const median = image.data.median?.[0]?.[place], level = low + code * step
return (10 ** level).toPrecision(3) + (median === undefined ? "" :
  `, ${(10 ** (level - median)).toPrecision(3)} times the median over runs`)
"""


def _bars(levels: Levels, metric: str) -> dict[str, ColorBar]:
    """What the colours mean; those of "beside" are set by the page, which knows how far it reaches."""
    low, high = 10.0**levels.low, 10.0**levels.high
    look: dict[str, Any] = {
        "orientation": "horizontal", "height": 8, "padding": 4, "margin": 0, "label_standoff": 4, "title_standoff": 4
    }  # fmt: skip
    level = LogColorMapper(palette=Viridis256, low=low, high=high)
    beside = LogColorMapper(palette=_DIVERGING, low=0.1, high=10)
    return {
        "level": ColorBar(color_mapper=level, title=f"mean {shorten(metric, width=60)}", ticker=powers(low, high),
                          formatter=plain(low, high), **look),
        "beside": ColorBar(color_mapper=beside, title="times the layer's median over runs", **look,
                           formatter=CustomJSTickFormatter(code="return String(Number(tick.toPrecision(3)))")),
    }  # fmt: skip


def _strip(
    frame: Mapping[str, Any], runs: ColumnDataSource, order: ColumnDataSource, chosen: ColumnDataSource
) -> tuple[figure, ColumnDataSource]:
    """The rows' names, and marks at those that are odd or were not read; a triangle at the chosen one."""
    strip = figure(
        **frame, x_range=(0, 2), tools="", toolbar_location=None, frame_width=26, width=None, min_border_right=0,
        min_border_left=4, stylesheets=[":host { flex: none !important; }"],
    )  # fmt: skip
    beside = ColumnDataSource({"row": [], "marker": [], "colour": []}, name="beside")
    draw(strip, Scatter(x=1.4, y="row", marker="marker", size=8, fill_color="colour", line_color="colour"), beside)
    draw(strip, Scatter(x=0.5, y="row", marker="triangle", angle=-np.pi / 2, size=9, fill_color="#0072B2",
                        line_color=None), chosen)  # fmt: skip
    strip.yaxis.ticker = BasicTicker(desired_num_ticks=int(frame["frame_height"]) // 24, min_interval=1,
                                     mantissas=[1, 2, 5])  # fmt: skip
    strip.yaxis.formatter = CustomJSTickFormatter(
        args={"order": order, "runs": runs},
        code="""
        const run = order.data.run[tick], value = run === undefined ? "" : runs.data[order.tags[0] ?? "name"][run]
        const text = typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value ?? "–")
        const chars = [...text.split("\\n")[0]]
        return chars.length > 14 ? chars.slice(0, 7).join("") + "…" + chars.slice(-6).join("") : chars.join("")
        """,
    )
    strip.yaxis.axis_line_alpha = strip.yaxis.major_tick_line_alpha = 0
    strip.xaxis.visible = False
    strip.grid.visible = False
    return strip, beside
