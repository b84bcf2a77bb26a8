"""What the tests of W&B put into its runs, and what they find there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from wstrack_integrations import wandb as tracker

from tests.integrations.wandb_written import written
from wstrack.runs.manifest import Layer, Manifest
from wstrack.trackers.contract import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wstrack.runs.run import Run

NAMES = ("layer1.0.conv1.weight", "fc.weight", "w[0]", "größe.权重")


def manifest_of(*names: str, metrics: Sequence[str] = ("rwc",)) -> Manifest:
    layers = tuple(Layer(layer, "linear", (2, place + 1), 2 * place + 2) for place, layer in enumerate(names or NAMES))
    return Manifest("demo", layers, tuple(metrics), every=10, facts={"seed": 3})


def samples_of(manifest: Manifest, steps: Sequence[int]) -> list[Sample]:
    random = np.random.default_rng(0)
    return [
        Sample(step, 10, 1e9 + step, {metric: random.random(len(manifest.layers)) for metric in manifest.metrics})
        for step in steps
    ]


def history_of(run: Any) -> list[dict[str, Any]]:
    """What the client wrote, as its protobuf classes tell it."""
    rows = []
    for record in written(run.dir):
        if record.WhichOneof("record_type") == "history":
            row = {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            rows.append(row)
    return rows


def read(place: Path | str, **options: Any) -> Run:
    return tracker.open_source(str(place)).read(f"wandb:{place}", **options)


def values(samples: Sequence[Sample], metric: str = "rwc") -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([sample.values[metric] for sample in samples])
