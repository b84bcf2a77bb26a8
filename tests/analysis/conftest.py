"""Runs of which the truth is known: planted clusters, phases, frozen layers and spikes, with everything in the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest


@dataclass(frozen=True)
class Planted:
    series: pd.DataFrame
    labels: pd.Series
    breaks: tuple[int, ...]
    frozen: dict[str, int]
    spikes: tuple[int, ...]


EVERY = 50


@pytest.fixture
def plant() -> Callable[..., Planted]:
    """A run with three clusters that differ in level and course, a phase, frozen layers, spikes, noise, gaps."""

    def make(*, seed: int, layers: int = 45, samples: int = 60, frozen: bool = False, spikes: bool = True) -> Planted:
        rng = np.random.default_rng(seed)
        kind = rng.permutation(np.arange(layers) % 3)
        time = np.linspace(0, 1, samples)[:, None]
        at = int(rng.integers(samples // 3, samples // 2))
        logs = np.array([-4.0, -3.0, -2.5])[kind] - np.array([0.2, 0.2, 1.2])[kind] * time
        logs = logs + rng.normal(0, 0.08, layers) + rng.normal(0, 0.1, (samples, layers))
        logs[at:] += np.array([0.5, 0.6, 0.4])[kind]
        spiked = np.sort(rng.choice(np.arange(5, samples - 5), 2, replace=False)) if spikes else np.empty(0, int)
        logs[spiked] += 1.5
        values = 10**logs
        stopped: dict[int, int] = {}
        if frozen:
            for layer in rng.choice(layers, 3, replace=False):
                stopped[int(layer)] = int(rng.integers(samples // 2, samples - samples // 3))
                values[stopped[int(layer)] :, layer] *= 1e-5
        outliers = rng.random(values.shape) < 0.01
        values[outliers] *= 10 ** rng.choice([-1.0, 1.0], outliers.sum())
        values[rng.random(values.shape) < 0.05] = np.nan
        values[rng.random(values.shape) < 0.003] = np.inf
        names = [f"block.{i}.weight" for i in range(layers)]
        steps = np.arange(1, samples + 1) * EVERY
        return Planted(
            series=pd.DataFrame(values, index=pd.Index(steps, name="step"), columns=names),
            labels=pd.Series(kind, index=names),
            breaks=(int(steps[at]),),
            frozen={names[layer]: int(steps[since]) for layer, since in stopped.items()},
            spikes=tuple(int(steps[one]) for one in spiked),
        )

    return make
