"""The pictures of docs/papers/weightscale.md: `python examples/papers/weightscale/figures.py RUNS docs/papers`."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image
from runs import METRICS, Preset, Trained, agreements, grouped, mean_and_interval, trained

BLUE, RED, GREY = "#0072b2", "#d55e00", "#777777"
NAMES = {"rwc": "rwc (equation 1)", "rwc_elementwise": "rwc_elementwise"}
STYLE: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.edgecolor": "#bbbbbb",
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 9,
    "legend.frameon": False,
}


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="the folder that train.py wrote to")
    parser.add_argument("out", type=Path, help="gets the pictures")
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--harder", default="fashion-mnist")
    parser.add_argument("--easier", default="mnist")
    parser.add_argument("--k", type=int, default=4, help="the number of clusters")
    options = parser.parse_args()
    runs = [one for one in trained(options.runs) if one.optimizer == options.optimizer]
    with mpl.rc_context(STYLE):
        save(by_layer(runs, [options.harder, options.easier]), options.out / "weightscale-layers.png")
        save(stability(runs, options.k), options.out / "weightscale-stability.png")


def save(figure: Figure, path: Path) -> None:
    """As a PNG of 64 colours, a third of the size of one of millions."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)


def by_layer(runs: list[Trained], data: list[str]) -> Figure:
    """The change of each layer, of both metrics, and how many times more it is on the harder data."""
    models = [model for (model,) in grouped(runs, "model")]
    figure = Figure(figsize=(3.6 * len(models) + 0.6, 7.6), layout="constrained")
    axes = figure.subplots(3, len(models), squeeze=False, sharey="row", sharex="col")
    for model, column in zip(models, axes.T, strict=True):
        by = {(one.data, one.seed): one for one in runs if one.model == model}
        layers = next(iter(by.values())).run.layers.index
        for metric, axis in zip(METRICS, column[:2], strict=True):
            for name, colour, marker in zip(data, (RED, BLUE), "os", strict=True):
                levels = [one.levels(metric).to_numpy() for one in by.values() if one.data == name]
                _line(axis, levels, colour, marker, name)
        seeds = sorted({seed for _, seed in by if all((name, seed) in by for name in data)})
        for metric, colour, marker in zip(METRICS, ("black", GREY), "o^", strict=True):
            hard, easy = ([by[name, seed].levels(metric).to_numpy() for seed in seeds] for name in data)
            _line(column[2], [h - e for h, e in zip(hard, easy, strict=True)], colour, marker, NAMES[metric])
        column[2].axhline(1, color=GREY, linewidth=0.8, zorder=0)
        names = [name.removesuffix(".weight").replace("shortcut.0", "shortcut") for name in layers]
        column[2].set_xticks(range(len(layers)), names, rotation=90, fontsize=7 if len(layers) > 12 else 8)
        column[0].set_title(model)
    axes[0, 0].set_ylabel(f"{NAMES['rwc']}\nmean over epochs")
    axes[1, 0].set_ylabel(f"{NAMES['rwc_elementwise']}\nmean over epochs")
    axes[2, 0].set_ylabel(f"{data[0]} : {data[1]}\nratio of the change")
    axes[0, 0].legend(loc="lower right")
    axes[2, 0].legend(loc="best")
    return figure


def _line(axis: Axes, logs: Sequence[NDArray[np.floating[Any]]], colour: str, marker: str, label: str) -> None:
    """The geometric mean over seeds, and a band from the lowest to the highest seed."""
    values = 10 ** np.array(logs)
    middle = 10 ** np.mean(logs, axis=0)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.fill_between(range(len(middle)), values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
    axis.plot(middle, color=colour, marker=marker, markersize=3.5, linewidth=1.2, label=label)


def stability(runs: list[Trained], k: int) -> Figure:
    """How far clusters in two halves of a run's epochs agree, a line a seed, one metric against the other."""
    groups = grouped(runs, "model", "data")
    figure = Figure(figsize=(10, 0.55 * len(groups) + 1.3), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    presets: tuple[tuple[Preset, str], ...] = (
        ("weightscale", "procedure of the authors"),
        (None, "log scale, every layer"),
    )
    for axis, (preset, title) in zip(panels, presets, strict=True):
        for row, group in enumerate(groups.values()):
            for metric, colour, marker, shift in zip(METRICS, (BLUE, RED), "o^", (-0.13, 0.13), strict=True):
                found = agreements(group, metric, k, preset)["random halves"].tolist()
                axis.plot(found, [row + shift] * len(found), marker, color=colour, alpha=0.35, markersize=5)
                mean = mean_and_interval(found)[0]
                axis.plot(mean, row + shift, "|", color=colour, markersize=14, markeredgewidth=2.5, label=NAMES[metric])
        axis.set_xlim(-0.25, 1.04)
        axis.grid(axis="x", color="#eeeeee")
        axis.set_xlabel("agreement of two halves of the epochs (adjusted Rand index)")
        axis.set_title(f"{title}, k = {k}")
    panels[0].set_yticks(range(len(groups)), [f"{model}\n{data}" for model, data in groups])
    panels[0].invert_yaxis()
    marks, names = panels[0].get_legend_handles_labels()
    figure.legend(marks[:2], names[:2], loc="outside upper right", ncols=2)
    return figure


if __name__ == "__main__":
    main()
