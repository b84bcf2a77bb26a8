"""The layers as one source that the plane, the curves and the table draw from, so that a choice in one is in all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from bokeh.models import ColumnDataSource, CustomJS, DataTable, HTMLTemplateFormatter, TableColumn, TextInput
from numpy.typing import NDArray

from wstrack.report.marks import GREY, Mark, printable
from wstrack.report.result import Report
from wstrack.report.theme import FIELD, TABLE
from wstrack.report.thin import thin

__all__ = ["analysed", "layer_source", "search", "table"]


def layer_source(report: Report, marks: Sequence[Mark]) -> ColumnDataSource:
    """A row a layer: what the plane, the curves and the table draw, and select together.

    A layer that was not clustered has no point and no curve, and says why.
    """
    table = report.table
    look = {layer: mark for mark in marks for layer in mark.layers}
    clustered = [look.get(layer) for layer in table.index]
    drawn = _curves(report)
    nothing = (np.empty(0, np.float32),) * 2
    return ColumnDataSource(
        {
            "layer": [printable(layer) for layer in table.index],
            "kind": [printable(kind) for kind in table["kind"].fillna("")],
            "shape": [_shape(shape) for shape in table["shape"]],
            "depth": table["depth"].to_numpy(np.int64),
            "cluster": [
                mark.title if mark else f"not clustered: {reason}"
                for mark, reason in zip(clustered, table["left_out"], strict=True)
            ],
            "colour": [mark.colour if mark else GREY for mark in clustered],
            "sign": [mark.sign if mark else "" for mark in clustered],
            "marker": [mark.shape if mark else "x" for mark in clustered],
            "component_1": table["component_1"].to_numpy(np.float64),
            "component_2": table["component_2"].to_numpy(np.float64),
            "median": table["median"].to_numpy(np.float64),
            "late_early_ratio": table["late_early_ratio"].to_numpy(np.float64),
            "steps": [drawn.get(layer, nothing)[0] for layer in table.index],
            "values": [drawn.get(layer, nothing)[1] for layer in table.index],
        }
    )


def analysed(report: Report) -> pd.DataFrame:
    """The prepared values, back on the metric's own scale."""
    values = report.prepared.values
    return 10.0**values if report.prepared.settings["scale"] == "log10" else values


def _curves(report: Report) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    frame = analysed(report)
    values, steps = frame.to_numpy(), frame.columns.to_numpy()
    picked = thin(values)
    xs, ys = steps[picked].astype(np.float32), np.take_along_axis(values, picked, axis=1).astype(np.float32)
    return dict(zip(frame.index, zip(xs, ys, strict=True), strict=True))


def _shape(shape: Any) -> str:
    return " × ".join(str(size) for size in shape) if isinstance(shape, tuple) else ""


def search(source: ColumnDataSource) -> TextInput:
    """A field that chooses every layer whose name holds what is typed."""
    field = TextInput(placeholder="part of a layer's name", width=280, margin=0, stylesheets=[FIELD])
    choose = """
    const text = cb_obj.value_input.toLowerCase()
    const found = source.data.layer.map((name, i) => name.toLowerCase().includes(text) ? i : -1).filter((i) => i >= 0)
    source.selected.indices = text ? found : []
    """
    field.js_on_change("value_input", CustomJS(args={"source": source}, code=choose))
    return field


def table(source: ColumnDataSource) -> DataTable:
    """A row a layer; a click on a heading sorts, a click on a row chooses."""
    # In these templates <%- %> escapes what it shows.
    number = HTMLTemplateFormatter(
        template='<div class="number"><%- isFinite(parseFloat(value)) ? value.toPrecision(3) : "–" %></div>'
    )
    cluster = HTMLTemplateFormatter(template='<span style="color: <%- colour %>"><%- sign %></span> <%- value %>')
    columns = [
        TableColumn(field="depth", title="#", width=40),
        TableColumn(field="layer", title="layer", width=400),
        TableColumn(field="kind", title="kind", width=140),
        TableColumn(field="shape", title="shape", width=140),
        TableColumn(field="cluster", title="cluster", width=120, formatter=cluster),
        TableColumn(field="median", title="median", width=90, formatter=number),
        TableColumn(field="late_early_ratio", title="late / early", width=100, formatter=number),
    ]
    rows = len(source.data["layer"])
    return DataTable(
        source=source, columns=columns, index_position=None, margin=0, sizing_mode="stretch_width", row_height=28,
        height=34 + 28 * min(rows, 20), autosize_mode="none", reorderable=False, stylesheets=[TABLE],
    )  # fmt: skip
