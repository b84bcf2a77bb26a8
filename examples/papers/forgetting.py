"""Do wide networks forget less (arXiv 2110.11526)? Rotated digits, one rotation after the other, at several widths.

python examples/papers/forgetting.py --data-dir package/src/digits --seeds 5 --out forgetting.png
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from drawing import COLOURS, STYLE, band, save
from intervals import shown, table
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray
from scipy import ndimage, stats
from sklearn.datasets import load_digits
from torch import nn
from weightscale.data import Data, load

import wstrack

WIDTHS = (32, 64, 128, 256, 512, 1024, 2048)
LAYERS = ("first", "second", "head")
TURN = 22.5  # degrees from one task to the next


@dataclass(frozen=True)
class Taught:
    """One width, all its seeds.

    Attributes:
        accuracy: (seeds, after each task, of each task), 0 to 1.
        moved: (seeds, tasks, layers): the change over each task, relative to the weights at its beginning.
    """

    accuracy: NDArray[np.float64]
    moved: NDArray[np.float64]

    def forgotten(self) -> NDArray[np.float64]:
        """(seeds, tasks but the last): the accuracy of a task when it was learnt, less that at the end."""
        learnt = self.accuracy.diagonal(axis1=1, axis2=2)
        return (learnt - self.accuracy[:, -1])[:, :-1]


def main() -> None:
    """Train, print the tables, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, help="IDX or JSON files of MNIST; without it, scikit-learn's 8 x 8 digits"
    )
    parser.add_argument("--limit", type=int, default=4000, help="training images of each task")
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS), help="of both hidden layers")
    parser.add_argument("--tasks", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5, help="of each task")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("forgetting.png"), help="gets the figure")
    options = parser.parse_args()
    widths = sorted(options.widths)
    tasks = rotated(digits(options.data_dir, options.limit), options.tasks)
    found = {}
    for width in widths:
        runs = [taught(tasks, width, seed, options.epochs, options.lr) for seed in range(options.seeds)]
        found[width] = Taught(*map(np.array, zip(*runs, strict=True)))
        print(f"width {width}: {100 * found[width].forgotten().mean():.1f} % forgotten", flush=True)
    report(found)
    with mpl.rc_context(STYLE):
        save(drawn(found), options.out)


def digits(folder: Path | None, limit: int) -> Data:
    """Digits of 28 x 28 from a folder, or those of 8 x 8 that scikit-learn brings along."""
    if folder is not None:
        return load("mnist", folder, limit=limit, test_limit=2000, size=28)
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    pixels = torch.from_numpy((images[order] - images.mean()) / images.std()).float().reshape(-1, 1, 8, 8)
    names = torch.from_numpy(labels[order]).long()
    train = min(limit, 1400)
    return Data(pixels[:train], names[:train], pixels[1400:], names[1400:], 10)


def rotated(data: Data, count: int) -> list[Data]:
    """The same images turned by 0, 22.5, 45, ... degrees: a task each."""

    def turned(images: torch.Tensor, degrees: float) -> torch.Tensor:
        ground = float(images.min())
        return torch.from_numpy(
            ndimage.rotate(images.numpy(), degrees, axes=(2, 3), reshape=False, order=1, cval=ground)
        )

    return [
        Data(
            turned(data.train_images, TURN * task),
            data.train_labels,
            turned(data.test_images, TURN * task),
            data.test_labels,
            data.classes,
        )
        for task in range(count)
    ]


