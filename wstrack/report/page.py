"""The page: one HTML file that holds everything it shows and asks the network for nothing."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from bokeh.document import Document
from bokeh.embed import components
from bokeh.models import Model, Range1d
from bokeh.resources import Resources
from bokeh.themes import Theme
from jinja2 import Environment, StrictUndefined

from wstrack.report import figures, layers, words
from wstrack.report.marks import concise, mark_clusters, number, printable, shorten
from wstrack.report.result import Report
from wstrack.report.theme import THEME, restyle
from wstrack.report.thin import tile

__all__ = ["page"]

PLACES = {
    "heatmap": "see the heat map",
    "curves": "see the curves",
    "plane": "see the plane",
    "k": "see how k was chosen",
}


def page(report: Report) -> str:
    """The report as HTML.

    Every name in it is text from outside: the template escapes all but our own markup, and Bokeh
    escapes its data.
    """
    marks = mark_clusters(report.table)
    tiles = tile(report.series.to_numpy(), report.series.index.to_numpy(np.int64))
    source = layers.layer_source(report, marks)
    end = tiles.start + tiles.width * tiles.image.shape[1]
    x_range = Range1d(start=tiles.start, end=end, bounds=(tiles.start, end))
    models: dict[str, Model] = {
        "heatmap": figures.heatmap(report, tiles, marks, x_range, logarithmic=report.logarithmic),
        "curves": figures.curves(report, source, marks, x_range, logarithmic=report.logarithmic),
        "plane": figures.plane(report, source),
        **figures.scan(report),
        "search": layers.search(source),
        "table": layers.table(source),
    }
    document = Document(theme=Theme(json=THEME))
    for model in models.values():
        document.add_root(model)
    restyle(document)
    script, places = components(models)
    library = Resources(mode="inline", components=["bokeh", "bokeh-widgets", "bokeh-tables"], log_level="error")

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )  # fmt: skip
    template = environment.from_string(files("wstrack.report").joinpath("page.html").read_text("utf-8"))
    return template.render(
        report=report,
        title=shorten(report.name, width=120),
        css=files("wstrack.report").joinpath("page.css").read_text("utf-8"),
        library=library.render_js(),
        figures=places,
        script=script,
        marks=marks,
        number=number,
        concise=concise,
        places=PLACES,
        measured=words.measured(report),
        about={
            "heatmap": words.about_heatmap(report, tiles),
            "curves": words.about_curves(report),
            "plane": words.about_plane(report),
            "scan": words.about_scan(report),
            "stability": words.about_stability(report),
        },
        settings=words.settings(report),
    )
