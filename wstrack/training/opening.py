"""Opens what a watch writes to: the trackers, the recording beside them, and what delivers to both."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from wstrack.errors import WstrackError
from wstrack.measuring.meters.margins import MarginMeter
from wstrack.measuring.rows import Rows
from wstrack.measuring.sharding import LocalShard
from wstrack.rules.panel import Panel
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER, being_written, last_step, recorded_name
from wstrack.trackers.contract import Sink
from wstrack.trackers.naming import RUNS, run_home
from wstrack.trackers.registry import is_folder, name_in, open_sinks
from wstrack.trackers.summary import summarised
from wstrack.training.delivery import Delivery
from wstrack.training.processes import announce
from wstrack.training.ranks import Ranks

__all__ = ["Opened", "open_delivery"]

log = logging.getLogger("wstrack")

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
    rows: Rows,
    shards: Sequence[LocalShard],
    settings: Mapping[str, object],
    start: int | None = None,
    panel: Panel | None = None,
    nodes: MarginMeter | None = None,
) -> Opened:
    """Open the trackers that `to` stands for (see `wstrack.watch`) and the recording; with ranks, on the first of them.

    Args:
        to: see `wstrack.watch`.
        manifest: with the layers of this rank; without a name, one is made up from `origin["model"]`.
        sums: names of the raw sums of a sample.
        ranks: those who open this together, see `wstrack.training.ranks`.
        rows: the layers of this process, those of the manifest, and how they come of what is measured.
        shards: what it holds of the whole ones.
        settings: what `watch` was called with, and must be alike on all ranks.
        start: see `wstrack.watch`.
        panel: the rules that look at each sample, where it is judged; None = none.
        nodes: takes the margins of weights; None = nobody asks.

    Raises:
        ValueError, TypeError, WstrackError: as `open_sinks`, `Recorder` and `Ranks`; what was opened is closed again.
    """
    if ranks is None:
        manifest = replace(manifest, name=manifest.name or _fresh_name(str(manifest.origin["model"])))
        begun = _open(to, manifest, sums, start)
        announce(manifest.layers)
        return Opened(
            begun.delivery(rows, sums, None, panel, nodes), begun.manifest.name, begun.recorder.folder, begun.last
        )

    opened: list[_Begun] = []

    def tell(layers: tuple[Layer, ...]) -> Mapping[str, Any]:
        asked = replace(
            manifest,
            name=manifest.name or _fresh_name(str(manifest.origin["model"])),
            layers=layers,
            origin={**manifest.origin, "ranks": len(ranks.ranks)},
        )
        opened.append(_open(to, asked, sums, start))
        return {"name": asked.name, "folder": str(opened[0].recorder.folder), "last": opened[0].last}

    ranks.offer(rows, shards, settings)
    try:
        plan = ranks.plan(tell)
        ranks.connect(plan)
    except BaseException:
        for begun in opened:
            _close(begun.sinks, begun.recorder)
        raise
    elsewhere = replace(manifest, layers=plan.layers)
    delivery = Delivery(elsewhere, rows, sums, None, [], ranks, nodes=nodes)
    if opened:
        delivery = opened[0].delivery(rows, sums, ranks, panel, nodes)
    return Opened(delivery, plan.told["name"], Path(plan.told["folder"]), plan.told["last"])


@dataclass
class _Begun:
    """What is open before there is a delivery: the manifest as it is written, and the last step that was recorded."""

    manifest: Manifest
    sinks: list[Sink]
    recorder: Recorder
    last: int
    delivering: list[Delivery] = field(default_factory=list)

    def flush(self, timeout: float) -> bool:
        """Wait until every sample so far has come to the sinks."""
        return all(delivery.flush(timeout) for delivery in self.delivering)

    def delivery(
        self,
        rows: Rows,
        sums: Sequence[str],
        ranks: Ranks | None,
        panel: Panel | None,
        nodes: MarginMeter | None,
    ) -> Delivery:
        """What delivers to all of it."""
        self.delivering = [Delivery(self.manifest, rows, sums, self.recorder, self.sinks, ranks, panel, nodes)]
        return self.delivering[0]


class _TakenError(WstrackError):
    """Another process is recording in the folder."""


def _open(to: object, manifest: Manifest, sums: Sequence[str], start: int | None) -> _Begun:
    """The sinks and the recorder, open."""
    while True:
        sinks = open_sinks(to, summarised(manifest))
        recorder = None
        try:
            home = next((sink.recording_directory for sink in sinks if sink.recording_directory), None)
            folder = (home or run_home(manifest.name)).absolute() / FOLDER
            _refuse_if_taken(folder, manifest, named=is_folder(to) and manifest.name != name_in(to))
            beside = being_written(folder, "this process")
            whole = _told_apart(manifest, beside)
            last = last_step(folder, {layer.name for layer in whole.layers} if beside else None)
            after = None if not last else last if start is None else start
            if after is not None:
                log.warning("%s is there already: it goes on after step %d", folder.parent, after)
            # What is read from the recording can then still name the run as its trackers do.
            references = [sink.reference for sink in sinks if sink.reference]
            went_on = {} if after is None else {"after": after}
            whole = replace(whole, origin={**whole.origin, "references": references, **went_on})
            label = next((sink.recording_label for sink in sinks if sink.recording_label), "")
            recorder = Recorder(folder, whole, sums, after=after, label=label)
            if recorder.came_second():
                recorder.discard()
                _refuse_if_taken(folder, manifest, named=False)
            begun = _Begun(whole, sinks, recorder, last)
            for sink in sinks:
                sink.bind(folder.parent, summarised(whole), begun.flush)
        except BaseException as error:
            _close(sinks, recorder)
            if isinstance(error, _TakenError) and not is_folder(to) and folder.is_relative_to(RUNS.absolute()):
                continue  # by its name alone, and a moment before: there is another folder for this run
            raise
        return begun


def _refuse_if_taken(folder: Path, manifest: Manifest, *, named: bool) -> None:
    """See that a folder is not another run's; one that was chosen by the run's name is not, unless just now."""
    for other in being_written(folder, "another"):
        raise _TakenError(
            f"{folder.parent} is being written by another process (run {other.name!r}, begun "
            f"{other.origin.get('started', 'before')}); give this run a folder or a name of its own (to=, name=)"
        )
    before = recorded_name(folder) if named else None
    if before not in (None, manifest.name):
        raise WstrackError(
            f"{folder.parent} holds run {before!r}, and this one is {manifest.name!r}; give it a folder of its own "
            "(to=), or the other's name (name=) to go on with that"
        )


def _told_apart(manifest: Manifest, beside: Sequence[Manifest]) -> Manifest:
    """The manifest with layers that no other model has that this process watches in the same run."""
    taken = {layer.name for other in beside for layer in other.layers}
    if not taken & {layer.name for layer in manifest.layers}:
        return manifest
    model = str(manifest.origin.get("model", "model"))
    prefixes = (f"{model}." if number == 1 else f"{model}-{number}." for number in count(1))
    prefix = next(each for each in prefixes if not taken & {f"{each}{layer.name}" for layer in manifest.layers})
    log.warning(
        "another model is watched in this run, with layers of the same names; those of this %s are called %s...",
        model,
        prefix,
    )
    layers = (
        replace(
            layer,
            name=prefix + layer.name,
            aliases=tuple(prefix + alias for alias in layer.aliases),
            of=layer.of and prefix + layer.of,
        )
        for layer in manifest.layers
    )
    return replace(manifest, layers=tuple(layers))


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
