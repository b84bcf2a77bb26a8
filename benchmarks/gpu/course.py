"""What a watch should have told of a training, from copies of the weights that are taken beside it and read at the end.

The copies stay on the device, on the stream that trains: nothing waits between a sample and the next step, which would
hide it if a sample read weights that have moved on already.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import wstrack
from gpu.machine import Machine
from gpu.truth import fingerprint, on_host, sums_of, wide
from wstrack.metrics import compute
from wstrack.runs.run import Run

__all__ = ["METRICS", "Course", "Kept", "net", "watched"]

METRICS = ("rwc", "rwc_l2", "rwc_elementwise", "norm", "cosine", "distance", "changed", "changed_bf16", "fingerprint")
EXACT = ("changed", "changed_bf16", "fingerprint")


class Kept:
    """A sink that writes nothing, so that a watch needs no tracker: what is left is the recording in a folder."""

    name, reference, recording_label = "nothing", None, ""

    def __init__(self, folder: Path) -> None:
        self.recording_directory: Path | None = folder

    def bind(self, directory: Path, manifest: object, flush: Callable[[float], bool]) -> None:
        """Nothing."""

    def write(self, samples: Sequence[object]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Course:
    """The weights at each sample.

    Args:
        weights: what the watch measures, in the order of its layers.
        every: calls of the optimizer between samples.
    """

    def __init__(self, weights: Callable[[], Sequence[torch.Tensor]], every: int) -> None:
        self._weights = weights
        self._every = every
        self._calls = self._real = 0
        self._kept = [(0, self._copies())]

    def _copies(self) -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in self._weights()]

    def stepped(self, *, real: bool = True) -> None:
        """The optimizer has been called; `real`: loss scaling has not turned that into nothing."""
        self._calls += 1
        self._real += real
        if self._calls % self._every == 0:
            self._kept.append((self._real, self._copies()))

    def differences(self, run: Run) -> list[str]:
        """A line for each sample and metric of a run that is not what it should be."""
        steps, kept = [step for step, _ in self._kept[1:]], [each for _, each in self._kept]
        lasts = [torch.zeros_like(wide(weight)) for weight in kept[0]]
        lines = [] if run.steps.tolist() == steps else [f"samples at steps {run.steps.tolist()}, should be {steps}"]
        if lines:
            return lines
        for number, step in enumerate(steps):
            found: list[dict[str, float]] = []
            for layer, (w, p, start) in enumerate(zip(kept[number + 1], kept[number], kept[0], strict=True)):
                now, before = wide(w), wide(p)
                found.append(sums_of(now, before, lasts[layer], wide(start)) | fingerprint(on_host(w)))
                lasts[layer] = now - before
            sums = {name: np.array([row[name] for row in found]) for name in found[0]}
            right = compute(METRICS, sums, np.array([float(w.numel()) for w in kept[0]]))
            for metric in METRICS:
                if metric not in run.series:
                    lines.append(f"{metric} was not measured")
                    continue
                told = run.series[metric].loc[step].to_numpy()
                near = 0.0 if metric in EXACT else 2e-6
                same = np.isclose(
                    told, right[metric], rtol=near, atol=1e-5 if metric == "cosine" else 0.0, equal_nan=True
                )
                if not same.all():
                    lines.append(f"{metric} at step {step} is {told.tolist()}, should be {right[metric].tolist()}")
        return lines


def net(machine: Machine, width: int = 512, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """A small network whose parameters are all layers; dry, a tiny one."""
    torch.manual_seed(0)
    wide_ = 16 if machine.dry else width
    return nn.Sequential(
        nn.Linear(wide_, wide_, bias=False), nn.ReLU(), nn.Linear(wide_, wide_, bias=False), nn.ReLU(),
        nn.Linear(wide_, 8, bias=False),
    ).to(machine.device, dtype)  # fmt: skip


@contextmanager
def watched(
    machine: Machine, model: nn.Module, lines: list[str], *, every: int = 2,
    weights: Callable[[], Sequence[torch.Tensor]] | None = None, **options: Any,
) -> Iterator[tuple[wstrack.Watcher, Course]]:  # fmt: skip
    """A watch, and the course that it is held against when the training is over; what is wrong is added to `lines`."""
    with tempfile.TemporaryDirectory() as folder:
        watcher = wstrack.watch(model, every=every, metrics=METRICS, to=Kept(Path(folder)), **options)
        course = Course(weights or (lambda: list(model.parameters())), every)
        try:
            yield watcher, course
        finally:
            watcher.close()
        machine.synchronize()
        run = watcher.run()
        lines += course.differences(run)
        if failed := run.origin.get("failed_samples"):
            lines.append(f"{failed} samples failed")
