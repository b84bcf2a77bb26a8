"""Findings on how the values go over the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from wstrack.analysis.cutoffs import FINDING_P, SMALLEST_RATIO
from wstrack.analysis.findings.marked import on_marks
from wstrack.analysis.findings.rates import per_rate, restarts
from wstrack.analysis.findings.words import (
    Finding,
    at_steps,
    batches,
    beyond_slow_noise,
    chance,
    holm,
    names,
    number,
    times,
    together,
)
from wstrack.analysis.medians import medians
from wstrack.analysis.repeats import Repeat, find_epochs

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from wstrack.analysis.phases import Phases
    from wstrack.analysis.schedule import Schedule

__all__ = ["SHORTEST_THIRD", "against", "course", "period", "phases", "stopped"]

SHORTEST_THIRD = 4  # samples; with fewer a layer seems to have stopped by chance
_STOPPED = 0.01


def course(values: pd.DataFrame, thirds: pd.DataFrame, noun: str, schedule: Schedule | None = None) -> Finding | None:
    """Whether the layers on the whole slow down or speed up, and what of it is the learning rate's."""
    early, late = thirds["early"], thirds["late"]
    ratio = float(thirds["ratio"].dropna().median())
    if not 0 < ratio < np.inf or max(ratio, 1 / ratio) < SMALLEST_RATIO:
        return None
    difference = ((late - early) / (late + early)).dropna()  # of the same order as the ratio, and defined for zeros
    p = float(stats.wilcoxon(difference).pvalue)
    if p >= FINDING_P or not _trend(values, ratio):
        return None
    falls, layers = ratio < 1, len(difference)
    count = int((difference < 0 if falls else difference > 0).sum())
    return Finding(
        "course",
        f"The {noun} {'falls' if falls else 'grows'} in the course of training: in the last third of the samples it is "
        f"{times(ratio)} than in the first (median over layers); {count} of {layers} layers went "
        f"{'down' if falls else 'up'} (Wilcoxon signed-rank test, {chance(p)}).{per_rate(values, schedule, ratio)}",
        "curves",
        {"late_to_early": ratio, "layers_with_it": count, "layers": layers, "p": p},
    )


