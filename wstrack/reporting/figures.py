"""The curves, the plane and the scan over k, as Bokeh models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    HoverTool,
    Line,
    Range1d,
    Scatter,
    Span,
    VArea,
)
from bokeh.plotting import figure

from wstrack.analysis.analysis import Analysis
from wstrack.analysis.medians import quantiles
from wstrack.reporting.axes import whole_steps, with_powers
from wstrack.reporting.glyphs import draw
from wstrack.reporting.labels import shorten
from wstrack.reporting.marks import GREY, Mark, clusters_of
from wstrack.reporting.named import named_steps
from wstrack.reporting.thin import thin

__all__ = ["ABOUT_LAYER", "FEW", "axis_of", "curves", "plane", "scan"]

# Tooltips are lists, never HTML: until 3.8 Bokeh put what it filled into HTML there unescaped.
ABOUT_LAYER = [("layer", "@layer"), ("kind", "@kind @shape"), ("in", "@cluster")]
_BLUE = "#0072B2"
_EQUAL = 1e-6  # of a value: as near as float32 can draw it
FEW = 60  # curves that can still be told apart where they are not divided into clusters


@dataclass(frozen=True)
class _Course:
    """A cluster's 10th, 50th and 90th percentile over its layers.

    Attributes:
        mark: the cluster.
        source: by `step` the percentiles `low`, `middle` and `high`; with several runs also `below` and `above`, one
            standard deviation over runs away from `middle`.
        extent: the smallest and the largest of them.
    """

    mark: Mark
    source: ColumnDataSource
    extent: tuple[float, float]


def _courses(analysis: Analysis, marks: Sequence[Mark]) -> list[_Course]:
    frame = analysis.curves
    steps = frame.columns.to_numpy()
    found = []
    for mark in clusters_of(marks):
        low, middle, high = quantiles(frame.loc[mark.layers].to_numpy().T, [0.1, 0.5, 0.9])
        columns = {"low": low, "middle": middle, "high": high}
        picked = np.unique(thin(np.stack([low, middle, high]), points=200))
        if analysis.bands is not None and analysis.logarithmic:
            deviation = analysis.bands.deviation[mark.layers].reindex(steps).median(axis="columns").fillna(0).to_numpy()
            columns |= {"above": middle * 10**deviation, "below": middle / 10**deviation}
        drawn = {name: column[picked] for name, column in columns.items()}
        source = ColumnDataSource({"step": steps[picked].astype(np.float32), **drawn})
        found.append(_Course(mark, source, (float(low.min()), float(high.max()))))
    return found


def curves(
    analysis: Analysis, source: ColumnDataSource, marks: Sequence[Mark], x_range: Range1d, scales: Sequence[str]
) -> dict[str, figure]:
    """Each cluster's median over its layers, with the band from the 10th to the 90th percentile; a figure for a scale.

    With several runs, a darker band holds one standard deviation over runs on either side, of the median layer.
    The lines and bands of a cluster are tagged with its number and how strong they are when nothing else is chosen.

    Args:
        analysis, source, marks, x_range: what is drawn.
        scales: "log" or "linear"; the first is shown. Bokeh does not change the scale of a figure that is drawn.
    """
    courses = _courses(analysis, marks) if scales else []
    plots = {scale: _curves(analysis, source, marks, courses, x_range, logarithmic=scale == "log") for scale in scales}
    for place, plot in enumerate(plots.values()):
        plot.visible = place == 0
    return plots


def _curves(
    analysis: Analysis,
    source: ColumnDataSource,
    marks: Sequence[Mark],
    courses: Sequence[_Course],
    x_range: Range1d,
    *,
    logarithmic: bool,
) -> figure:
    plot = figure(
        height=380, sizing_mode="stretch_width", x_range=x_range, y_axis_type="log" if logarithmic else "linear",
        tools="pan,wheel_zoom,box_zoom,reset,tap",
        active_drag=None, x_axis_label="step", y_axis_label=shorten(analysis.metric, width=40),
    )  # fmt: skip
    values = analysis.curves.to_numpy()
    whole = len(marks) == 1
    usual = 0.5 if len(values) <= (FEW if whole else 12) else 0.0
    if "band" in source.data:
        plot.patches(
            "band_steps", "band", source=source, fill_color="colour", line_color=None, fill_alpha=0,
            selection_fill_alpha=0.12, nonselection_fill_alpha=0,
        )  # fmt: skip
    single = plot.multi_line(
        "steps", "values", source=source, line_color="colour", line_alpha=usual, line_width=1.2,
        selection_line_alpha=0.85, nonselection_line_alpha=0.08 if usual else 0,
        hover_line_color="colour", hover_line_alpha=0.9,
    )  # fmt: skip
    framed = [single] if usual else []
    for course in courses:
        mark, colour = course.mark, GREY if whole else course.mark.colour
        shades = [("low", "high", 0.14)] + ([("below", "above", 0.3)] if "above" in course.source.data else [])
        for lower, upper, alpha in shades:
            area = VArea(x="step", y1=lower, y2=upper, fill_color=colour, fill_alpha=alpha)
            framed.append(draw(plot, area, course.source))
            framed[-1].tags = [mark.label, "fill_alpha", alpha]
        dash = "solid" if 0 < mark.label <= 7 else "dashed"
        line = Line(x="step", y="middle", line_color=colour, line_width=2.5, line_dash=dash)
        framed.append(draw(plot, line, course.source))
        framed[-1].tags = [mark.label, "line_alpha", 1.0]
    extent = min(course.extent[0] for course in courses), max(course.extent[1] for course in courses)
    if analysis.equilibrium is not None:
        expected = analysis.equilibrium.line
        line = Line(x="step", y="expected", line_color="black", line_width=1.5, line_dash=[2, 3])
        framed.append(draw(plot, line, ColumnDataSource({"step": expected.index, "expected": expected})))
        extent = min(extent[0], float(expected.min())), max(extent[1], float(expected.max()))
    low, high = float(values.min()), float(values.max())
    if high - low <= _EQUAL * abs(high):  # what rounding leaves between equal values is no course
        extent = (low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2)
        plot.y_range = Range1d(*extent)
    else:
        plot.y_range.renderers = framed  # a lone spike of one layer among hundreds would squeeze everything else
    if logarithmic:
        with_powers(plot, *extent)
    for at in named_steps(analysis):
        plot.vspan(x=[at], line_color=GREY, line_width=1, line_dash="dotted")
    for at in analysis.phases.breaks if analysis.phases else ():
        plot.vspan(x=[at], line_color=GREY, line_width=1, line_dash=[5, 3])
    plot.add_tools(HoverTool(renderers=[single], tooltips=ABOUT_LAYER))
    plot.xgrid.visible = False
    whole_steps(plot)
    return plot


def plane(analysis: Analysis, source: ColumnDataSource) -> figure:
    """Every layer as a point on the two components."""
    plot = figure(
        height=430, sizing_mode="stretch_width", tools="pan,wheel_zoom,box_zoom,lasso_select,tap,reset",
        active_drag=None,
        x_axis_label=axis_of(analysis, 0), y_axis_label=axis_of(analysis, 1),
    )  # fmt: skip
    points = plot.scatter(
        "component_1", "component_2", source=source, marker="marker", size=9, fill_color="colour", line_color="colour",
        fill_alpha=0.65, line_alpha=0.9, nonselection_fill_alpha=0.12, nonselection_line_alpha=0.12,
    )  # fmt: skip
    # A direction in which the layers do not differ keeps its place beside the other.
    extents = np.ptp(analysis.reduction.points.to_numpy(), axis=0)
    plot.x_range.min_interval = plot.y_range.min_interval = float(extents.max() / 10) or 1.0
    plot.add_tools(HoverTool(renderers=[points], tooltips=ABOUT_LAYER))
    return plot


def axis_of(analysis: Analysis, place: int) -> str:
    """Its number, what it follows, and how much of the variance it has."""
    component = analysis.components[place]
    share = "" if component.explained is None else f" ({_percent(component.explained)} of the variance)"
    back = "" if component.correlation > 0 else ", downwards" if place else ", leftwards"
    meaning = f": {component.meaning.partition(' (')[0]}{back}" if component.meaning else ""
    return f"component {place + 1}{meaning}{share}"


def _percent(share: float) -> str:
    return "less than 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def scan(analysis: Analysis) -> dict[str, figure]:
    """What each k would have given, beside what data without clusters give; the chosen k marked.

    Inertia and silhouette where k was given; nothing where fewer than two k have a value.
    """
    columns: dict[str, tuple[str, str | None]]
    if analysis.choice is not None and len(analysis.choice.table):
        table = analysis.choice.table
        columns = {
            "agreement": ("agreement of halves", "agreement_null"),
            "separation": ("separation (sd)", "separation_null"),
            "silhouette": ("silhouette", "silhouette_null"),
        }
    else:
        table = analysis.clustering.curve
        columns = {"inertia": ("inertia", None), "silhouette": ("silhouette", None)} if len(table) else {}
    plots = {}
    for column, (name, null) in columns.items():
        known = table[column][np.isfinite(table[column])]
        if len(known) < 2:
            continue  # one point shows nothing that its sentence does not say
        plot = figure(
            height=220, sizing_mode="stretch_width", tools="", toolbar_location=None, y_axis_label=name,
            x_axis_label="k, the number of clusters",
        )  # fmt: skip
        if null:
            beside = {"k": table.index, "value": table[null]}
            draw(plot, Line(x="k", y="value", line_color=GREY, line_width=1.5, line_dash=[5, 3]), beside)
        k = analysis.clustering.k
        source = ColumnDataSource({"k": known.index, "value": known, "size": np.where(known.index == k, 11, 5)})
        draw(plot, Line(x="k", y="value", line_color=_BLUE, line_width=1.5), source)
        draw(plot, Scatter(x="k", y="value", size="size", fill_color=_BLUE, line_color=_BLUE), source)
        if k in known.index:
            plot.add_layout(Span(location=k, dimension="height", line_color=_BLUE, line_dash="dotted"))
        plot.xaxis.ticker = BasicTicker(min_interval=1, mantissas=[1, 2, 5])
        plot.xgrid.visible = False
        plots[column] = plot
    return plots
