"""Findings on single layers that stand out: too fast, too slow, unsteady, gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from wstrack.analysis.cutoffs import FINDING_P
from wstrack.analysis.findings.words import Finding, above, batches, chance, holm, names, number
from wstrack.analysis.medians import medians

__all__ = ["missing", "rule", "unstable"]

_TOO_MUCH, _HEALTHY, _TOO_LITTLE = 1e-2, 1e-3, 1e-4  # of the change of one optimizer step (DL4J's chart)
_UNSTEADY = 2.0  # times the median layer's fluctuation
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
    logs = np.log10(values.where(values > 0).to_numpy(dtype=np.float64))
    away = np.abs(logs[1:-1] - (logs[:-2] + logs[2:]) / 2)
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
