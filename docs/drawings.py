"""Draws the pictures of the pages on concepts: `python docs/drawings.py` (half a minute).

One is of a real training, on handwritten digits; two show what words mean.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.datasets import load_digits
from torch import nn

import wstrack
from wstrack.runs.run import Run

WIDTHS = (64, 512, 128, 32, 10)
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#767676"


def trained() -> Run:
    """Four linear layers, whose weights begin the smaller the more inputs they have, and Adam."""
    torch.manual_seed(0)
    images, digits = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    images = (images / 16).float()
    layers = [nn.Linear(before, after) for before, after in pairwise(WIDTHS)]
    model = nn.Sequential(layers[0], *(part for layer in layers[1:] for part in (nn.ReLU(), layer)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with tempfile.TemporaryDirectory() as folder, wstrack.watch(model, to=folder, every=10) as watcher:
        for _ in range(20):
            for batch in torch.randperm(len(images)).split(64):
                optimizer.zero_grad()
                torch.autograd.backward(nn.functional.cross_entropy(model(images[batch]), digits[batch]))
                optimizer.step()
        return watcher.run()


def draw_change(run: Run) -> Figure:
    """The mean change of a weight, and the relative change of its layer."""
    figure = Figure((9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    mean = run.sums["abs_change"] / run.layers["numel"]
    colours = mpl.colormaps["plasma"](np.linspace(0.1, 0.8, mean.shape[1]))
    for axes, frame, title in (
        (left, mean, "How much a weight changes\n(mean of |w − p|)"),
        (right, run.series["rwc"], "How much of a layer changes\n(sum of |w − p| / sum of |p|)"),
    ):
        for layer, colour in zip(frame.columns, colours, strict=True):
            outputs, inputs = run.layers.loc[layer, "shape"]
            axes.plot(
                frame.index, frame[layer], color=colour, linewidth=1.2, label=f"{inputs} inputs, {outputs} outputs"
            )
        axes.set_yscale("log")
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("optimizer step")
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(fontsize=8, frameon=False, title="linear layers, from the input on", title_fontsize=8)
    return figure


def bare(axes: Axes, *, right: float, top: float) -> None:
    """No axes, only what is drawn."""
    axes.set(xlim=(-0.2, right), ylim=(-0.2, top))
    axes.axis("off")


def draw_steps(every: int = 4, steps: int = 12, skipped: int = 6) -> Figure:
    """Micro-batches, the steps that they make, the samples of them, and what either window compares."""
    figure = Figure((9, 3.1), layout="constrained")
    axes = figure.subplots()
    bare(axes, right=16.2, top=5.4)
    rows = {"batches": 4.6, "optimizer steps": 3.6, "samples": 2.6, 'window="interval"': 1.4, 'window="step"': 0.4}
    for text, height in rows.items():
        axes.text(0, height, text, va="center", fontsize=10, family="monospace" if "=" in text else None)
    at = 3.2
    count = 0
    last = at
    for turn in range(steps + 1):
        axes.plot([at + 0.25, at + 0.65], [rows["batches"]] * 2, "|", color=GREY, markersize=9)
        at += 0.95
        if turn == skipped:
            axes.plot(at, rows["optimizer steps"], "x", color=ORANGE, markersize=8)
            axes.annotate(
                "skipped by loss scaling: no step", (at, rows["optimizer steps"] + 0.2), (at, 5.2), ha="center",
                va="center", fontsize=9, color=ORANGE, arrowprops={"arrowstyle": "-", "color": ORANGE, "lw": 0.8},
            )  # fmt: skip
            continue
        count += 1
        axes.plot(at, rows["optimizer steps"], "o", color=BLUE, markersize=6)
        axes.text(at, rows["optimizer steps"] - 0.4, str(count), ha="center", va="center", fontsize=8, color=GREY)
        if count % every == 0:
            axes.plot(at, rows["samples"], "D", color=GREEN, markersize=8)
            for row, begin, said in (
                ('window="interval"', last, f"the change of {every} steps"),
                ('window="step"', at - 0.95, "of 1 step"),
            ):
                arrow = {"arrowstyle": "|-|,widthA=0.25,widthB=0.25", "color": GREEN}
                axes.annotate("", (at, rows[row]), (begin, rows[row]), arrowprops=arrow)
                axes.text((at + begin) / 2, rows[row] - 0.4, said, ha="center", va="center", fontsize=8)
            last = at
    return figure


def draw_parts() -> Figure:
    """What is a layer, and three ways in which one holds several."""
    figure = Figure((9, 3.2), layout="constrained")
    axes = figure.subplots()
    bare(axes, right=16, top=5.8)

    def box(x: float, y: float, width: float, height: float, colour: str, text: str = "", alpha: float = 0.25) -> None:
        axes.add_patch(Rectangle((x, y), width, height, facecolor=mpl.colors.to_rgba(colour, alpha), edgecolor=colour))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8)

    axes.text(0, 5.5, "layers", fontsize=11, weight="bold")
    for y, name in ((3.7, "conv.weight\n16 × 1 × 3 × 3"), (2.1, "fc.weight\n10 × 64")):
        box(0, y, 2.6, 1.2, BLUE, name)
    for y, name in ((1.2, "norm.weight  16"), (0.3, "fc.bias  10")):
        box(0, y, 2.6, 0.6, GREY, name, alpha=0.1)
    axes.text(0, -0.15, 'only with layers="all"', fontsize=8, color=GREY, va="center")

    axes.text(4.2, 5.5, 'parts="qkv"', fontsize=11, family="monospace")
    for place, (label, colour) in enumerate(zip("qkv", (BLUE, ORANGE, GREEN), strict=True)):
        box(4.2, 3.7 - 1.5 * place, 3, 1.5, colour, f"attn.weight[{label}]")
    axes.text(4.2, 0.35, "rows of one fused weight", fontsize=8, color=GREY, va="center")

    axes.text(8.4, 5.5, 'parts="heads"', fontsize=11, family="monospace")
    for head in range(4):
        box(8.4, 4.075 - 1.125 * head, 3, 1.125, (BLUE, ORANGE, GREEN, GREY)[head], f"q_proj.weight[{head}]")
    axes.text(8.4, 0.35, "rows of one projection", fontsize=8, color=GREY, va="center")

    axes.text(12.6, 5.5, 'parts="experts"', fontsize=11, family="monospace")
    for expert in range(3):
        shift = 0.45 * (2 - expert)
        box(12.6 + shift, 0.7 + shift * 3, 2.4, 1.7, "white", alpha=1)
        box(12.6 + shift, 0.7 + shift * 3, 2.4, 1.7, (GREEN, ORANGE, BLUE)[2 - expert], "")
        axes.text(12.7 + shift, 0.7 + shift * 3 + 1.4, f"experts.up[{2 - expert}]", fontsize=8, va="center")
    axes.text(12.6, 0.35, "slices of one stacked weight", fontsize=8, color=GREY, va="center")
    return figure


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="a folder [default: docs/]")
    out = parser.parse_args().out
    figures = {"change": draw_change(trained()), "steps": draw_steps(), "parts": draw_parts()}
    for name, figure in figures.items():
        figure.savefig(out / f"concept-{name}.png", dpi=150)


if __name__ == "__main__":
    main()
