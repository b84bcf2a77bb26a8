"""The tree of the layers, beside their values in its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    CustomJS,
    FixedTicker,
    HoverTool,
    Image,
    Model,
    MultiLine,
    Range1d,
    Row,
    TapTool,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from wstrack.analysis import Tree
from wstrack.analysis.analysis import Analysis
from wstrack.analysis.cutoffs import HOLDS_FROM
from wstrack.analysis.findings.words import together
from wstrack.reporting.axes import whole_steps
from wstrack.reporting.glyphs import draw
from wstrack.reporting.labels import chance, labels, number, share
from wstrack.reporting.marks import GREY, Mark, layer_colours
from wstrack.reporting.thin import tile

__all__ = ["APART", "branches_of", "draw_tree", "fork_colours", "forks", "spans"]

_MOST_ROWS = 300
_MOST_COLUMNS = 300
APART = "#D55E00"


def forks(tree: Tree) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each joint of two branches is drawn, a row a joint: heights and places along the order of the layers.

    Heights are square roots of the distances at which branches join, for most join at small ones. Both are of shape
    (layers - 1, 4): from the first branch up to where they join, across, and down to the second.
    """
    count = len(tree.layers)
    height, place = np.zeros(2 * count - 1), np.zeros(2 * count - 1)
    place[tree.order] = np.arange(count)
    heights, places = np.empty((count - 1, 4)), np.empty((count - 1, 4))
    for row, (first, second) in enumerate(tree.merges[:, :2].astype(np.int64)):
        top = height[count + row] = np.sqrt(tree.merges[row, 2])
        place[count + row] = (place[first] + place[second]) / 2
        heights[row] = height[first], top, top, height[second]
        places[row] = place[first], place[first], place[second], place[second]
    return heights, places


def spans(tree: Tree) -> dict[int, tuple[int, int]]:
    """By branch, the first place in the order of the layers, and one past the last."""
    at = np.empty(len(tree.order), dtype=np.int64)
    at[tree.order] = np.arange(len(tree.order))
    position = {str(name): int(place) for name, place in zip(tree.layers, at, strict=True)}
    found = {}
    for branch in tree.branches.index:
        places = [position[name] for name in tree.members(int(branch))]
        found[int(branch)] = (min(places), max(places) + 1)
    return found


def branches_of(analysis: Analysis, *, most: int = 8) -> list[dict[str, Any]]:
    """The branches that stand apart, and then the highest of the others, as rows of a table."""
    branches = analysis.tree.branches
    chosen = branches[branches["apart"]].index.union(branches.index[-most:])
    rows = {layer: row for row, layer in enumerate(analysis.series.columns)}
    everyone = [str(name) for name in analysis.tree.layers]
    found = []
    for branch in sorted(chosen, key=lambda branch: (not branches.loc[branch, "apart"], -branch)):
        names = analysis.tree.members(int(branch))
        of_them = {"rows": [rows[name] for name in names], "names": names, "words": together(names, everyone)}
        found.append({**of_them, **branches.loc[branch].to_dict()})
    return found