def taught(tasks: Sequence[Data], width: int, seed: int, epochs: int, lr: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Learn the tasks one after the other.

    Returns:
        The accuracy of each task after each, (tasks, tasks), and the change over each task by layer, (tasks, layers).
    """
    torch.manual_seed(seed)
    side = tasks[0].train_images.shape[-1]
    model = nn.Sequential()
    model.add_module("flat", nn.Flatten())
    for name, (into, out) in zip(LAYERS, ((side**2, width), (width, width), (width, tasks[0].classes)), strict=True):
        model.add_module(name, nn.Linear(into, out))
        if name != LAYERS[-1]:
            model.add_module(f"{name}_active", nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    steps = epochs * -(-len(tasks[0].train_labels) // 64)  # of a task: one sample at its end
    accuracies = []
    with (
        tempfile.TemporaryDirectory() as folder,
        wstrack.watch(model, optimizer, every=steps, metrics=("distance",), to=folder) as watcher,
    ):
        for number, task in enumerate(tasks, start=1):
            watcher.mark(f"task {number}", reset=True)  # the distance counts from the weights of now
            for _ in range(epochs):
                for batch in torch.split(torch.randperm(len(task.train_labels)), 64):
                    optimizer.zero_grad()
                    loss = nn.functional.cross_entropy(model(task.train_images[batch]), task.train_labels[batch])
                    torch.autograd.backward(loss)
                    optimizer.step()
            accuracies.append([accuracy(model, each) for each in tasks])
        watcher.flush()
        moved = watcher.run().series["distance"].to_numpy(np.float64)
    return np.array(accuracies), moved


@torch.no_grad()
def accuracy(model: nn.Module, task: Data) -> float:
    """The share of the task's test images that the model gets right."""
    return float((model(task.test_images).argmax(1) == task.test_labels).double().mean())


def report(found: dict[int, Taught]) -> None:
    """What was learnt, what was forgotten, how far each layer moved; then both against width."""
    rows = []
    for width, taught_ in found.items():
        learnt = taught_.accuracy.diagonal(axis1=1, axis2=2)
        lost = 100 * taught_.forgotten()
        moved = [shown(taught_.moved[:, 1:, layer].mean(1), 3) for layer in range(len(LAYERS))]
        rows.append((width, shown(100 * learnt.mean(1), 1), shown(lost[:, 0], 1), shown(lost.mean(1), 1), *moved))
    heads = ("width", "accuracy when learnt, %", "task 1 forgotten, points", "mean forgotten, points")
    table("Forgetting and change", (*heads, *(f"change of {name}" for name in LAYERS)), rows)

    logs = np.log2(list(found))
    values = {"task 1 forgotten": np.array([100 * each.forgotten()[:, 0] for each in found.values()]).T}
    values["mean forgotten"] = np.array([100 * each.forgotten().mean(1) for each in found.values()]).T
    rows = [(name, "points", shown(slopes(logs, value), 2)) for name, value in values.items()]
    for layer, name in enumerate(LAYERS):
        moved_ = np.log2(np.array([each.moved[:, 1:, layer].mean(1) for each in found.values()]).T)
        rows.append((f"change of {name}", "log2", shown(slopes(logs, moved_), 3)))
    table("For each doubling of the width", ("what", "in", "slope, mean over seeds"), rows)


def slopes(x: NDArray[np.float64], values: NDArray[np.float64]) -> list[float]:
    """The least-squares slope of each seed, of values (seeds, points)."""
    return [float(stats.linregress(x, each).slope) for each in values]


def drawn(found: dict[int, Taught]) -> Figure:
    """Forgotten accuracy, change of each layer, and one against the other."""
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    widths = list(found)
    lost = np.array([100 * each.forgotten().mean(1) for each in found.values()]).T
    first = np.array([100 * each.forgotten()[:, 0] for each in found.values()]).T
    band(left, widths, first, COLOURS[1], "task 1", "s")
    band(left, widths, lost, COLOURS[0], "mean of all but the last task", "o")
    left.set_title("accuracy forgotten at the end")
    left.set_ylabel("percentage points")
    left.set_ylim(0, 100)
    for layer, (name, marker) in enumerate(zip(LAYERS, "osD", strict=True)):
        moved = np.array([each.moved[:, 1:, layer].mean(1) for each in found.values()]).T
        band(middle, widths, moved, COLOURS[layer], name, marker)
        right.plot(moved.ravel(), lost.ravel(), marker, color=COLOURS[layer], markersize=4, alpha=0.7, label=name)
    middle.set_title("change of a layer over a task")
    middle.set_ylabel("distance  Σ|w − w₀| / Σ|w₀|,  w₀: at the begin of the task")
    middle.set_yscale("log")
    for axis in (left, middle):
        axis.set_xscale("log", base=2)
        axis.set_xticks(widths, [str(width) for width in widths], fontsize=8)
        axis.set_xlabel("width of the hidden layers")
        axis.legend(fontsize=8)
    right.set_title("one against the other, a mark a network")
    right.set_xscale("log")
    for ruler in (middle.yaxis, right.xaxis):
        ruler.set_major_locator(FixedLocator([0.02, 0.05, 0.1, 0.2, 0.5]))
        ruler.set_major_formatter(lambda value, _: f"{value:g}")
        ruler.set_minor_locator(NullLocator())
    right.set_xlabel("distance over a task")
    right.set_ylabel("mean forgotten, percentage points")
    right.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
