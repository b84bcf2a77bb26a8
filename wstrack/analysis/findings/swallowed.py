"""The finding on weights that stand still because their type has no number near enough to move to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wstrack.analysis.findings.words import Finding, Numbers, names, number

if TYPE_CHECKING:
    from wstrack.runs.run import Run

__all__ = ["swallowed"]

_FEW = 0.03  # of the weights, that move
_HALF = 0.5
# Binary digits of a number: the one next to w is 2^-digits to 2^(1 - digits) of w away.
_DIGITS = {
    "float32": 24, "float16": 11, "bfloat16": 8, "float8_e4m3fn": 4, "float8_e4m3fnuz": 4, "float8_e5m2": 3,
    "float8_e5m2fnuz": 3,
}  # fmt: skip


def swallowed(runs: Sequence[Run]) -> Finding | None:
    """In which layers at most 3 % of the weights move in an optimizer step, because rounding takes the others back.

    A weight moves only if its update reaches half of what lies between it and the next number of its type. Where nearly
    all updates are lost, the small weights still move, by little: with weights as dense about 0 as those of networks
    are, and updates of about one size, `changed` is 2^(digits - 1) times `rwc / changed`, the mean move of those that
    moved by the mean weight; a fourth of that is asked for (of bfloat16 32; measured: 77 to 151). It is less where few
    weights have a gradient at all (rows of an embedding, units that are off) and where updates are rounded by chance:
    there weights of all sizes move. Over several steps those look alike, so nothing is said of samples that span more
    than one. Rows that have a gradient and lose it are not told from others in one layer.

    The type must be known: it is if all weights of the model are of one; or a layer is bfloat16 if `changed_bf16` was
    measured and is the same as `changed` in every sample.

    The share that moves grows with the learning rate, nearly up to a half: half of them move at a rate that is a half
    by the share as high. It is more where few updates are far larger than the others: hence "at least".
    """
    texts: list[str] = []
    layers: dict[str, None] = {}
    shares: list[float] = []
    for run in runs:
        dtype, share = _shares(run)
        if share.empty:
            continue
        layers |= dict.fromkeys(map(str, share.index))
        shares += share.tolist()
        named = names(f"{layer} ({number(100 * value)} %)" for layer, value in share.items())
        layers_there = run.series["changed"].shape[1]
        most = f"of {layers_there:,} layers at most {100 * _FEW:g} % of the weights move in an optimizer step"
        least, enough = 2 ** (_DIGITS[dtype] + 1), 2 ** _DIGITS[dtype]
        texts.append(
            f"{f'In {run.name}, in' if len(runs) > 1 else 'In'} {len(share):,} {most} (median over samples): {named}. "
            f"{dtype} swallows the updates: a weight moves only by an update of 1/{least:,} to 1/{enough:,} of it or "
            "more, and those that move are the small ones."
        )
    if not texts:
        return None
    middle = float(np.median(shares))
    rate = _HALF / middle
    texts.append(
        "Weights that are kept in float32, or rounded by chance, lose none; as they are, half of them would move at a "
        f"learning rate at least {number(rate)} times as high."
    )
    numbers: Numbers = {
        "swallowed": len(layers), "layers": runs[0].series["rwc"].shape[1], "share": middle, "rate_for_half": rate
    }  # fmt: skip
    return Finding("swallowed", "\n".join(texts), "curves", numbers, tuple(layers))


def _shares(run: Run) -> tuple[str, pd.Series[float]]:
    """The type that swallows, and of the layers that it does so in the share that moves, in model order."""
    nothing: tuple[str, pd.Series[float]] = "", pd.Series(dtype=np.float64)
    if "changed" not in run.series or "rwc" not in run.series or run.origin.get("counted"):
        return nothing
    changed = run.series["changed"]
    changed = changed[run.intervals.reindex(changed.index) == 1]
    dtype, known = _type(run, changed)
    if changed.empty or not known.any():
        return nothing
    share = changed.median()
    small = changed**2 / run.series["rwc"].reindex_like(changed)  # NaN where nothing moved
    return dtype, share[known & (share > 0) & (share <= _FEW) & (small.median() >= 2.0 ** (_DIGITS[dtype] - 3))]


def _type(run: Run, changed: pd.DataFrame) -> tuple[str, pd.Series[bool]]:
    """The type of the weights, and of which layers it is surely that."""
    dtypes = {str(one) for one in run.origin.get("dtypes") or ()}
    if len(dtypes) == 1:
        only = dtypes.pop()
        return only, pd.Series(only in _DIGITS, index=changed.columns)
    if "changed_bf16" not in run.series:
        return "", pd.Series(False, index=changed.columns)
    rounded = run.series["changed_bf16"].reindex_like(changed)
    return "bfloat16", ((rounded == changed) | changed.isna()).all()
