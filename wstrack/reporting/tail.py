"""What came after a report of a run that goes on: the heat map and the curves go on before the next report is made.

Clusters, findings and all else take seconds; a sample comes in one. So a page that is open gets the samples behind its
last one alone, in its own colours and clusters, until the next page takes its place.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from bokeh.models import ColumnDataSource, HoverTool, Image, MultiLine
from bokeh.plotting import figure
from numpy.typing import NDArray

from wstrack.analysis.analysis import Analysis
from wstrack.analysis.medians import quantiles
from wstrack.reporting.glyphs import draw
from wstrack.reporting.heatmap import HeatMap
from wstrack.reporting.marks import Mark, clusters_of, mark_clusters
from wstrack.reporting.thin import thin, tile

__all__ = ["tail_models", "tail_of"]

_COLUMNS, _POINTS = 400, 100  # that are drawn of a tail, at most: of the heat map, of a curve


def tail_of(analysis: Analysis, series: pd.DataFrame, marks: Sequence[Mark] | None = None) -> dict[str, Any] | None:
    """What a page shows of the samples after those of its report, for tail.js.

    Args:
        analysis: of the page; of one run.
        series: the metric of the same run, read since.
        marks: how the page marks its clusters; made from the analysis if they are not at hand.

    Returns:
        Numbers and arrays (float32, base64); None where there is nothing new, or where only another report will do:
        the run went on from an older checkpoint, or has other layers.
    """
    old = analysis.series
    count = len(old)
    if len(analysis.runs) > 1 or len(series) <= count or not old.columns.isin(series.columns).all():
        return None
    new = series.iloc[count - 1 :][old.columns]  # from the last sample that the page has, so that lines go on
    if not old.index.equals(series.index[:count]) or not old.iloc[-1].equals(new.iloc[0]):
        return None
    steps, values = new.index.to_numpy(np.int64), new.to_numpy(np.float64)
    tiles = tile(values, steps, columns=_COLUMNS)
    finite = tiles.image[np.isfinite(tiles.image)]
    positive = finite[finite > 0]
    shown = np.where(np.isfinite(values), values, np.nan)
    if analysis.logarithmic:
        shown[shown <= 0] = np.nan
    place = {layer: column for column, layer in enumerate(old.columns)}
    courses = {}
    for mark in clusters_of(mark_clusters(analysis) if marks is None else marks):
        percentiles = quantiles(shown[:, [place[layer] for layer in mark.layers]], [0.1, 0.5, 0.9])
        picked = np.unique(thin(np.nan_to_num(percentiles), points=_POINTS))
        named = zip(("low", "middle", "high"), percentiles[:, picked], strict=True)
        courses[str(mark.label)] = {"step": _packed(steps[picked])} | {name: _packed(one) for name, one in named}
    picked = np.unique(np.linspace(0, len(steps) - 1, min(_POINTS, len(steps))).astype(np.int64))
    columns = [place[layer] for layer in analysis.table.index]
    return {
        "step": int(steps[-1]),
        "after": int(steps[0]),
        "start": tiles.start,
        "end": tiles.start + tiles.width * tiles.image.shape[1],
        "shape": list(tiles.image.shape),
        "image": _packed(tiles.image),
        "low": [float(some.min()) if some.size else None for some in (finite, positive)],  # on a linear and a log scale
        "high": float(finite.max()) if finite.size else None,
        "courses": courses,
        "lines": {"step": _packed(steps[picked]), "values": _packed(shown[picked][:, columns].T)},
    }


def tail_models(heat: HeatMap, curves: Mapping[str, figure], source: ColumnDataSource) -> dict[str, Any]:
    """Adds what a tail is drawn with, without data yet, to the heat map and the curves; what tail.js needs.

    Args:
        heat, curves, source: the figures of the page, and the layers that they draw.
    """
    plot = heat.layout.children[1]
    nothing = np.full((1, 1), np.nan, dtype=np.float32)  # of which tail.js makes its like
    image = ColumnDataSource({"image": [nothing], "x": [plot.x_range.end], "dw": [0.0]})
    rows = plot.y_range.start - plot.y_range.end
    tiled = Image(image="image", x="x", y=-0.5, dw="dw", dh=rows, color_mapper=heat.image.color_mapper)
    tooltips = [("step, about", "$x{0}"), ("value", "@image{%.3g}")]
    drawn = draw(plot, tiled, image)
    plot.renderers.insert(1, plot.renderers.pop())  # onto the map, and below what veils and marks it
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=tooltips, formatters={"@image": "printf"}))
    lines = ColumnDataSource({"steps": [], "values": [], "colour": [], "alpha": []})
    for curve in curves.values():
        line = MultiLine(xs="steps", ys="values", line_color="colour", line_alpha="alpha", line_width=1.2)
        draw(curve, line, lines)
    mappers = [scale[0] for scale in heat.scales.values()]
    return {
        "plot": plot, "veil": heat.veil, "image": image, "lines": lines, "mappers": mappers, "curves": dict(curves),
        "source": source, "steps": plot.x_range,
    }  # fmt: skip


def _packed(values: NDArray[Any]) -> str:
    """Values as JavaScript's Float32Array takes them."""
    with np.errstate(over="ignore"):
        return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()
