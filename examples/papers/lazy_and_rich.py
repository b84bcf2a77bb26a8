"""Lazy or rich? Two-layer linear networks from balanced starts (arXiv 2409.14623): which layer moves, and the kernel.

python examples/papers/lazy_and_rich.py --seeds 10 --out lazy-and-rich.png
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from drawing import COLOURS, STYLE, band, save
from intervals import shown, table
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors.torch import save_file

import wstrack

SHAPES = {"square": (10, 10, 10), "funnel": (20, 10, 10), "inverted funnel": (10, 10, 20)}  # inputs, hidden, outputs
BALANCES = (-30.0, -10.0, -3.0, -1.0, -0.3, -0.1, 0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SMALL = 0.1  # the largest singular value of W2 W1 at the start
ENOUGH = 1e-6  # of the loss at the start


@dataclass(frozen=True)
class Learnt:
    """What training did to the networks of one shape: arrays of (seeds, balances)."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    kernel: NDArray[np.float64]
    balance: NDArray[np.float64]
    drift: NDArray[np.float64]
    loss: NDArray[np.float64]


def main() -> None:
    """Train, print the tables, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="how many targets, starts and inputs")
    parser.add_argument("--steps", type=int, default=200_000, help="at most as many, of gradient descent")
    parser.add_argument("--balances", type=float, nargs="+", default=list(BALANCES), help="values of lambda")
    parser.add_argument("--out", type=Path, default=Path("lazy-and-rich.png"), help="gets the figure")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the matrices are small
    balances = sorted(options.balances)
    found = {name: learn(shape, balances, options.seeds, options.steps) for name, shape in SHAPES.items()}
    report(found, balances)
    with mpl.rc_context(STYLE):
        save(drawn(found, balances), options.out)


def balanced(
    shape: tuple[int, int, int], balance: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random weights with W2' W2 - W1 W1' = balance * I and a small product.

    Args:
        shape: inputs, hidden, outputs; hidden units are as many as the fewer of the other two.
        balance: lambda, of either sign.
        generator: of the random numbers.

    Returns:
        W1 (hidden, inputs) and W2 (outputs, hidden), float64.

    Example:
        >>> first, second = balanced((4, 3, 3), -2.0, torch.Generator().manual_seed(0))
        >>> torch.allclose(second.T @ second - first @ first.T, -2.0 * torch.eye(3, dtype=torch.float64))
        True
    """
    inputs, hidden, outputs = shape
    product = SMALL * (1 + torch.rand(hidden, generator=generator, dtype=torch.float64)) / 2
    middle = torch.sqrt(balance**2 + 4 * product**2)
    right, left, turn = (rotation(side, generator) for side in (inputs, outputs, hidden))
    first = turn @ torch.diag(((middle - balance) / 2).sqrt()) @ right[:hidden]
    second = left[:, :hidden] @ torch.diag(((middle + balance) / 2).sqrt()) @ turn.T
    return first, second


def rotation(side: int, generator: torch.Generator) -> torch.Tensor:
    """A random orthogonal matrix (side, side)."""
    q, r = torch.linalg.qr(torch.randn(side, side, generator=generator, dtype=torch.float64))
    turned: torch.Tensor = q * torch.sign(torch.diagonal(r))  # without it QR would favour some directions
    return turned


