"""The finding on fused projections that were cut where q, k and v do not end."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from wstrack.analysis.findings.words import Finding, names, number
from wstrack.analysis.parts import Parts, family_of

__all__ = ["layout"]

_QKV = (("k", "q", "v"), ("key", "query", "value"))
_FARTHER = 2.0  # times; of sound trainings XX at least
_USUAL = "3 to 100"
_FEWEST = 12  # samples
_FEWEST_LAYERS = 3


def layout(parts: Parts, told: Collection[str] = ()) -> Finding | None:
    """Which fused projections have parts of which q and k are not the two that go together.

    q and k change through the same scores: whatever the optimizer, they go up and down with each other, and v by itself.
    Cut elsewhere, each part is a mixture of the three, and any two of them are as near each other. How far two parts
    are from each other is the median over the samples of the difference of their logarithms; over the layers of one
    name, v is in (geometric) mean so many times as far from q and k as these are from each other.

    Args:
        parts: of a run.
        told: parts that are idle: their layers show nothing.
    """
    lines: list[str] = []
    found: list[str] = []
    ratios: list[float] = []
    for layers in _families(parts, set(told)):
        ratio = _farther(parts, layers)
        if not ratio < _FARTHER:
            continue
        ratios.append(ratio)
        found += layers
        whose = layers[0] if len(layers) == 1 else f"{family_of(layers[0])} ({len(layers):,} layers)"
        lines.append(f"{whose}, {number(ratio)} times")
    if not lines:
        return None
    return Finding(
        "layout",
        "Are q, k and v cut where they end? q and k change through the same scores and go together, and v by itself: "
        f"{_USUAL} times as far from them as they are from each other. Here v is as near them as they are: {names(lines)}; so each "
        "of the three seems to be a mixture. Check whether the weight has q, k and v one after the other, "
        'parts={...: Cut(3, labels=("q", "k", "v"))}, or head by head, '
        'parts={...: Cut(3, labels=("q", "k", "v"), repeat=heads)}.',
        "parts",
        {"farther": max(ratios), "layers": len(found)},
        tuple(found),
    )


def _families(parts: Parts, told: set[str]) -> list[list[str]]:
    """The layers of one name with parts called q, k and v, where there are enough of them."""
    found: dict[str, list[str]] = {}
    for layer in parts.table.index:
        inside = parts.inside(str(layer))
        if tuple(sorted(map(parts.label, inside))) in _QKV and not told.intersection(inside):
            found.setdefault(family_of(str(layer)), []).append(str(layer))
    return [those for those in found.values() if len(those) >= _FEWEST_LAYERS]


def _farther(parts: Parts, layers: Sequence[str]) -> float:
    """How many times as far v is from q and k as these are from each other; NaN where that cannot be told."""
    logs = []
    for layer in layers:
        one = {parts.label(part)[0]: parts.series[part] for part in parts.inside(layer)}
        values = np.stack([one[label].to_numpy(np.float64) for label in "qkv"], axis=1)
        values = values[(np.isfinite(values) & (values > 0)).all(axis=1)]
        if len(values) < _FEWEST:
            continue
        q, k, v = np.log(values).T
        logs.append([np.log(np.median(np.abs(one - other))) for one, other in ((q, k), (q, v), (k, v))])
    if len(logs) < _FEWEST_LAYERS:
        return float("nan")
    together, first, second = np.mean(logs, axis=0)
    return float(np.exp((first + second) / 2 - together))
