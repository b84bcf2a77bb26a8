"""Sweeps as they come of runs that were read, without the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wstrack.runs.listed import Listed
from wstrack.sweeps.summary import Summary
from wstrack.sweeps.summed import Summed, summed_up

__all__ = ["fake_sweep"]


def fake_sweep(
    runs: int = 24,
    layers: int | Sequence[str] = 6,
    *,
    settings: Sequence[str] = ("lr", "width"),
    odd: int = 0,
    unread: int = 0,
    names: Mapping[int, str] | None = None,
    more: Mapping[str, Any] | None = None,
    by: Sequence[str] | None = None,
    seed: int = 0,
) -> Summed:
    """Runs over settings: the change of all layers goes as lr, but for the last, which goes as its root.

    Args:
        runs, layers: how many; or the layers' names.
        settings: the first from 0.001 to 1 evenly in decades, the second powers of two, others as they come.
        odd: how many runs of the middle change a hundred times as much.
        unread: how many of the last could not be read.
        names: by place, other names than "run 0".
        more: settings that all runs have alike.
        by, seed: see `sweep` and numpy.
    """
    rng = np.random.default_rng(seed)
    named = [f"blocks.{place}.weight" for place in range(layers)] if isinstance(layers, int) else list(layers)
    power = np.ones(len(named))
    power[-1] = 0.5
    lr = rng.permutation(np.geomspace(0.001, 1, runs))
    strange = set(range(runs // 2, runs // 2 + odd))
    summaries, listed = [], []
    for place in range(runs):
        values: dict[str, Any] = dict(more or {})
        for nth, name in enumerate(settings):
            values[name] = (
                float(f"{lr[place]:.4g}")
                if nth == 0
                else (
                    int(2 ** rng.integers(5, 9))
                    if nth == 1
                    else f"choice {rng.integers(3)}"
                    if nth % 3 == 2
                    else float(rng.integers(100)) / 10
                )
            )
        reference = f"runs/{place}"
        name = (names or {}).get(place, f"run {place}")
        levels = power * np.log10(lr[place]) - 2 - np.arange(len(named)) / len(named) + rng.normal(0, 0.03, len(named))
        levels[-1] -= 2.0
        levels += 2.0 * (place in strange)
        result = {"val_loss": float(rng.uniform(0.1, 2)), "accuracy": float(rng.uniform(0.5, 1))}
        listed.append(Listed(reference, name, "finished", samples=50, settings=values, results=result))
        if place >= runs - unread:
            summaries.append(Summary(reference, error="its files end in the middle"))
            continue
        findings = (("still", "1 layer did not change: blocks.0.weight"),) if place % 7 == 3 else ()
        summaries.append(
            Summary(
                reference, name=name, metric="rwc", samples=50, first=1, last=500, expected=50 * len(named),
                received=50 * len(named) - (place % 5 == 4), layers=tuple(named), kinds=("linear",) * len(named),
                blocks=("",) * len(named), levels=tuple(map(float, levels)), findings=findings, settings=values,
            )
        )  # fmt: skip
    return summed_up(summaries, listed, by=by)
