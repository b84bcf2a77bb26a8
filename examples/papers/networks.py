"""Do complex-network measures tell good networks from bad ones (arXiv 2110.02628)? small ones by the dozen on digits.

python examples/papers/networks.py --data-dir package/src/digits --seeds 9 --out networks.png
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from drawing import COLOURS, GREY, STYLE, band
from forgetting import digits
from intervals import shown, table
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn
from weightscale.data import Data

import wstrack

STARTS = (("uniform", 0.05), ("uniform", 0.5), ("normal", 0.05), ("normal", 0.5))
METRICS = ("norm", "strength", "fluctuation")
BIN = 0.025  # of accuracy, as in the paper
RATE = 0.02  # of learning, by the support: weights of 0.5 have ten times as far to go as those of 0.05
LOW, HIGH = 0.5, 0.75  # below and above which a network is called bad and good
LINKS = np.linspace(-1.5, 1.5, 121)  # bins of the density of link weights

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Grown:
    """One network along its training.

    Attributes:
        accuracy: (samples,), 0 to 1.
        values: by metric, (samples, layers).
        links: how many of all its weights are in each of `LINKS`, (samples, bins).
    """

    accuracy: Array
    values: Mapping[str, Array]
    links: Array

    def level(self, metric: str, above: float, below: float) -> Array:
        """The mean of the samples within these accuracies, (layers,); NaN if there is none."""
        there = (self.accuracy >= above) & (self.accuracy < below)
        return self.values[metric][there].mean(axis=0) if there.any() else self.values[metric][0] * np.nan


def main() -> None:
    """Train, print the tables, draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, help="IDX or JSON files of MNIST; without it, scikit-learn's 8 x 8 digits"
    )
    parser.add_argument("--limit", type=int, default=4000, help="training images")
    parser.add_argument(
        "--epochs", type=int, default=4, help="of convolutional ones; connected ones take three times as many"
    )
    parser.add_argument("--every", type=int, default=10, help="steps between samples")
    parser.add_argument("--seeds", type=int, default=9, help="networks of each kind and start")
    parser.add_argument("--out", type=Path, default=Path("networks.png"), help="gets a figure a kind, named after it")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the networks are small
    data = digits(options.data_dir, options.limit)
    found: dict[str, dict[str, list[Grown]]] = {}
    for kind in ("connected", "convolutional"):
        found[kind] = {}
        epochs = options.epochs * (3 if kind == "connected" else 1)
        for shape, support in STARTS:
            seeds = range(options.seeds)
            grown = [grow(kind, shape, support, data, seed, epochs, options.every) for seed in seeds]
            found[kind][f"{shape} {support}"] = grown
            ends = 100 * np.mean([one.accuracy[-1] for one in grown])
            good = sum(bool((one.accuracy >= HIGH).any()) for one in grown)
            said = f"{kind}, {shape} {support}: accuracy {ends:.1f} % at the end, {good} of {len(grown)} were ever good"
            print(said, flush=True)
    report(found)
    with mpl.rc_context(STYLE):
        for kind, starts in found.items():
            path = options.out.with_stem(f"{options.out.stem}-{kind}")
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn(starts).savefig(path, dpi=120)  # bands that lie over each other need more colours than most


def made(kind: str, shape: str, support: float, side: int, seed: int) -> nn.Sequential:
    """A network whose weights and biases are all drawn from one distribution, as the authors have it.

    Args:
        kind: "connected", of five layers; or "convolutional", of two convolutions and two layers.
        shape: "uniform" between -support and support, or "normal" with it as its standard deviation.
        support: of the distribution.
        side: of the images.
        seed: of the draws.

    Example:
        >>> model = made("connected", "uniform", 0.05, 8, seed=0)
        >>> [tuple(weight.shape) for name, weight in model.named_parameters() if weight.ndim > 1]
        [(32, 64), (32, 32), (32, 32), (32, 32), (10, 32)]
    """
    torch.manual_seed(seed)
    hidden = 32
    if kind == "connected":
        layers = [nn.Flatten(), *(nn.Linear(into, hidden) for into in (side**2, hidden, hidden, hidden))]
    else:
        layers = [nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * (side - 4) ** 2, hidden)]
    layers.append(nn.Linear(hidden, 10))
    model = nn.Sequential()
    weighty = 0
    for layer in layers:
        if isinstance(layer, nn.Flatten):
            model.add_module("flat", layer)
            continue
        weighty += 1
        model.add_module(f"{'conv' if isinstance(layer, nn.Conv2d) else 'fc'}{weighty}", layer)
        if layer is not layers[-1]:
            model.add_module(f"active{weighty}", nn.ReLU())
    for parameter in model.parameters():
        if shape == "uniform":
            nn.init.uniform_(parameter, -support, support)
        else:
            nn.init.normal_(parameter, std=support)
    return model


