"""Do twins part? Iris, networks that begin almost alike, and three regimes of learning rates (arXiv 2404.05782).

python examples/papers/twins_iris.py --seeds 200 --out twins-iris.png
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from drawing import COLOURS, GREY, STYLE, save
from intervals import shown, table
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.stats import beta
from sklearn.datasets import load_iris

import wstrack
from wstrack.analysis import exponent

HIDDEN, TWINS = 10, 5
LAYERS = ("first", "second")


@dataclass(frozen=True)
class Regime:
    """A learning rate of the paper, and how long and of how many starts it is followed."""

    name: str
    rate: float
    epochs: int
    share: float  # of the seeds: the long ones take long


REGIMES = (Regime("low", 0.01, 5000, 0.1), Regime("middle", 1.0, 200, 1.0), Regime("high", 5.0, 10_000, 0.1))


@dataclass(frozen=True)
class Followed:
    """One regime: apart (epochs + 1, seeds, twins), loss (epochs + 1, seeds) of the first of each family."""

    regime: Regime
    apart: NDArray[np.float64]
    loss: NDArray[np.float64]


Weights = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # W1, b1, W2, b2; networks first


def main() -> None:
    """Follow every regime, compare one pair of each with what wstrack reads from checkpoints, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--seeds", type=int, default=200, help="starts, with five twins each; a tenth in the long regimes"
    )
    parser.add_argument("--epochs", type=int, help="of every regime; by default as the paper: 5000, 200 and 10000")
    parser.add_argument("--eps", type=float, default=1e-8, help="how far twins are apart at the start, in each weight")
    parser.add_argument("--out", type=Path, default=Path("twins-iris.png"), help="gets the figure")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the matrices are small
    found = []
    for one in REGIMES:
        epochs, seeds = options.epochs or one.epochs, max(2, round(one.share * options.seeds))
        found.append(follow(one, starts(seeds), epochs, options.eps))
        if one.rate == REGIMES[-1].rate:
            late = Regime(f"{one.name}, twins from epoch {epochs // 2}", one.rate, one.epochs, one.share)
            begun = settled(one, seeds, epochs // 2)
            report([*found, follow(late, begun, epochs - epochs // 2, options.eps)])
    sizes(options.seeds, options.epochs or REGIMES[1].epochs)
    by_checkpoints([Regime(one.name, one.rate, min(200, options.epochs or 200), 1) for one in REGIMES], options.eps)
    with mpl.rc_context(STYLE):
        save(drawn(found, options.eps), options.out)


def flowers() -> tuple[torch.Tensor, torch.Tensor]:
    """120 of the 150 flowers, always the same: features in centimetres (120, 4), and species (120,)."""
    features, species = load_iris(return_X_y=True)
    kept = np.random.default_rng(0).permutation(len(species))[:120]
    return torch.from_numpy(features[kept]), torch.from_numpy(species[kept]).long()


def starts(seeds: int) -> Weights:
    """Normal weights of variance 1 and no biases, (seeds, ...), float64: a network a seed."""
    first, second = [], []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        first.append(torch.randn(4, HIDDEN, generator=generator, dtype=torch.float64))
        second.append(torch.randn(HIDDEN, 3, generator=generator, dtype=torch.float64))
    none = torch.zeros(seeds, 1, HIDDEN, dtype=torch.float64), torch.zeros(seeds, 1, 3, dtype=torch.float64)
    return torch.stack(first), none[0], torch.stack(second), none[1]


def families(begun: Weights, eps: float) -> Weights:
    """Networks with their twins, one family after the other: (seeds * 6, ...), the first of six unmoved."""
    generator = torch.Generator().manual_seed(0)
    moved = []
    for number, weights in enumerate(begun):
        each = weights[:, None].repeat(1, TWINS + 1, 1, 1)
        if number in (0, 2):  # the paper leaves the biases alike
            each[:, 1:] += eps * (2 * torch.rand(each[:, 1:].shape, generator=generator, dtype=torch.float64) - 1)
        moved.append(each.flatten(0, 1))
    return moved[0], moved[1], moved[2], moved[3]


def descended(weights: Weights, rate: float, epochs: int) -> Iterator[tuple[Weights, torch.Tensor]]:
    """Gradient descent on all 120 flowers at once: weights, losses (networks,) before each step and after the last.

    The gradients of sigmoid, softmax and cross-entropy are written out, which takes many small networks at once.
    """
    features, species = flowers()
    wanted = torch.nn.functional.one_hot(species, 3).double()
    w1, b1, w2, b2 = weights
    for epoch in range(epochs + 1):
        hidden = torch.sigmoid(features @ w1 + b1)
        logs = torch.log_softmax(hidden @ w2 + b2, 2)
        yield (w1, b1, w2, b2), -(logs * wanted).sum(2).mean(1)
        if epoch == epochs:
            return
        error = (logs.exp() - wanted) / len(features)
        back = error @ w2.mT * hidden * (1 - hidden)
        w2, b2 = w2 - rate * hidden.mT @ error, b2 - rate * error.sum(1, keepdim=True)
        w1, b1 = w1 - rate * features.T @ back, b1 - rate * back.sum(1, keepdim=True)


def follow(regime: Regime, begun: Weights, epochs: int, eps: float) -> Followed:
    """The distances of all twins from the first of their family, epoch by epoch."""
    count = len(begun[0])
    apart, loss = [], []
    for weights, losses in descended(families(begun, eps), regime.rate, epochs):
        by_family = [one.reshape(count, TWINS + 1, *one.shape[1:]) for one in weights]
        each = [(one[:, 1:] - one[:, :1]).abs().sum((2, 3)) for one in by_family]
        apart.append(torch.stack(each).sum(0).numpy())
        loss.append(losses[:: TWINS + 1].numpy())
    return Followed(regime, np.array(apart), np.array(loss))


def settled(regime: Regime, seeds: int, epochs: int) -> Weights:
    """The networks of a regime after as many epochs."""
    *_, (weights, _) = descended(starts(seeds), regime.rate, epochs)
    return weights


def report(found: Sequence[Followed]) -> None:
    """How the twins of each regime part, and whether the loss falls all the time."""
    rows = []
    for one in found:
        rates = [exponent(range(len(one.apart)), one.apart[:, seed]) for seed in range(one.apart.shape[1])]
        grown = [rate for rate in rates if rate is not None and rate.grows]
        gain = np.log10(one.apart.mean(2) / one.apart[0].mean(1))
        rises = np.any(np.diff(one.loss, axis=0) > 0, axis=0).tolist()
        rows.append(
            (
                f"{one.regime.name}, {one.regime.rate:g}",
                one.apart.shape[1],
                len(one.apart) - 1,
                share(len(grown), len(rates)),
                shown([rate.rate for rate in grown], 3),
                shown(gain.max(0), 2),
                share(int(np.count_nonzero(gain.max(0) > 2)), len(rates)),
                share(sum(rises), len(rises)),
                shown(one.loss[-1], 3),
            )
        )
    heads = (
        "regime, learning rate",
        "starts",
        "epochs",
        "starts whose twins part exponentially",
        "their exponent, per epoch",
        "log10 of growth, largest",
        "starts whose twins part a hundredfold",
        "starts whose loss ever rises",
        "loss at the end",
    )
    table("Twins in three regimes", heads, rows)


def share(count: int, total: int) -> str:
    """A share with its 95 % interval (Clopper and Pearson)."""
    low = beta.ppf(0.025, count, total - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, total - count) if count < total else 1.0
    return f"{count / total:.2f} [{low:.2f}, {high:.2f}]"


def sizes(seeds: int, epochs: int) -> None:
    """Does the exponent depend on how far apart twins begin? The middle regime, fewer starts."""
    regime = REGIMES[1]
    rows = []
    for eps in (1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1e-1):
        one = follow(regime, starts(max(2, seeds // 4)), epochs, eps)
        rates = [exponent(range(len(one.apart)), one.apart[:, seed]) for seed in range(one.apart.shape[1])]
        grown = [rate.rate for rate in rates if rate is not None and rate.grows]
        most = np.log10(one.apart.mean(2) / one.apart[0].mean(1)).max(0)
        rows.append((f"{eps:.0e}", len(rates), share(len(grown), len(rates)), shown(grown, 3), shown(most, 2)))
    heads = ("eps", "starts", "part exponentially", "exponent, per epoch", "log10 of growth, largest")
    table(f"The middle regime by the size of the first difference, learning rate {regime.rate:g}", heads, rows)


def by_checkpoints(regimes: Sequence[Regime], eps: float) -> None:
    """A pair of each regime, saved at every epoch and read by `wstrack.diff`, against sums taken in training."""
    rows = []
    for regime in regimes:
        direct = []
        with tempfile.TemporaryDirectory() as folder:
            for epoch, (weights, _) in enumerate(descended(families(starts(1), eps), regime.rate, regime.epochs)):
                direct.append([float((weights[of][1] - weights[of][0]).abs().sum()) for of in (0, 2)])
                for twin in (0, 1):
                    kept = {
                        f"{name}.weight": weights[of][twin].T.contiguous()
                        for name, of in zip(LAYERS, (0, 2), strict=True)
                    }
                    path = Path(folder, f"twin{twin}", f"step-{epoch}", "model.safetensors")
                    path.parent.mkdir(parents=True)
                    save_file(kept, path)
            run = wstrack.diff(Path(folder, "twin0"), Path(folder, "twin1"))
        read = run.sums["abs_apart"][[f"{name}.weight" for name in LAYERS]].to_numpy()
        simulated = np.array(direct)
        assert read.shape == simulated.shape, f"{len(read)} steps were read of {len(simulated)}"
        one, other = exponent(run.steps, read.sum(1)), exponent(run.steps, simulated.sum(1))
        rates = "–" if one is None or other is None else f"{one.rate:.6f}, {other.rate:.6f}"
        rows.append(
            (f"{regime.name}, {regime.rate:g}", len(read), f"{np.max(np.abs(read / simulated - 1)):.0e}", rates)
        )
    heads = ("regime, learning rate", "steps", "largest relative difference of d_l(t)", "rate of both")
    table("From checkpoints by wstrack.diff, and directly", heads, rows)


def drawn(found: Sequence[Followed], eps: float) -> Figure:
    """The distances above, the losses below; a column a regime."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axes = figure.subplots(2, len(found), sharex="col", sharey="row")
    for one, (above, below) in zip(found, axes.T, strict=True):
        epochs = np.arange(len(one.apart))
        each = np.maximum(one.apart.mean(2), 1e-300)
        for seed in range(min(40, each.shape[1])):
            above.plot(epochs, each[:, seed], color=COLOURS[0], linewidth=0.5, alpha=0.3, rasterized=True)
            below.plot(epochs, one.loss[:, seed], color=COLOURS[1], linewidth=0.5, alpha=0.3, rasterized=True)
        above.plot(
            epochs, np.exp(np.log(each).mean(1)), color="black", linewidth=1.3, label="geometric mean of all starts"
        )
        below.plot(epochs, np.median(one.loss, axis=1), color="black", linewidth=1.3, label="median of starts")
        above.axhline(each[0].mean(), color=GREY, linewidth=0.8, linestyle=":", label="at the start")
        above.set_yscale("log")
        below.set_yscale("log")
        above.set_title(f"{one.regime.name}: learning rate {one.regime.rate:g}")
        below.set_xlabel("epoch")
        if len(epochs) > 1000:  # twins part in the first hundred, if at all
            below.set_xscale("symlog", linthresh=100, linscale=2)
            below.set_xticks([0, 50, 100, 1000, 10_000], ["0", "50", "100", "1,000", "10,000"])
            below.set_xlim(0, len(epochs))
    axes[0, 0].set_ylabel(f"distance of twins  Σ|w − w'|\n(eps {eps:.0e}; thin: a start)")
    axes[1, 0].set_ylabel("loss (cross-entropy)")
    axes[0, 0].legend(loc="upper left")
    axes[1, 0].legend(loc="lower left")
    return figure


if __name__ == "__main__":
    main()
