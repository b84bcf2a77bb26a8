"""How surely epochs are found by their jumps or their pattern, and how often where there are none; prints Markdown.

Run it with `python benchmarks/periods.py` (six minutes).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from wstrack.analysis import find_epochs, find_phases

Vector = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Vector]

LAYERS, EVERY, RUNS, QUIET_RUNS, RESTARTED_RUNS = 10, 50, 30, 80, 10
STRENGTHS = (1.25, 1.5, 2.0, 3.0)
SCHEDULES: dict[str, Callable[[Vector], Vector]] = {
    "steady": lambda share: 0.0 * share,
    "exponential decay": lambda share: -2 * share,
    "power law": lambda share: -np.log10(200 * share + 3),
    "one cosine": lambda share: np.log10(0.505 + 0.495 * np.cos(np.pi * share)),
    "two tenfold drops": lambda share: -1.0 * (share > 0.5) - 1.0 * (share > 0.8),
    "four cosine restarts": lambda share: np.log10(np.maximum(0.5 + 0.5 * np.cos(np.pi * (share * 5 % 1)), 1e-3)),
    "nine cosine restarts": lambda share: np.log10(np.maximum(0.5 + 0.5 * np.cos(np.pi * (share * 10 % 1)), 1e-3)),
    "eight triangular cycles": lambda share: np.log10(1.1 - np.abs(1 - 2 * (share * 8 % 1))),
}
NOISE: dict[str, Noise] = {
    "white": lambda rng, samples: rng.normal(size=samples),
    "heavy tails (t with 3)": lambda rng, samples: rng.standard_t(3, size=samples) / np.sqrt(3),
    "slow (AR(1), 0.9)": lambda rng, samples: slow(rng, samples, 0.9),
    "slow (AR(1), 0.95)": lambda rng, samples: slow(rng, samples, 0.95),
}


def slow(rng: np.random.Generator, samples: int, memory: float) -> Vector:
    """Noise that remembers so much from sample to sample, of standard deviation one."""
    noise = lfilter([np.sqrt(1 - memory**2)], [1.0, -memory], rng.normal(size=samples + 99))
    return np.asarray(noise)[99:]


def layers(common: Vector, noise: Noise, rng: np.random.Generator) -> pd.DataFrame:
    """Layers that share a course and noise of 0.03 decades, and have 0.05 of their own."""
    samples = len(common)
    own = 0.05 * rng.normal(size=(samples, LAYERS)) + np.linspace(-3, -2, LAYERS)
    logs = own + (common + 0.03 * noise(rng, samples))[:, None]
    return pd.DataFrame(10**logs, index=np.arange(1, samples + 1) * EVERY)


def planted(samples: int, epoch: int, times: float, shape: str, rng: np.random.Generator) -> Vector:
    """A decay in which each epoch begins with a spike, or a jump that goes back until the next, or has a pattern."""
    steps = np.arange(1, samples + 1) * EVERY
    start = int(rng.integers(epoch))  # where the first epoch that is seen begins
    within = (steps - start - 1) % epoch
    shapes = {
        "spike": (within < EVERY) & (steps > start),
        "jump": np.exp(-3 * within / epoch),
        # Of which one standard deviation up is so many times one down.
        "pattern": 0.5 * rng.normal(size=-(-epoch // EVERY))[within // EVERY],
    }
    return np.asarray(-0.5 * steps / steps[-1] + np.log10(times) * shapes[shape])


def found(common: Vector, noise: Noise, rng: np.random.Generator, *, with_phases: bool) -> float | None:
    """The period in steps, as a report would say it."""
    values = layers(common, noise, rng)
    told = find_phases(np.log10(values).T).breaks if with_phases else ()
    period = find_epochs(values, told=told)
    return None if period is None else period.length * EVERY


def main() -> None:
    """Print the tables."""
    print(
        f"{datetime.date.today()}; {LAYERS} layers, a sample every {EVERY} steps, 0.03 decades of noise that all "
        f"layers share and 0.05 of each its own; {RUNS} runs of each case. Found: the period to within one sample.\n"
    )
    print(f"| samples | epoch | shape | {' | '.join(f'{times:g} times' for times in STRENGTHS)} | another period |")
    print("|---" * (4 + len(STRENGTHS)) + "|")
    for samples, epoch in ((60, 400), (126, 250), (126, 937), (300, 937), (300, 2500), (1000, 937)):
        for shape in ("spike", "jump", "pattern"):
            shares, other = [], 0
            for times in STRENGTHS:
                rng = np.random.default_rng(0)
                ours = [
                    found(planted(samples, epoch, times, shape, rng), NOISE["white"], rng, with_phases=False)
                    for _ in range(RUNS)
                ]
                right = [period is not None and abs(period - epoch) <= EVERY for period in ours]
                shares.append(f"{np.mean(right):.0%}")
                other += sum(period is not None for period in ours) - sum(right)
            print(
                f"| {samples} | {epoch} | {shape} | {' | '.join(shares)} | {other / (RUNS * len(STRENGTHS)):.1%} |",
                flush=True,
            )

    print(
        f"\nNothing planted, 126 samples, {QUIET_RUNS} runs of each case ({RESTARTED_RUNS} of those with restarts, "
        "where phases are looked for first): how often a period is told all the same.\n"
    )
    print(f"| schedule | {' | '.join(NOISE)} |")
    print("|---" * (1 + len(NOISE)) + "|")
    share = np.arange(126) / 126
    at_random = "steady, ten spikes at random"
    for name in (*SCHEDULES, at_random):
        wrong, restarts = [], "restarts" in name
        runs = RESTARTED_RUNS if restarts else QUIET_RUNS
        for noise in NOISE.values():
            rng, count = np.random.default_rng(0), 0
            for _ in range(runs):
                common = SCHEDULES.get(name, SCHEDULES["steady"])(share)
                if name == at_random:
                    common = common + np.isin(np.arange(126), rng.choice(126, 10, replace=False))
                count += found(common, noise, rng, with_phases=restarts) is not None
            wrong.append(f"{count / runs:.1%}")
        print(f"| {name} | {' | '.join(wrong)} |", flush=True)


if __name__ == "__main__":
    main()
