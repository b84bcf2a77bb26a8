"""What all findings are made of: the sentence with its numbers, and how numbers read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import stats

from wstrack.analysis.medians import medians, ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Figure",
    "Finding",
    "Kind",
    "Numbers",
    "at_steps",
    "batches",
    "beyond_slow_noise",
    "chance",
    "holm",
    "names",
    "number",
    "parts_of",
    "times",
    "together",
]

MOST_NAMED = 8

_NUMBER = re.compile(r"\[?[\d.]*\]?")
_SLOWEST, _FEWEST_FOR_NOISE = 0.98, 12

Figure = Literal["heatmap", "curves", "plane", "tree", "k", "parts"]
Kind = Literal[
    "clusters", "apart", "kin", "differences", "depth", "spread", "groups", "course", "against", "phases", "stopped",
    "rule", "unstable", "spikes", "missing", "incomplete", "not_finite", "still", "decay", "period",
    "same", "off_path", "unrelated", "changes", "swallowed", "schedule", "dead", "frozen", "unequal", "layout",
    "expected", "alerted", "trend", "odd", "parted", "growth",
]  # fmt: skip
Numbers = dict[str, float | str | int]


@dataclass(frozen=True)
class Finding:
    """One thing to know about a run.

    Attributes:
        kind: of what; docs/analysis.md says what each is.
        text: for people; plain text with layer names as they are, lines separated by newlines.
        figure: the figure that shows it: "heatmap", "curves", "plane", "tree" or "k".
        numbers: the numbers of the text, unrounded.
        layers: the layers that it is about, in model order; empty where it is about all.
        steps: the steps that it is about; empty where it is about all.
    """

    kind: Kind
    text: str
    figure: Figure
    numbers: Numbers
    layers: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()


def number(value: float) -> str:
    """Three significant digits, as people write them.

    Example:
        >>> number(0.012345), number(51234.0), number(2e-7)
        ('0.0123', '51,200', '2e-07')
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 1000 <= abs(rounded) < 1e9 else f"{value:.3g}"


def chance(p: float) -> str:
    """A p-value."""
    return "p < 0.001" if p < 0.001 else f"p = {number(p)}"


def times(ratio: float) -> str:
    """A ratio in words.

    Example:
        >>> times(0.25), times(3e11)
        ('4 times smaller', 'over a million times larger')
    """
    size, direction = (1 / ratio, "smaller") if ratio < 1 else (ratio, "larger")
    return f"{'over a million' if size > 1e6 else number(size)} times {direction}"


def at_steps(steps: Sequence[int]) -> str:
    """Some steps, as people write them; of many the first eight.

    Example:
        >>> at_steps([320]), at_steps([320, 1510])
        ('step 320', 'steps 320 and 1,510')
    """
    if len(steps) == 1:
        return f"step {steps[0]:,}"
    named = [f"{step:,}" for step in steps]
    if len(named) > MOST_NAMED:
        return f"steps {names(named)}"
    return f"steps {', '.join(named[:-1])} and {named[-1]}"


def names(named: Iterable[str], *, most: int = MOST_NAMED) -> str:
    """The first eight, and how many more there are."""
    every = list(named)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def together(members: Sequence[str], layers: Sequence[str]) -> str:
    """Some of all layers, as a reader would name them: by a part of the name that they alone share, or by a range.

    Args:
        members: at least one of `layers`.
        layers: all of them; both in model order.

    Example:
        >>> layers = [f"h.{block}.{part}" for block in range(3) for part in ("qkv", "out", "fc")]
        >>> together(layers[1::3], layers)
        'all 3 layers with "out" in their name'
        >>> together(layers[4:8:3], layers)
        '2 of the 3 layers with "out" in their name, from h.1.out to h.2.out'
        >>> together(layers[:4], layers), together(layers[::2], layers)
        ('4 layers from h.0.qkv to h.1.qkv', '5 layers (h.0.qkv, h.0.fc, h.1.out and 2 more)')
    """
    if len(members) == 1:
        return members[0]
    if len(members) == len(layers):
        return f"all {len(members):,} layers"
    ours = set(members)
    shared = frozenset.intersection(*map(parts_of, members))
    alone = shared.difference(*(parts_of(name) for name in layers if name not in ours))
    if alone:
        return f'all {len(members):,} layers with "{min(alone, key=lambda part: (len(part), part))}" in their name'
    first = layers.index(members[0])
    if list(layers[first : first + len(members)]) == list(members):
        return f"{len(members):,} layers from {members[0]} to {members[-1]}"
    rarest = min(shared, key=lambda part: (sum(part in parts_of(name) for name in layers), len(part), part), default="")
    alike = [name for name in layers if rarest in parts_of(name)]
    if alike and len(alike) < len(layers):
        which = f'{len(members):,} of the {len(alike):,} layers with "{rarest}" in their name'
        first = alike.index(members[0])
        if alike[first : first + len(members)] == list(members):
            return f"{which}, from {members[0]} to {members[-1]}"
        if len(alike) <= len(layers) / 2:
            return f"{which} ({names(members, most=3)})"
    return f"{len(members):,} layers ({names(members, most=3)})"


