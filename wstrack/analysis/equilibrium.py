"""The change of one step that weight decay brings layers to that a normalisation follows, where it is known to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wstrack.analysis.schedule import schedule_of
from wstrack.runs.run import Run

__all__ = ["Equilibrium", "equilibrium_of"]

_FORGOTTEN = 3.0  # what weight decay takes off a squared norm in all, as a power of e: of the start 5 % are left
_SAME = 1.12  # times; of the learning rate 1.25


@dataclass(frozen=True)
class Equilibrium:
    """A line to hold the changes of single steps against.

    Attributes:
        line: by step, the expected change; NaN where it does not hold, or is not known to.
        layers: those whose parameter groups have it, of several groups those of the most layers.
    """

    line: pd.Series[float]
    layers: tuple[str, ...]


def equilibrium_of(runs: Sequence[Run], metric: str, steps: pd.Index[int]) -> Equilibrium | None:
    """The equilibrium of the most layers of a run, or of several alike; None where it is not known.

    Gradients of a layer to which a normalisation follows are at right angles to its weights, which grow by them and
    shrink by weight decay, until both are the same (arXiv 2305.17212). It is told of single steps, with AdamW or SGD
    (`watch(metrics=("rwc_l2", "equilibrium"), window="step")`), and holds once the decay has taken off the start,
    at a learning rate that stayed the same meanwhile.

    Args:
        runs: what is analysed.
        metric: only of "rwc_l2" it is known; "rwc" is less, by a fifth or so, where few weights change most.
        steps: of the samples.

    Example:
        >>> from wstrack.runs.manifest import Layer, Manifest
        >>> known = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9, "gain": 1.0, "told": 1.0}
        >>> sums = {name: np.full((3, 1), value) for name, value in known.items()}
        >>> values = {"rwc_l2": np.full((3, 1), 0.01), "equilibrium": np.full((3, 1), 0.0103)}
        >>> manifest = Manifest("demo", (Layer("a"),), ("rwc_l2", "equilibrium"), every=1000, window="step")
        >>> run = Run.from_values(manifest, [1000, 2000, 3000], values, intervals=[1, 1, 1], sums=sums)
        >>> equilibrium_of([run], "rwc_l2", run.series["rwc_l2"].index).line.tolist()
        [nan, nan, 0.0103]
    """
    known = schedule_of(runs, steps, of="equilibrium")
    if known is None or metric != "rwc_l2" or not all(_alone(run, steps) for run in runs):
        return None
    decaying = next((number for number, course in known.courses.items() if course.max() > 0), None)
    if decaying is None:
        return None
    line, layers = known.courses[decaying], known.layers[int(str(decaying))]
    lr, weight_decay, gain, told = (
        runs[0].sums[name][layers[0]].reindex(steps).to_numpy() for name in ("lr", "weight_decay", "gain", "told")
    )
    line = line.where(_holds(line.to_numpy(), 2 * lr * weight_decay * gain / told**3, steps.to_numpy()))
    return Equilibrium(line, layers) if line.notna().any() else None


def _alone(run: Run, steps: pd.Index[int]) -> bool:
    """Whether a run's samples are of single steps, and what stands behind its equilibrium is there."""
    return "gain" in run.sums and bool((run.intervals.reindex(steps) == 1).all())


def _holds(line: NDArray[np.float64], decay: NDArray[np.float64], steps: NDArray[np.int64]) -> NDArray[np.bool_]:
    """At which samples the line has been the same for as long as it takes to forget what was before."""
    taken = np.cumsum(np.append(0.0, decay[1:] * np.diff(steps)))
    holds = np.zeros(len(line), dtype=bool)
    for at in range(len(line)):
        since = int(np.searchsorted(taken, taken[at] - _FORGOTTEN, "right")) - 1
        if since >= 0:
            stretch = line[since : at + 1]
            holds[at] = stretch.max() <= _SAME * stretch.min()
    return holds
