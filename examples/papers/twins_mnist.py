"""Is learning fastest where twins begin to part? MNIST, a tanh network, from small to large rates (arXiv 2506.08523).

python examples/papers/twins_mnist.py --data-dir package/src/digits --seeds 5 --out twins-mnist.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from drawing import COLOURS, GREY, STYLE, band, save
from forgetting import digits
from intervals import shown, table
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from weightscale.data import Data

from wstrack.analysis import Exponent, exponent

RATES = (0.0005, 0.002, 0.005, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.5, 5.0, 10.0, 20.0)
HIDDEN = 64
FIRST = 30  # epochs in which twins part, if at all: the shortest window of the paper
ENOUGH = (0.7, 0.8, 0.85, 0.87, 0.88)  # of the test images


@dataclass(frozen=True)
class Followed:
    """One learning rate, all its seeds.

    Attributes:
        apart: (seeds, epochs): the distance of the twins, over all weights and biases.
        accuracy: (seeds, epochs): of the test images, 0 to 1, from before the first step on.
    """

    apart: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    def exponents(self) -> list[Exponent]:
        """How fast the twins of each seed part in the first 30 epochs; later they are as far apart as can be.

        The paper's choice among all windows takes that later plateau for the straightest line wherever it is one.
        """
        found = [exponent(range(FIRST), one[:FIRST]) for one in self.apart]
        return [one for one in found if one is not None]

    def epochs_to(self, wanted: float) -> NDArray[np.float64]:
        """(seeds,): the first epoch with this accuracy; infinite where it is never reached."""
        reached = self.accuracy >= wanted
        return np.where(reached.any(axis=1), reached.argmax(axis=1), np.inf)


def main() -> None:
    """Train, print the tables, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="files of MNIST; without it, scikit-learn's 8 x 8 digits")
    parser.add_argument("--limit", type=int, default=1000, help="training images, all of them in each step")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="learning rates")
    parser.add_argument("--epochs", type=int, default=201)
    parser.add_argument("--eps", type=float, default=1e-8, help="how far twins are apart at the start, in each weight")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("twins-mnist.png"), help="gets the figure")
    options = parser.parse_args()
    data = digits(options.data_dir, options.limit)
    found = {}
    for rate in sorted(options.rates):
        runs = [follow(data, rate, seed, options.epochs, options.eps) for seed in range(options.seeds)]
        found[rate] = Followed(*map(np.array, zip(*runs, strict=True)))
    report(found)
    with mpl.rc_context(STYLE):
        save(drawn(found), options.out)


def follow(data: Data, rate: float, seed: int, epochs: int, eps: float) -> tuple[NDArray[np.float64], list[float]]:
    """Train a network and its twin, side by side in one: their distance, (epochs,), and the first one's accuracy.

    Weights start as Glorot and Bengio have it, uniform; biases at 0, and alike in both.
    """
    generator = torch.Generator().manual_seed(seed)
    images, tests = (scaled(pixels) for pixels in (data.train_images, data.test_images))
    wanted = torch.nn.functional.one_hot(data.train_labels, data.classes).double()
    weights = []
    for into, out in ((images.shape[1], HIDDEN), (HIDDEN, data.classes)):
        bound = (6 / (into + out)) ** 0.5
        start = bound * (2 * torch.rand(into, out, generator=generator, dtype=torch.float64) - 1)
        twin = start + eps * (2 * torch.rand(into, out, generator=generator, dtype=torch.float64) - 1)
        weights += [torch.stack([start, twin]), torch.zeros(2, 1, out, dtype=torch.float64)]
    w1, b1, w2, b2 = weights
    apart, accuracy = [], []
    for _ in range(epochs):
        apart.append(float(sum((one[1] - one[0]).abs().sum() for one in (w1, b1, w2, b2))))
        scores = torch.tanh(tests @ w1[0] + b1[0]) @ w2[0] + b2[0]
        accuracy.append(float((scores.argmax(1) == data.test_labels).double().mean()))
        hidden = torch.tanh(images @ w1 + b1)
        error = (torch.softmax(hidden @ w2 + b2, 2) - wanted) / len(images)
        back = error @ w2.mT * (1 - hidden**2)
        w2, b2 = w2 - rate * hidden.mT @ error, b2 - rate * error.sum(1, keepdim=True)
        w1, b1 = w1 - rate * images.T @ back, b1 - rate * back.sum(1, keepdim=True)
    return np.array(apart), accuracy


def scaled(pixels: torch.Tensor) -> torch.Tensor:
    """(images, pixels) from 0 to 1, float64."""
    flat = pixels.flatten(1).double()
    return (flat - flat.min()) / (flat.max() - flat.min())


