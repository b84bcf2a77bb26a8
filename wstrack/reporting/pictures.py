"""Static pictures of a analysis, for papers and trackers: drawn by Matplotlib, which needs no browser."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from wstrack.analysis.analysis import Analysis
from wstrack.analysis.medians import quantiles
from wstrack.analysis.schedule import Schedule
from wstrack.reporting.axes import ticks
from wstrack.reporting.bars import base
from wstrack.reporting.figures import FEW, axis_of
from wstrack.reporting.labels import labels, shorten
from wstrack.reporting.marks import GREY, Mark, clusters_of, layer_colours, mark_clusters
from wstrack.reporting.named import edges, named_steps
from wstrack.reporting.rates import courses_of, on_a_log_scale
from wstrack.reporting.thin import thin, tile
from wstrack.reporting.tree import APART, fork_colours, forks
from wstrack.reporting.words import heading, verdict

__all__ = ["overview", "picture", "pictures"]

INK, LINE = "#333333", "#dddddd"
_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "inverted_triangle": "v", "hex": "h",
            "star": "*", "plus": "P", "x": "x"}  # fmt: skip
_STYLE: Any = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.family": ["sans-serif"],
    "font.size": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "wstrack",
    "text.color": INK,
    "text.parse_math": False,  # a name is text, whatever dollars are in it
    "xtick.color": INK,
    "ytick.color": INK,
}


def overview(analysis: Analysis, *, kind: str = "png") -> bytes:
    """The report at a glance in one picture: heat map, the clusters' curves, the plane.

    Args:
        analysis: what to draw.
        kind: "png" or "svg".
    """
    marks = mark_clusters(analysis)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 9.5), layout="constrained")
        if len(analysis.series) == 1:
            _bars(analysis, marks, figure)
            figure.suptitle(_title(analysis), x=0.01, ha="left", fontsize=13)
            return _saved(figure, kind)
        top, below = figure.subfigures(2, 1, height_ratios=[1.1, 1], squeeze=False).flat
        _heatmap(analysis, marks, top)
        left, right = below.subfigures(1, 2, squeeze=False).flat
        _curves(analysis, marks, left)
        _plane(analysis, marks, right)
        figure.suptitle(_title(analysis), x=0.01, ha="left", fontsize=13)
        return _saved(figure, kind)


def pictures(analysis: Analysis) -> dict[str, bytes]:
    """The overview and each of its figures alone, as PNG files by name."""
    parts = _PARTS if len(analysis.series) > 1 else {}  # one sample is bars, and nothing else
    return {"overview": overview(analysis), **{name: picture(analysis, name) for name in parts}}


def picture(analysis: Analysis, name: str) -> bytes:
    """One figure alone, as a PNG file: "heatmap", "curves" or "plane"."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 5.5), layout="constrained")
        _PARTS[name](analysis, mark_clusters(analysis), figure)
        return _saved(figure, "png")


def _title(analysis: Analysis) -> str:
    name = heading(analysis, width=60)
    return f"{name}: {shorten(analysis.metric, width=40)}\n{textwrap.fill(verdict(analysis)[1], 110)}"


def _saved(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box in its place is all that can be done
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=130, facecolor="white", metadata=metadata)
    return file.getvalue()


