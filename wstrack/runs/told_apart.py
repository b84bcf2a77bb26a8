"""Where two runs that were watched first differ, by the fingerprints of their layers: bits, not distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from wstrack.errors import WstrackError
from wstrack.runs.run import Completeness, Run

__all__ = ["told_apart"]


def told_apart(one: Run, other: Run, *, metrics: Sequence[str] | None = None) -> Run:
    """Whether each layer holds the same bits in two runs, at each step that both have.

    Args:
        one, other: of one network, with the metric `fingerprint`.
        metrics: `differs`, or None for it.

    Returns:
        A run with the metric `differs`: 1 where a layer's fingerprints are not the same, 0 where they are, NaN where
        one of the runs has none.

    Raises:
        ValueError: another metric.
        WstrackError: a run without fingerprints, or the two have no step or no layer in common.

    Example:
        >>> from wstrack.runs.manifest import Layer, Manifest
        >>> manifest = Manifest("demo", (Layer("a.weight"), Layer("b.weight")), ("fingerprint",), every=1)
        >>> one, other = (
        ...     Run.from_values(manifest, [1, 2], {"fingerprint": np.array([[7.0, 8.0], [7.0, last]])})
        ...     for last in (8.0, 9.0)
        ... )
        >>> told_apart(one, other).series["differs"]
              a.weight  b.weight
        step
        1          0.0       0.0
        2          0.0       1.0
    """
    if metrics is not None and tuple(metrics) != ("differs",):
        raise ValueError(
            f"metrics={tuple(metrics)!r}: of two recordings there is 'differs' alone; give the folders of their "
            "checkpoints for distances"
        )
    for run in (one, other):
        if "fingerprint" not in run.series:
            raise WstrackError(
                f"the run {run.name!r} holds no fingerprints; watch it with metrics=('rwc', 'fingerprint'), or compare "
                "the checkpoints of the two runs"
            )
    mine, yours = one.series["fingerprint"], other.series["fingerprint"]
    steps = mine.index.intersection(yours.index)
    layers = [name for name in mine.columns if name in yours.columns]
    if not len(steps) or not layers:
        what = "step" if layers else "layer"
        raise WstrackError(f"the runs {one.name!r} and {other.name!r} have no {what} in common with a fingerprint")
    first, second = mine.loc[steps, layers], yours.loc[steps, layers]
    differs = (first != second).astype(np.float64).where(first.notna() & second.notna())
    notes = [
        f"{len(frame) - len(steps)} samples of {run.name} have no twin"
        for run, frame in ((one, mine), (other, yours))
        if len(frame) > len(steps)
    ]
    notes += [
        f"{frame.shape[1] - len(layers)} layers of {run.name} are not in the other run"
        for run, frame in ((one, mine), (other, yours))
        if frame.shape[1] > len(layers)
    ]
    received = int(differs.notna().sum().sum())
    return Run(
        series={"differs": differs},
        layers=one.layers.loc[layers],
        facts={},
        completeness=Completeness(differs.size, received, tuple(notes)),
        intervals=pd.Series(dtype="int64"),
        origin={
            "name": f"{one.name} and {other.name}",
            "twins": [run.origin.get("reference", run.name) for run in (one, other)],
        },
        sums={"differs": differs},
    )
