"""Findings that a reader must not miss: values that are lost, a run that diverged, layers that do not learn at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wstrack.analysis.findings.words import Finding, Numbers, names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wstrack.runs.run import Run

__all__ = ["decay", "incomplete", "not_finite", "still"]

_SAME = 1e-3  # of each other; rounding in float32 makes some 1e-4 of it
_FEWEST = 12  # samples in which layers are that near each other: by chance, two are in one now and then


def incomplete(runs: Sequence[Run]) -> Finding | None:
    """Which runs lack values that should be there."""
    those = [run for run in runs if run.completeness.missing]
    if not those:
        return None
    missing, expected = (sum(getattr(run.completeness, what) for run in those) for what in ("missing", "expected"))
    which = "The run lacks" if len(runs) == 1 else f"{len(those)} of {len(runs)} runs lack"
    named = names(f"{run.name} ({run.completeness.missing:,})" for run in those)
    return Finding(
        "incomplete",
        f"{which} {missing:,} of {expected:,} values that should be there{f': {named}' if len(runs) > 1 else ''}.",
        "heatmap",
        {"missing": missing, "expected": expected, "runs": len(those)},
    )


def not_finite(runs: Sequence[tuple[str, pd.DataFrame]]) -> Finding | None:
    """From which step on a run, or a layer of it, has no finite value any more, or that a layer never had one.

    Args:
        runs: the name of each run, and its values as they were logged: index = step, columns = layers.
    """
    texts: list[str] = []
    layers: dict[str, None] = {}
    steps: list[int] = []
    lost = 0
    for name, frame in runs:
        finite = np.isfinite(frame.to_numpy(dtype=np.float64))
        where = f"In {name}, " if len(runs) > 1 else ""
        some = np.flatnonzero(finite.any(axis=1))
        if not len(some):
            continue
        last = int(some[-1])
        over = len(frame) - 1 - last
        if over:
            steps.append(int(frame.index[last + 1]))
            lost += over * frame.shape[1]
            after = "" if where else " What is said of the layers is from the samples before."
            texts.append(
                f"{where}no layer has a finite value from step {steps[-1]:,} on, in {over:,} of {len(frame):,} "
                f"samples: the training diverged, or its values were lost.{after}"
            )
        never = [str(one) for one in frame.columns[~finite.any(axis=0)]]
        if never:
            lost += len(never) * len(some)
            texts.append(f"{where}{_have(never)} no finite value in any sample.")
        ends = {str(frame.columns[place]): at for place, at in _ends(finite[: last + 1]).items()}
        if ends:
            lost += sum(last - at for at in ends.values())
            since = [int(frame.index[at + 1]) for at in ends.values()]
            steps += since
            stepped = [f"{layer} (step {step:,})" for layer, step in zip(ends, since, strict=True)]
            texts.append(
                f"{where}{next(iter(ends))} has no finite value from step {since[0]:,} on."
                if len(ends) == 1
                else f"{where}{len(ends):,} layers have no finite value from some step on: {names(stepped)}."
            )
        layers |= dict.fromkeys((*never, *ends))
    if not texts:
        return None
    numbers: Numbers = {"values": lost, "layers": len(layers)}
    if steps:
        numbers["first_step"] = min(steps)
    return Finding(
        "not_finite",
        "\n".join(text[0].upper() + text[1:] if text.startswith("no layer") else text for text in texts),
        "heatmap",
        numbers,
        tuple(layers),
        tuple(sorted(set(steps))),
    )


def _have(layers: Sequence[str]) -> str:
    """The layers as the beginning of a sentence."""
    return f"{layers[0]} has" if len(layers) == 1 else f"{len(layers):,} layers ({names(layers)}) have"


def _ends(finite: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> dict[int, int]:
    """By layer, its last finite sample, where it is missed for longer after that than ever before."""
    found = {}
    for place in np.flatnonzero(finite.any(axis=0) & ~finite[-1]):
        there = np.flatnonzero(finite[:, place])
        if len(finite) - there[-1] > np.diff(there, prepend=there[0] - 1).max():
            found[int(place)] = int(there[-1])
    return found


def still(values: pd.DataFrame, noun: str) -> Finding | None:
    """Which layers did not change at all, in no sample."""
    never = [str(name) for name in values.columns[values.eq(0).all(axis=0)]] if noun == "change" else []
    if not never:
        return None
    if len(never) == values.shape[1]:
        text = (
            f"Nothing learns: no weight of any layer changed in any of the {len(values):,} samples. Is the learning "
            "rate 0, are the weights frozen, or does the optimizer hold another model's?"
        )
    else:
        text = (
            f"{len(never):,} of {values.shape[1]:,} layers did not change at all, from the first sample to the last: "
            f"{names(never)}."
        )
    return Finding("still", text, "curves", {"still": len(never), "layers": values.shape[1]}, tuple(never))


def decay(values: pd.DataFrame, noun: str) -> Finding | None:
    """Which layers change by the same to the end, as weights do that get no gradient: decay is one factor for all.

    Layers are held against those next to them by their level in the last third. Rounding sets them apart a little:
    what is equal to the last digit are two names of one layer.
    """
    samples = len(values)
    if noun != "change" or samples < _FEWEST or values.shape[1] < 2:
        return None
    levels = values.tail(samples // 3).median()
    ordered = values[levels.sort_values(kind="stable").index]
    if not (_distances(ordered.tail(_FEWEST)) <= _SAME).all(axis=0).any():  # most often, and soon told
        return None
    distance = _distances(ordered)
    apart = ~(distance <= _SAME) | ~distance.any(axis=0)
    alike = np.where(apart.any(axis=0), np.argmax(apart[::-1], axis=0), samples)  # samples up to the last
    longest = pd.Series(np.maximum(np.append(alike, 0), np.append(0, alike)), index=ordered.columns)[values.columns]
    those = longest[longest >= _FEWEST]
    if not len(those):
        return None
    steps = [int(values.index[samples - count]) for count in those]
    named = [f"{layer} (from step {step:,} on)" for layer, step in zip(those.index, steps, strict=True)]
    share = f"{len(those):,} of {values.shape[1]:,}"
    everything = " Nothing is learnt any more." if len(those) == values.shape[1] else ""
    return Finding(
        "decay",
        f"{share} layers change by the same, to {100 * _SAME:g} %, up to the last sample, as "
        f"weights do that get no gradient and only decay: {names(named)}.{everything}",
        "curves",
        {"layers_alike": len(those), "layers": values.shape[1], "first_step": min(steps)},
        tuple(str(layer) for layer in those.index),
        tuple(steps),
    )


def _distances(values: pd.DataFrame) -> NDArray[np.float64]:
    """How far each layer is from the next in each sample, in the logarithm; NaN where one did not change."""
    logs: NDArray[np.float64] = np.log(values.where(values > 0).to_numpy(dtype=np.float64))
    return np.abs(np.diff(logs, axis=1))
