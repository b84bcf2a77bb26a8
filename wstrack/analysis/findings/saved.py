"""What only checkpoints need: whether each holds the weights of its own step, and what two sets of weights share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wstrack.analysis.findings.words import Finding, Numbers, number, together
from wstrack.runs.manifest import block_of

if TYPE_CHECKING:
    import pandas as pd

    from wstrack.runs.run import Run

__all__ = ["changes", "of_checkpoints", "off_path", "percent", "same", "unrelated"]

SMALLEST = 1_000  # elements of a layer that can be told from another by its sums, or whose correlation means something
BACK = 0.1  # of the squares of two changes: what is left of them where the second takes the first back
FAR = 3.0  # times the changes before and after
UNRELATED, MOST = 0.1, 0.75  # the correlation of weights, and of how many layers it must be smaller
NEEDED = ("abs_change", "abs_previous", "abs_current", "abs_from_start", "sq_change", "sq_previous", "dot")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Saved:
    """What is known of a run from checkpoints: arrays (samples, layers), and the step of each checkpoint."""

    sums: dict[str, Array]
    steps: list[int]
    layers: list[str]
    large: NDArray[np.bool_]


def _saved(run: Run) -> _Saved | None:
    if "checkpoints" not in run.origin or not set(NEEDED) <= set(run.sums):
        return None
    sums = {name: run.sums[name].to_numpy(dtype=np.float64) for name in NEEDED}
    first = run.origin.get("first_step", 0)
    steps = [first if isinstance(first, int) else 0, *(int(step) for step in run.sums["abs_change"].index)]
    large = run.layers["numel"].to_numpy() >= SMALLEST
    return _Saved(sums, steps, [str(name) for name in run.layers.index], large)


def of_checkpoints(runs: Sequence[Run]) -> list[Finding | None]:
    """What is to be told of runs from checkpoints before anything else; of other runs nothing."""
    return [of(run) for run in runs for of in (same, off_path, unrelated)]


def same(run: Run) -> Finding | None:
    """Checkpoints that hold the very weights of another, though the layer changed in between or steps passed.

    Weights are the same if their size and their distance from the first checkpoint are, to the last bit of both sums.
    A layer that is frozen at first, or from some step on, is not meant.
    """
    saved = _saved(run)
    if saved is None or len(saved.steps) < 3:
        return None
    moved = saved.sums["abs_change"] != 0
    trained = moved.any(axis=0)
    sizes = np.vstack([saved.sums["abs_previous"][:1], saved.sums["abs_current"]])
    distances = np.vstack([np.zeros((1, sizes.shape[1])), saved.sums["abs_from_start"]])
    texts: list[str] = []
    steps: set[int] = set()
    layers: dict[str, None] = {}
    for later in range(1, len(saved.steps)):
        alike = (sizes[:later] == sizes[later]) & (distances[:later] == distances[later]) & trained
        for earlier in map(int, np.flatnonzero(alike.any(axis=1))):
            between = moved[earlier:later].any(axis=0)
            if later - earlier == 1:
                # A layer that stands still between neighbours may be frozen until then, or from then on.
                begun, goes_on = moved[:earlier].any(axis=0), moved[later:].any(axis=0)
                those = alike[earlier] & ((begun & goes_on) | bool((alike[earlier] | ~trained).all()))
            else:
                those = alike[earlier] & between & (saved.large | bool((alike[earlier] | ~trained).all()))
            if those.any():
                named = [layer for layer, meant in zip(saved.layers, those, strict=True) if meant]
                whole = len(named) == int(trained.sum())
                what = "all its weights" if whole else _these(named, saved.layers)
                passed = saved.steps[later] - saved.steps[earlier]
                texts.append(
                    f"The checkpoint of step {saved.steps[later]:,} has {what} in common with that of step "
                    f"{saved.steps[earlier]:,}, bit for bit, though {passed:,} steps passed."
                )
                steps |= {saved.steps[earlier], saved.steps[later]}
                layers |= dict.fromkeys(named)
    if not texts:
        return None
    return Finding(
        "same",
        "\n".join([*texts[:5], *([f"And {len(texts) - 5} more pairs."] if len(texts) > 5 else []),
                   "One of each two may have been saved under a wrong step."]),
        "heatmap",
        {"pairs": len(texts), "layers": len(layers)},
        tuple(layers),
        tuple(sorted(steps)),
    )  # fmt: skip


def off_path(run: Run) -> Finding | None:
    """Checkpoints that do not lie on the path of those around them, in some layers or all.

    There the change to a checkpoint is taken back by the change from it: what is left of the two squares is less than
    a tenth (half, for weights that only tremble about one place), and both are three times those before and after.
    """
    saved = _saved(run)
    if saved is None or len(saved.steps) < 5:
        return None
    squares, dots = saved.sums["sq_change"], saved.sums["dot"]
    both = squares[:-1] + squares[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        left = 1 + 2 * dots[1:] / both
    around = np.full(both.shape, -np.inf)
    around[1:] = squares[:-2]
    around[:-1] = np.fmax(around[:-1], squares[2:])
    smaller = np.minimum(squares[:-1], squares[1:])
    off = (left < BACK) & (smaller > FAR**2 * around) & (both > 0) & np.isfinite(around) & saved.large
    found = [place for place in range(len(off)) if off[place].any()]
    if not found or len(found) > max(1, len(off) // 5):  # what happens again and again is how it was trained
        return None
    texts: list[str] = []
    layers: dict[str, None] = {}
    for place in found:
        named = [layer for layer, meant in zip(saved.layers, off[place], strict=True) if meant]
        layers |= dict.fromkeys(named)
        far = float(np.sqrt(np.median((smaller[place] / around[place])[off[place]])))
        off_it = "does not lie" if len(named) == 1 else "do not lie"
        texts.append(
            f"In the checkpoint of step {saved.steps[place + 1]:,}, {_these(named, saved.layers)} {off_it} on the path "
            f"of the checkpoints around it: {number(far)} times as far off as the largest change next to it, and back."
        )
    return Finding(
        "off_path",
        "\n".join([*texts, "Weights of another step or run may have been saved there."]),
        "heatmap",
        {"checkpoints": len(found), "layers": len(layers)},
        tuple(layers),
        tuple(saved.steps[place + 1] for place in found),
    )


def unrelated(run: Run) -> Finding | None:
    """Neighbouring checkpoints, or two that are compared, whose weights have nothing to do with one another.

    Weights of two seeds are at a right angle: their relative distance (Euclidean) is near the square root of 2, and
    their correlation near 0. Training moves weights as far only when nothing is left of where it began.
    """
    saved = _saved(run)
    if saved is None:
        return None
    before = np.sqrt(saved.sums["sq_previous"])
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of the last checkpoint only the other norm is known, which grows alike.
        after = before * saved.sums["abs_current"] / saved.sums["abs_previous"]
        after[:-1] = before[1:]
        correlation = (before**2 + after**2 - saved.sums["sq_change"]) / (2 * before * after)
        distance = np.sqrt(saved.sums["sq_change"]) / before
    told = np.isfinite(correlation) & saved.large
    counted = told.sum(axis=1)
    apart = (told & (np.abs(correlation) < UNRELATED)).sum(axis=1)
    found = [place for place in range(len(counted)) if counted[place] and apart[place] >= MOST * counted[place]]
    if not found:
        return None
    pairs = [
        f"{saved.steps[place]:,} and {saved.steps[place + 1]:,} (relative distance "
        f"{number(float(np.median(distance[place][told[place]])))})"
        for place in found
    ]
    if len(saved.steps) == 2:
        text = (
            f"The two sets of weights are unrelated: in {apart[0]:,} of {counted[0]:,} layers they have nothing in "
            f"common but their size, as two trainings from different seeds (their relative distance is "
            f"{number(float(np.median(distance[0][told[0]])))}; that of independent ones 1.41, the square root of 2)."
        )
    else:
        text = (
            f"The checkpoints of steps {'; '.join(pairs[:3])} are unrelated: their weights have nothing in common but "
            "their size, as those of different seeds, whose relative distance is 1.41, the square root of 2. Is one of "
            "another run?"
        )
    steps = {step for place in found for step in saved.steps[place : place + 2]}
    return Finding("unrelated", text, "heatmap", {"pairs": len(found)}, steps=tuple(sorted(steps)))


def changes(values: pd.DataFrame, noun: str) -> Finding | None:
    """Of one sample: how much the layers changed, which the most, and which not at all."""
    if len(values) != 1 or noun != "change":
        return None
    row = values.iloc[0].sort_values(ascending=False, kind="stable")
    layers = [str(name) for name in values.columns]
    still = [name for name in layers if row[name] == 0]
    moved = row[row > 0]
    if not len(moved):
        text = f"No layer changed: all {len(layers):,} are the same before and after, bit for bit."
        return Finding(
            "changes", text, "heatmap", {"median": 0.0, "still": len(still), "layers": len(layers)}, tuple(still)
        )
    median = float(moved.median())
    texts = [f"The median layer{' of those that changed' if still else ''} changed by {percent(median)}."]
    if len(moved) > 3:
        most = [f"{name} ({percent(float(value))})" for name, value in moved.iloc[:3].items()]
        texts = [f"The most changed {', '.join(most[:-1])} and {most[-1]}; the median is {percent(median)}."]
    if still:
        texts.append(
            f"{len(still):,} of {len(layers):,} layers {'is' if len(still) == 1 else 'are'} the same before and after, "
            f"bit for bit: {_these(still, layers)}."
        )
    numbers: Numbers = {"median": median, "still": len(still), "layers": len(layers)}
    return Finding("changes", "\n".join(texts), "heatmap", numbers, tuple(still))


def percent(value: float) -> str:
    """A relative change, as people write it."""
    return f"{number(100 * value)} %" if value < 1 else f"{number(value)} times its size"


def _these(members: Sequence[str], layers: Sequence[str]) -> str:
    """Some layers, whole blocks by their names."""
    return ", ".join(_blocks(members, layers)) if len(members) > 1 else members[0]


def _blocks(members: Sequence[str], layers: Sequence[str]) -> Iterator[str]:
    ours, rest = set(members), list(members)
    blocks = dict.fromkeys(block_of(name) for name in members if any(map(str.isdigit, block_of(name))))
    whole = [block for block in blocks if {name for name in layers if block_of(name) == block} <= ours]
    if whole:
        rest = [name for name in members if block_of(name) not in whole]
        yield f"all of {', '.join(whole[:6])}" + (f" and {len(whole) - 6} more blocks" if len(whole) > 6 else "")
    if len(rest) > 3:
        yield together(rest, layers)
    else:
        yield from rest
