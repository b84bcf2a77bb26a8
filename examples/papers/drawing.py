"""How the experiments beside this file draw: one style, colours for the colour-blind, bands over seeds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from intervals import interval
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

__all__ = ["COLOURS", "GREY", "STYLE", "band", "save"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # of Okabe and Ito
GREY = "#777777"
STYLE: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.edgecolor": "#bbbbbb",
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 9,
    "legend.frameon": False,
}


def band(
    axis: Axes, x: ArrayLike, values: NDArray[np.floating[Any]], colour: str, label: str, marker: str = ""
) -> None:
    """The mean over seeds, and its 95 % interval as a band.

    Args:
        axis: is drawn on.
        x: (points,).
        values: (seeds, points).
        colour: of the line and, paler, of the band.
        label: for the legend.
        marker: of the points.
    """
    middle, low, high = np.array([interval(point) for point in values.T]).T
    axis.plot(x, middle, color=colour, marker=marker, markersize=4, linewidth=1.4, label=label)
    axis.fill_between(np.asarray(x), low, high, color=colour, alpha=0.2, linewidth=0)


def save(figure: Figure, path: Path) -> None:
    """As a PNG of 64 colours, a third of the size of one of millions."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=160)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)
