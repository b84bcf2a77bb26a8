"""The finding on a kind of layers that gets far less, or far more, of the learning rate than the others get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wstrack.analysis.findings.words import Finding, Numbers, names, number

if TYPE_CHECKING:
    from wstrack.runs.run import Run

__all__ = ["expected"]

_CONVOLUTIONS = ("conv", "depthwise", "pointwise", "transposed")
# Not embeddings, most rows of which have no gradient, nor norms and biases, some of which have none but rounding.
_JUDGED = (*_CONVOLUTIONS, "linear", "attention", "recurrent")
_AGREE = 3.0  # times, within which the middle 80 % of the others are
_APART = 2.0  # times, between each of the kind and each other
_FAR, _FAR_FROM_FEW = 4.0, 7.0  # times, in nine samples of ten; from fewer than three others
_FEW = 3
_FEWEST = 4  # samples


@dataclass(frozen=True)
class _Law:
    """How an optimizer may size its updates, so that they are the same for all layers.

    Attributes:
        updates: their logarithm, by the learning rate and in this law's unit: index = step, columns = layers.
        usual: between which they are with optimizers that follow it.
    """

    updates: pd.DataFrame
    usual: tuple[float, float]


@dataclass(frozen=True)
class _Far:
    """A kind of layers that is far from the others of its parameter group, in the unit in which these agree best."""

    layers: list[str]
    others: list[str]
    ratios: pd.Series[float]
    spread: float


def expected(runs: Sequence[Run]) -> Finding | None:
    """Which kind of layers changes far less, or more, per unit of the learning rate than the others of its group.

    Optimizers that do not follow the size of gradients move all layers alike: per weight (Adam, Lion), by the shape
    (Muon), or by the layer's size (LAMB, Adafactor). So where the other layers agree by one of these laws, at a size
    that such optimizers have, a kind that is far off by each of the laws is a fault of the optimizer, or of a factor.
    With SGD the change is as large as the gradient, so its layers are not compared; those of unknown optimizers that do
    the same hardly agree, and hardly at the size of the rate itself.

    It takes a recording, which has the raw sums, with `lr`. Of the sums it takes the squares if there are any: rare
    gradients make a few large changes in Adam, and a small mean of them.
    """
    texts: list[str] = []
    found: list[_Far] = []
    for run in runs:
        for far in _far(run):
            found.append(far)
            texts.append((f"In {run.name}: " if len(runs) > 1 else "") + _said(run, far))
    if not found:
        return None
    most = max(found, key=lambda far: abs(np.log(far.ratios.median())))
    numbers: Numbers = {
        "far": len(most.layers), "others": len(most.others), "ratio": float(most.ratios.median()), "spread": most.spread
    }  # fmt: skip
    layers = dict.fromkeys(layer for far in found for layer in far.layers)
    return Finding("expected", "\n".join(texts), "curves", numbers, tuple(layers))


def _far(run: Run) -> Iterator[_Far]:
    """In each parameter group the kind that is far off, if one is; of two the wider."""
    laws = _laws(run)
    if not laws:
        return
    kinds = run.layers["kind"]
    of_groups = run.sums["group"] / run.sums["told"]  # each process that holds a layer has told it
    groups: dict[bytes, list[str]] = {}
    for layer in map(str, laws[0].updates):
        if kinds[layer] in _JUDGED:
            groups.setdefault(of_groups[layer].to_numpy().tobytes(), []).append(layer)
    for judged in groups.values():
        there = dict.fromkeys(kinds[judged])
        sets = [{kind for kind in there if kind in _CONVOLUTIONS}, *({kind} for kind in there)]
        for those in sets:
            inside = [layer for layer in judged if kinds[layer] in those]
            others = [layer for layer in judged if kinds[layer] not in those]
            if inside and others and (far := _compared(laws, inside, others)) is not None:
                yield far
                break


def _laws(run: Run) -> list[_Law]:
    """The updates of a run by each law; none where too little is known."""
    root, change, previous = 2, "sq_change", "sq_previous"
    if change not in run.sums:
        root, change, previous = 1, "abs_change", "abs_previous"
    if not {change, previous, "lr", "told", "group", "plain"} <= set(run.sums):
        return []
    whole = run.layers.index[(run.layers["of"] == "") & (run.layers["numel"] > 0)]
    whole = whole[~(run.sums["plain"][whole] > 0).any()]
    rate, numel = (run.sums["lr"] / run.sums["told"])[whole], run.layers["numel"][whole]
    spans = run.intervals.reindex(rate.index)
    mean = {name: (run.sums[name].reindex_like(rate) / numel) ** (1 / root) for name in (change, previous)}
    update = mean[change].div(spans, axis="index") / rate
    update = update.where((update > 0) & np.isfinite(update)).dropna(how="all").dropna(axis="columns", thresh=_FEWEST)
    if update.empty:
        return []
    # Those of several steps add up to less, the less the more they differ: at least as a random walk does.
    least = float(np.sqrt(spans.median()))
    columns = numel / run.layers["shape"][whole].map(lambda shape: shape[0] if shape else 1)
    by_law = (
        (update, 0.05, 1.6),
        (update * np.sqrt(columns[update.columns]), 0.2, 1.6),
        (update / mean[previous][update.columns], 0.5, 1.6),
    )
    return [_Law(pd.DataFrame(np.log(one)), (low / least, high)) for one, low, high in by_law]


def _compared(laws: Sequence[_Law], inside: list[str], others: list[str]) -> _Far | None:
    """The one set of layers against the other: far off by each law, where the others agree by one and as usual."""
    distances = [
        law.updates[inside].median(axis="columns") - law.updates[others].median(axis="columns") for law in laws
    ]
    less = bool(distances[0].median() < 0)
    least = min(float((-one if less else one).quantile(0.1)) for one in distances)
    if not least >= np.log(_FAR if len(others) >= _FEW else _FAR_FROM_FEW):
        return None
    fitting = []
    for law in laws:
        levels = law.updates.median()
        ours, theirs = levels[inside], levels[others]
        spread = float(theirs.quantile(0.9) - theirs.quantile(0.1))
        gap = theirs.min() - ours.max() if less else ours.min() - theirs.max()
        usual = law.usual[0] <= np.exp(theirs.median()) <= law.usual[1]
        if usual and spread <= np.log(_AGREE) and gap >= np.log(_APART):
            fitting.append(_Far(inside, others, np.exp(ours - theirs.median()), float(np.exp(spread))))
    return min(fitting, key=lambda far: far.spread, default=None)


def _said(run: Run, far: _Far) -> str:
    kinds, ratio = run.layers["kind"], float(far.ratios.median())
    direction, size = ("less", 1 / ratio) if ratio < 1 else ("more", ratio)
    away = far.ratios.where(far.ratios > 1, 1 / far.ratios)
    if len(far.layers) == 1:
        ours = f"The {kinds[far.layers[0]]} weight {far.layers[0]} changes {number(size)} times {direction}"
        each = ""
    else:
        ours = f"The {_counted(kinds[far.layers])} change {number(size)} times {direction} in the median"
        each = f": {names(f'{layer} ({number(one)} times)' for layer, one in away.items())}"
    agree = (
        f" Those agree within a factor of {number(far.spread)}, as where an optimizer moves all layers alike whatever "
        "their gradients are."
    )
    look = "look for a factor by kind or by shape, in the optimizer or in front of it."
    widest = tuple(run.layers["shape"][str(away.idxmax())])
    if set(kinds[far.layers]) <= set(_CONVOLUTIONS) and len(widest) > 2:
        look = (
            "look at how the optimizer takes the shape of a kernel: to scale an update by it, "
            f"{' x '.join(map(str, widest))} is {widest[0]} x {int(np.prod(widest[1:]))}."
        )
    return (
        f"{ours} per unit of learning rate than the {_counted(kinds[far.others])} of the same parameter group{each}."
        f"{agree * (len(far.others) > 1)} No usual scaling by shape or by size explains that: {look}"
    )


def _counted(kinds: pd.Series[str]) -> str:
    """Layers by kind: "3 attention and 10 linear weights"."""
    counts = [f"{count} {kind}" for kind, count in kinds.value_counts(sort=False).items()]
    *before, last = counts
    return f"{', '.join(before)}{' and ' if before else ''}{last} weight{'s' if len(kinds) > 1 else ''}"
