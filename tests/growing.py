"""Runs that go on, as a watch in this process leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER


def record(place: Path, samples: int, names: list[str] | None = None, *, after: int = 0) -> Recorder:
    """A run as a watch leaves it that goes on: a recording, whose layers differ in level."""
    layers = tuple(Layer(name, "conv", (3, 3), 9) for name in names or [f"block.{i}.weight" for i in range(9)])
    recorder = Recorder(
        place / FOLDER, Manifest(place.name, layers, ("rwc",), 1), ("abs_change", "abs_previous"), after=after or None
    )
    add(recorder, len(layers), range(after + 1, after + samples + 1))
    return recorder


def add(recorder: Recorder, layers: int, steps: range) -> None:
    rng = np.random.default_rng(steps.start)
    level = 10.0 ** (-1 - np.arange(layers) * 3 // layers)
    for step in steps:
        change = level * np.exp(rng.normal(0, 0.1, layers))
        recorder.append([step], [1], [float(step)], np.stack([change, np.ones(layers)], axis=1)[None])
