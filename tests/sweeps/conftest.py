"""A sweep as recordings: rates, a layer that goes with their root, one that does not, odd runs, a broken one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER

LAYERS = 8
ROOT, CONSTANT = 3, 6  # the layers that go with the square root of the rate, and not at all
POWERS = np.array([{ROOT: 0.5, CONSTANT: 0.0}.get(place, 1.0) for place in range(LAYERS)])


def record(
    folder: Path, lr: float, seed: int, *, apart: float = 1.0, half: float = 1.0, samples: int = 20, more: Any = None
) -> None:
    """A recording of layers whose change goes with the rate, with noise of a run and of a layer."""
    rng = np.random.default_rng(seed)
    levels = 0.1 * lr**POWERS * 10 ** (0.02 * rng.standard_normal() + 0.02 * rng.standard_normal(LAYERS)) * apart
    levels[: LAYERS // 2] *= half
    layers = tuple(Layer(f"block{place // 4}.{place}.weight", "linear", numel=64) for place in range(LAYERS))
    manifest = Manifest(
        folder.name, layers, ("rwc",), every=10, facts={"lr": lr, "seed": seed, "model": "mlp", **(more or {})}
    )
    recorder = Recorder(folder / FOLDER, manifest, ("abs_change", "abs_previous"))
    change = levels * 10 ** (0.05 * rng.standard_normal((samples, LAYERS)))
    steps = list(range(10, 10 * samples + 10, 10))
    recorder.append(steps, [10] * samples, [float(step) for step in steps], np.stack([change, np.ones_like(change)], 2))
    recorder.close()


@pytest.fixture
def swept(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of so many runs: 5 and 13 are odd, 9 broken, where there are as many."""

    def make(count: int = 32) -> Path:
        folder = tmp_path / "runs"
        for place in range(count):
            lr = float(np.geomspace(1e-3, 1.0, 8)[place % 8])
            odd = {"apart": 30.0 if place == 5 else 1.0, "half": 30.0 if place == 13 else 1.0}
            record(folder / f"run{place:03d}", lr, place, **odd)
        if count > 9:
            (part,) = (folder / "run009" / FOLDER).glob("*.arrow")
            part.write_bytes(b"\0" * 100)
        return folder

    return make
