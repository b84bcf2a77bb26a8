"""Two runs of one network, checkpoint by checkpoint: how far apart their weights are at each step, layer by layer.

The two are read as one series, in which a checkpoint of the one is followed by that of the other: so the sums of every
second change are those of the twins, and each byte is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wstrack.checkpoints.folder import Found
from wstrack.checkpoints.layers import layers_in
from wstrack.checkpoints.measuring import folder_for, record, take
from wstrack.checkpoints.opening import open_checkpoint
from wstrack.checkpoints.steps import Order, in_order
from wstrack.checkpoints.stored import Checkpoint, Stored
from wstrack.checkpoints.unfinished import Unfinished
from wstrack.errors import WstrackError
from wstrack.metrics import METRICS, compute, sums_needed
from wstrack.runs.manifest import Manifest
from wstrack.runs.recording import read_recording
from wstrack.runs.run import Completeness, Run

__all__ = ["DEFAULT", "twins"]

DEFAULT = ("apart", "apart_l2", "differing")
# What of two runs each sum of a series is: the one is p, the other w.
_TAKEN = {
    "abs_change": "abs_apart",
    "abs_previous": "abs_own",
    "sq_change": "sq_apart",
    "sq_previous": "sq_own",
    "changed": "differing",
}


def twins(
    one: Found,
    other: Found,
    *,
    metrics: Sequence[str] | None = None,
    to: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Run:
    """How far the weights of two runs are apart, at each step of which both have a checkpoint.

    Args:
        one, other: their checkpoints.
        metrics: of `wstrack.metrics.METRICS` those of two runs; None = `apart`, `apart_l2` and `differing`.
        to, progress: as in `wstrack.checkpoints.measuring.measure`.

    Returns:
        A run with a sample for each of these steps, the first included.

    Raises:
        ValueError: a metric that is not of two runs.
        WstrackError: a checkpoint cannot be read; the two are not of one model, or have no step in common; or the
            recording cannot be written.
    """
    asked = tuple(dict.fromkeys(metrics or DEFAULT))
    for metric in asked:
        if not set(sums_needed([metric])) <= set(_TAKEN.values()):
            there = ", ".join(name for name, its in METRICS.items() if set(its.sums) <= set(_TAKEN.values()))
            raise ValueError(f"metrics: {metric!r} is not of two runs; pass metrics= (--metric) of: {there}")
    orders = [in_order([open_checkpoint(path) for path in each.paths], as_given=each.as_given) for each in (one, other)]
    steps, notes = _shared(orders, (one, other))
    paired = [checkpoint for step in steps for checkpoint in (_at(orders[0], step), _at(orders[1], step))]
    series = layers_in(paired)
    recording = folder_for(to)
    order = Order(tuple(paired), tuple(range(len(paired))), orders[0].told)
    unfinished = None if recording is None else Unfinished(recording, order, series.tensors, tuple(_TAKEN))
    between, _ = take(series, tuple(_TAKEN), unfinished, progress)
    apart = np.ascontiguousarray(between[::2])
    manifest = Manifest(
        name=f"{_name(one, other)} and {_name(other, one)}",
        layers=series.layers,
        metrics=asked,
        every=int(np.median(np.diff(steps))) if len(steps) > 1 else 1,
        origin={
            "twins": [one.address, other.address],
            "steps_from": orders[0].told,
            "notes": [*notes, *one.notes, *other.notes, *orders[0].notes, *orders[1].notes, *series.notes],
            "lacking": sum(_lacking(held) for held in series.tensors),
        },
    )
    sums = tuple(_TAKEN.values())
    if recording is not None and unfinished is not None:
        # A sample is no change since another step, but the first needs an interval too.
        spans = np.diff(steps).tolist()
        record(recording, manifest, paired[1::2], steps, [*(spans[:1] or [1]), *spans], sums, apart)
        unfinished.remove()
        return read_recording(recording)
    by_name = {name: np.ascontiguousarray(apart[:, :, place]) for place, name in enumerate(sums)}
    numel = np.array([layer.numel for layer in series.layers], dtype=np.float64)
    size = len(steps) * manifest.width
    told: dict[str, Any] = {"reference": f"{one.address} {other.address}", "source": "checkpoints"}
    return Run.from_values(
        manifest,
        steps,
        compute(asked, by_name, numel),
        sums=by_name,
        completeness=Completeness(size, size - manifest.lacking, tuple(manifest.origin["notes"])),
        origin=told,
    )


def _shared(orders: Sequence[Order], both: Sequence[Found]) -> tuple[list[int], list[str]]:
    """The steps of which both have a checkpoint, and what to say of the others."""
    mine, yours = orders
    if mine.counted != yours.counted:
        named, counted = (both[1], both[0]) if mine.counted else (both[0], both[1])
        raise WstrackError(
            f"{counted.address}: nothing says the steps of its checkpoints, and those of {named.address} are known; "
            "give both as lists (a1.pt,a2.pt b1.pt,b2.pt), or name both alike"
        )
    steps = sorted(set(mine.steps) & set(yours.steps))
    if not steps:
        raise WstrackError(
            f"{both[0].address} (steps {mine.steps[0]:,} to {mine.steps[-1]:,}) and {both[1].address} "
            f"({yours.steps[0]:,} to {yours.steps[-1]:,}) have no step in common"
        )
    notes = []
    for order, found, others in ((mine, both[0], yours), (yours, both[1], mine)):
        alone = [step for step in order.steps if step not in set(others.steps)]
        if alone:
            some = ", ".join(f"{step:,}" for step in alone[:5]) + (", ..." if len(alone) > 5 else "")
            notes.append(f"{len(alone)} checkpoints of {found.address} have no twin (step {some})")
    return steps, notes


def _at(order: Order, step: int) -> Checkpoint:
    return order.checkpoints[order.steps.index(step)]


def _lacking(held: Sequence[Stored | None]) -> int:
    """At how many steps a layer is not there in both, of one shape."""
    pairs = zip(held[::2], held[1::2], strict=True)
    return sum(one is None or other is None or one.shape != other.shape for one, other in pairs)


def _name(found: Found, beside: Found) -> str:
    """What tells it from the other."""
    return found.name if found.name != beside.name else found.address
