"""Sending a recording to a tracker's run: what did not arrive there while training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wstrack.runs.manifest import Manifest
    from wstrack.runs.run import Run
    from wstrack.trackers.contract import Recorded, Sample

__all__ = ["lacking", "push"]


def push(recording: str | Path, reference: str) -> int:
    """Send to a tracker's run what is in a recording and not in the run: nothing is lost, and nothing comes twice.

    For a run whose tracker was down, slow or refusing while it trained, and after a crash. The recording's files are
    sent along to trackers that keep files. Push again whenever you like.

    Args:
        recording: the folder of a recording, or the folder of a run that holds one, as in `runs/exp1`.
        reference: the run that it is of: `mlflow:<run id>`, `wandb:entity/project/run` or `tensorboard:runs/exp1`.

    Returns:
        How many samples were sent.

    Raises:
        ValueError: `reference` names no tracker.
        WstrackError: there is no recording, several, or one that cannot be read; the tracker has no such run, cannot
            be reached or refuses.

    Example:
        >>> import tempfile, torch, wstrack
        >>> there = tempfile.mkdtemp()
        >>> model = torch.nn.Linear(4, 4)
        >>> with wstrack.watch(model, to=f"{there}/exp1", every=1) as watcher:
        ...     for _ in range(3):
        ...         watcher.step()
        >>> wstrack.push(f"{there}/exp1", f"tensorboard:{there}/elsewhere")
        3
        >>> wstrack.push(f"{there}/exp1", f"tensorboard:{there}/elsewhere")
        0
    """
    from wstrack.errors import WstrackError
    from wstrack.runs.recording import find_recordings
    from wstrack.trackers.references import split
    from wstrack.trackers.registry import writer, writers

    scheme, address = split(reference)
    if not scheme:
        raise ValueError(f"reference={reference!r} names no tracker; write {'|'.join(writers())}:<its run>")
    target = writer(scheme)
    if not Path(recording).exists():
        raise WstrackError(f"{recording}: there is no such recording")
    folders = find_recordings(Path(recording))
    if len(folders) != 1:
        some = "".join(f"; {folder.parent}" for folder in folders[:5])
        raise WstrackError(f"{recording} holds {len(folders)} recordings{some}")
    return sum(target.push(address, recorded) for recorded in _recorded(folders[0]))


def lacking(recorded: Recorded, logged: Run | None) -> list[Sample]:
    """The samples that a tracker's run does not have, or not whole, or with other values than were recorded last.

    Values count as the same if they are in float32, which is what TensorBoard keeps; a NaN is the same as none.

    Args:
        recorded: what there should be.
        logged: what the tracker's own series hold; None = nothing.
    """
    import numpy as np
    import pandas as pd

    from wstrack.trackers.shared import by_layer

    if logged is None:
        return recorded.samples
    missing = []
    steps = pd.Index([sample.step for sample in recorded.samples])
    places = {metric: frame.index.get_indexer(steps) for metric, frame in logged.series.items()}
    names = [layer.name for layer in recorded.manifest.layers]
    with np.errstate(over="ignore"):
        tables = {metric: frame.reindex(columns=names).to_numpy(np.float32) for metric, frame in logged.series.items()}
    for number, sample in enumerate(recorded.samples):
        for metric in by_layer(sample.values):
            values = sample.values[metric]
            row = places[metric][number] if metric in places else -1
            with np.errstate(over="ignore"):
                here = values.astype(np.float32)
            if row < 0 or not np.array_equal(here, tables[metric][row], equal_nan=True):
                missing.append(sample)
                break
    return missing


def _recorded(folder: Path) -> list[Recorded]:
    """What a recording holds, by manifest: a run may have had several models, or other layers later."""
    from dataclasses import replace

    from wstrack.runs.recording import read_parts
    from wstrack.trackers.contract import Recorded, Sample
    from wstrack.trackers.summary import summarised

    found: dict[tuple[object, ...], tuple[Manifest, dict[int, Sample]]] = {}
    for part in read_parts(folder):
        # That training went on from a checkpoint is settled here: only what stands is sent.
        origin = {key: value for key, value in part.manifest.origin.items() if key != "after"}
        kind, manifest = (part.manifest.layers, part.manifest.metrics), replace(part.manifest, origin=origin)
        for other, samples in found.values():
            if set(other.layers) & set(manifest.layers):  # of a step that was logged again the later stands
                for step in part.steps:
                    samples.pop(step, None)
        samples = found.setdefault(kind, (manifest, {}))[1]
        for row, (step, interval, time) in enumerate(zip(part.steps, part.intervals, part.times, strict=True)):
            values = {metric: array[row] for metric, array in part.values.items()}
            samples[step] = Sample(step, interval, time, values)
    return [
        Recorded(folder, summarised(manifest), [_shown(manifest, samples[step]) for step in sorted(samples)])
        for manifest, samples in found.values()
        if samples
    ]


def _shown(manifest: Manifest, sample: Sample) -> Sample:
    """What a tracker gets of a sample."""
    from dataclasses import replace

    from wstrack.trackers.summary import summarise, summarised

    whole = summarised(manifest) is manifest
    return sample if whole else replace(sample, values=summarise(manifest.layers, sample.values))
