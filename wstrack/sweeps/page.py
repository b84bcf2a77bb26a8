"""The page of a sweep: one HTML file that holds everything it shows and asks the network for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from bokeh.document import Document
from bokeh.embed import components
from bokeh.events import DocumentReady, Tap
from bokeh.models import CDSView, ColumnDataSource, CustomJS, HoverTool, IndexFilter, Model
from bokeh.plotting import figure
from bokeh.themes import Theme

from wstrack._version import __version__
from wstrack.analysis.slopes import Slopes
from wstrack.messages import printable
from wstrack.reporting.axes import plain, powers
from wstrack.reporting.labels import chance, concise, number, shorten
from wstrack.reporting.page import library
from wstrack.reporting.slopes import about_slopes, draw_slopes, slope_words
from wstrack.reporting.templates import template, text_of
from wstrack.reporting.terms import Glossary, anchor
from wstrack.reporting.theme import THEME, restyle
from wstrack.sweeps import words
from wstrack.sweeps.columns import Column, about_runs, results_of, same_in_all, settings_of
from wstrack.sweeps.map import Levels, draw_map, quantised
from wstrack.sweeps.summed import Summed
from wstrack.sweeps.tables import draw_table

__all__ = ["render_sweep"]

_HERE = "wstrack.sweeps"
_ABOUT_LAYER = [("layer", "@layer"), ("kind", "@kind"), ("runs", "@runs")]
_TOLD = 5  # settings in a tooltip


def render_sweep(sweep: Summed, *, pages: Mapping[str, str], library_at: str | None = None) -> str:
    """A sweep as HTML.

    Every name in it is text from outside: the template escapes all but our own markup, and Bokeh escapes its data.

    Args:
        sweep: what is shown.
        pages: by run reference, the address of its own report, relative to this page ("runs/1.html"). A run that has
            none shows the command that makes it.
        library_at: where Bokeh's scripts (`wstrack.reporting.page.library`) are; None = in the page itself.

    Raises:
        ValueError: an address that is not relative.

    Example:
        >>> from wstrack.runs.listed import Listed
        >>> from wstrack.sweeps.summary import Summary
        >>> from wstrack.sweeps.sweep import summed_up
        >>> run = Summary("runs/a", metric="rwc", layers=("w",), kinds=("",), blocks=("",), levels=(-3.0,))
        >>> page = render_sweep(summed_up([run], [Listed("runs/a", "one")]), pages={"runs/a": "runs/a.html"})
        >>> "<h1" in page
        True
    """
    settings, results = settings_of(sweep), results_of(sweep)
    about = about_runs(sweep, pages)
    told = {
        f"c{place}": Column.of(name, sweep.table[name].tolist()) for place, name in enumerate([*settings, *results])
    }
    columns = {**about, **told}
    field_of = dict(zip([*settings, *results], told, strict=True))
    shown = ["name", "findings", "odd", "whole", *told]
    if any(columns["state"].words or ()):
        shown.insert(1, "state")
    levels = quantised(sweep.levels.reindex(sweep.table.index).to_numpy(np.float64))
    runs = _runs(sweep, columns)
    layers = _layers(sweep)
    names = list(map(str, sweep.levels.columns))
    view = CDSView()
    map_ = draw_map(levels, names, runs, metric=sweep.metric, told=list(told)[: min(len(settings), _TOLD)])
    models: dict[str, Model] = {"map": map_.layout}
    for place, slopes in enumerate(sweep.slopes.values()):
        models[f"slopes_{place}"] = draw_slopes(slopes, layers, layers=names, prefix=f"by_{place}", about=_ABOUT_LAYER)
        if slopes.by in field_of:
            models[f"levels_{place}"] = _draw_levels(slopes, field_of[slopes.by], runs, view, sweep.metric)
    models["table"] = draw_table(runs, view, {field: columns[field] for field in shown})

    document = Document(theme=Theme(json=THEME))
    with document.models.freeze():
        for model in models.values():
            document.add_root(model)
    restyle(document)
    places = [first for first, _ in levels.places]
    spelled = {field: one.words for field, one in columns.items() if one.words is not None and not one.numeric}
    args = {
        "runs": runs, "layers": layers, "table": models["table"], "view": view, "filter": IndexFilter(indices=[]),
        "order": map_.order, "image": map_.image, "mapper": map_.mapper, "marks": map_.beside, "axis": map_.axis,
        "chosen_run": map_.chosen_run, "chosen_layer": map_.chosen_layer, "bars": map_.bars,
        "rows_range": map_.rows, "words": spelled, "places": places, "low": levels.low, "high": levels.high,
        "told": list(told)[: len(settings)],
    }  # fmt: skip
    script_of = text_of("page.js", room=_HERE) + text_of("reading.js")
    document.js_on_event(DocumentReady, CustomJS(args=args, code=script_of))
    args = {"order": map_.order, "runs": runs, "layers": layers, "places": places}
    map_.plot.js_on_event(Tap, CustomJS(args=args, code=_TAPPED))
    document.validate = lambda: None  # see render_page
    script, placed = components(models)

    glossary = Glossary()
    orders = [(field, columns[field].title) for field in (*told, "whole", "odd", "name")]
    first = next((field_of[name] for name in settings), "")
    return template("page.html", room=_HERE).render(
        sweep=sweep,
        contents=[],
        title=words.heading(sweep),
        css=text_of("page.css") + text_of("page.css", room=_HERE),
        library=library() if library_at is None else [],
        library_at=library_at,
        figures=placed,
        script=script,
        number=number,
        chance=chance,
        concise=concise,
        verdict=words.verdict(sweep),
        sentences=[_linked(one, names) for one in words.sentences(sweep)],
        orders=orders,
        first=first,
        by=[_section(sweep, place, slopes) for place, slopes in enumerate(sweep.slopes.values())],
        passed_over=_by_reason(sweep.passed_over),
        odd=_rows(sweep, sweep.odd, pages),
        unread=_rows(sweep, sweep.unread, {}),
        alike=same_in_all(sweep),
        paged=sum(reference in pages for reference in sweep.table.index),
        about_map=_about_map(levels),
        count=len(sweep.table),
        glossary=glossary,
        explain=glossary.explain,
        term=glossary.term,
        anchor=anchor,
        version=__version__,
    )


_TAPPED = """
const run = order.data.run[Math.round(cb_obj.y)], place = Math.round(cb_obj.x)
if (run === undefined || place < 0 || place >= places.length) return
runs.selected.indices = [run]
const end = places[place + 1] ?? layers.data.layer.length
layers.selected.indices = Array.from({ length: end - places[place] }, (_, i) => places[place] + i)
"""


def _runs(sweep: Summed, columns: Mapping[str, Column]) -> ColumnDataSource:
    """A row a run: the codes of its words, and what the figures draw."""
    middle = sweep.levels.median(axis=1).reindex(sweep.table.index).to_numpy(np.float64)
    odd = ~pd.Index(sweep.table.index).isin(list(sweep.odd))
    data: dict[str, Any] = {field: column.codes for field, column in columns.items()}
    data["level"] = np.power(10.0, middle)
    data["marker"] = np.where(odd, "circle", "diamond").tolist()
    data["colour"] = np.where(odd, "#0072B2", "#D55E00").tolist()
    for field, column in columns.items():  # what axes show must be numbers from the start
        if column.numeric and column.words is not None:
            numbers = np.array([np.nan if word is None else word for word in column.words], dtype=np.float64)
            data[field] = numbers[column.codes]
    titles = {field: column.title for field, column in columns.items()}
    return ColumnDataSource(data, name="runs", tags=[titles])


def _layers(sweep: Summed) -> ColumnDataSource:
    """A row a layer, for the figures of slopes."""
    about = sweep.layers.reindex(sweep.levels.columns)
    return ColumnDataSource(
        {
            "layer": [printable(str(name)) for name in about.index],
            "kind": [printable(str(kind)) for kind in about["kind"].fillna("")],
            "runs": about["runs"].to_numpy(np.int64),
            "depth": np.arange(len(about)),
        },
        name="layers",
    )


def _draw_levels(slopes: Slopes, field: str, runs: ColumnDataSource, view: CDSView, metric: str) -> figure:
    """Each run at its setting and its level, which the page takes over the chosen layers, or over all."""
    plot = figure(
        height=260, sizing_mode="stretch_width", tools="tap,box_select,pan,wheel_zoom,reset", active_drag=None,
        active_scroll=None, x_axis_type="log" if slopes.logarithmic else "linear", y_axis_type="log",
        x_axis_label=shorten(slopes.by, width=40), y_axis_label=f"mean {shorten(metric, width=24)}",
    )  # fmt: skip
    points = plot.scatter(
        field, "level", source=runs, view=view, size=7, marker="marker", fill_color="colour", line_color="colour",
        fill_alpha=0.5, nonselection_fill_alpha=0.25, nonselection_line_alpha=0.4,
    )  # fmt: skip
    if slopes.logarithmic:
        plot.xaxis.ticker = powers(slopes.low, slopes.high)
        plot.xaxis.formatter = plain(slopes.low, slopes.high)
    tooltips = [
        ("run", "@name"),
        (shorten(slopes.by, width=40).replace("@", "@\u2060"), f"@{field}"),
        ("level", "@level"),
    ]
    plot.add_tools(HoverTool(renderers=[points], tooltips=tooltips))
    return plot


def _section(sweep: Summed, place: int, slopes: Slopes) -> dict[str, Any]:
    """What stands about a setting."""
    one, _, other = slopes.by.partition(" * ")
    title = f"How {one} and {other} go together" if other else f"By {slopes.by}"
    return {
        "id": f"by-{place}", "place": place, "title": title, "short": f"by {concise(slopes.by, width=20)}",
        "about": about_slopes(slopes), "groups": slope_words(slopes), "alone": not other,
        "runs": slopes.runs, "left": len(sweep.runs) - slopes.runs,
    }  # fmt: skip


def _rows(sweep: Summed, those: Mapping[str, str], pages: Mapping[str, str]) -> list[dict[str, Any]]:
    """Runs in a list: what each is called, what is the matter, and where its report is."""
    labels, place = sweep.labels, {reference: place for place, reference in enumerate(sweep.table.index)}
    return [
        {"name": labels[reference], "why": why, "address": pages.get(reference), "at": place[reference]}
        for reference, why in those.items()
    ]


def _by_reason(passed_over: Mapping[str, str]) -> dict[str, list[str]]:
    """The settings that were not looked at, those together that have the same reason."""
    return {why: [name for name in passed_over if passed_over[name] == why] for why in passed_over.values()}


def _linked(one: words.Sentence, layers: Sequence[str]) -> dict[str, Any]:
    at = {name: place for place, name in enumerate(layers)}
    return {"text": one.text, "place": one.place, "layers": [at[name] for name in one.layers if name in at]}


def _about_map(levels: Levels) -> str:
    merged = max((last - first for first, last in levels.places), default=1)
    several = f" A column is the mean of up to {merged} neighbouring layers." if merged > 1 else ""
    return (
        "A row is a run, a column a layer, from the input (left) to the output; grey where a run has "
        "none. Beside the rows: ◆ a run unlike all others, "
        f"✕ one that could not be read.{several} A click chooses the run and the layer, Escape lets go."
    )
