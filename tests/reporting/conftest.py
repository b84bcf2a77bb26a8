"""Runs to report on: three groups of layers that differ in level and course, with names of every sort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Completeness, Run

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><script>alert(3)</script>",
    "two\nlines\r\n",
    "\u202eturned",
    "x" * 5000,
    "🔥.weight",
    "<!-- <script>",
    r"$$\alpha$$ \(x\)",
    "@{layer}{safe}",
    "' onmouseover='alert(4)",
    "{{ 7 * 7 }} <%= 7 * 7 %>",
    "&lt;b&gt;",
    "ends with \\",
]

NOTE = "</script><img src=x onerror=alert(5)> and half a pair \ud800"


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """A run of noisy curves: the later a layer's third, the larger its values and the slower they fall."""

    def make(
        layers: int | Sequence[str] = 12, samples: int = 30, *, name: str = "a run", seed: int = 0, **facts: object
    ) -> Run:
        names = [f"block.{i}.weight" for i in range(layers)] if isinstance(layers, int) else list(layers)
        rng = np.random.default_rng(seed)
        third = np.arange(len(names)) * 3 // len(names)
        time = np.linspace(0, 1, samples)[:, None]
        values = 10 ** (-4 + third - time * (2 - third) + rng.normal(0, 0.05, (samples, len(names))))
        manifest = Manifest(
            name, tuple(Layer(n, "conv", (8, 4, 3, 3), 288) for n in names), ("rwc",), every=10, facts=facts
        )
        return Run.from_values(manifest, np.arange(1, samples + 1) * 10, {"rwc": values})

    return make


@pytest.fixture
def hostile_run(make_run: Callable[..., Run]) -> Run:
    run = make_run(HOSTILE, name="</title><script>alert('run')</script>", note=NOTE)
    run.layers["kind"] = "<b>kind</b>"
    run.origin["reference"] = "tensorboard:<script>alert(6)</script>"
    size = run.series["rwc"].size
    return replace(run, completeness=Completeness(size + 1, size, ("<script>alert('note')</script>",)))
