"""How surely phases are found in schedules that people have, and how often in noise that has none; prints Markdown.

Run it with `python benchmarks/phases.py` (five minutes).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from wstrack.analysis import find_phases

Vector = NDArray[np.float64]

LAYERS, SAMPLES, RUNS = 10, 126, 40
AT = np.arange(SAMPLES)
SCHEDULES: dict[str, tuple[Vector, tuple[int, ...]]] = {
    "one tenfold drop": (np.where(AT < 63, 0.0, -1.0), (63,)),
    "two tenfold drops": (np.select([AT < 63, AT < 101], [0.0, -1.0], -2.0), (63, 101)),
    "one drop by 30 %": (np.where(AT < 70, 0.0, np.log10(0.7)), (70,)),
    "five halvings": (np.log10(0.5) * (AT // 21), (21, 42, 63, 84, 105)),
    "three cosine restarts": (np.log10(np.maximum(0.5 + 0.5 * np.cos(np.pi * (AT * 4 / 126 % 1)), 1e-3)), (32, 63, 95)),
    "steady": (0.0 * AT, ()),
    "exponential decay": (-AT / 60, ()),
    "power law": (-np.log10(AT + 3), ()),
    "one cosine": (np.log10(0.505 + 0.495 * np.cos(np.pi * AT / SAMPLES)), ()),
}
NOISE: dict[str, Callable[[np.random.Generator], Vector]] = {
    "white": lambda rng: rng.normal(size=SAMPLES),
    "heavy tails (t with 4)": lambda rng: rng.standard_t(4, size=SAMPLES) / np.sqrt(2),
    "slow (AR(1), 0.6)": lambda rng: np.asarray(lfilter([0.8], [1, -0.6], rng.normal(size=SAMPLES + 50)))[50:],
}


def breaks(course: Vector, noise: Callable[[np.random.Generator], Vector], seed: int) -> tuple[int, ...]:
    """Those found in layers that share a course and noise of 0.03 decades, and have 0.05 of their own."""
    rng = np.random.default_rng(seed)
    levels, own = np.linspace(-3, -2, LAYERS)[:, None], rng.normal(size=(LAYERS, SAMPLES))
    return find_phases(pd.DataFrame(levels + course + 0.03 * noise(rng) + 0.05 * own)).breaks


def main() -> None:
    """Print the table."""
    print(
        f"{datetime.date.today()}; {LAYERS} layers, {SAMPLES} samples, {RUNS} runs of each case, 0.03 decades of noise "
        "that all layers share and 0.05 of each its own.\n"
    )
    print("| schedule | noise | breaks | found within a sample | runs with one too many |\n|---|---|---|---|---|")
    for (name, (course, truth)), (kind, noise) in product(SCHEDULES.items(), NOISE.items()):
        found, too_many = 0, 0
        for seed in range(RUNS):
            ours = breaks(course, noise, seed)
            right = [at for at in truth if any(abs(at - one) <= 1 for one in ours)]
            found += len(right)
            too_many += len(ours) > len(right)
        share = f"{found / (RUNS * len(truth)):.0%}" if truth else "–"
        print(f"| {name} | {kind} | {len(truth)} | {share} | {too_many / RUNS:.0%} |", flush=True)


if __name__ == "__main__":
    main()
