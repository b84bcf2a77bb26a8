"""How surely small groups of layers are found apart from all others, and how often in clouds without any; Markdown.

Run it with `python benchmarks/tree.py` (five minutes).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from wstrack.analysis.tree import grow

Matrix = NDArray[np.float64]

SAMPLES, RUNS = 60, 40
SPREAD = 0.1  # decades, between layers that belong together
WORTH = float(np.log10(1.2))
LAYERS, GROUPS, DISTANCES = (20, 60, 200), (3, 8, 20, 40), (0.2, 0.3, 0.5, 0.7, 1.0)
CLOUDS: dict[str, Callable[[int, np.random.Generator], Matrix]] = {
    "normal": lambda n, rng: rng.normal(size=n),
    "even, over the depth": lambda n, rng: np.linspace(-1.7, 1.7, n),
    "long tails (t with 4)": lambda n, rng: rng.standard_t(4, size=n) / np.sqrt(2),
    "skewed (exponential)": lambda n, rng: rng.exponential(size=n),
}
NOISE: dict[str, Callable[[int, np.random.Generator], Matrix]] = {
    "white": lambda n, rng: rng.normal(size=(n, SAMPLES)),
    "long tails (t with 3)": lambda n, rng: rng.standard_t(3, size=(n, SAMPLES)) / np.sqrt(3),
    "slow (AR(1), 0.9)": lambda n, rng: np.asarray(lfilter([0.44], [1, -0.9], rng.normal(size=(n, SAMPLES + 50))))[
        :, 50:
    ],
}


def layers(cloud: str, noise: str, count: int, group: int, distance: float, seed: int) -> tuple[Matrix, Matrix]:
    """Curves of layers that differ in level and slope, the planted group below them; and which layers are planted.

    `distance` is from the lowest layer of the cloud to the middle of the group.
    """
    rng = np.random.default_rng(seed)
    slopes = rng.normal(size=count)[:, None] * np.linspace(0, 0.5, SAMPLES)
    curves = SPREAD * (CLOUDS[cloud](count, rng)[:, None] + slopes)
    planted = np.zeros(count, dtype=bool)
    planted[rng.permutation(count)[:group]] = True
    lowest = curves[~planted].mean(axis=1).min()
    curves[planted] = lowest - distance + SPREAD / 4 * rng.normal(size=(group, 1))
    return curves + 0.1 * NOISE[noise](count, rng), planted


def found(cloud: str, noise: str, count: int, group: int, distance: float, seed: int) -> tuple[bool, bool]:
    """Whether a branch that is the planted group but for a quarter stands apart; and whether any other does."""
    curves, planted = layers(cloud, noise, count, group, distance, seed)
    tree = grow(pd.DataFrame(curves), least=WORTH)
    right = other = False
    for branch in tree.branches.index[tree.branches["apart"]]:
        inside = np.isin(np.arange(count), [int(name) for name in tree.members(int(branch))])
        shared = max((inside & side).sum() / (inside | side).sum() for side in (planted, ~planted))
        right, other = right or shared >= 0.75, other or shared < 0.75
    return right, other


def main() -> None:
    """Print the tables."""
    print(
        f"{datetime.date.today()}; {SAMPLES} samples, {RUNS} runs of each case; layers that differ by {SPREAD} decades "
        "(standard deviation) and as much noise in each sample.\n"
    )
    print("| cloud without groups | noise | 20 layers | 60 | 200 |\n|---|---|---|---|---|")
    for cloud, noise in product(CLOUDS, NOISE):
        wrong = [sum(found(cloud, noise, count, 0, 0.0, seed)[1] for seed in range(RUNS)) for count in LAYERS]
        print(f"| {cloud} | {noise} | {' | '.join(f'{one / RUNS:.0%}' for one in wrong)} |", flush=True)
    distances = " | ".join(f"{distance} decades" for distance in DISTANCES)
    print(f"\n| layers | of them planted | noise | {distances} |\n|---|---|---|{'---|' * len(DISTANCES)}")
    for count, group, noise in product(LAYERS, GROUPS, NOISE):
        if group <= count // 2:
            cases = [[found("normal", noise, count, group, far, seed)[0] for seed in range(RUNS)] for far in DISTANCES]
            print(f"| {count} | {group} | {noise} | {' | '.join(f'{np.mean(one):.0%}' for one in cases)} |", flush=True)


if __name__ == "__main__":
    main()
