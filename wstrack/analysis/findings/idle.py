"""Findings on parts of layers that do not learn while others of their layer do: dead experts, frozen ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from wstrack.analysis.called import called
from wstrack.analysis.cutoffs import FINDING_P
from wstrack.analysis.findings.words import Finding, Numbers, names
from wstrack.analysis.medians import middles
from wstrack.analysis.parts import Parts

__all__ = ["idle"]

_STILL = 1e-3  # of what the parts beside it change by, and of what it did itself
# By which the loss in size may be other than the change, where nothing but decay moves the weights: rounding in float32
# leaves less. A gradient, however small beside the decay, leaves more.
_EXACT, _BETWEEN = 3e-4, 1e-3
_GOES_ON = 1.1  # times as fast at most, as where only the learning rate changes it
_LEARNS = 0.03  # by which the others must be away from it: else theirs is next to nothing but decay too
_FEWEST = 3  # samples
_RARER = 3.0  # times, that a part may be chosen less often than the rarest beside it

Matrix = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class _End:
    """How a part ends: idle from a step on, perhaps the first.

    Attributes:
        since: the last step at which it moved; None where it did at none.
        decays: whether decay goes on moving it.
        still: whether it does not change at all.
        p: the chance that a part which moves now and then has such an end.
    """

    since: int | None
    decays: bool
    still: bool
    p: float


def idle(parts: Parts) -> list[Finding]:
    """Which parts never learn, or do not any more from some step on, while others of their layer go on.

    A part is idle in a sample in which it changes by 0, or by a thousandth of what those beside it do and of what it
    did itself (an optimizer's momentum fades); or in which every weight of it shrinks, so that it loses in size just
    what it changes by, and others do not: only weight decay moves it. Samples in which no other part of its layer
    learns, or in which decay drowns what they learn, are left out.

    Experts that are seldom chosen move in few samples. So an idle end is told only if all samples in which the part
    moved would fall before it in less than 0.005 of all orders of the samples, for all parts together; and a part that
    never moved, only if one chosen three times less often than the rarest beside it would have.
    """
    away, fading = _fading(parts)
    place = {part: at for at, part in enumerate(parts.of.index)}
    ends: dict[str, _End] = {}
    for layer in parts.table.index:
        inside = parts.inside(str(layer))
        at = [place[part] for part in inside]
        values = parts.series[inside].to_numpy(dtype=np.float64)
        ends |= _ends(inside, values, away[:, at], fading[:, at], parts.series.index.to_numpy(np.int64))
    told = {part: end for part, end in ends.items() if end.p * len(parts.of) < FINDING_P}
    never = {part: end for part, end in told.items() if end.since is None}
    frozen = {part: end for part, end in told.items() if end.since is not None}
    return [finding for finding in (_dead(parts, never), _frozen(parts, frozen)) if finding]


def _ends(inside: list[str], values: Matrix, away: Matrix, fading: Flags, steps: NDArray[np.int64]) -> dict[str, _End]:
    """By part of one layer that is idle at the end, since when."""
    known = np.isfinite(values)
    learns = known & (values > 0) & ~fading
    drowned = fading & (_usual(away, learns) < _LEARNS)
    known, fading = known & ~drowned, fading & ~drowned
    relative = np.where(known & ~fading, values, 0.0) / _usual(values, learns)
    active = relative > _STILL * np.minimum(relative.max(axis=0), 1.0)
    shares = active.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    together = active.sum(axis=1)
    found = {}
    for place, part in enumerate(inside):
        live = np.flatnonzero((together > active[:, place]) & known[:, place])
        at = np.flatnonzero(active[live, place])
        rest = len(live) - (int(at[-1]) + 1 if len(at) else 0)
        if rest < _FEWEST:
            continue
        end = live[-rest:]
        how = bool(fading[end, place].mean() > 0.5), bool((values[end, place] == 0).all())
        if len(at):
            found[part] = _End(int(steps[live[at[-1]]]), *how, _chance_of_an_end(len(live), len(at), rest))
        else:
            rarest = min(share for share in np.delete(shares, place) if share > 0)
            found[part] = _End(None, *how, float((1 - rarest / _RARER) ** len(live)))
    return found


def _usual(values: Matrix, those: Flags) -> Matrix:
    """By sample, the median of those values; infinite where there is none."""
    middle = middles(np.where(those, values, np.nan))
    return np.where(those.any(axis=1), middle, np.inf)[:, None]


def _chance_of_an_end(samples: int, active: int, rest: int) -> float:
    """In how many of all orders of the samples none of the active ones is among the last `rest`.

    Example:
        >>> round(_chance_of_an_end(samples=4, active=1, rest=3), 3)
        0.25
    """
    logs = [special.gammaln(count + 1) - special.gammaln(count - active + 1) for count in (samples - rest, samples)]
    return float(np.exp(logs[0] - logs[1]))


def _fading(parts: Parts) -> tuple[Matrix, Flags]:
    """By how much of it the change of a part is not its loss in size, and in which samples it is nothing else.

    Infinite, and in none, if the raw sums are not known.
    """
    shape = parts.series.shape
    if len(parts.change) != len(parts.series) or len(parts.change) < _FEWEST:
        return np.full(shape, np.inf), np.zeros(shape, dtype=bool)
    steps = parts.series.index.to_numpy(np.float64)
    spans = parts.intervals.reindex(parts.series.index).to_numpy(np.float64)
    spans = np.where(np.isfinite(spans) & (spans > 0), spans, np.append(np.diff(steps)[:1], np.diff(steps)))
    begins = steps - spans
    change, previous = parts.change.to_numpy(np.float64), parts.previous.to_numpy(np.float64)
    rate = change / spans[:, None]
    # What a sample with a gap after it changes by, the steps of the gap do by about the same.
    follows = (np.diff(begins) == spans[:-1])[:, None]
    due = np.diff(begins)[:, None] * np.where(follows, rate[:-1], (rate[:-1] + rate[1:]) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.abs(previous[:-1] - previous[1:] - due) / due
        fades = (change[:-1] > 0) & (away <= np.where(follows, _EXACT, _BETWEEN))
    # Of the last there is no size after it: it decays as that before, if it does not change by more.
    last = fades[-1:] & (rate[-1:] <= _GOES_ON * rate[-2:-1])
    return np.vstack([away, away[-1:]]), np.vstack([fades, last])


def _dead(parts: Parts, never: Mapping[str, _End]) -> Finding | None:
    """That parts never learnt."""
    if not never:
        return None
    said = list(called(never, parts.of))
    numbers: Numbers = {"dead": len(never), "parts": len(parts.of), "decays": _decaying(never)}
    count = f"{len(parts.series):,} samples"
    samples = f"in any of the {count}"
    if len(said) > 1:
        text = (
            f"{len(said):,} parts did not learn {samples}, while others of their layer did{_how(never)}: {names(said)}."
        )
    elif _decaying(never):
        text = f"{_capital(said[0])} does nothing but decay in all {count}, as weights do that get no gradient."
    else:
        text = f"{_capital(said[0])} did not change {samples}, while others of its layer did."
    return Finding("dead", text, "parts", numbers, tuple(never))


def _frozen(parts: Parts, frozen: Mapping[str, _End]) -> Finding | None:
    """That parts stopped learning."""
    if not frozen:
        return None
    since = {name: max(frozen[part].since or 0 for part in those) for name, those in called(frozen, parts.of).items()}
    steps = tuple(end.since or 0 for end in frozen.values())
    numbers: Numbers = {
        "frozen": len(frozen), "parts": len(parts.of), "decays": _decaying(frozen), "first_step": min(steps),
    }  # fmt: skip
    name, step = next(iter(since.items()))
    if len(since) > 1:
        each = names(f"{name} (since step {step:,})" for name, step in since.items())
        others = f"while others of their layer go on{_how(frozen)}"
        text = f"{len(since):,} parts no longer learn, {others}: {each}{_sampled(parts)}."
    else:
        does = "has not changed" if all(end.still for end in frozen.values()) else "has all but stopped"
        does = "has done nothing but decay" if _decaying(frozen) else does
        text = f"{_capital(name)} {does} since step {step:,}, while others of its layer went on{_sampled(parts)}."
    return Finding("frozen", text, "parts", numbers, tuple(frozen), steps)


def _sampled(parts: Parts) -> str:
    """That steps between were not seen, where samples are of single steps."""
    steps = parts.series.index.to_numpy(np.float64)
    spans = parts.intervals.reindex(parts.series.index).to_numpy(np.float64)
    return ", as far as the sampled steps show" if bool(np.any(spans[1:] < np.diff(steps))) else ""


def _decaying(ends: Mapping[str, _End]) -> int:
    return sum(end.decays for end in ends.values())


def _how(ends: Mapping[str, _End]) -> str:
    """What idle parts do instead of learning."""
    decays = _decaying(ends)
    if not decays:
        return " (they do not change)" if all(end.still for end in ends.values()) else ""
    return f" ({'they' if decays == len(ends) else 'some'} only decay, as weights do that get no gradient)"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:] if text.startswith(("expert ", "head ", "part ")) else text