def draw_tree(
    analysis: Analysis, source: ColumnDataSource, marks: Sequence[Mark], x_range: Range1d, mapper: Model
) -> tuple[Row, Model]:
    """The tree at the left, the layers' values in its order at the right; a dot on a branch says how far it holds.

    Returns:
        The figure, and the glyph with the colour mapper.
    """
    tree = analysis.tree
    count = len(tree.layers)
    names = [str(tree.layers[place]) for place in tree.order]
    frame: dict[str, Any] = {
        "frame_height": int(np.clip(16 * count, 120, 620)),
        "y_range": Range1d(start=count - 0.5, end=-0.5, bounds=(-0.5, count - 0.5)),
        "min_border_top": 8,
        "min_border_bottom": 46,
    }
    heights, places = forks(tree)
    top = float(heights[-1, 1]) or 1.0
    left = figure(
        **frame, name="tree", x_range=Range1d(start=1.04 * top, end=-0.02 * top), tools="", toolbar_location=None,
        frame_width=160, width=None, min_border_left=4, min_border_right=0, x_axis_label="← less alike",
        stylesheets=[":host { flex: none !important; }"],
    )  # fmt: skip
    joints = {"heights": heights.round(6).tolist(), "places": places.tolist(), "colour": fork_colours(tree, marks)}
    draw(left, MultiLine(xs="heights", ys="places", line_color="colour", line_width=1.2), joints)
    dots = left.scatter("height", "place", source=_dots(tree), marker="circle", size="size", fill_color="fill",
                        line_color=APART, fill_alpha="alpha", line_alpha="alpha")  # fmt: skip
    told = [("layers", "@layers"), ("comes back", "@support"), ("gap", "@gap"), ("p", "@p"), ("stands apart", "@apart")]
    choose = CustomJS(
        args={"layers": source, "rows": _rows(analysis)},
        code="""
        const [dot] = cb_data.source.selected.indices
        const { first, last } = cb_data.source.data
        if (dot !== undefined) layers.selected.indices = rows.slice(first[dot], last[dot])
        """,
    )
    left.add_tools(HoverTool(renderers=[dots], tooltips=told), TapTool(renderers=[dots], callback=choose))
    left.yaxis.visible = False
    left.grid.visible = False
    left.xaxis.ticker = FixedTicker(ticks=[])

    values = analysis.series[names].to_numpy()
    tiles = tile(values, analysis.series.index.to_numpy(np.int64), columns=_MOST_COLUMNS, rows=_MOST_ROWS)
    right = figure(
        **frame, x_range=x_range, tools="xpan,xwheel_zoom,reset", active_drag=None, sizing_mode="stretch_width",
        min_width=280, x_axis_label="step", min_border_left=0, min_border_right=12, y_axis_location="right",
    )  # fmt: skip
    wide = tiles.image.shape[1] * tiles.width
    tiled = Image(image="image", x=tiles.start, y=-0.5, dw=wide, dh=count, color_mapper=mapper)
    drawn = draw(right, tiled, {"image": [tiles.image]})
    few = 16 * count <= frame["frame_height"]
    right.yaxis.ticker = (
        FixedTicker(ticks=list(range(count)))
        if few
        else BasicTicker(desired_num_ticks=frame["frame_height"] // 24, min_interval=1, mantissas=[1, 2, 5])
    )
    right.yaxis.major_label_overrides = dict(enumerate(labels(names)))
    right.yaxis.axis_line_alpha = right.yaxis.major_tick_line_alpha = 0
    right.grid.visible = False
    whole_steps(right)
    return Row(children=[left, right], sizing_mode="stretch_width", spacing=0), drawn.glyph


def _rows(analysis: Analysis) -> list[int]:
    """By place in the order of the tree, the layer's row in the table of all layers."""
    rows = {layer: row for row, layer in enumerate(analysis.series.columns)}
    return [rows[analysis.tree.layers[place]] for place in analysis.tree.order]


def fork_colours(tree: Tree, marks: Sequence[Mark]) -> list[str]:
    """The colour of a cluster, branch or piece where all layers below are of it; else grey."""
    count = len(tree.layers)
    several = len(marks) > 1
    of = layer_colours(marks) if several else {}
    colours = [of.get(str(name), GREY) for name in tree.layers] + [GREY] * (count - 1)
    for row, (first, second) in enumerate(tree.merges[:, :2].astype(np.int64)):
        if colours[first] == colours[second]:
            colours[count + row] = colours[first]
    return colours[count:]


def _dots(tree: Tree) -> ColumnDataSource:
    """A dot where a branch joins the next: full and large where it stands apart, a ring where it comes back."""
    branches = tree.branches
    at = spans(tree)
    heights, places = forks(tree)
    rows = branches.index.to_numpy(dtype=np.int64)
    columns: dict[str, Any] = {
        "height": heights[rows, 1],
        "place": (places[rows, 0] + places[rows, 3]) / 2,
        "layers": branches["layers"].to_numpy(),
        "support": [share(value) for value in branches["support"]],
        "gap": [number(value) for value in branches["gap"]],
        "p": [chance(value) for value in branches["p"]],
        "apart": ["yes" if value else "no" for value in branches["apart"]],
        "size": np.where(branches["apart"], 10, 6),
        "fill": [APART if value else "transparent" for value in branches["apart"]],
        "alpha": np.where(branches["support"] >= HOLDS_FROM, 1.0, 0.25),
        "first": [at[int(row)][0] for row in rows],
        "last": [at[int(row)][1] for row in rows],
    }
    return ColumnDataSource(columns, name="branches")