@lru_cache(maxsize=1 << 14)  # each is asked for by every finding that names layers
def parts_of(name: str) -> frozenset[str]:
    """What stands between the dots of a name, alone and with its neighbour, but for bare numbers.

    Example:
        >>> sorted(parts_of("h.0.attn.qkv[q]")), sorted(parts_of("experts.down[3]"))
        (['0.attn', '[q]', 'attn', 'attn.qkv', 'h.0', 'qkv'], ['down', 'experts', 'experts.down'])
    """
    pieces = re.split(r"[./]|(?=\[)", name)
    pairs = [".".join(pair) for pair in pairwise(pieces) if not pair[1].startswith("[")]
    return frozenset(part for part in (*pieces, *pairs) if len(part) > 1 and not _NUMBER.fullmatch(part))


def batches(values: pd.DataFrame) -> pd.DataFrame:
    """The medians of stretches of neighbouring samples, which are nearly independent where samples are not.

    A stretch is twice as long as the samples remember, by the median lag-one correlation of what the layers do apart
    from their common course; but there are five stretches at least.
    """
    steps = len(values)
    centred = ranks(values)
    known = ~np.isnan(centred)
    centred -= np.where(known, centred, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    if values.shape[1] > 2:
        centred -= medians(pd.DataFrame(centred), "columns").to_numpy()[:, None]
    apart = np.nan_to_num(centred, copy=False)
    size = np.maximum(np.einsum("ij,ij->j", apart, apart), 1e-300)
    memory = float(np.median(np.einsum("ij,ij->j", apart[1:], apart[:-1]) / size))
    memory = min(max(memory + (1 + 4 * memory) / max(steps, 1), 0.0), 0.9)
    length = max(1, min(round(2 * (1 + memory) / (1 - memory)) if memory > 0.15 else 1, steps // 5))
    if length == 1:
        return values.reset_index(drop=True)
    return values.groupby(np.minimum(np.arange(steps) // length, max(1, steps // length) - 1)).median()


def beyond_slow_noise(course: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The chance that a weighted sum of noise is as far from 0 as that of `course`, two-sided; 1 of too few samples.

    The noise remembers 98 % from sample to sample, far more than `batches` assumes, and moves between samples as the
    course does. A slow course leaves few stretches of samples, which cannot show what is far beyond even that.
    """
    if len(course) < _FEWEST_FOR_NOISE:
        return 1.0
    innovations = np.diff(course).std() * np.sqrt((1 + _SLOWEST) / 2)
    reach = np.array(list(accumulate(weights[::-1], lambda before, weight: weight + _SLOWEST * before)))
    deviation = innovations * np.sqrt((reach**2).sum() + (_SLOWEST * reach[-1]) ** 2 / (1 - _SLOWEST**2))
    distance = abs(float(course @ weights))
    return 2 * float(stats.t.sf(distance / max(deviation, 1e-300), len(course) - 2)) if distance else 1.0


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values of many tests of one kind, so adjusted that the chance of any wrong one stays (Holm 1979).

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(adjusted, 1.0)
    return result


def above(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """One-sided chance that `ours` lie above `theirs` (Mann-Whitney); 1 where either is empty."""
    ours, theirs = ours[~np.isnan(ours)], theirs[~np.isnan(theirs)]
    if not len(ours) or not len(theirs):
        return 1.0
    return float(stats.mannwhitneyu(ours, theirs, alternative="greater").pvalue)
