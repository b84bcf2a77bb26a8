"""The curves of a run's layers as one plot of Matplotlib's, for a look at a run before there is a report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from wstrack.messages import printable
from wstrack.metrics import suited_scale

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["draw_courses"]

_FEW = 10  # layers that a legend can name
_RAMP = (0.235, 0.82)  # of the palette; its ends are swallowed by a dark or a light page


def draw_courses(
    series: pd.DataFrame, metric: str, *, layers: str | Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """A line a layer over the steps; the colour is the layer's depth among all, whichever are drawn.

    Args:
        series: index = step, columns = layers in model order.
        metric: its name, which also decides the scale.
        layers, ax: as in `Run.plot`.

    Raises:
        ValueError: none of the layers is meant, or an expression is not one.
    """
    import matplotlib as mpl

    places = _chosen([str(name) for name in series.columns], layers)
    values = series.to_numpy(dtype=np.float64)[:, places]
    values = np.where(np.isfinite(values), values, np.nan)
    if ax is None:
        from matplotlib import pyplot as plt

        ax = plt.subplots(layout="constrained")[1]
    if suited_scale(values, metric) == "log10":
        ax.set_yscale("log", nonpositive="mask")
    ramp = mpl.colormaps["plasma"](np.linspace(*_RAMP, series.shape[1]))
    alone = "." if len(series) == 1 else None
    steps = series.index.to_numpy()
    lines = [
        ax.plot(steps, values[:, column], color=ramp[place], linewidth=0.9, marker=alone)[0]
        for column, place in enumerate(places)
    ]
    named = range(len(lines)) if len(lines) <= _FEW else (0, len(lines) - 1)
    with mpl.rc_context({"text.parse_math": False}):  # a name is text, whatever dollars are in it
        ax.set(xlabel="step", ylabel=_label(metric))
        legend = ax.legend([lines[at] for at in named], ["layer"] * len(named), fontsize="small")
    for at, text in zip(named, legend.get_texts(), strict=True):
        # Not before, for a legend leaves out names that begin with "_".
        text.set_text(_label(str(series.columns[places[at]])))
    return ax


def _chosen(names: Sequence[str], layers: str | Sequence[str] | None) -> list[int]:
    """The places of the layers that are meant."""
    if layers is None:
        return list(range(len(names)))
    wanted = [layers] if isinstance(layers, str) else list(layers)
    try:
        patterns = [re.compile(one) for one in wanted if one not in names]
    except (re.error, TypeError) as error:
        raise ValueError(f"layers={layers!r} holds no name of a layer and no regular expression ({error})") from error
    found = [at for at, name in enumerate(names) if name in wanted or any(pattern.search(name) for pattern in patterns)]
    if not found:
        some = ", ".join(names[:5])
        raise ValueError(f"layers={layers!r} is none of the run's; pass names or regular expressions: {some}, ...")
    return found


def _label(name: str) -> str:
    """A name on one line, of which the end tells most."""
    name = " ".join(printable(name).split())
    return name if len(name) <= 40 else f"…{name[-39:]}"
