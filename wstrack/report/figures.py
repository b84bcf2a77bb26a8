"""The figures of the page, as Bokeh models."""

from __future__ import annotations

from collections.abc import Sequence
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
    HoverTool,
    LinearColorMapper,
    LogColorMapper,
    LogTickFormatter,
    NumeralTickFormatter,
    Range1d,
    Row,
    Span,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from wstrack.report.layers import analysed
from wstrack.report.marks import GREY, Mark, labels, printable, shorten
from wstrack.report.result import Report
from wstrack.report.thin import Tiles, thin

__all__ = ["curves", "heatmap", "plane", "scan"]

INFINITE = "#ffffff"
# Tooltips are lists, never HTML: until 3.8 Bokeh put what it filled into HTML there unescaped.
_ABOUT_LAYER = [("layer", "@layer"), ("kind", "@kind @shape"), ("cluster", "@cluster")]


def heatmap(report: Report, tiles: Tiles, marks: Sequence[Mark], x_range: Range1d, *, logarithmic: bool) -> Row:
    """Layers from input (top) to output (bottom) by steps, with the clusters as a strip beside the layers."""
    layers = [printable(str(layer)) for layer in report.series.columns]
    rows = len(tiles.rows)
    finite = tiles.image[np.isfinite(tiles.image) & ((tiles.image > 0) | (not logarithmic))]
    low, high = float(finite.min()), float(finite.max())
    high = high if high > low else low + (abs(low) or 1.0)  # a mapper needs a range, even for one value
    mapper = LogColorMapper if logarithmic else LinearColorMapper
    colours = mapper(palette=Viridis256, low=low, high=high, nan_color=GREY, high_color=INFINITE)

    # Both halves get the same borders above and below: that is what keeps their rows level.
    frame: dict[str, Any] = {
        "frame_height": int(np.clip(16 * rows, 120, 620)),
        "y_range": Range1d(start=rows - 0.5, end=-0.5, bounds=(-0.5, rows - 0.5)),
        "min_border_top": 58,
        "min_border_bottom": 46,
        "min_border_left": 4,
    }
    strip = _strip(report, tiles, marks, frame)
    image = figure(
        **frame, x_range=x_range, tools="xpan,xwheel_zoom,box_zoom,reset", active_drag=None, min_border_right=12,
        sizing_mode="stretch_width", x_axis_label="step",
    )  # fmt: skip
    image.yaxis.visible = False
    image.grid.visible = False
    _whole_steps(image)
    drawn = image.image(
        image=[tiles.image], x=tiles.start, y=-0.5, dw=tiles.image.shape[1] * tiles.width, dh=rows, color_mapper=colours
    )
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
    bar = ColorBar(
        color_mapper=colours, orientation="horizontal", height=8, padding=4, margin=0, label_standoff=4,
        title=shorten(report.metric, width=60), title_standoff=4,
        ticker=_powers(low, high) if logarithmic else BasicTicker(desired_num_ticks=5),
        formatter=LogTickFormatter() if logarithmic else BasicTickFormatter(),
    )  # fmt: skip
    image.add_layout(bar, "above")
    return Row(children=[strip, image], sizing_mode="stretch_width", spacing=0)