def _heatmap(analysis: Analysis, marks: Sequence[Mark], place: Figure | SubFigure) -> None:
    tiles = tile(analysis.series.to_numpy(), analysis.series.index.to_numpy(np.int64))
    image = np.ma.masked_invalid(tiles.image)
    if analysis.logarithmic:
        image = np.ma.log10(image)  # not LogNorm, which has its limits at the ends of what a float holds
    low, high = (float(image.min()), float(image.max())) if image.count() else (0.0, 1.0)
    high = high if high > low else low + (abs(low) or 1.0)
    strip, axes = place.subplots(1, 2, sharey=True, width_ratios=[1, 60], gridspec_kw={"wspace": 0.01})
    rows = len(tiles.rows)
    colours = layer_colours(marks)
    firsts = [str(analysis.series.columns[first]) for first, _ in tiles.rows]
    strip.imshow([[to_rgba(colours.get(layer, "white"))] for layer in firsts], aspect="auto",
                 extent=(0, 1, rows - 0.5, -0.5), interpolation="nearest")  # fmt: skip
    axes.set_facecolor("#c8c8c8")
    drawn = axes.imshow(
        image, aspect="auto", interpolation="nearest", cmap="viridis",
        norm=Normalize(low, high),
        extent=(tiles.start, tiles.start + tiles.width * tiles.image.shape[1], rows - 0.5, -0.5),
    )  # fmt: skip
    for edge in edges(analysis, tiles.width):
        axes.axvline(edge, color="black", linewidth=1.6, alpha=0.5)
        axes.axvline(edge, color="white", linewidth=0.8, linestyle=(0, (1, 3)))
    for at in analysis.phases.breaks if analysis.phases else ():
        axes.axvline(at - tiles.width / 2, color="black", linewidth=1.6, alpha=0.8)
        axes.axvline(at - tiles.width / 2, color="white", linewidth=0.8, linestyle=(0, (5, 3)))
    every = -(-rows // 28)
    names = labels(firsts)
    strip.set_yticks(range(0, rows, every), [names[row] for row in range(0, rows, every)], fontsize=7)
    strip.set_xticks([])
    for side in (strip, axes):
        side.tick_params(length=0)
        side.spines[:].set_visible(False)
    axes.tick_params(labelleft=False)
    _steps(axes)
    axes.set_title("The layers, from the input at the top, over the training")
    bar = place.colorbar(drawn, ax=axes, pad=0.01, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.set_title(shorten(analysis.metric, width=16), fontsize=9, loc="left")
    if analysis.logarithmic:
        shown = [tick for tick in ticks(10**low, 10**high) if low <= np.log10(tick) <= high]
        bar.set_ticks([float(np.log10(tick)) for tick in shown], labels=[f"{tick:g}" for tick in shown])


def _curves(analysis: Analysis, marks: Sequence[Mark], place: Figure | SubFigure) -> None:
    ratios = [4, 1] if analysis.schedule is not None else [1]
    axes, *below = place.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    frame = analysis.curves
    steps = frame.columns.to_numpy()
    whole, colours = len(marks) == 1, layer_colours(marks)
    if whole and len(frame) <= FEW:
        for layer, course in zip(frame.index, frame.to_numpy(), strict=True):
            axes.plot(steps, course, color=colours[layer], linewidth=0.7, alpha=0.6)
    for mark in clusters_of(marks):
        low, middle, high = quantiles(frame.loc[mark.layers].to_numpy().T, [0.1, 0.5, 0.9])
        picked = np.unique(thin(np.stack([low, middle, high]), points=400))
        colour = GREY if whole else mark.colour
        axes.fill_between(steps[picked], low[picked], high[picked], color=colour, alpha=0.16, linewidth=0)
        axes.plot(steps[picked], middle[picked], color=colour)
    if analysis.equilibrium is not None:
        line = analysis.equilibrium.line
        axes.plot(line.index, line, color="black", linewidth=1.2, linestyle=(0, (1, 1.5)))
    for at in named_steps(analysis):
        axes.axvline(at, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    for at in analysis.phases.breaks if analysis.phases else ():
        axes.axvline(at, color=GREY, linewidth=0.8, linestyle=(0, (5, 3)))
    if analysis.logarithmic:
        axes.set_yscale("log")
        _powers(axes, *axes.get_ylim())
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    _steps(axes)
    if analysis.schedule is not None:
        axes.set_xlabel("")
        _rates(analysis.schedule, *below)
    axes.set_ylabel(shorten(analysis.metric, width=40))
    axes.set_title(
        "Median and middle 80 % of the layers"
        if whole
        else f"Each {analysis.cut.noun}: median and middle 80 % of its layers"
    )
    _legend(axes, marks)


def _rates(schedule: Schedule, axes: Axes) -> None:
    for _, dash, steps, rates in courses_of(schedule):
        axes.plot(steps, rates, color=GREY, linestyle=(0, dash) if dash else "solid", linewidth=1.4)
    if on_a_log_scale(schedule):
        axes.set_yscale("log")
        _powers(axes, *axes.get_ylim())
    axes.set_ylabel("learning rate")
    _steps(axes)


def _plane(analysis: Analysis, marks: Sequence[Mark], place: Figure | SubFigure) -> None:
    axes = place.subplots()
    points, colours = analysis.reduction.points, layer_colours(marks)
    for mark in marks:
        there = points.loc[mark.layers]
        axes.scatter(there["component_1"], there["component_2"], s=22, alpha=0.7, marker=_MARKERS[mark.shape],
                     color=[colours[layer] for layer in mark.layers])  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(axis_of(analysis, 0))
    axes.set_ylabel(axis_of(analysis, 1))
    axes.set_title("Each layer as a point: near means alike")
    _legend(axes, marks)


def _bars(analysis: Analysis, marks: Sequence[Mark], place: Figure | SubFigure) -> None:
    axes, values = place.subplots(), analysis.series.iloc[0]
    colours, count = layer_colours(marks), len(values)
    drawn = values.where(np.isfinite(values)).to_numpy(dtype=np.float64)
    axes.barh(range(count), drawn - base(analysis), left=base(analysis),
              color=[colours.get(str(layer), GREY) for layer in values.index])  # fmt: skip
    if analysis.logarithmic:
        axes.set_xscale("log")
    every, names = -(-count // 60), labels([str(layer) for layer in values.index])
    axes.set_yticks(range(0, count, every), [names[row] for row in range(0, count, every)], fontsize=7)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlabel(shorten(analysis.metric, width=40))
    axes.set_title("The layers, from the input at the top")


def _tree(analysis: Analysis, marks: Sequence[Mark], place: Figure | SubFigure) -> None:
    tree, axes = analysis.tree, place.subplots()
    heights, places = forks(tree)
    lines = [np.column_stack(one) for one in zip(heights, places, strict=True)]
    axes.add_collection(LineCollection(lines, colors=fork_colours(tree, marks), linewidths=1.0))
    apart = tree.branches.index[tree.branches["apart"]].to_numpy(dtype=np.int64)
    axes.scatter(heights[apart, 1], (places[apart, 0] + places[apart, 3]) / 2, s=36, color=APART, zorder=3)
    count, top = len(tree.order), float(heights.max(initial=0.0)) or 1.0
    axes.set_xlim(1.04 * top, 0)
    axes.set_ylim(count - 0.5, -0.5)
    every = -(-count // 40)
    names = labels([str(tree.layers[one]) for one in tree.order])
    axes.yaxis.tick_right()
    axes.set_yticks(range(0, count, every), [names[row] for row in range(0, count, every)], fontsize=7)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("← less alike")
    axes.set_title("The layers joined by likeness" + ("; a dot stands apart" if len(apart) else ""))


def _powers(axes: Axes, low: float, high: float) -> None:
    """The ticks of the page."""
    axes.yaxis.set_major_locator(FixedLocator(ticks(low, high)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _legend(axes: Axes, marks: Sequence[Mark]) -> None:
    lines = [
        Line2D(
            [], [], color=mark.colour, marker=_MARKERS[mark.shape], linestyle="", label=f"{mark.title}: {mark.words}"
        )
        for mark in marks[:12]
    ]
    if len(marks) > 12:
        lines.append(Line2D([], [], color=GREY, linestyle="", label=f"and {len(marks) - 12} more"))
    if len(marks) > 1:
        axes.legend(handles=lines, fontsize=8, loc="best", handletextpad=0.2)


def _steps(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


_PARTS = {"heatmap": _heatmap, "curves": _curves, "plane": _plane, "tree": _tree}