def grow(kind: str, shape: str, support: float, data: Data, seed: int, epochs: int, every: int) -> Grown:
    """Train a network, and look at it every so many steps."""
    model = made(kind, shape, support, data.train_images.shape[-1], seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE * support)
    accuracies, links = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        wstrack.watch(model, optimizer, every=every, metrics=METRICS, to=folder) as watcher,
    ):
        for _ in range(epochs):
            for batch in torch.split(torch.randperm(len(data.train_labels)), 32):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(data.train_images[batch]), data.train_labels[batch])
                torch.autograd.backward(loss)
                optimizer.step()
                if watcher.steps % every == 0:
                    accuracies.append(accuracy(model, data))
                    links.append(density(model))
        series = watcher.run().series
    values = {metric: series[metric].to_numpy() for metric in METRICS}
    return Grown(np.array(accuracies), values, np.array(links))


@torch.no_grad()
def accuracy(model: nn.Module, data: Data) -> float:
    """The share of the first 1,000 test images that it names rightly."""
    guesses = model(data.test_images[:1000]).argmax(dim=1)
    return float((guesses == data.test_labels[:1000]).double().mean())


def density(model: nn.Module) -> Array:
    """How the links' weights are spread: how many are in each of `LINKS`, of all layers together, as a density."""
    weights = np.concatenate([weight.detach().numpy().ravel() for weight in model.parameters() if weight.ndim > 1])
    return np.histogram(weights, LINKS)[0] / (len(weights) * (LINKS[1] - LINKS[0]))


def separation(low: Array, high: Array) -> float:
    """How often a good network has the higher value than a bad one that is not the same: 1 and 0 tell, 0.5 does not.

    Args:
        low: of each network while it was bad; NaN = never seen so.
        high: of each while it was good.

    Example:
        >>> bad, good = np.array([1.0, 2.0]), np.array([3.0, 4.0])
        >>> separation(bad, good), separation(good, bad), separation(bad, bad)
        (1.0, 0.0, 0.5)
    """
    wins = np.where(low[:, None] == high, 0.5, low[:, None] < high)
    known = np.isfinite(low[:, None]) & np.isfinite(high) & ~np.eye(len(low), dtype=bool)
    return float(wins[known].mean()) if known.any() else float("nan")


