"""The finding on fused projections that were cut where q, k and v do not end."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from wstrack.analysis.findings.words import Finding, names, number
from wstrack.analysis.parts import Parts, family_of

__all__ = ["farther", "layout"]

_QKV = (("k", "q", "v"), ("key", "query", "value"))
_FARTHER = 1.8  # times; in docs/parts.md how far right and wrong cuts of small trainings are from it
_FEWEST = 12  # samples
_FEWEST_LAYERS = 3


def layout(parts: Parts, told: Collection[str] = ()) -> Finding | None:
    """Which fused projections have a q, k and v of which q and k are not the two that go together.

    Those two change through the same scores: whatever the optimizer, they go up and down with each other, and v by
    itself. Cut elsewhere, each part is a mixture of the three, and any two are as near each other. How far two parts
    are from each other is the median over the samples of the difference of their logarithms. Over the layers of one
    name, v must be (in geometric mean) 1.8 times as far from q and k as these are from each other.

    Args:
        parts: of a run.
        told: parts that are idle: their layers show nothing.
    """
    found = {}
    for layers in _families(parts, set(told)):
        ratio = farther(parts, layers)
        if ratio < _FARTHER:
            found[tuple(layers)] = ratio
    if not found:
        return None
    count = sum(map(len, found))
    named = names(f"{family_of(layers[0])}: {number(ratio)} times" for layers, ratio in found.items())
    return Finding(
        "layout",
        f"In {count:,} layers, q, k and v may be cut where they do not end: each seems to be a mixture of the three. v "
        "is no farther from q and k than these are from each other, though they change through the same scores, and v "
        f"does not ({named}; {_FARTHER:g} to 100 times where they are cut right).\n"
        "Does the weight have q, k and v one after the other, or head by head? "
        'Cut(3, labels=("q", "k", "v")) cuts the one, with repeat=heads the other.',
        "parts",
        {"farther": max(found.values()), "layers": count},
        tuple(layer for layers in found for layer in layers),
    )


def _families(parts: Parts, told: set[str]) -> list[list[str]]:
    """The layers of one name with parts called q, k and v, where there are enough of them."""
    found: dict[str, list[str]] = {}
    for layer in parts.table.index:
        inside = parts.inside(str(layer))
        if tuple(sorted(map(parts.label, inside))) in _QKV and not told.intersection(inside):
            found.setdefault(family_of(str(layer)), []).append(str(layer))
    return [those for those in found.values() if len(those) >= _FEWEST_LAYERS]


def farther(parts: Parts, layers: Sequence[str]) -> float:
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
