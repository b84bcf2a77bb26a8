"""Findings on single layers and single steps that stand out: too fast, too slow, unsteady, spikes, gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from wstrack.analysis.cutoffs import FINDING_P
from wstrack.analysis.findings.words import Finding, above, batches, chance, holm, names, number
from wstrack.analysis.medians import medians

__all__ = ["missing", "rule", "spikes", "unstable"]

_TOO_MUCH, _HEALTHY, _TOO_LITTLE = 1e-2, 1e-3, 1e-4  # of the change of one optimizer step (DL4J's chart)
_UNSTEADY = 2.0  # times the median layer's fluctuation
_JUMP = np.log10(1.5)  # decades; what rises less is no spike, however calm the rest
_SHARED = 0.2  # of the layers, and three at least
_FEWEST = 12  # samples
_GAPS = 0.1


def rule(values: pd.DataFrame, intervals: pd.Series[int] | None, metric: str) -> list[Finding]:
    """Which layers change too much or too little in one optimizer step, against the rule of thumb of 1e-3.

    The change over k steps is at most the sum of k one-step changes; so divided by k it shows what is too much, but
    only with k = 1 what is too little.
    """
    if intervals is None or metric not in ("rwc", "rwc_l2"):
        return []
    spans = intervals.reindex(values.index).to_numpy(dtype=np.float64)
    if not len(spans) or not (spans >= 1).all():
        return []
    per_step = batches(values.div(spans, axis="index"))
    exactly = bool((spans == 1).all())
    found = []
    for too, limit, sign in (("much", _TOO_MUCH, 1), ("little", _TOO_LITTLE, -1)):
        if too == "little" and not exactly:
            continue
        beyond = (np.sign(per_step - limit) == sign).sum().to_numpy()
        known = per_step.notna().sum().to_numpy()
        p = holm(np.array([stats.binomtest(int(b), int(n), alternative="greater").pvalue if n else 1.0
                           for b, n in zip(beyond, known, strict=True)]))  # fmt: skip
        those = [str(name) for name in values.columns[p < FINDING_P]]
        if not those:
            continue
        level = per_step.median()
        named = [f"{name} ({number(float(level[name]))})" for name in those]
        least = "" if exactly else " or more"
        found.append(
            Finding(
                "rule",
                f"{len(those)} of {len(p)} layers {'changes' if len(those) == 1 else 'change'} too {too} by the rule "
                f"of thumb (about {_HEALTHY:g} in one optimizer step; alarm {'above' if sign > 0 else 'below'} "
                f"{limit:g}): {names(named)}, median{least} "
                f"in one step (sign test, Holm over layers, {chance(float(p[p < FINDING_P].max()))} at most).",
                "curves",
                {
                    "too": too,
                    "limit": limit,
                    "layers_beyond": len(those),
                    "layers": len(p),
                    "p": float(p[p < FINDING_P].max()),
                },
                tuple(those),
            )
        )
    return found


def unstable(values: pd.DataFrame) -> Finding | None:
    """Which layers go up and down from sample to sample far more than the others."""
    if len(values) < _FEWEST or values.shape[1] < 4:
        return None
    # From the mean of both neighbours, and from no running median, which is each value of a smooth slope itself.
    logs = pd.DataFrame(np.log10(values.where(values > 0).to_numpy(dtype=np.float64)))
    away = np.abs((logs - (logs.shift(1) + logs.shift(-1)) / 2).to_numpy())
    size = medians(pd.DataFrame(away, columns=values.columns))
    usual = float(size.median())
    if not usual > 0:
        return None
    candidates = [place for place in range(away.shape[1]) if size.iloc[place] >= _UNSTEADY * usual]
    if not candidates:
        return None
    p = np.ones(away.shape[1])
    sample = away[:, np.random.default_rng(0).permutation(away.shape[1])[:100]].ravel()
    for place in candidates:
        p[place] = above(away[:, place], sample)
    p = holm(p)
    those = p < FINDING_P
    if not 0 < those.sum() <= away.shape[1] / 2:
        return None
    found = [str(name) for name in values.columns[those]]
    named = [f"{name} ({number(float(size[name]) / usual)} times)" for name in found]
    they = "are unsteady: from sample to sample they fluctuate"
    if len(found) == 1:
        they = "is unsteady: from sample to sample it fluctuates"
    return Finding(
        "unstable",
        f"{len(found)} of {len(p)} layers {they} over twice as much as the median layer does "
        f"({number(100 * (10**usual - 1))} %): {names(named)} (Mann-Whitney test of the distances to the mean "
        f"of both neighbours, Holm over layers, {chance(float(p[those].max()))} at most).",
        "curves",
        {"unsteady": len(found), "layers": len(p), "p": float(p[those].max())},
        tuple(found),
    )


def spikes(values: pd.DataFrame, noun: str) -> Finding | None:
    """At which samples many layers jump up together, for one sample or two.

    Layers share their course, so they are no independent votes, and the course itself has peaks. Noise rises above its
    neighbours as far as it falls below them: so how far a fifth of the layers rises is held against how far a fifth
    falls anywhere. In noise with the tails of Student's t with four degrees of freedom, independent or shared by all
    layers, the largest rise is r times the largest fall or more in about 1 of 1 + r^4 cases.
    """
    if len(values) < _FEWEST or values.shape[1] < 3:
        return None
    logs = pd.DataFrame(np.log10(values.where(values > 0).to_numpy(dtype=np.float64)))
    above_both, below_both = _beyond_both_sides(logs), _beyond_both_sides(-logs)
    rise, fall = _reached_by_many(above_both), _reached_by_many(below_both)
    if not np.isfinite(rise).any():
        return None
    # What the noise of single layers lends to the top fifth at every sample is no rise.
    up, down = (one - max(float(np.median(one[np.isfinite(one)])), 0.0) for one in (rise, fall))
    p = 1 / (1 + (np.maximum(up, 0.0) / max(float(down.max()), 1e-12)) ** 4)
    shared = (p < FINDING_P) & (rise > _JUMP)
    if not shared.any() or shared.mean() > 0.2:
        return None
    high = above_both > _JUMP
    count, known = high.sum(axis=1)[shared], np.isfinite(above_both).sum(axis=1)[shared]
    steps = tuple(int(step) for step in values.index[shared])
    size = 10 ** float(np.median(above_both[shared][high[shared]]))
    layers = high[shared].any(axis=0)
    named = [f"{step:,} ({n} of {k} layers)" for step, n, k in zip(steps, count, known, strict=True)]
    return Finding(
        "spikes",
        f"The {noun} of many layers spikes together, {number(size)} times that of the samples on both sides, at step "
        f"{names(named)} (how far a fifth of the layers rises, against the farthest that a fifth falls; for noise with "
        f"the tails of Student's t with four degrees of freedom, {chance(float(p[shared].max()))} at most).",
        "heatmap",
        {"spikes": len(steps), "times": size, "p": float(p[shared].max()), "first_step": steps[0]},
        tuple(str(name) for name in values.columns[layers]),
        steps,
    )


def missing(series: pd.DataFrame) -> Finding | None:
    """Which layers lack many of the values that others have: between their first and their last, or before the first.

    What no layer has at a sample is no layer's gap.
    """
    finite = np.isfinite(series.to_numpy(dtype=np.float64))
    logged = finite.any(axis=1)
    steps, finite = series.index[logged], finite[logged]
    begun, ended = np.maximum.accumulate(finite, axis=0), np.maximum.accumulate(finite[::-1], axis=0)[::-1]
    gaps, spans = (begun & ended & ~finite).sum(axis=0), (begun & ended).sum(axis=0)
    share = gaps / np.maximum(spans, 1)
    before = (~begun & ended).mean(axis=0) if len(finite) else share
    holed, late = (series.columns[one >= _GAPS] for one in (share, before))
    texts = []
    if len(holed):
        named = [f"{name} ({share[place]:.0%})" for place, name in enumerate(series.columns) if name in holed]
        texts.append(
            f"{len(holed)} of {len(share)} layers {'lacks' if len(holed) == 1 else 'lack'} a tenth or more of the "
            f"values between a layer's first and last; they were read off from those before and after: {names(named)}."
        )
    if len(late):
        firsts = {name: steps[int(finite[:, series.columns.get_loc(name)].argmax())] for name in late}
        named = [f"{name} (step {step:,})" for name, step in firsts.items()]
        texts.append(
            f"{len(late)} of {len(share)} layers {'has its' if len(late) == 1 else 'have their'} first value later "
            f"than the others: {names(named)}."
        )
    if not texts:
        return None
    return Finding(
        "missing",
        "\n".join(texts),
        "heatmap",
        {
            "layers_with_gaps": len(holed),
            "layers_later": len(late),
            "layers": len(share),
            "share": float(gaps.sum() / max(spans.sum(), 1)),
        },
        tuple(str(name) for name in series.columns if name in holed or name in late),
    )


def _beyond_both_sides(values: pd.DataFrame) -> NDArray[np.float64]:
    """How far a value lies above the medians of the three before it and of the three after; NaN next to the ends."""
    here = values.to_numpy(dtype=np.float64)
    return np.minimum(here - _of_three_before(here), here - _of_three_before(here[::-1])[::-1])


def _of_three_before(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """By row, the median of the three rows before it, or of two of them that are finite; else NaN."""
    known = np.vstack([np.full((3, values.shape[1]), np.nan), np.where(np.isfinite(values), values, np.nan)])
    first, second, third = (known[lag : lag + len(values)] for lag in range(3))
    low, high = np.fmin(first, second), np.fmax(first, second)
    count = sum(np.isfinite(one).astype(np.int8) for one in (first, second, third))
    middle = np.fmax(low, np.fmin(high, third))
    two = (np.fmin(low, third) + np.fmax(high, third)) / 2
    return np.where(count == 3, middle, np.where(count == 2, two, np.nan))


def _reached_by_many(heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """By sample, the height that enough layers for a shared spike reach; -inf where fewer have one."""
    known = np.isfinite(heights).sum(axis=1)
    many = np.maximum(3, np.ceil(_SHARED * known)).astype(int)
    ordered = np.sort(np.where(np.isfinite(heights), -heights, np.inf), axis=1)
    return np.asarray(-np.take_along_axis(ordered, many[:, None] - 1, axis=1)[:, 0])
