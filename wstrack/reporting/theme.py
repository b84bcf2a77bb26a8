"""How figures look, and how they follow the reader's light or dark scheme as the page does."""

from __future__ import annotations

from typing import Any

from bokeh.document import Document
from bokeh.events import DocumentReady
from bokeh.models import Axis, ColorBar, CustomJS, Grid, Model, Plot

__all__ = ["TABLE", "THEME", "restyle"]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
THEME: dict[str, Any] = {
    "attrs": {
        "Plot": {
            "background_fill_color": None,
            "border_fill_color": None,
            "outline_line_color": None,
        },
        "Axis": {
            "axis_label_text_font": FONT,
            "axis_label_text_font_size": "12px",
            "axis_label_text_font_style": "normal",
            "major_label_text_font": FONT,
            "major_label_text_font_size": "11px",
            "major_tick_in": 0,
            "major_tick_out": 4,
            "minor_tick_line_color": None,
        },
        "Grid": {"grid_line_alpha": 0.6},
        "ColorBar": {
            "background_fill_color": None,
            "major_label_text_font": FONT,
            "major_label_text_font_size": "11px",
            "major_tick_line_color": None,
            "title_text_font": FONT,
            "title_text_font_size": "12px",
            "title_text_font_style": "normal",
        },
        "Toolbar": {"logo": None, "autohide": True},
    }
}
# Bokeh's table lives in a shadow tree of its own, which the page's rules do not reach; its variables do.
TABLE = """
:host { font: 13px/1.4 system-ui, sans-serif; color: var(--ink); border: 0; }
.slick-header { background: transparent; border: 0; border-bottom: 1px solid var(--line); }
.slick-header-columns { background: transparent; }
.slick-header-column.ui-state-default { background: transparent; color: var(--soft); border: 0; font-weight: 600; }
.slick-cell, .slick-row .slick-cell {
  background: transparent; color: var(--ink); border: 0; padding: 3px 6px; line-height: 20px;
}
.slick-row.even, .slick-row.odd {
  background: transparent; border-bottom: 1px solid var(--line); box-sizing: border-box;
}
.slick-cell.selected, .slick-row .slick-cell.selected { background: var(--chosen); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
"""


def restyle(document: Document, *, veil: Model | None = None) -> None:
    """Has the page paint what its canvases hold in the colours of the reader's scheme, now and when it changes.

    Whoever framed the page may say which by `data-scheme` ("light" or "dark") at its root.

    `veil` is the glyph that hides in the paper's colour what is not chosen, where there is one.
    """
    args: dict[str, Any] = {"veil": veil}
    args |= {kind.__name__: list(document.select({"type": kind})) for kind in (Axis, Grid, ColorBar, Plot)}
    code = """
    const [screen, prefers] = ["screen", "(prefers-color-scheme: dark)"].map((media) => matchMedia(media))
    const root = document.documentElement
    const paint = () => {
      const dark = screen.matches && (root.dataset.scheme ? root.dataset.scheme === "dark" : prefers.matches)
      const [ink, line] = dark ? ["#c4c4c4", "#4a4a4a"] : ["#4a4a4a", "#d4d4d4"]
      for (const model of Axis) model.setv({axis_label_text_color: ink, major_label_text_color: ink,
                                            axis_line_color: line, major_tick_line_color: line})
      if (veil) veil.fill_color = dark ? "#151515" : "#ffffff"
      for (const model of Grid) model.grid_line_color = line
      for (const model of ColorBar) model.setv({title_text_color: ink, major_label_text_color: ink})
    }
    const again = () => {
      paint()
      for (const view of Bokeh.index.select(Plot)) view.repaint()  // at once: a printer does not wait for a frame
    }
    paint()
    for (const media of [screen, prefers]) media.addEventListener("change", again)  // print is light
    new MutationObserver(again).observe(root, {attributeFilter: ["data-scheme"]})
    """
    document.js_on_event(DocumentReady, CustomJS(args=args, code=code))
