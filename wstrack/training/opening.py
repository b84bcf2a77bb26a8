"""Opens what a watch writes to: the trackers, the recording beside them, and what delivers to both."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wstrack.measuring.sharding import LocalShard
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER, last_step
from wstrack.trackers.contract import Sink
from wstrack.trackers.naming import run_folder
from wstrack.trackers.registry import open_sinks
from wstrack.training.delivery import Delivery
from wstrack.training.processes import announce
from wstrack.training.ranks import Ranks

__all__ = ["RUNS", "Opened", "open_delivery"]

log = logging.getLogger("wstrack")

RUNS = Path("runs")  # where runs go if nothing else is said, as with TensorBoard's own writer
_names: set[str] = set()  # made up in this process
_lock = threading.Lock()


@dataclass(frozen=True)
class Opened:
    """What a watch begins with.

    Attributes:
        delivery: takes its samples.
        name: of the run.
        folder: in which the recording lies, absolute, for the user may change folders while training. On the first
            rank's machine.
        last: the last step of which the run has a sample already.
    """

    delivery: Delivery
    name: str
    folder: Path
    last: int


def open_delivery(
    to: object,
    manifest: Manifest,
    sums: Sequence[str],
    *,
    ranks: Ranks | None,
    shards: Sequence[LocalShard],
    settings: Mapping[str, object],
) -> Opened:
    """Open the trackers that `to` stands for (see `wstrack.watch`) and the recording; with ranks, on the first of them.

    Args:
        to: see `wstrack.watch`.
        manifest: with the layers of this rank; without a name, one is made up from `origin["model"]`.
        sums: names of the raw sums of a sample.
        ranks: those who open this together, see `wstrack.training.ranks`.
        shards: what this process holds of the layers.
        settings: what `watch` was called with, and must be alike on all ranks.

    Raises:
        ValueError, TypeError, WstrackError: as `open_sinks`, `Recorder` and `Ranks`; what was opened is closed again.
    """
    if ranks is None:
        manifest = replace(manifest, name=manifest.name or _fresh_name(str(manifest.origin["model"])))
        sinks, recorder, last = _open(to, manifest, sums)
        announce(manifest.layers)
        return Opened(Delivery(manifest, sums, recorder, sinks), manifest.name, recorder.folder, last)

    opened: list[tuple[Manifest, list[Sink], Recorder]] = []

    def tell(layers: tuple[Layer, ...]) -> Mapping[str, Any]:
        whole = replace(
            manifest,
            name=manifest.name or _fresh_name(str(manifest.origin["model"])),
            layers=layers,
            origin={**manifest.origin, "ranks": len(ranks.ranks)},
        )
        sinks, recorder, last = _open(to, whole, sums)
        opened.append((whole, sinks, recorder))
        return {"name": whole.name, "folder": str(recorder.folder), "last": last}

    ranks.offer(manifest.layers, shards, settings)
    try:
        plan = ranks.plan(tell)
        ranks.connect(plan)
    except BaseException:
        for _, sinks, recorder in opened:
            _close(sinks, recorder)
        raise
    whole, writing, recording = opened[0] if opened else (replace(manifest, layers=plan.layers), [], None)
    delivery = Delivery(whole, sums, recording, writing, ranks)
    return Opened(delivery, plan.told["name"], Path(plan.told["folder"]), plan.told["last"])


def _open(to: object, manifest: Manifest, sums: Sequence[str]) -> tuple[list[Sink], Recorder, int]:
    """The sinks, the recorder, and the last step that is recorded already."""
    sinks = open_sinks(to, manifest)
    home = next((sink.recording_directory for sink in sinks if sink.recording_directory), None)
    folder = (home or RUNS / run_folder(manifest.name)).absolute() / FOLDER
    for sink in sinks:
        sink.bind(folder.parent)
    # What is read from the recording can then still name the run as its trackers do.
    references = [sink.reference for sink in sinks if sink.reference]
    last = last_step(folder)
    if last:
        log.warning("%s is there already: it goes on after step %d", folder.parent, last)
    try:
        recorder = Recorder(folder, replace(manifest, origin={**manifest.origin, "references": references}), sums)
    except BaseException:
        _close(sinks, None)
        raise
    return sinks, recorder, last


def _close(sinks: Sequence[Sink], recorder: Recorder | None) -> None:
    if recorder is not None:
        recorder.close()
    for sink in sinks:
        sink.close()


def _fresh_name(model: str) -> str:
    base = name = f"{model}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    with _lock:
        while name in _names or (RUNS / name).exists():
            number += 1
            name = f"{base}-{number}"
        _names.add(name)
    return name