def kernel(first: torch.Tensor, second: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """The neural tangent kernel of W2 W1 on inputs (inputs, samples): I (x) X' W1' W1 X + W2 W2' (x) X' X."""
    hidden = first @ inputs
    return torch.kron(torch.eye(len(second), dtype=first.dtype), hidden.T @ hidden) + torch.kron(
        second @ second.T, inputs.T @ inputs
    )


def kernel_distance(before: torch.Tensor, after: torch.Tensor) -> float:
    """1 - cosine of two kernels: 0 = the same up to a factor.

    Example:
        >>> round(kernel_distance(torch.eye(2), torch.ones(2, 2)), 4)
        0.2929
    """
    return float(1 - (before * after).sum() / (before.norm() * after.norm()))


def learn(shape: tuple[int, int, int], balances: Sequence[float], seeds: int, steps: int) -> Learnt:
    """Train every seed at every balance, all networks at once, by gradient descent with steps too small to matter."""
    inputs, hidden, outputs = shape
    starts, targets, samples = [], [], []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        strengths = torch.diag(torch.linspace(1, 3, hidden, dtype=torch.float64))
        turned = rotation(outputs, generator)[:, :hidden] @ strengths @ rotation(inputs, generator)[:hidden]
        whitened = rotation(inputs, generator)
        for balance in balances:
            starts.append(balanced(shape, balance, generator))
            targets.append(turned)
            samples.append(whitened)
    first, second = (torch.stack(weights) for weights in zip(*starts, strict=True))
    target, data = torch.stack(targets), torch.stack(samples)
    largest = torch.linalg.matrix_norm(first, 2) ** 2 + torch.linalg.matrix_norm(second, 2) ** 2
    rate = (0.05 / (largest + 6))[:, None, None]  # 6: what fitting the strongest direction, 3, adds
    wanted = target @ data
    begun = losses(first, second, data, wanted)
    for step in range(steps):
        hidden_units = first @ data
        error = second @ hidden_units - wanted
        if step % 100 == 0 and bool(((error**2).sum((1, 2)) / 2 < ENOUGH * begun).all()):
            break
        moved = second.mT @ error @ data.mT
        second = second - rate * (error @ hidden_units.mT)
        first = first - rate * moved
    left = losses(first, second, data, wanted) / begun
    rows = [measured(start, (w1, w2), x) for start, w1, w2, x in zip(starts, first, second, samples, strict=True)]
    columns = np.array([*np.array(rows).T, left.numpy()])
    return Learnt(*columns.reshape(6, seeds, len(balances)))


def losses(first: torch.Tensor, second: torch.Tensor, data: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Half the squared error of each network, (networks,)."""
    return ((second @ first @ data - wanted) ** 2).sum((1, 2)) / 2


def measured(
    start: tuple[torch.Tensor, torch.Tensor], end: tuple[torch.Tensor, torch.Tensor], data: torch.Tensor
) -> tuple[float, float, float, float, float]:
    """Relative changes of W1 and W2, the kernel distance, the balance at the end, and how far it drifted."""
    names = "W1.weight", "W2.weight"  # as a model would name them: so wstrack sees which one reads the other
    before, after = ({name: one.contiguous() for name, one in zip(names, pair, strict=True)} for pair in (start, end))
    change = wstrack.diff(before, after, metrics=("rwc_l2",)).series["rwc_l2"].iloc[-1]
    distance = kernel_distance(kernel(*start, data), kernel(*end, data))
    with tempfile.TemporaryDirectory() as folder:
        for step, weights in enumerate((before, after)):
            save_file(weights, Path(folder, f"step-{step}.safetensors"))
        balance = wstrack.pull(f"checkpoints:{folder}", metrics=["balance"]).series["balance"][names[0]].iloc[-1]
    was, now = (w2.T @ w2 - w1 @ w1.T for w1, w2 in (start, end))
    size = end[1].norm() ** 2 + end[0].norm() ** 2
    first, second = (float(change[name]) for name in names)
    return first, second, distance, float(balance), float((now - was).norm() / size)


def report(found: dict[str, Learnt], balances: Sequence[float]) -> None:
    """Every number of the figure, and the claims side by side."""
    for name, learnt in found.items():
        rows = []
        for at, balance in enumerate(balances):
            numbers = (learnt.first, learnt.second, learnt.kernel, learnt.balance)
            worst = f"{learnt.loss[:, at].max():.0e}", f"{learnt.drift[:, at].max():.0e}"
            rows.append((f"{balance:g}", *(shown(values[:, at], 3) for values in numbers), *worst))
        inputs, hidden, outputs = SHAPES[name]
        table(
            f"{name}: {inputs}-{hidden}-{outputs}",
            (
                "lambda",
                "change of W1",
                "change of W2",
                "kernel distance",
                "balance at the end",
                "loss left, at most",
                "drift, at most",
            ),
            rows,
        )
    rows = []
    for name, learnt in found.items():
        middle = int(np.argmin(np.abs(balances)))
        ends = [shown(learnt.kernel[:, middle] - learnt.kernel[:, at], 3) for at in (0, -1)]
        more = [shown(np.log10(learnt.first[:, at] / learnt.second[:, at]), 2) for at in (0, middle, -1)]
        rows.append((name, *ends, *more))
    low, high = f"{balances[0]:g}", f"{balances[-1]:g}"
    heads = (
        "shape",
        f"kernel distance at 0 less that at {low}",
        f"less that at {high}",
        f"log10 of change of W1 : W2 at {low}",
        "at 0",
        f"at {high}",
    )
    table("The claims, in pairs within a seed", heads, rows)


def drawn(found: dict[str, Learnt], balances: Sequence[float]) -> Figure:
    """Relative change of both layers, and the kernel distance, against lambda; a column a shape."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    axes = figure.subplots(2, len(found), sharex=True)  # kernels move tenfold more in the funnels: no common scale
    for (name, learnt), (above, below) in zip(found.items(), axes.T, strict=True):
        band(above, balances, learnt.first, COLOURS[0], "W1", "o")
        band(above, balances, learnt.second, COLOURS[1], "W2", "s")
        band(below, balances, learnt.kernel, COLOURS[2], "kernel", "D")
        above.set_title(f"{name}, {'-'.join(map(str, SHAPES[name]))}")
        above.set_yscale("log")
        above.set_ylim(1e-3, 1e2)
        below.set_ylim(bottom=0)
        below.set_xscale("symlog", linthresh=0.1, linscale=0.5)
        below.set_xlim(balances[0] * 1.5, balances[-1] * 1.5)
        ticks = [-10, -1, -0.1, 0, 0.1, 1, 10]
        below.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
        below.minorticks_off()
        below.set_xlabel("λ  (W2'W2 − W1W1' = λI)")
    axes[0, 0].set_ylabel("relative change\n‖W − W₀‖ / ‖W₀‖")
    axes[1, 0].set_ylabel("kernel distance\n1 − cos(K₀, K)")
    axes[0, 0].legend()
    return figure


if __name__ == "__main__":
    main()