def report(found: Mapping[str, Mapping[str, Sequence[Grown]]]) -> None:
    """What changes from bad to good, and how well that tells one from the other."""
    pooled: list[tuple[str, ...]] = []
    counted: list[tuple[object, ...]] = []
    for kind, starts in found.items():
        asked, clear = 0, dict.fromkeys(METRICS, 0)
        rows, told = [], []
        levels: dict[str, list[tuple[Array, Array]]] = {metric: [] for metric in METRICS}
        for start, grown in starts.items():
            low = {metric: np.array([one.level(metric, 0, LOW) for one in grown]) for metric in METRICS}
            high = {metric: np.array([one.level(metric, HIGH, 1.01) for one in grown]) for metric in METRICS}
            for metric in METRICS:
                levels[metric].append((low[metric], high[metric]))
            for layer in range(low["norm"].shape[1]):
                at = start, layer + 1
                ratios = [shown(high[one][:, layer] / low[one][:, layer], 2) for one in ("norm", "fluctuation")]
                both = [shown(one["strength"][:, layer], 2) for one in (low, high)]
                moved = shown(high["strength"][:, layer] - low["strength"][:, layer], 2)
                rows.append((*at, ratios[0], *both, moved, ratios[1]))
                parts = [separation(low[metric][:, layer], high[metric][:, layer]) for metric in METRICS]
                told.append((*at, *(f"{part:.2f}" for part in parts)))
                if np.isfinite(parts).all():
                    asked += 1
                    for metric, part in zip(METRICS, parts, strict=True):
                        clear[metric] += abs(part - 0.5) >= 0.45
        table(
            f"{kind}: from bad to good",
            ("start", "layer", "size, factor", "strength, bad", "strength, good", "difference", "fluctuation, factor"),
            rows,
        )
        table(f"{kind}: how often a good network has the higher value", ("start", "layer", *METRICS), told)
        for layer in range(levels["norm"][0][0].shape[1]):
            parts = []
            for metric in METRICS:
                low_of_all, high_of_all = (
                    np.concatenate([pair[side][:, layer] for pair in levels[metric]]) for side in (0, 1)
                )
                parts.append(f"{separation(low_of_all, high_of_all):.2f}")
            pooled.append((kind, str(layer + 1), *parts))
        counted.append((kind, asked, *clear.values()))
    table(
        "The same where the start is not known: all four together",
        ("kind", "layer", *METRICS),
        pooled,
    )
    table(
        "Layers and starts in which a measure tells good from bad: at least 0.95, or at most 0.05",
        ("kind", "of", *METRICS),
        counted,
    )


def binned(grown: Sequence[Grown], metric: str, layer: int) -> tuple[Array, Array]:
    """A metric by bins of accuracy: the middles of the bins, and (networks, bins), NaN where one was never there."""
    edges = np.round(np.arange(0, 1 + 2 * BIN, BIN), 6)
    values = np.array([[one.level(metric, *pair)[layer] for pair in itertools.pairwise(edges)] for one in grown])
    enough = np.isfinite(values).sum(axis=0) >= min(3, len(grown))
    return edges[:-1][enough] + BIN / 2, values[:, enough]


def drawn(starts: Mapping[str, Sequence[Grown]]) -> Figure:
    """A column a start: the density of the links' weights, and strength and fluctuation by accuracy and layer."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(3, len(starts), squeeze=False)
    middles = (LINKS[1:] + LINKS[:-1]) / 2
    for column, (start, grown) in zip(axes.T, starts.items(), strict=True):
        column[0].set_title(start)
        for colour, name, above, below in (
            (GREY, f"bad, below {LOW}", 0, LOW),
            ("black", f"good, {HIGH} up", HIGH, 1.01),
        ):
            links = [one.links[(one.accuracy >= above) & (one.accuracy < below)] for one in grown]
            if pooled := [each.mean(axis=0) for each in links if len(each)]:
                column[0].plot(middles, np.mean(pooled, axis=0), color=colour, linewidth=1.2, label=name)
        column[0].set_yscale("log")
        column[0].set_ylim(bottom=1e-4)
        for axis, metric in zip(column[1:], METRICS[1:], strict=True):
            for layer, colour in zip(range(grown[0].values[metric].shape[1]), (*COLOURS, GREY), strict=False):
                at, values = binned(grown, metric, layer)
                if len(at):
                    band(axis, at, values, colour, f"layer {layer + 1}")
            axis.set_xlim(0, 1)
            means = np.concatenate([line.get_ydata() for line in axis.lines] or [[1.0]])
            if metric == "fluctuation":
                axis.set_yscale("log")
                axis.set_ylim(means.min() / 2, means.max() * 2)
            else:
                axis.set_yscale("symlog", linthresh=1)
        column[0].set_xlabel("weight of a link")
        column[2].set_xlabel("accuracy")
    for axis, label in zip(axes[:, 0], ("density", "strength", "fluctuation"), strict=True):
        axis.set_ylabel(label)
    axes[0, 0].legend(fontsize=7)
    if axes[1, 0].lines:
        axes[1, 0].legend(fontsize=7)
    return figure


if __name__ == "__main__":
    main()
