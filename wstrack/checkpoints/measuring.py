"""A series of checkpoints as a run: opened, put in order, measured, and recorded where it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wstrack.checkpoints.adapters import over
from wstrack.checkpoints.folder import Found
from wstrack.checkpoints.layers import Series, layers_in
from wstrack.checkpoints.nodes import CONVOLUTIONS, take_nodes
from wstrack.checkpoints.opening import open_checkpoint
from wstrack.checkpoints.products import adapted_in, model_of, take_products
from wstrack.checkpoints.steps import Order, in_order
from wstrack.checkpoints.stored import Checkpoint
from wstrack.checkpoints.unfinished import Unfinished
from wstrack.checkpoints.walk import Work, size_of, take_sums, works
from wstrack.errors import WstrackError
from wstrack.metrics import METRICS, NODES, PRODUCTS, RATES, SUMS, TWINS, compute, is_of_adapters, sums_needed
from wstrack.runs.manifest import Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER, parts_in, read_recording
from wstrack.runs.run import Completeness, Run

__all__ = ["DEFAULT", "folder_for", "measure", "measure_opened", "record", "take"]

DEFAULT = ("rwc", "distance")
# Each costs little beside the reading, but for the elementwise ratio, which divides by every weight, and the counts.
_ASKED_FOR = {*METRICS["rwc_elementwise"].sums, "changed", "changed_bf16"} - {"abs_change"}
_OF_BITS = METRICS["fingerprint"].sums
_TAKEN = tuple(name for name in SUMS if name not in _ASKED_FOR and name not in _OF_BITS)

Array = NDArray[np.float64]


def measure(
    found: Found,
    *,
    metrics: Sequence[str] | None = None,
    to: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Run:
    """The run that a series of checkpoints is: a sample each but the first, of the change since the one before.

    Args:
        found: the checkpoints. Adapters of peft after a model are taken as what they make of it.
        metrics: which; None = `rwc` and `distance`. The sums of the others are taken too, but for `rwc_elementwise` and
            the shares that changed.
        to: the folder in which the recording is to be; what was measured there so far is gone on with. None = nothing
            is written.
        progress: is told now and then how many bytes were read, and of how many.

    Raises:
        ValueError: a metric that there is not, or that is no weights'.
        WstrackError: a checkpoint cannot be read, they are not of one model, or two are of one step; or the recording
            cannot be written, or is there already.
    """
    opened = [open_checkpoint(path) for path in found.paths]
    return measure_opened(
        opened, found.name, found.address, as_given=found.as_given, metrics=tuple(metrics or DEFAULT), to=to,
        notes=found.notes, progress=progress,
    )  # fmt: skip


def measure_opened(
    opened: Sequence[Checkpoint],
    name: str,
    address: str,
    *,
    as_given: bool,
    metrics: tuple[str, ...],
    to: Path | None,
    notes: Sequence[str] = (),
    progress: Callable[[int, int], None],
) -> Run:
    """What `measure` does with the checkpoints that it has opened; `notes` are what is known of how they were found."""
    sums = tuple(dict.fromkeys((*_TAKEN, *(name for name in sums_needed(metrics) if name in SUMS))))
    of_adapters = any(map(is_of_adapters, metrics))
    if of_optimizers := [metric for metric in metrics if set(METRICS[metric].sums) & set(RATES)]:
        raise ValueError(
            f"metrics: {of_optimizers[0]!r} is the optimizer's, and checkpoints are read for their weights"
        )
    if of_two := [metric for metric in metrics if set(METRICS[metric].sums) & set(TWINS)]:
        raise ValueError(f"metrics: {of_two[0]!r} is of two runs, step by step; see `wstrack diff`")
    if of_bits := [metric for metric in metrics if set(METRICS[metric].sums) & set(_OF_BITS)]:
        raise ValueError(
            f"metrics: {of_bits[0]!r} is for what was not saved; checkpoints have the bits themselves: `wstrack diff` "
            "of two folders tells where they differ"
        )
    recording = folder_for(to)
    base = model_of(opened, as_given=as_given, wanted=of_adapters)
    order = in_order([one for one in opened if one is not base], as_given=as_given)
    order = order if base is None else order.behind(base)
    model, *others = order.checkpoints
    if not model.adapter and any(one.adapter for one in others):
        effective = (model, *(over(model, one) if one.adapter else one for one in others))
        order = replace(order, checkpoints=effective)
    series = layers_in(order.checkpoints)
    adapted = adapted_in(series.tensors, wanted=of_adapters)
    unfinished = None if recording is None else Unfinished(recording, order, series.tensors, sums)
    taken, todo = take(series, sums, unfinished, progress)
    shape = taken.shape
    if adapted:
        squares = taken[0, adapted, sums.index("sq_previous")]
        products = take_products([series.tensors[layer] for layer in adapted], squares, tuple(PRODUCTS))
        taken = np.concatenate([taken, np.full((*shape[:2], len(PRODUCTS)), np.nan)], axis=2)
        taken[:, adapted, len(sums) :] = products
        layers = [replace(layer, adapted=place in adapted) for place, layer in enumerate(series.layers)]
        series, sums = replace(series, layers=tuple(layers)), (*sums, *PRODUCTS)
    if nodes := tuple(name for name in sums_needed(metrics) if name in NODES):
        taken = np.concatenate([taken, take_nodes(order.checkpoints, series, nodes)], axis=2)
        sums = (*sums, *nodes)
        notes = (*notes, *([CONVOLUTIONS] if any(len(layer.shape) > 2 for layer in series.layers) else []))
    lacking = shape[0] * shape[1] - sum((work.end - work.first - 1) * len(work.layers) for work in todo)
    manifest = _manifest(
        name,
        order,
        series,
        metrics,
        lacking,
        [*([f"steps are from {order.told}"] if len(order.steps) > 2 else []), *notes, *order.notes],
    )
    if recording is None or unfinished is None:
        return _run(manifest, address, order, sums, taken)
    intervals = np.diff(order.steps).tolist()
    record(recording, manifest, order.checkpoints[1:], order.steps[1:], intervals, sums, taken)
    unfinished.remove()
    return read_recording(recording)


def folder_for(to: Path | None) -> Path | None:
    """Where the recording is to be, in a folder that the user named.

    Raises:
        WstrackError: there is one already.
    """
    recording = None if to is None else to if to.name == FOLDER else to / FOLDER
    if recording is not None and recording.is_dir() and parts_in(recording):
        raise WstrackError(f"{recording} holds a recording already; report on it, or give another folder")
    return recording


def take(
    series: Series, sums: Sequence[str], unfinished: Unfinished | None, progress: Callable[[int, int], None]
) -> tuple[Array, list[Work]]:
    """The raw sums of the change to each checkpoint but the first, (checkpoints - 1, layers, sums), and the work.

    Args:
        series: the layers.
        sums: names.
        unfinished: where work that was interrupted goes on; None = it begins anew.
        progress: as in `measure`.
    """
    todo = works(series.tensors)
    shape = len(series.tensors[0]) - 1, len(series.layers), len(sums)
    taken: Array = np.full(shape, np.nan) if unfinished is None else unfinished.sums
    left = todo if unfinished is None else unfinished.left(todo)
    total = sum(size_of(work) for work in todo)
    read = total - sum(size_of(work) for work in left)

    def done(work: Work, own: Array) -> None:
        taken[work.first : work.end - 1, list(work.layers)] = own
        if unfinished is not None:
            unfinished.note(work)

    def count(more: int) -> None:
        nonlocal read
        read += more
        progress(read, total)

    progress(read, total)
    take_sums(left, sums, done, count)
    return taken, todo


def _manifest(
    name: str, order: Order, series: Series, metrics: tuple[str, ...], lacking: int, notes: Sequence[str]
) -> Manifest:
    intervals = [after - before for before, after in pairwise(order.steps)]
    dtypes = Counter(
        str(one.dtype).removeprefix("torch.") for held in series.tensors for one in held if one is not None
    )
    origin: dict[str, Any] = {
        "checkpoints": [path.path.name for path in order.checkpoints],
        "first_step": order.steps[0],
        "steps_from": order.told,
        "counted": order.counted,
        "lacking": lacking,  # changes of a layer that the checkpoints do not hold
        "dtypes": dict(dtypes),
        "notes": [*notes, *dict.fromkeys(note for one in order.checkpoints for note in one.notes), *series.notes],
    }
    name_of_model = order.checkpoints[0].config.get("model_type")
    if isinstance(name_of_model, str):
        origin["model"] = name_of_model
    return Manifest(
        name=name,
        layers=series.layers,
        metrics=metrics,
        every=Counter(intervals).most_common(1)[0][0],
        origin=origin,
    )


def _run(manifest: Manifest, address: str, order: Order, sums: Sequence[str], taken: Array) -> Run:
    numel = np.array([layer.numel for layer in manifest.layers], dtype=np.float64)
    by_name = {name: np.ascontiguousarray(taken[:, :, index]) for index, name in enumerate(sums)}
    values = compute(manifest.metrics, by_name, numel)
    size = taken.shape[0] * manifest.width
    received = size - manifest.lacking
    return Run.from_values(
        manifest,
        order.steps[1:],
        values,
        intervals=np.diff(order.steps),
        sums=by_name,
        completeness=Completeness(size, received, tuple(manifest.origin["notes"])),
        origin={"reference": f"checkpoints:{address}", "source": "checkpoints"},
    )


def _saved_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise WstrackError(f"{path} is gone since it was read: {error.strerror or error}") from error


def record(
    recording: Path,
    manifest: Manifest,
    checkpoints: Sequence[Checkpoint],
    steps: Sequence[int],
    intervals: Sequence[int],
    sums: Sequence[str],
    taken: Array,
) -> None:
    """Write what was taken, a sample a checkpoint, as of when each was saved.

    Raises:
        WstrackError: it cannot be written, or a checkpoint is gone.
    """
    times = [_saved_at(one.path) for one in checkpoints]
    recorder = Recorder(recording, manifest, sums)
    try:
        recorder.append(steps, intervals, times, taken)
    except OSError as error:
        recorder.discard()
        raise WstrackError(f"cannot record in {recording}: {error.strerror or error}") from error
    recorder.close()
