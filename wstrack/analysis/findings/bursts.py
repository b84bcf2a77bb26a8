"""At which samples many layers jump up together, for a sample or two or for some ten."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wstrack.analysis.cutoffs import FINDING_P
from wstrack.analysis.findings.words import Finding, Numbers, chance, names, number
from wstrack.analysis.medians import in_cache, medians_beside

__all__ = ["spikes"]

_JUMP = np.log10(1.5)  # decades; what rises less is no spike, however calm the rest
_SHARED = 0.2  # of the layers, and three at least
_FEWEST = 12  # samples
_PART = 3  # of the highest rise: what is higher than this part of it is left out of the noise
_OFTEN = 0.2  # of the samples; what is so often is no spike
_SPIKE = (0, 3)  # samples that are left out on both sides, and of how many further ones the median is taken
_BURST = (8, 5)
_KNOWN = 30  # samples: where bursts and the ends leave fewer, falls are too few to hold rises against

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class _Rises:
    """Samples that rise above those on both sides.

    Attributes:
        above: by sample and layer, how far, in decades.
        usual: how far a fifth of the layers does at a sample.
        many: by sample, how far a fifth of the layers does.
        p: by sample, the chance of as much in noise.
    """

    above: Matrix
    usual: float
    many: Matrix
    p: Matrix

    @property
    def shared(self) -> NDArray[np.bool_]:
        """Which samples rise beyond chance."""
        found = (self.p < FINDING_P) & (self.many > _JUMP)
        return found if found.mean() <= _OFTEN else np.zeros_like(found)


def spikes(values: pd.DataFrame, noun: str, *, periodic: bool = False) -> Finding | None:
    """At which samples many layers jump up together, for one sample or two, or in a burst that is over after some ten.

    Layers share their course, so they are no independent votes, and the course itself has peaks. Noise rises above its
    neighbours as far as it falls below them: so how far a fifth of the layers rises is held against how far a fifth
    falls anywhere. In noise with the tails of Student's t with four degrees of freedom, independent or shared by all
    layers, the largest rise is r times the largest fall or more in about 1 of 1 + r^4 cases.

    Args:
        values: index = step, columns = layers.
        noun: what the values are called.
        periodic: whether a period is told, of which bursts would be the highest parts.
    """
    if len(values) < _FEWEST or values.shape[1] < 3:
        return None
    logs = np.log10(values.where(values > 0).to_numpy(dtype=np.float64))
    single, longer = _rises(logs, _SPIKE), _rises(logs, _BURST, without_bursts=True)
    bursts = [] if periodic else [(first, last) for first, last in _stretches(longer) if last > first + 1]
    inside = np.zeros(len(logs), dtype=bool)
    for first, last in bursts:
        inside[first : last + 1] = True
    alone = single.shared & ~inside
    if not alone.any() and not bursts:
        return None
    p = max([*single.p[alone], *(float(longer.p[first : last + 1].min()) for first, last in bursts)])
    steps = [int(step) for step in values.index[alone]]
    numbers: Numbers = {"spikes": len(steps), "bursts": len(bursts), "p": float(p)}
    high = (single.above > _JUMP) & alone[:, None]
    said = []
    if steps:
        count, known = high.sum(axis=1)[alone], np.isfinite(single.above).sum(axis=1)[alone]
        size = numbers["times"] = 10 ** float(np.median(single.above[high]))
        named = [f"{step:,} ({n} of {k} layers)" for step, n, k in zip(steps, count, known, strict=True)]
        said.append(f"spikes together, {number(size)} times that of the samples on both sides, at step "
                    f"{names(named)}")  # fmt: skip
    if bursts:
        tops = [10 ** float(longer.many[first : last + 1].max()) for first, last in bursts]
        named = [
            f"between steps {values.index[first]:,} and {values.index[last]:,} (up to {number(top)} times)"
            for (first, last), top in zip(bursts, tops, strict=True)
        ]
        numbers["burst_times"] = max(tops)
        said.append(f"bursts together, and is back at what it was, {names(named)}")
        high |= (longer.above > _JUMP) & inside[:, None]
        steps = sorted({*steps, *(int(values.index[first]) for first, _ in bursts)})
    numbers["first_step"] = steps[0]
    return Finding(
        "spikes",
        f"The {noun} of many layers {', and '.join(said)} (how far a fifth of the layers rises, against the farthest "
        f"that a fifth falls; for noise with the tails of Student's t with four degrees of freedom, "
        f"{chance(float(p))} at most).",
        "heatmap",
        numbers,
        tuple(str(name) for name in values.columns[high.any(axis=0)]),
        tuple(steps),
    )


def _rises(logs: Matrix, window: tuple[int, int], *, without_bursts: bool = False) -> _Rises:
    """How far samples rise, and the chance of it, against the farthest fall.

    Between two bursts calm samples lie below both sides, though nothing falls; so what rises is left out of that.
    """
    above, below = _beyond(logs, window)
    many = _reached_by_many(above)
    # What the noise of single layers lends to the top fifth at every sample is no rise.
    usual = _median(many)
    risen = many - usual > max(_JUMP / 2, (float(many.max()) - usual) / _PART)
    if without_bursts and risen.any():
        below = _beyond(np.where(risen[:, None], np.nan, logs), window)[1]
    fall = _reached_by_many(below)
    known = np.isfinite(fall)
    if not known.any() or (without_bursts and known.sum() < _KNOWN):
        return _Rises(above, usual, many, np.ones(len(logs)))
    farthest = max(float(fall[known].max()) - _median(fall), 1e-12)
    return _Rises(above, usual, many, 1 / (1 + (np.maximum(many - usual, 0.0) / farthest) ** 4))


def _median(heights: Matrix) -> float:
    known = heights[np.isfinite(heights)]
    return max(float(np.median(known)), 0.0) if len(known) else 0.0


def _stretches(rises: _Rises) -> list[tuple[int, int]]:
    """The first and the last sample of each burst: where it is half as high as what makes one, but for gaps of two."""
    raised = np.flatnonzero(rises.many - rises.usual > _JUMP / 2)
    parts = np.split(raised, np.flatnonzero(np.diff(raised) > 3) + 1)
    return [(int(part[0]), int(part[-1])) for part in parts if len(part) and rises.shared[part].any()]


def _beyond(values: Matrix, window: tuple[int, int]) -> tuple[Matrix, Matrix]:
    """How far a value lies above the medians before and after it, and how far below both; NaN next to the ends."""
    away, side = window
    above, below = np.empty(values.shape), np.empty(values.shape)
    for columns in in_cache(values.T):
        here = np.ascontiguousarray(values[:, columns])
        before, after = medians_beside(here, side, away=away, least=side // 2 + 1)
        above[:, columns] = np.minimum(here - before, here - after)
        below[:, columns] = np.minimum(before - here, after - here)
    return above, below


def _reached_by_many(heights: Matrix) -> Matrix:
    """By sample, the height that enough layers for a shared spike reach; -inf where fewer have one."""
    many = np.maximum(3, np.ceil(_SHARED * np.isfinite(heights).sum(axis=1))).astype(int)
    reached = np.empty(len(heights))
    for rows in in_cache(heights):
        ordered = np.where(np.isfinite(heights[rows]), heights[rows], -np.inf)
        ordered.sort(axis=1)
        reached[rows] = ordered[np.arange(len(ordered)), -many[rows]]
    return reached
