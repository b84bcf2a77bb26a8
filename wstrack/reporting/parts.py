"""The parts of layers: a heat map, one layer or one name at a time, and how unequal they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTicker,
    BasicTickFormatter,
    ColorBar,
    ColumnDataSource,
    CustomJSHover,
    CustomJSTickFormatter,
    HoverTool,
    Image,
    LinearColorMapper,
    LogColorMapper,
    Range1d,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from wstrack.analysis.analysis import Analysis
from wstrack.analysis.called import noun_of
from wstrack.analysis.parts import Parts, family_of
from wstrack.messages import printable
from wstrack.reporting.axes import plain, powers, whole_steps
from wstrack.reporting.glyphs import draw
from wstrack.reporting.labels import labels, number, shorten
from wstrack.reporting.marks import GREY
from wstrack.reporting.thin import tile
from wstrack.reporting.words import CHANGES

__all__ = ["PartsMap", "View", "about_parts", "draw_parts", "parts_table", "views_of"]

_TOGETHER = 48  # rows, up to which all layers of one name are in one view
_CELLS = 400_000  # of all views: two megabytes of the page
_LEAST_COLUMNS, _MOST_COLUMNS = 40, 800
_DECADES = 4  # of the colours; what is further below the largest is as good as nothing
STILL = "#000000"


@dataclass(frozen=True)
class View:
    """What the heat map shows at a time.

    Attributes:
        title: of the layer, or of the layers of one name.
        layers: whose parts they are.
        parts: a row each, from the top.
        labels: of the rows.
    """

    title: str
    layers: list[str]
    parts: list[str]
    labels: list[str]


@dataclass(frozen=True)
class PartsMap:
    """The figure, and what its chooser changes in it.

    Attributes:
        plot: the figure.
        stock: a row a view: `image`, `rows`, `labels`.
        shown: the row that is drawn.
        caption: how to read it.
    """

    plot: figure
    stock: ColumnDataSource
    shown: ColumnDataSource
    caption: str


def views_of(parts: Parts) -> list[View]:
    """What there is to choose from: layers of one name together if they have few parts, or else the most unequal first.

    Names stay in the order of their first layers.
    """
    families: dict[str, list[str]] = {}
    for layer in map(str, parts.table.index):
        families.setdefault(family_of(layer), []).append(layer)
    views = []
    for family, layers in families.items():
        inside = {layer: parts.inside(layer) for layer in layers}
        together = [part for layer in layers for part in inside[layer]]
        if len(layers) > 1 and len(together) <= _TOGETHER:
            brief = dict(zip(layers, labels(layers, width=16), strict=True))
            named = [f"{brief[of]}[{shorten(parts.label(part), width=12)}]" for of in layers for part in inside[of]]
            views.append(View(f"{family} ({len(layers)} layers)", layers, together, named))
            continue
        unequal = parts.table.loc[layers, "gini"].fillna(-1.0)
        for layer in unequal.sort_values(ascending=False, kind="stable").index:
            named = [shorten(parts.label(part), width=24) for part in inside[str(layer)]]
            views.append(View(str(layer), [str(layer)], inside[str(layer)], named))
    return views


def draw_parts(analysis: Analysis, parts: Parts, views: Sequence[View], x_range: Range1d) -> PartsMap:
    """Parts by steps, in the colours of all views alike; black is what does not change."""
    steps = parts.series.index.to_numpy(np.int64)
    columns = int(np.clip(_CELLS // len(parts.of), _LEAST_COLUMNS, _MOST_COLUMNS))
    tiled = [tile(parts.series[view.parts].to_numpy(np.float64), steps, columns=columns) for view in views]
    first = tiled[0]
    end = first.start + first.image.shape[1] * first.width
    named = [[printable(name) for name in view.labels] for view in views]
    stock = ColumnDataSource(
        {"image": [one.image for one in tiled], "rows": [len(view.parts) for view in views], "labels": named}
    )
    shown = ColumnDataSource({name: [values[0]] for name, values in stock.data.items()})
    most, rows = max(len(view.parts) for view in views), len(views[0].parts)
    plot = figure(
        frame_height=int(np.clip(16 * most, 120, 560)), x_range=x_range, tools="xpan,xwheel_zoom,box_zoom,reset",
        y_range=Range1d(start=rows - 0.5, end=-0.5), active_drag=None, min_border_right=12, min_border_top=58,
        sizing_mode="stretch_width", x_axis_label="step",
    )  # fmt: skip
    mapper, ticker, formatter = _colours([one.image for one in tiled], logarithmic=analysis.logarithmic)
    image = draw(
        plot, Image(image="image", x=first.start, y=-0.5, dw=end - first.start, dh="rows", color_mapper=mapper), shown
    )
    plot.grid.visible = False
    plot.yaxis.ticker = BasicTicker(desired_num_ticks=plot.frame_height // 18, min_interval=1, mantissas=[1, 2, 5])
    plot.yaxis.formatter = CustomJSTickFormatter(
        args={"shown": shown}, code="return Number.isInteger(tick) ? shown.data.labels[0][tick] ?? '' : ''"
    )
    plot.yaxis.axis_line_alpha = plot.yaxis.major_tick_line_alpha = 0
    whole_steps(plot)
    plot.add_tools(
        HoverTool(
            renderers=[image],
            tooltips=[("part", "$y{custom}"), ("step", "$x{custom}"), ("value", "@image{%.3g}")],
            formatters={
                "@image": "printf",
                "$x": CustomJSHover(
                    args={"names": first.steps, "start": first.start, "width": first.width},
                    code="return names[Math.floor((value - start) / width)] ?? ''",
                ),
                "$y": CustomJSHover(args={"shown": shown}, code="return shown.data.labels[0][Math.round(value)] ?? ''"),
            },
        )
    )
    bar = ColorBar(
        color_mapper=mapper, orientation="horizontal", height=8, padding=4, margin=0, label_standoff=4,
        title=shorten(analysis.metric, width=60), title_standoff=4, ticker=ticker, formatter=formatter,
    )  # fmt: skip
    plot.add_layout(bar, "above")
    bright, black = "have larger values", "have less"
    if analysis.metric in CHANGES:
        bright, black = "changed more", "did not change, or by less"
    text = [f"A row is a part; bright cells {bright}, black ones {black} than {number(mapper.low)}."]
    if len(views) > 1:
        text.append("The colours are the same for all layers.")
    if first.samples_per_column > 1:
        text.append(f"Each column is drawn as the mean of up to {first.samples_per_column} samples.")
    return PartsMap(plot, stock, shown, " ".join(text))


def _colours(images: Sequence[np.ndarray[Any, Any]], *, logarithmic: bool) -> tuple[Any, Any, Any]:
    """The mapper of all views, with ticks and their formatter."""
    finite = np.concatenate([image[np.isfinite(image)] for image in images])
    positive = finite[finite > 0]
    colours = {"palette": Viridis256, "nan_color": GREY, "low_color": STILL}
    if logarithmic and positive.size and not (finite < 0).any():
        high = float(positive.max())
        low = min(max(float(positive.min()), high / 10**_DECADES), high / 1.5)
        return LogColorMapper(low=low, high=high, **colours), powers(low, high), plain(low, high)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    high = high if high > low else low + (abs(low) or 1.0)
    return LinearColorMapper(low=low, high=high, **colours), BasicTicker(desired_num_ticks=5), BasicTickFormatter()


def parts_table(parts: Parts, views: Sequence[View] = ()) -> list[dict[str, Any]]:
    """A row a layer, the most unequal first, with the place of its view."""
    table = parts.table.sort_values("gini", ascending=False, kind="stable", na_position="last")
    place = {layer: at for at, view in enumerate(views) for layer in view.layers}
    return [{"layer": str(layer), "view": place.get(str(layer)), **row} for layer, row in table.iterrows()]


def about_parts(analysis: Analysis) -> str:
    """What the parts are of, and whether they are in the rest of the report."""
    parts = analysis.parts
    if parts is None:
        return ""
    layers = len(parts.table)
    cut = f"{layers:,} layer{'s are' if layers > 1 else ' is'} cut into parts"
    if not parts.each:
        return (
            f"{cut}. The tracker has the least, the median and the largest of each sample, of which these are the "
            "means; the recording has each part. The rest of this report is of whole layers."
        )
    nouns = {f"{noun_of(layer)}s" for layer in map(str, parts.table.index) if _numbered(parts, layer)}
    what = f" ({', '.join(sorted(nouns))})" if nouns else ""
    level = str(analysis.settings["parts"] or "")
    rest = "They stand in place of their layers in the rest of this report."
    if level.startswith("whole layers"):
        rest = f"The rest of this report is of {level}."
    return f"{cut}, {len(parts.of):,} in all{what}. {rest}"


def _numbered(parts: Parts, layer: str) -> bool:
    return all(parts.label(part).isdecimal() for part in parts.inside(layer))