def _trend(values: pd.DataFrame, ratio: float) -> bool:
    """Whether the layers' common course goes that way too: layers that share their noise are no independent votes."""
    common = batches(medians(values, "columns").to_frame())[0].dropna()
    if len(common) >= 4:
        tau, p = stats.kendalltau(np.arange(len(common)), common)
        if p < 0.05 and (tau > 0) == (ratio > 1):
            return True
    logs = np.log10(medians(values.where(values > 0), "columns").dropna().to_numpy())
    third = max(1, len(logs) // 3)
    late_less_early = np.zeros(len(logs))
    late_less_early[:third], late_less_early[-third:] = -1 / third, 1 / third
    return beyond_slow_noise(logs, late_less_early) < 0.05 and bool((logs @ late_less_early > 0) == (ratio > 1))


def _larger(ours: pd.Series[float], theirs: pd.Series[float]) -> float:
    """One-sided chance that ours are larger by their logarithms; 1 where it cannot be told."""
    first, second = np.log10(ours[ours > 0]), np.log10(theirs[theirs > 0])
    if min(len(first), len(second)) < 3 or max(np.ptp(first), np.ptp(second)) < 1e-12:
        return 1.0
    return float(stats.ttest_ind(first, second, equal_var=False, alternative="greater").pvalue)


def against(values: pd.DataFrame, thirds: pd.DataFrame, general: Finding | None, noun: str) -> Finding | None:
    """Which layers go the other way than most."""
    if general is None:
        return None
    falls = float(general.numbers["late_to_early"]) < 1
    third = len(values) // 3
    early, late = batches(values.iloc[:third]), batches(values.iloc[-third:])
    low, high = (early, late) if falls else (late, early)
    ratio = thirds["ratio"] if falls else 1 / thirds["ratio"]
    # What is too small to be told of is not tested, which makes Holm's procedure no less strict for the rest.
    candidate = (ratio >= SMALLEST_RATIO).to_numpy()
    tested = zip(values.columns, candidate, strict=True)
    p = holm(np.array([_larger(high[name], low[name]) if there else 1.0 for name, there in tested]))
    other = (p < FINDING_P) & candidate
    if not other.any() or other.mean() > 0.5:
        return None
    found = [str(name) for name in values.columns[other]]
    named = [f"{name} ({times(float(thirds['ratio'][name]))})" for name in found]
    return Finding(
        "against",
        f"Against the trend, the {noun} {'grows' if falls else 'falls'} in {len(found)} of {len(p)} layers: "
        f"{names(named)} (Welch's test of the logarithm, last third against first, Holm over layers, "
        f"{chance(float(p[other].max()))} at most).",
        "curves",
        {"layers_against": len(found), "layers": len(p), "p": float(p[other].max())},
        tuple(found),
    )


def phases(found: Phases, noun: str, told: Collection[int] = ()) -> Finding | None:
    """Where the courses of the layers break off; steps that were told as the learning rate's are no news."""
    p = found.table["p"][~found.table["first"].isin(list(told))].dropna()
    if not len(p) or p.min() > FINDING_P:
        return None
    breaks = tuple(step for step in found.breaks if step not in told)
    return Finding(
        "phases",
        f"The courses of the layers break off at {at_steps(breaks)}: what the {noun} does before and after is "
        "not one smooth course (two lines against one smooth curve, on simulated noise that remembers as much, "
        f"p = {number(float(p.max()))}{' at most' if len(p) > 1 else ''}). {len(found.table)} phases of "
        f"{', '.join(str(n) for n in found.table['samples'])} samples.",
        "heatmap",
        {"phases": len(found.table), "p": float(p.max()), "first_break": breaks[0]},
        steps=breaks,
    )


def period(
    values: pd.DataFrame,
    known: Phases | None,
    noun: str,
    schedule: Schedule | None = None,
    marks: Sequence[tuple[int, str]] = (),
) -> Finding | None:
    """Whether the layers jump up, or their course repeats, at one distance; what phases have told is no news."""
    found = find_epochs(values, told=known.breaks if known else ())
    if found is None or isinstance(found, Repeat):
        return _repeat(found, _distance(values)) if found else None
    steps = values.index[found.places]
    length = found.length * _distance(values)
    jumps, due = int(found.jumps.sum()), len(found.jumps)
    first = int(steps[found.jumps][0])
    those = [str(name) for name in values.columns[found.ratios >= SMALLEST_RATIO]]
    whose = ""
    if len(those) < values.shape[1]:
        whose = f"; {SMALLEST_RATIO:g} times or more in {together(those, [str(name) for name in values.columns])}"
    jumped = [int(step) for step in steps[found.jumps]]
    where = on_marks(jumped, values.index, marks) or "as where epochs begin"
    if restarts(jumped, schedule):
        where = "where the learning rate does"
    return Finding(
        "period",
        f"The {noun} jumps up every {number(length)} steps ({number(found.length)} samples), {where}: it "
        f"is {number(found.ratio)} times as large there as just before (median layer{whose}). {jumps} of {due} times, "
        f"first at step {first:,} (how many of the largest rises are equally distant, against drawing them from all "
        f"samples; Bonferroni over all distances, {chance(found.p)}).",
        "curves",
        {
            "period": length, "samples": found.length, "ratio": found.ratio, "jumps": jumps, "due": due,
            "first_step": first, "p": found.p,
        },
        tuple(those) if whose else (),
        tuple(int(step) for step in steps[found.jumps]),
    )  # fmt: skip


def _repeat(found: Repeat, every: float) -> Finding:
    """That the course repeats as a pattern, as of batches in the same order in each epoch, without one clear jump."""
    length = found.length * every
    return Finding(
        "period",
        f"The course of the layers repeats every {number(length)} steps ({number(found.length)} samples), as where "
        f"each epoch has the same batches in the same order: without its trend, the median layer's course has a "
        f"correlation of {number(found.correlation)} with itself one period later, and within a period it goes up and "
        f"down {number(found.ratio)} times (rank autocorrelation of the rises; Bonferroni over all distances, "
        f"{chance(found.p)}).",
        "curves",
        {
            "period": length, "samples": found.length, "ratio": found.ratio, "correlation": found.correlation,
            "p": found.p,
        },
    )  # fmt: skip


def _distance(values: pd.DataFrame) -> float:
    """Steps from one sample to the next."""
    return float(values.index[-1] - values.index[-2])


def stopped(values: pd.DataFrame, thirds: pd.DataFrame, noun: str) -> Finding | None:
    """Which layers stay next to zero from some step on to the end: candidates for freezing.

    A schedule slows all of them; so each is held against the layer that has most left at that sample.
    """
    left = values / thirds["early"].where(thirds["early"] > 0)
    large = left.gt(_STOPPED * left.max(axis="columns").clip(upper=1.0), axis="index").to_numpy()
    samples = len(values)
    # The sample after the last large one.
    since = pd.Series(samples - np.argmax(large[::-1], axis=0), index=values.columns)
    ended = (thirds["early"] > 0) & thirds["late"].notna() & (since <= samples - samples // 3)
    if not ended.any():
        return None
    step = pd.Series(values.index.to_numpy()[np.minimum(since, samples - 1)], index=values.columns)
    named = [f"{name} (since step {step[name]:,})" for name in values.columns[ended]]
    others = "" if ended.all() else ", and of what others have left of theirs"
    return Finding(
        "stopped",
        f"{len(named)} of {len(ended)} layers all but {'stopped' if noun == 'change' else 'vanished'}: to the end, "
        f"the {noun} stays below 1 % of the layer's own median in the first third of the samples{others}: "
        f"{names(named)}.",
        "curves",
        {"stopped": len(named), "layers": len(ended), "first_step": int(step[ended].min())},
        tuple(str(name) for name in values.columns[ended]),
        tuple(int(one) for one in step[ended]),
    )
