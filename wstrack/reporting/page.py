"""The page: one HTML file that holds everything it shows and asks the network for nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.embed import components
from bokeh.events import DocumentReady
from bokeh.models import Column, ColumnDataSource, CustomJS, Model, Range1d, VSpan
from bokeh.resources import Resources
from bokeh.themes import Theme

from wstrack._version import __version__
from wstrack.analysis import Finding
from wstrack.analysis.analysis import Analysis
from wstrack.reporting import captions, comparison, facts, figures, layers, words
from wstrack.reporting.bars import draw_bars
from wstrack.reporting.glyphs import draw
from wstrack.reporting.heatmap import draw_heatmap
from wstrack.reporting.labels import chance, concise, number, share
from wstrack.reporting.marks import mark_clusters, returns
from wstrack.reporting.parts import View, about_parts, draw_parts, parts_table, views_of
from wstrack.reporting.rates import draw_rates
from wstrack.reporting.slopes import about_slopes, draw_slopes, slope_words
from wstrack.reporting.tail import tail_models
from wstrack.reporting.templates import template, text_of
from wstrack.reporting.terms import Glossary, anchor
from wstrack.reporting.theme import THEME, restyle
from wstrack.reporting.thin import tile
from wstrack.reporting.tree import branches_of, draw_tree

__all__ = ["library", "render_page"]

_LEAST_OF_A_TREE = 3  # layers

PLACES = {
    "heatmap": "see the heat map",
    "curves": "see the curves",
    "plane": "see the plane",
    "tree": "see the tree",
    "groups": "see the groups",
    "compare": "see the comparison",
    "by": "see the slopes",
    "k": "see how k was chosen",
    "parts": "see the parts",
}
_OWN_PLACE = {"groups": "groups", "differences": "compare", "trend": "by", "odd": "by"}


def library() -> list[str]:
    """Bokeh's scripts, in the order in which the page needs them."""
    return list(
        Resources(mode="inline", components=["bokeh", "bokeh-widgets", "bokeh-tables"], log_level="error").js_raw
    )