def _strip(report: Report, tiles: Tiles, marks: Sequence[Mark], frame: dict[str, Any]) -> figure:
    """The layers' names and clusters, as wide as the names need; all other width is the image's."""
    firsts = [str(report.series.columns[first]) for first, _ in tiles.rows]
    strip = figure(
        **frame, x_range=(0, 1), tools="", toolbar_location=None, frame_width=8, width=None, min_border_right=0,
        stylesheets=[":host { flex: none !important; }"],
    )  # fmt: skip
    colours = {layer: mark.colour for mark in marks for layer in mark.layers}
    # One bar a stretch of equal colour: a bar a layer would let the page shine through between a thousand of them.
    stretches = [list(rows) for _, rows in groupby(range(len(firsts)), key=lambda row: colours.get(firsts[row]))]
    strip.hbar(
        y=[(rows[0] + rows[-1]) / 2 for rows in stretches], height=[len(rows) for rows in stretches], left=0, right=1,
        fill_color=[colours.get(firsts[rows[0]], "transparent") for rows in stretches], line_color=None,
    )  # fmt: skip
    few = 16 * len(firsts) <= frame["frame_height"]
    strip.yaxis.ticker = (
        FixedTicker(ticks=list(range(len(firsts))))
        if few
        else BasicTicker(desired_num_ticks=frame["frame_height"] // 24, min_interval=1, mantissas=[1, 2, 5])
    )
    strip.yaxis.major_label_overrides = dict(enumerate(labels(firsts)))
    strip.yaxis.axis_line_color = strip.yaxis.major_tick_line_color = None
    strip.xaxis.visible = False
    strip.grid.visible = False
    return strip


def _nth(names: Sequence[str], *, start: float, width: float) -> CustomJSHover:
    """Shows the name at a coordinate, for axes whose cells have names."""
    return CustomJSHover(
        args={"names": list(names), "start": start, "width": width},
        code="return names[Math.floor((value - start) / width)] ?? ''",
    )


def curves(
    report: Report, source: ColumnDataSource, marks: Sequence[Mark], x_range: Range1d, *, logarithmic: bool
) -> figure:
    """Each cluster's median over its layers, with the band from the 10th to the 90th percentile."""
    plot = figure(
        height=380, sizing_mode="stretch_width", x_range=x_range, y_axis_type="log" if logarithmic else "linear",
        tools="pan,wheel_zoom,box_zoom,reset,tap",
        active_drag=None, x_axis_label="step", y_axis_label=shorten(report.metric, width=40),
    )  # fmt: skip
    frame = analysed(report)
    steps = frame.columns.to_numpy()
    few = len(frame) <= 12
    single = plot.multi_line(
        "steps", "values", source=source, line_color="colour", line_alpha=0.55 if few else 0, line_width=1,
        selection_line_alpha=1, nonselection_line_alpha=0.1 if few else 0,
        hover_line_color="colour", hover_line_alpha=0.9,
    )  # fmt: skip
    framed = [single] if few else []
    extent = (np.inf, -np.inf)
    for mark in marks:
        low, middle, high = np.quantile(frame.loc[mark.layers].to_numpy(), [0.1, 0.5, 0.9], axis=0)
        picked = np.unique(thin(np.stack([low, middle, high]), points=200))
        x = steps[picked].astype(np.float32)
        band = plot.varea(x=x, y1=low[picked], y2=high[picked], fill_color=mark.colour, fill_alpha=0.16)
        dash = "solid" if 0 < mark.label <= 7 else "dashed"
        line = plot.line(x=x, y=middle[picked], line_color=mark.colour, line_width=2.5, line_dash=dash)
        framed += [band, line]
        extent = (min(extent[0], low.min()), max(extent[1], high.max()))
    if logarithmic:
        plot.yaxis.ticker = _powers(*extent)
    plot.y_range.renderers = framed  # a lone spike of one layer among hundreds would squeeze everything else
    plot.add_tools(HoverTool(renderers=[single], tooltips=_ABOUT_LAYER))
    plot.xgrid.visible = False
    _whole_steps(plot)
    return plot


def _powers(low: float, high: float) -> FixedTicker:
    """Ticks at powers of ten; over less than two decades also at twice and five times as much."""
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    multiples = [1] if high / low >= 100 else [1, 2, 5]
    return FixedTicker(ticks=[float(f"{multiple}e{int(decade)}") for decade in decades for multiple in multiples])


def _whole_steps(plot: figure) -> None:
    """Ticks at whole steps only, with thousands set apart."""
    plot.xaxis.ticker = BasicTicker(min_interval=1, mantissas=[1, 2, 5])
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")


def plane(report: Report, source: ColumnDataSource) -> figure:
    """Every layer as a point on the two components."""
    plot = figure(
        height=430, sizing_mode="stretch_width", tools="pan,wheel_zoom,box_zoom,lasso_select,tap,reset",
        active_drag=None,
        x_axis_label=_axis(report, 0), y_axis_label=_axis(report, 1),
    )  # fmt: skip
    points = plot.scatter(
        "component_1", "component_2", source=source, marker="marker", size=9, fill_color="colour", line_color="colour",
        fill_alpha=0.65, line_alpha=0.9, nonselection_fill_alpha=0.12, nonselection_line_alpha=0.12,
    )  # fmt: skip
    # A direction in which the layers do not differ keeps its place beside the other.
    extents = np.ptp(report.reduction.points.to_numpy(), axis=0)
    plot.x_range.min_interval = plot.y_range.min_interval = float(extents.max() / 10) or 1.0
    plot.add_tools(HoverTool(renderers=[points], tooltips=_ABOUT_LAYER))
    return plot


def _axis(report: Report, component: int) -> str:
    explained = report.reduction.explained
    share = f" ({explained[component]:.0%} of the variance)" if explained and component < len(explained) else ""
    return f"component {component + 1}{share}"


def scan(report: Report) -> dict[str, figure]:
    """Inertia and silhouette over k, the chosen k marked; nothing where the clusterer was not tried over k."""
    curve, k = report.clustering.curve, report.clustering.k
    plots = {}
    for column in ("inertia", "silhouette") if len(curve) else ():
        known = curve[column][np.isfinite(curve[column])]
        plot = figure(
            height=220,
            sizing_mode="stretch_width",
            tools="",
            toolbar_location=None,
            x_axis_label="k, the number of clusters",
            y_axis_label=column,
        )
        plot.line(x=known.index, y=known, line_color=GREY, line_width=1.5)
        plot.scatter(x=known.index, y=known, size=5, color=GREY)
        chosen = known[known.index == k]
        plot.scatter(x=chosen.index, y=chosen, size=11, color="#0072B2")
        plot.add_layout(Span(location=k, dimension="height", line_color="#0072B2", line_dash="dotted"))
        plot.xaxis.ticker = BasicTicker(min_interval=1, mantissas=[1, 2, 5])
        plot.xgrid.visible = False
        plots[column] = plot
    return plots
