"""What is to be told of runs that should be alike: where two of them, or the replicas of one, part, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wstrack.analysis.findings.words import Finding, number, together
from wstrack.analysis.growth import LEAST_GROWTH, LEAST_R2, exponent, exponents

if TYPE_CHECKING:
    from wstrack.runs.run import Run

__all__ = ["of_twins"]


def of_twins(runs: Sequence[Run]) -> list[Finding | None]:
    """What is told of two runs step by step (`wstrack.diff`), and of a run whose replicas were compared."""
    of_two = [of(run) for run in runs if "twins" in run.origin for of in (_parted, _growth)]
    return [*of_two, *(_strayed(run) for run in runs if "replicas" in run.series)]


def _strayed(run: Run) -> Finding | None:
    """The first sample at which a layer is not the same in all processes."""
    apart = run.series["replicas"].fillna(0)
    at = np.flatnonzero((apart > 0).any(axis=1))
    if not len(at):
        return None
    step, first = int(apart.index[at[0]]), apart.iloc[at[0]]
    layers = [str(name) for name in apart.columns]
    those = [layer for layer, count in zip(layers, first, strict=True) if count > 0]
    most = int(first.max())
    ranks = run.origin.get("ranks")
    of_all = f"Of the {ranks} processes that" if isinstance(ranks, int) else "Of the processes that"
    some = "at least one does" if most == 1 else f"at least {most} do"  # others may have strayed in other layers
    return Finding(
        "parted",
        f"{of_all} should hold the same weights, {some} not from step {step:,} on, in {together(those, layers)}. "
        f"Which ranks these are, their own logs say.",
        "heatmap",
        {"step": step, "layers": len(those), "of": len(layers), "processes": most},
        tuple(those),
        (step,),
    )


def _parted(run: Run) -> Finding | None:
    """The first step at which a layer is not the same in both, and the layers that are not."""
    unlike = next((run.sums[name] for name in ("differs", "differing", "abs_apart") if name in run.sums), None)
    if unlike is None or unlike.empty:
        return None
    differ = unlike.fillna(0) > 0
    at = np.flatnonzero(differ.any(axis=1))
    steps, layers = [int(step) for step in unlike.index], [str(name) for name in unlike.columns]
    # Of checkpoints it is known that the numbers are the same: 0 is -0.
    same = "the same, bit for bit," if "differs" in run.sums else "the same, number for number,"
    unknown = int(unlike.isna().to_numpy().sum())
    but = f" Of {unknown:,} of {unlike.size:,} values of layers it is not known." if unknown else ""
    if not len(at):
        return Finding(
            "parted",
            f"The two runs are {same} at all {len(steps):,} steps that both have, {steps[0]:,} to {steps[-1]:,}.{but}",
            "heatmap",
            {"samples": len(steps), "layers": 0, "unknown": unknown},
        )
    first = int(at[0])
    those = [layer for layer, meant in zip(layers, differ.iloc[first], strict=True) if meant]
    what = together(those, layers)
    at_first = (
        f"The two runs are {same} up to step {steps[first - 1]:,}; at step {steps[first]:,} they differ"
        if first
        else f"The two runs differ from the first step on that both have, {steps[0]:,},"
    )
    ever = int(differ.any().sum())
    more = f", and later in {'all' if ever == len(layers) else ever} of them" if len(those) < ever else ""
    return Finding(
        "parted",
        f"{at_first} in {what}{more}.{but}",
        "heatmap",
        {"step": steps[first], "layers": len(those), "of": len(layers), "unknown": unknown},
        tuple(those),
        (steps[first],),
    )


def _growth(run: Run) -> Finding | None:
    """How fast the distance of all layers together grows, where a line fits its logarithm."""
    if "abs_apart" not in run.sums:
        return None
    apart = run.sums["abs_apart"].replace([np.inf, -np.inf], np.nan)
    whole = apart.sum(axis=1, skipna=False)
    found = exponent(whole.index, whole)
    if found is None or found.r2 < LEAST_R2 or found.low <= 0 <= found.high:
        return None
    word = "grows" if found.rate > 0 else "shrinks"
    times = float(np.exp(found.rate))
    by = f"to {number(times)} times of it" if not 0.5 < times < 2 else f"by {number(100 * abs(times - 1))} %"
    each = exponents(apart)
    fitted = each[each["r2"] >= LEAST_R2]["rate"].astype(np.float64) if len(each) else pd.Series(dtype=np.float64)
    text = (
        f"From step {found.first:,} to {found.last:,} the distance of the two runs {word} {by} with "
        f"each step: its exponent is {number(found.rate)} a step, 95 % interval {number(found.low)} to "
        f"{number(found.high)}, R² {found.r2:.3f}."
    )
    if found.rate > 0:
        text += (
            " So do trainings whose course is chaotic."
            if found.grows
            else f" That is slower than the {LEAST_GROWTH} a sample from which such growth is called chaotic."
        )
    if len(fitted) > 1:
        text += (
            f" Layer by layer it is {number(fitted.min())} ({fitted.idxmin()}) to {number(fitted.max())} "
            f"({fitted.idxmax()})."
        )
    return Finding(
        "growth",
        text,
        "curves",
        {"rate": found.rate, "low": found.low, "high": found.high, "r2": found.r2},
        (),
        (found.first, found.last),
    )
