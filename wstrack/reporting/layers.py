"""The layers as one source that every view draws from, so that a choice in one is a choice in all; and their table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, DataTable, HTMLTemplateFormatter, TableColumn
from numpy.typing import NDArray

from wstrack.analysis.analysis import Analysis
from wstrack.messages import printable
from wstrack.reporting.marks import GREY, Mark, layer_colours
from wstrack.reporting.theme import TABLE
from wstrack.reporting.thin import Tiles, compact, thin

__all__ = ["BANDED_UP_TO", "group_names", "layer_source", "table"]

BANDED_UP_TO = 300  # layers; a band over runs for each of more would make the page large
_SPARK = 24
_MANY = 1000  # layers; with more, their curves are drawn from fewer points


def layer_source(analysis: Analysis, marks: Sequence[Mark], tiles: Tiles) -> ColumnDataSource:
    """A row a layer: what the heat map, the plane, the curves and the table draw, and select together.

    A layer that was not clustered has no point and no curve, and says why. `row` and `height` are in rows of the heat
    map, which may hold several layers each.
    """
    table = analysis.table
    look = {layer: mark for mark in marks for layer in mark.layers}
    clustered = [look.get(layer) for layer in table.index]
    colours = layer_colours(marks)
    frame = analysis.curves
    values, steps = frame.to_numpy(), frame.columns.to_numpy()
    picked = thin(values, points=150 if len(values) <= _MANY else 100)
    place = {layer: row for row, layer in enumerate(frame.index)}
    layers_a_row = tiles.rows[0][1] - tiles.rows[0][0]

    def drawn(wide: NDArray[Any]) -> list[NDArray[np.floating]]:
        thinned = compact(np.take_along_axis(np.broadcast_to(wide, values.shape), picked, axis=1))
        return [thinned[place[layer]] if layer in place else np.empty(0, np.float32) for layer in table.index]

    sparks = _sparks(values)
    columns: dict[str, Any] = {
        "layer": [printable(layer) for layer in table.index],
        "kind": [printable(kind) for kind in table["kind"].fillna("")],
        "shape": [_shape(shape) for shape in table["shape"]],
        "depth": table["depth"].to_numpy(np.int64),
        "label": table["cut"].fillna(0).to_numpy(np.int64),
        "cluster": [
            mark.title if mark else f"not clustered: {reason}"
            for mark, reason in zip(clustered, table["left_out"], strict=True)
        ],
        "colour": [colours.get(layer, GREY) for layer in table.index],
        "sign": [mark.sign if mark else "" for mark in clustered],
        "marker": [mark.shape if mark else "x" for mark in clustered],
        "component_1": table["component_1"].to_numpy(np.float64),
        "component_2": table["component_2"].to_numpy(np.float64),
        "median": table["median"].to_numpy(np.float64),
        "late_early_ratio": table["late_early_ratio"].to_numpy(np.float64),
        "steps": drawn(steps),
        "values": drawn(values),
        "spark": [sparks[place[layer]] if layer in place else "" for layer in table.index],
        "row": (np.arange(len(table)) + 0.5) / layers_a_row - 0.5,
        "height": np.full(len(table), 1 / layers_a_row),
    }
    if "stays" in table:
        columns["stays"] = table["stays"].to_numpy(np.float64)
    if "group" in table:
        columns["group"] = [printable(name) for name in table["group"].fillna("")]
        rows = {name: row for row, name in enumerate(group_names(analysis))}
        columns["group_row"] = np.array([rows.get(name, -1) for name in table["group"]])
    for name, column in analysis.phase_clusters.items():
        columns[str(name)] = column.reindex(table.index).fillna(0).to_numpy(np.int64)
    if analysis.bands is not None and len(frame) <= BANDED_UP_TO and analysis.logarithmic:
        deviation = analysis.bands.deviation[frame.index].reindex(frame.columns).T.fillna(0.0).to_numpy()
        high, low = drawn(values * 10**deviation), drawn(values / 10**deviation)
        columns["band_steps"] = [np.concatenate([x, x[::-1]]) for x in columns["steps"]]
        columns["band"] = [np.concatenate([up, down[::-1]]) for up, down in zip(high, low, strict=True)]
    return ColumnDataSource(columns, name="layers")


def group_names(analysis: Analysis) -> list[str]:
    """The groups in the order of their first layers."""
    return [str(name) for name in analysis.groups.table.index] if analysis.groups is not None else []


def _sparks(values: NDArray[np.float64]) -> list[str]:
    """Each curve as the points of a line in a box of 60 x 16, on a log scale where it can be."""
    curves = np.log10(values) if (values > 0).all() else values
    edges = np.linspace(0, curves.shape[1], min(_SPARK, curves.shape[1]) + 1).astype(np.int64)[:-1]
    means = np.add.reduceat(curves, edges, axis=1) / np.diff([*edges, curves.shape[1]])
    low = means.min(axis=1, keepdims=True)
    extent = np.maximum(means.max(axis=1, keepdims=True) - low, 1e-12)
    heights = np.rint(15 - 14 * (means - low) / extent).astype(int)
    across = np.rint(np.linspace(0, 60, len(edges))).astype(int).tolist()
    points = [[f"{x},{y}" for y in range(16)] for x in across]
    return [" ".join([ys[y] for ys, y in zip(points, row, strict=True)]) for row in heights.tolist()]


def _shape(shape: Any) -> str:
    return " × ".join(str(size) for size in shape) if isinstance(shape, tuple) else ""


def table(source: ColumnDataSource, marks: Sequence[Mark], *, noun: str) -> DataTable:
    """A row a layer; a click on a heading sorts, a click on a row chooses."""
    # In these templates <%- %> escapes what it shows.
    number = HTMLTemplateFormatter(
        template='<div class="number"><%- !isFinite(parseFloat(value)) ? "–" : value === 0 || Math.abs(value) >= 1e-3'
        " && Math.abs(value) < 1e5 ? value.toPrecision(3) : value.toExponential(2) %></div>"
    )
    share = HTMLTemplateFormatter(
        template='<div class="number"><%- isFinite(parseFloat(value)) ? Math.round(100 * value) + " %" : "–" %></div>'
    )
    whole = HTMLTemplateFormatter(template='<span title="<%- value %>"><%- value %></span>')
    longest = max(map(len, source.data["layer"]))
    cluster = HTMLTemplateFormatter(template='<span style="color: <%- colour %>"><%- sign %></span> <%- value %>')
    course = HTMLTemplateFormatter(
        template='<svg width="62" height="18" viewBox="-1 -1 62 18" fill="none" stroke="currentColor"'
        ' aria-hidden="true"><polyline points="<%- value %>"/></svg>'
    )
    columns = [
        TableColumn(field="depth", title="#", width=40),
        TableColumn(field="layer", title="layer", width=int(np.clip(7 * longest, 250, 400)), formatter=whole),
        TableColumn(field="kind", title="kind", width=80),
        TableColumn(field="shape", title="shape", width=124),
        TableColumn(field="cluster", title=noun, width=96, formatter=cluster),
        TableColumn(field="stays", title="stays", width=58, formatter=share),
        TableColumn(field="median", title="median", width=80, formatter=number),
        TableColumn(field="late_early_ratio", title="late / early", width=90, formatter=number),
        TableColumn(field="spark", title="course", width=76, formatter=course, sortable=False),
        TableColumn(field="group", title="group", width=100),
    ]
    colours = json.dumps({str(mark.label): mark.colour for mark in marks})
    for name in source.data:
        if name.startswith("phase "):
            phase = HTMLTemplateFormatter(
                template=f'<span style="color: <%- ({colours})[value] %>">■</span> <%- value > 0 ? value : "–" %>'
            )
            columns.append(TableColumn(field=name, title=name, width=66, formatter=phase))
    shown = set(source.data) - ({"late_early_ratio", "spark"} if "bar" in source.data else set())  # of one sample
    columns = [column for column in columns if column.field in shown]
    numbers = [place for place, column in enumerate(columns, 1) if column.formatter in (share, number)]
    heads = ", ".join(f".slick-header-column.ui-state-default:nth-child({place})" for place in numbers)
    rows = len(source.data["layer"])
    widths = sum(column.width for column in columns)
    return DataTable(
        source=source, columns=columns, index_position=None, margin=0, sizing_mode="stretch_width", row_height=28,
        height=34 + 28 * min(rows, 20), max_width=widths + 20,
        autosize_mode="none", reorderable=False,
        stylesheets=[f"{TABLE} {heads} {{ text-align: right; }}"],
    )  # fmt: skip