def render_page(analysis: Analysis, *, library_at: str | None = None, live: str | None = None) -> str:
    """The report as HTML.

    Every name in it is text from outside: the template escapes all but our own markup, and Bokeh
    escapes its data.

    Args:
        analysis: what is shown.
        library_at: where Bokeh's scripts (`library`) are, for a page that is served; None = in the page itself.
        live: of a run that goes on, what tells this page from the next (see live.js); "" for a page in whose place
            whoever framed it puts the next. Either keeps what the reader looks at. None = a page that stays.
    """
    marks = mark_clusters(analysis)
    tiles = tile(analysis.series.to_numpy(), analysis.series.index.to_numpy(np.int64))
    source = layers.layer_source(analysis, marks, tiles)
    marked = ColumnDataSource({"step": []})
    end = tiles.start + tiles.width * tiles.image.shape[1]
    x_range = Range1d(start=tiles.start, end=end, bounds=(tiles.start, end))
    heat = draw_heatmap(analysis, tiles, source, marks, x_range)
    scales = [] if len(analysis.series) == 1 else _scales(analysis)
    scaled = figures.curves(analysis, source, marks, x_range, scales)
    rates = [draw_rates(analysis.schedule, x_range, list(scaled.values()))] if scaled and analysis.schedule else []
    views = views_of(analysis.parts) if scaled and analysis.parts is not None and analysis.parts.each else []
    parts = draw_parts(analysis, analysis.parts, views, x_range) if views and analysis.parts is not None else None
    for plot in (heat.layout.children[1], *scaled.values(), *rates, *([parts.plot] if parts else [])):
        draw(plot, VSpan(x="step", line_color="black", line_width=5, line_alpha=0.35), marked)
        draw(plot, VSpan(x="step", line_color="#ff5a36", line_width=2), marked)
    images = [heat.image]
    models: dict[str, Model] = {"heatmap": heat.layout if scaled else draw_bars(analysis, source, marks)}
    if scaled:
        models["curves"] = Column(children=[*scaled.values(), *rates], sizing_mode="stretch_width", spacing=0)
        models["plane"] = figures.plane(analysis, source)
        models |= {f"k_{name}": plot for name, plot in figures.scan(analysis).items()}
    if analysis.groups is not None:
        models["groups"] = comparison.groups(analysis, source)
    if analysis.comparison is not None:
        setting_curves = comparison.setting_curves(analysis, x_range)
        models |= {"settings": setting_curves} if setting_curves else {}
        models |= comparison.ratios(analysis, analysis.comparison, source)
    if analysis.slopes is not None:
        models["slopes"] = draw_slopes(analysis.slopes, source, layers=list(map(str, analysis.series.columns)))
    if scaled and len(analysis.tree.layers) >= _LEAST_OF_A_TREE:
        models["tree"], image = draw_tree(analysis, source, marks, x_range, heat.image.color_mapper)
        images.append(image)
    if parts is not None:
        models["parts"] = parts.plot
    models["table"] = layers.table(source, marks, noun=analysis.cut.noun)
    # Before there is a document, which goes through all its models at each change.
    tail = tail_models(heat, scaled, source) if live == "" and scaled and len(analysis.runs) == 1 else None
    document = Document(theme=Theme(json=THEME))
    with document.models.freeze():  # or each root would have Bokeh go through all models again
        for model in models.values():
            document.add_root(model)
    restyle(document, veil=heat.veil)
    args = {
        "source": source, "marked": marked, "steps": x_range, "images": images, "bar": heat.bar,
        "scales": {name: heat.scales[name] for name in scaled if name in heat.scales}, "curves": scaled,
    }  # fmt: skip
    document.js_on_event(DocumentReady, CustomJS(args=args, code=text_of("page.js") + text_of("reading.js")))
    if parts is not None:
        args = {"plot": parts.plot, "stock": parts.stock, "shown": parts.shown}
        document.js_on_event(DocumentReady, CustomJS(args=args, code=text_of("parts.js")))
    if tail is not None:
        document.js_on_event(DocumentReady, CustomJS(args=tail, code=text_of("tail.js")))
    if live is not None:
        args = {"source": source, "token": live}
        document.js_on_event(DocumentReady, CustomJS(args=args, code=text_of("live.js")))
    document.validate = lambda: None  # a fifth of the time that a small page takes, for what a test looks at once
    script, places = components(models)

    glossary, (run_facts, runs) = Glossary(), facts.differing(analysis)
    return template("page.html").render(
        contents=[],
        analysis=analysis,
        title=words.heading(analysis),
        css=text_of("page.css"),
        library=library() if library_at is None else [],
        library_at=library_at,
        follows=bool(live),
        figures=places,
        script=script,
        marks=marks,
        number=number,
        chance=chance,
        concise=concise,
        share=share,
        returns=returns,
        places=PLACES | ({} if scaled else {"heatmap": "see the bars"}),
        verdict=words.verdict(analysis),
        measured=words.measured(analysis),
        complete=facts.complete(analysis),
        run_facts=run_facts,
        runs=runs,
        glossary=glossary,
        explain=glossary.explain,
        term=glossary.term,
        anchor=anchor,
        version=__version__,
        findings=[_shown(analysis, finding, models, views) for finding in analysis.findings],
        views=views,
        parts=parts_table(analysis.parts, views) if analysis.parts is not None else [],
        scales=list(scaled),
        perturbations=analysis.stability.perturbations if analysis.stability is not None else None,
        choice=analysis.choice.table if analysis.choice is not None else None,
        phases=_phases(analysis),
        colours=comparison.COLOURS,
        about={
            "heatmap": captions.about_heatmap(analysis, tiles),
            "curves": captions.about_curves(analysis),
            "plane": captions.about_plane(analysis),
            "tree": captions.about_tree(analysis),
            "scan": captions.about_scan(analysis),
            "stability": captions.about_stability(analysis),
            "returned": captions.about_return(analysis),
            "groups": captions.about_groups(analysis),
            "comparison": captions.about_comparison(analysis),
            "slopes": about_slopes(analysis.slopes) if analysis.slopes is not None else "",
            "parts": about_parts(analysis),
            "parts_map": parts.caption if parts else "",
        },
        slopes=slope_words(analysis.slopes) if analysis.slopes is not None else [],
        heading=words.division(analysis),
        noun=analysis.cut.noun,
        branches=branches_of(analysis),
        settings=facts.settings(analysis),
    )


def _scales(analysis: Analysis) -> list[str]:
    """The scales that the curves can be drawn on, that of the report first."""
    if not bool((analysis.curves > 0).all(axis=None)) or bool((analysis.series < 0).any(axis=None)):
        return ["linear"]
    return ["log", "linear"] if analysis.logarithmic else ["linear", "log"]


def _shown(analysis: Analysis, finding: Finding, drawn: Collection[str], views: Sequence[View]) -> dict[str, Any]:
    """A finding as the page shows it: its sentence, the lines below it, its figure, and what to mark there."""
    first, *more = finding.text.splitlines()
    place = _OWN_PLACE.get(finding.kind, finding.figure)
    if (place == "groups" and analysis.groups is None) or (place == "compare" and analysis.comparison is None):
        place = finding.figure
    if place in ("curves", "plane", "tree") and place not in drawn:
        place = "heatmap"
    at = {layer: row for row, layer in enumerate(analysis.series.columns)}
    about = [at[layer] for layer in finding.layers if layer in at]
    view = next((at for at, view in enumerate(views) if finding.layers and finding.layers[0] in view.parts), None)
    return {
        "text": first,
        "more": more,
        "place": place,
        "view": view if place == "parts" else None,
        "layers": about if len(about) < len(at) else [],
        "steps": [int(step) for step in finding.steps],
    }


def _phases(analysis: Analysis) -> list[dict[str, Any]]:
    """A row a phase, with how far its clusters agree with those of the whole run and which layers are elsewhere."""
    if analysis.phases is None or not analysis.phases.breaks:
        return []
    whole, rows = analysis.clustering.labels, []
    for phase, row in analysis.phases.table.iterrows():
        column = analysis.phase_clusters.get(f"phase {phase}")
        moved = [] if column is None else [layer for layer in column.index if column[layer] != whole[layer]]
        rows.append(
            {**row, "phase": phase, "agreement": analysis.phase_agreement.get(f"phase {phase}"), "moved": moved}
        )
    return rows
