"""The table of all runs of a sweep, of which the browser holds only the rows in sight."""

from __future__ import annotations

import html
from collections.abc import Mapping

import numpy as np
from bokeh.models import CDSView, ColumnDataSource, CustomJSCompare, DataTable, HTMLTemplateFormatter, TableColumn

from wstrack.reporting.labels import shorten
from wstrack.reporting.theme import TABLE
from wstrack.sweeps.columns import Column

__all__ = ["draw_table"]

# In these templates <%- %> escapes what it shows.
_NAME = """<span title="<%- value %>"><% if (address) { %><a href="<%- address %>"><%- value %></a><% } else { %>
<%- value %><% } %></span>"""
_MARKS = """<span title="<%- texts %>"><% for (const one of String(value ?? "").split("\\n")) if (one) { %>
<span class="mark"><%- one %></span> <% } %></span>"""
_ODD = '<span class="strange" title="<%- why %>"><%- value %></span>'
_WORD = '<span title="<%- value ?? "" %>"><%- value ?? "–" %></span>'
_NUMBER = """<div class="number"><%- value === null || value !== value ? "–" : typeof value !== "number" ? value :
Math.abs(value) >= 1e6 || (value !== 0 && Math.abs(value) < 1e-4) ? value.toExponential().length < 9 ?
value.toExponential() : value.toExponential(2) : Number(value.toPrecision(5)) %></div>"""
_SHARE = """<div class="number"><%- value === null || value !== value ? "–" : value === 1 ? "100 %" :
(Math.floor(1000 * value) / 10).toFixed(1) + " %" %></div>"""
# What is not there comes last, then text by its alphabet, its numbers by size.
_COMPARE = """
const [a, b] = [x, y].map((one) => one === null || one === "" || one !== one)
if (a || b) return a - b
if (typeof x === "number" && typeof y === "number") return x - y
return String(x).localeCompare(String(y), "en", { numeric: true })
"""
_MORE = """
.mark { border: 1px solid var(--line); border-radius: 8px; padding: 0 6px; }
.strange { color: var(--warn); font-weight: 600; }
a { color: var(--link); }
"""


def draw_table(runs: ColumnDataSource, view: CDSView, columns: Mapping[str, Column]) -> DataTable:
    """A row a run; a click on a heading sorts, a click on a row chooses.

    Args:
        runs: the source, with what the name links to.
        view: which of them are shown.
        columns: by field.
    """
    compare = CustomJSCompare(code=_COMPARE)
    special = {"name": _NAME, "findings": _MARKS, "odd": _ODD, "whole": _SHARE}
    made: dict[str, HTMLTemplateFormatter] = {}

    def formatter(field: str, column: Column) -> HTMLTemplateFormatter:
        template = special.get(field, _NUMBER if column.numeric else _WORD)
        return made.setdefault(template, HTMLTemplateFormatter(template=template))

    shown = []
    for field, column in columns.items():
        title = shorten(column.title, width=32)
        # A heading is markup to Bokeh.
        shown.append(TableColumn(field=field, title=html.escape(title), width=_width(field, column, title),
                                 formatter=formatter(field, column), sorter=compare))  # fmt: skip
    numbers = [place for place, (field, column) in enumerate(columns.items(), 1) if column.numeric or field == "whole"]
    heads = ", ".join(
        f".slick-header-column.ui-state-default:nth-child({place}) .slick-column-name" for place in numbers
    )
    rows = len(runs.data["name"])
    return DataTable(
        source=runs, view=view, columns=shown, index_position=None, margin=0, sizing_mode="stretch_width",
        row_height=28, height=52 + 28 * min(rows, 20), max_width=sum(one.width for one in shown) + 20,
        autosize_mode="none", reorderable=False,
        stylesheets=[f"{TABLE} {_MORE}" + (f"{heads} {{ float: right; }}" if heads else "")],
    )  # fmt: skip


def _width(field: str, column: Column, title: str) -> int:
    longest = max((len(str(word)) for word in column.words or ()), default=8)
    if field == "findings":
        lines = [str(word).split("\n") for word in column.words or ()]
        longest = max((sum(map(len, those)) + 4 * len(those) for those in lines), default=8)
    if column.numeric and column.words is not None:
        longest = max((len(f"{word:.5g}") for word in column.words if isinstance(word, float)), default=8)
    return int(np.clip(max(7.5 * longest + 16, 8 * len(title) + 30), 64, 320 if field in ("name", "findings") else 200))
