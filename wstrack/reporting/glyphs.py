"""Glyphs that look the same whatever is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bokeh.models import ColumnDataSource, Glyph, GlyphRenderer
from bokeh.plotting import figure

__all__ = ["draw"]


def draw(plot: figure, glyph: Glyph, data: ColumnDataSource | Mapping[str, Any]) -> GlyphRenderer:
    """Add a glyph to a figure.

    Bokeh's own methods make two more of it, for where others are chosen or it is muted in a legend: most of the time
    that a small page takes is a millisecond for each model.

    Args:
        plot: to which it is added.
        glyph: its coordinates are names of columns.
        data: the columns.
    """
    source = data if isinstance(data, ColumnDataSource) else ColumnDataSource(dict(data))
    return plot.add_glyph(source, glyph, nonselection_glyph=None, muted_glyph=None)
