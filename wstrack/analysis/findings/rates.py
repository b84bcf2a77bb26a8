"""Findings on what follows the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wstrack.analysis.cutoffs import SMALLEST_RATIO
from wstrack.analysis.findings.words import Finding, at_steps, number, times
from wstrack.analysis.schedule import Schedule, Turn, turn_at
from wstrack.analysis.thirds import early_and_late

if TYPE_CHECKING:
    from wstrack.analysis.phases import Phases

__all__ = ["followed", "per_rate", "restarts", "turns"]

_STEADY = 0.002  # decades a sample, up to which a slope is none
_MANY = 0.6  # of the jumps of a period


def turns(values: pd.DataFrame, phases: Phases | None, schedule: Schedule | None) -> list[Turn]:
    """The breaks of phases that follow the learning rate of the most layers."""
    if phases is None or schedule is None:
        return []
    return [turn for step in phases.breaks if (turn := turn_at(values, schedule.main, step)) is not None]


def followed(found: Sequence[Turn], noun: str) -> Finding | None:
    """Where the courses break off because the learning rate does."""
    if not found:
        return None
    each = "; ".join(f"at step {turn.step:,} {_said(turn, noun)}" for turn in found)
    ratios: dict[str, float | str | int] = {"followed": len(found)}
    jump = next((turn for turn in found if turn.jumps), None)
    if jump is not None:
        ratios |= {"rate_ratio": jump.after / jump.before, "change_ratio": jump.ratio}
    return Finding(
        "schedule",
        f"The {noun} follows the learning rate where its course breaks off at "
        f"{at_steps([turn.step for turn in found])}: {each} (median layer).",
        "curves",
        ratios,
        steps=tuple(turn.step for turn in found),
    )


def _said(turn: Turn, noun: str) -> str:
    if turn.jumps:
        rate = turn.after / turn.before
        return (
            f"the rate becomes {times(rate)} ({number(turn.before)} to {number(turn.after)}), the {noun} "
            f"{times(turn.ratio)}"
        )
    before, after = (_course(slope) for slope in turn.slopes)
    went = f"from {before} to {after}" if before != after else f"and goes on {after}, otherwise than before"
    return f"the rate turns {went}, and the {noun} with it"


def _course(slope: float) -> str:
    return "steady" if abs(slope) < _STEADY else "rising" if slope > 0 else "falling"


def restarts(steps: Sequence[int], schedule: Schedule | None) -> bool:
    """Whether the learning rate jumps up at most of these steps, or at the sample beside."""
    if schedule is None:
        return False
    rate = schedule.main.to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        up = np.concatenate([[False], rate[1:] / rate[:-1] >= SMALLEST_RATIO])
    near = up | np.append(up[1:], False) | np.insert(up[:-1], 0, False)
    places = schedule.main.index.get_indexer(pd.Index(steps))
    return bool(len(places)) and bool(near[places[places >= 0]].sum() >= _MANY * len(places))


def per_rate(values: pd.DataFrame, schedule: Schedule | None, ratio: float) -> str:
    """What of a course over the training is the schedule's, to be said behind it; "" where the rate goes another way.

    Args:
        values: index = step, columns = layers.
        schedule: of the run.
        ratio: of the median layer, late over early.
    """
    if schedule is None:
        return ""
    rates = pd.DataFrame({layer: schedule.courses[at] for at, layers in schedule.layers.items() for layer in layers})
    rates = rates.reindex(index=values.index, columns=values.columns)
    rate = float(early_and_late(rates)["ratio"].dropna().median())
    alike = np.isfinite(rate) and rate > 0 and (rate < 1) == (ratio < 1) and max(rate, 1 / rate) >= SMALLEST_RATIO
    if not alike:
        return ""
    left = float(early_and_late(values / rates.where(rates > 0))["ratio"].dropna().median())
    rest = f"{times(left)} there" if max(left, 1 / left) >= SMALLEST_RATIO else "as large there as before"
    return f" The learning rate is {times(rate)} there too: per unit of it, the change is {rest}."
