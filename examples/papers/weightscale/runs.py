"""The runs of train.py read back, and the few statistics that compare.py and figures.py share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

import wstrack
from wstrack import analysis

METRICS = ("rwc", "rwc_elementwise")
Preset = Literal["weightscale"] | None


@dataclass(frozen=True)
class Trained:
    """A run, what it trained, and its accuracy on the test images after the last epoch (0 to 1)."""

    model: str
    optimizer: str
    data: str
    seed: int
    accuracy: float
    epochs: int
    images: int
    run: wstrack.Run

    def logs(self, metric: str) -> pd.DataFrame:
        """log10 of the metric: index = step, columns = layers in model order; NaN where it is infinite or zero."""
        values = self.run.series[metric]
        return values.where(np.isfinite(values) & (values > 0)).apply(np.log10)

    def levels(self, metric: str) -> pd.Series[float]:
        """By layer, the mean of log10 of the metric over the epochs."""
        return self.logs(metric).mean()


def trained(folder: Path) -> list[Trained]:
    """Every finished run in a folder, sorted by model, optimizer, data and seed."""
    found = []
    for path in sorted(folder.rglob("result.json")):
        facts = json.loads(path.read_text())
        name = facts["model"] if ":" in facts["model"] else f"{facts['model']}, width {facts['width']}"
        found.append(
            Trained(
                model=name,
                optimizer=facts["optimizer"],
                data=facts["data"],
                seed=facts["seed"],
                accuracy=facts["accuracy"][-1],
                epochs=facts["epochs"],
                images=facts["train"],
                run=wstrack.pull(path.parent),
            )
        )
    if not found:
        raise SystemExit(f"no finished runs in {folder}; make some with train.py --out {folder}")
    return sorted(found, key=lambda one: (one.model, one.optimizer, one.data, one.seed))


def grouped(runs: list[Trained], *by: str) -> dict[tuple[str, ...], list[Trained]]:
    """The runs by the named attributes."""
    groups: dict[tuple[str, ...], list[Trained]] = {}
    for one in runs:
        groups.setdefault(tuple(str(getattr(one, name)) for name in by), []).append(one)
    return groups


def thirds(levels: pd.Series[float]) -> NDArray[np.float64]:
    """The mean of the first, the middle and the last third of the layers."""
    return np.array([levels.iloc[part].mean() for part in np.array_split(np.arange(len(levels)), 3)])


def among_equals(run: wstrack.Run, levels: pd.Series[float]) -> float:
    """Mean rank correlation of depth and level among layers of one kind and shape; NaN where no three are alike.

    The first and the last layer have no equals, and equal layers share their number of inputs: what is left of the
    trend is not the doing of a layer's shape.
    """
    alike = run.layers.groupby([run.layers["kind"], run.layers["shape"].astype(str)]).groups
    each = [stats.spearmanr(range(len(names)), levels[names]).statistic for names in alike.values() if len(names) > 2]
    return float(np.mean(each)) if each else float("nan")


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean over seeds and its 95 % interval (Student's t); the interval is NaN where there is one value."""
    known = np.array([value for value in values if np.isfinite(value)])
    if len(known) < 2:
        return (float(known.mean()) if len(known) else float("nan")), float("nan"), float("nan")
    half = stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return float(known.mean()), float(known.mean() - half), float(known.mean() + half)


def agreements(group: list[Trained], metric: str, k: int, preset: Preset) -> pd.DataFrame:
    """How far clusters agree (median adjusted Rand index): index = seed, columns as in `Stability.perturbations`.

    "random halves": the clusters in two halves of the seed's epochs; "runs": those of each two seeds, which is the same
    for every seed. NaN where there is nothing to compare.
    """
    curves = {one.seed: analysis.prepare(one.run.series[metric], preset=preset).values for one in group}
    runs = list(curves.values())
    # Only two of its perturbations are asked for: no data without clusters, and as few bootstraps as can be.
    how = analysis.Procedure(k=k, preset=preset)
    found = {
        seed: analysis.measure_stability(one, how, runs=runs, nulls=0, bootstraps=1) for seed, one in curves.items()
    }
    medians = {seed: each.perturbations["median"] for seed, each in found.items() if each}
    return pd.DataFrame(medians, dtype=np.float64).reindex(index=["random halves", "runs"], columns=list(curves)).T