def report(found: dict[float, Followed]) -> None:
    """Growth and accuracy by learning rate, and where each is at its best."""
    rows = []
    for rate, one in found.items():
        growth = np.log10(one.apart.max(1) / one.apart[:, 0])
        times = one.epochs_to(ENOUGH[1])
        reached = times[np.isfinite(times)]
        part = sum(each.grows for each in one.exponents()), len(times)
        numbers = shown([each.rate for each in one.exponents()], 3), "{} of {}".format(*part), shown(growth, 2)
        final = shown(100 * one.accuracy[:, -1], 1)
        rows.append((f"{rate:g}", *numbers, final, shown(reached, 1), f"{len(reached)} of {len(times)}"))
    heads = (
        "learning rate",
        f"exponent of the first {FIRST} epochs",
        "seeds that part exponentially",
        "log10 of growth",
        "accuracy at the end, %",
        f"epochs to {100 * ENOUGH[1]:.0f} %",
        "seeds that reach it",
    )
    table("Twins by learning rate", heads, rows)

    onset = onsets(found)
    fastest = []
    for wanted in ENOUGH:
        times = np.array([one.epochs_to(wanted) for one in found.values()])
        best = np.array(list(found))[times.argmin(axis=0)]
        best = np.where(np.isfinite(times.min(axis=0)), best, np.nan)
        early, late = 10 ** np.nanmin(np.log10(best)), 10 ** np.nanmax(np.log10(best))
        ratio = np.log10(best / onset)
        fastest.append(
            (f"{100 * wanted:.0f} %", f"{early:g} to {late:g}", shown(times.min(axis=0), 1), shown(ratio, 2))
        )
    print(f"\nTwins part from these rates on, seed by seed: {', '.join(f'{each:g}' for each in onset)}")
    columns = ("accuracy", "fastest rate, over seeds", "epochs there", "log10 of it to the rate from which twins part")
    table("Where learning is fastest", columns, fastest)


def onsets(found: dict[float, Followed]) -> NDArray[np.float64]:
    """(seeds,): the least rate at which twins part exponentially; NaN where they never do."""
    grows = np.array([[each.grows for each in one.exponents()] for one in found.values()])
    return np.where(grows.any(axis=0), np.array(list(found))[grows.argmax(axis=0)], np.nan)


def drawn(found: dict[float, Followed]) -> Figure:
    """Distance of the twins along training; their exponent, the accuracy and the time to learn, against the rate."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    course, parting, learning, speed = figure.subplots(2, 2).ravel()
    rates = list(found)
    shades = ScalarMappable(LogNorm(rates[0], rates[-1]), "viridis")
    for rate, one in found.items():
        course.plot(np.exp(np.log(one.apart).mean(0)), color=shades.to_rgba(rate), linewidth=1.2)  # type: ignore[arg-type]
    course.set_yscale("log")
    course.set_xlabel("epoch")
    course.set_ylabel("distance of twins  Σ|w − w'|")
    course.set_title("twins along training (geometric mean of seeds)")
    figure.colorbar(shades, ax=course, label="learning rate", format="%g")
    slopes = np.array([[each.rate for each in one.exponents()] for one in found.values()]).T
    band(parting, rates, slopes, COLOURS[1], "exponent", "s")
    parting.set_ylabel("exponent, per epoch")
    parting.set_title(f"do twins part? (first {FIRST} epochs)")
    final = 100 * np.array([one.accuracy[:, -1] for one in found.values()]).T
    band(learning, rates, final, COLOURS[0], "accuracy", "o")
    learning.set_ylabel("test accuracy at the end, %")
    learning.set_title("is anything learnt?")
    for wanted, colour, marker in zip(ENOUGH[1::2], COLOURS[2:], "D^", strict=True):
        times = np.array([one.epochs_to(wanted) for one in found.values()])
        speed.plot(rates, times, marker, color=colour, markersize=4, alpha=0.5)
        all_reach = np.isfinite(times).all(axis=1)
        middle = np.exp(np.log(times[all_reach]).mean(axis=1))
        line = np.array(rates)[all_reach], middle
        speed.plot(*line, color=colour, marker=marker, markersize=4, linewidth=1.2, label=f"{100 * wanted:.0f} %")
    speed.set_yscale("log")
    speed.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    speed.set_ylabel("epochs to this test accuracy")
    speed.set_title("how fast? (pale: a seed; lines: where all get there)")
    speed.legend()
    onset = sorted({float(rate) for rate in onsets(found) if np.isfinite(rate)})
    for axis in (parting, learning, speed):
        axis.set_xscale("log")
        axis.set_xlim(rates[0] * 0.8, rates[-1] * 1.25)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xlabel("learning rate")
        for rate in onset:
            axis.axvline(rate, color=GREY, linewidth=0.8, linestyle=":")
    if onset:
        parting.text(onset[0] * 0.9, slopes.max(), "from here twins part", ha="right", va="top", color=GREY)
    return figure


if __name__ == "__main__":
    main()
