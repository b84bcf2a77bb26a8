"""From a tracking store to a `Run`: from the recording if it is whole, or else from every point of the metrics."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wstrack.errors import WstrackError
from wstrack.runs.gaps import left_out
from wstrack.runs.listed import Listed
from wstrack.runs.manifest import Layer, Manifest, layer_table
from wstrack.runs.recording import FOLDER as RECORDING
from wstrack.runs.recording import find_recordings, read_recording
from wstrack.runs.run import Completeness, Run
from wstrack.runs.wholer import wholer
from wstrack.trackers.matching import assigned, compiled, layer_of, wanted
from wstrack.trackers.naming import layer_keys
from wstrack.trackers.shared import by_layer, left_to_recording, series_keys
from wstrack_integrations.mlflow.address import SCHEME, Address, local_path, redacted
from wstrack_integrations.mlflow.artifacts import FOLDER, MANIFEST, artifact, read_manifest, tagged_manifest
from wstrack_integrations.mlflow.database import Database
from wstrack_integrations.mlflow.folder import Folder
from wstrack_integrations.mlflow.history import EVERY, METRICS, settings_of, since_1970
from wstrack_integrations.mlflow.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wstrack.runs.asked import Asked
    from wstrack_integrations.mlflow.history import History, Store, StoredRun

__all__ = [
    "CLOSED",
    "CLOSED_AT",
    "INTERVAL",
    "METRICS",
    "RESUMED",
    "SAMPLES",
    "MlflowSource",
    "logged_run",
    "open_store",
    "the_run",
]

INTERVAL = "wstrack/interval"
SAMPLES, CLOSED, RESUMED = "wstrack.samples", "wstrack.closed", "wstrack.resumed"
CLOSED_AT = "wstrack.closed_at"
"""Tags: how many samples there should be, whether and when (ms) the sink was closed, and `_resumptions`."""


class MlflowSource:
    """The runs of a tracking store, of an experiment, or one; see `wstrack.trackers.Source`."""

    def __init__(self, address: str) -> None:
        self.address = address

    def references(self, *, match: str | None = None) -> list[str]:
        """A reference for each run that wstrack logged, or with metrics that `match` fits, in the order of starts."""
        return list(self.names(match=match))

    def names(self, *, match: str | None = None) -> dict[str, str]:
        """The name of each of these runs, by its reference.

        Raises:
            ValueError: a `match` that is no regular expression with a group for the layer; a malformed address.
            WstrackError: there is no such store, experiment or run, or it cannot be read.
        """
        address = Address.of(self.address)
        store = open_store(address.uri)
        return {_reference(address, store, run.id): run.name for run in _runs(address, store, match)}

    def listed(self, *, match: str | None = None, asked: Asked = EVERY) -> Iterator[Listed]:
        """What is known of each of these runs: parameters, tags, the last values of metrics that are none of ours.

        Only of those that are asked for, as far as MLflow can look for them.

        Raises:
            ValueError, WstrackError: as `names`.
        """
        address = Address.of(self.address)
        store = open_store(address.uri)
        for run in _runs(address, store, match, settings=True, asked=asked):
            yield Listed(
                _reference(address, store, run.id), run.name, run.status.lower(), since_1970(run.started),
                _whole_number(run.tags.get(SAMPLES)), settings_of(run), run.latest, _stamp(run),
            )  # fmt: skip

    def read(self, reference: str, *, metrics: Sequence[str] | None = None, match: str | None = None) -> Run:
        """Every point of a run: from its recording, if that is there and holds all that the metrics hold.

        With `match`, any metrics will do: the regular expression is searched in each key; its group `layer` is the
        layer, and the metric is its group `metric` or else the key around the layer ("value" if that is nothing).

        Raises:
            ValueError: a metric that the run does not have; a `match` that is no such expression.
            WstrackError: nothing there, no such metrics, several runs, or a store that cannot be read.
        """
        address = Address.of(reference.removeprefix(SCHEME))
        store = open_store(address.uri)
        stored = the_run(address, store, match, settings=True)
        if match is not None:
            run = _matched_run(store, stored, compiled(match), metrics)
        elif METRICS not in stored.tags:
            raise WstrackError(
                f"{reference} holds nothing that wstrack logged; to read other series pass match= (--match), a regular "
                "expression with a group for the layer, such as 'grad_norm/(?P<layer>.+)'"
            )
        else:
            run = _watched_run(store, stored, address.uri, metrics)
        kind = re.split(r"[:+]", address.uri)[0] if not isinstance(store, Folder) else "file"
        closed = {"closed": stored.tags[CLOSED] == "true"} if CLOSED in stored.tags else {}
        return run.with_origin(
            reference=_reference(address, store, stored.id), tracking_store=kind, name=stored.name, id=stored.id,
            settings=settings_of(stored), **closed,
        )  # fmt: skip


def open_store(uri: str) -> Store:
    """The tracking store at a tracking URI.

    Raises:
        WstrackError: it is of a kind that cannot be read.
    """
    scheme = re.split(r"[:+]", uri)[0]
    if scheme in ("http", "https"):
        return Server(uri)
    if scheme in ("sqlite", "postgresql", "mysql", "mssql"):
        return Database(uri)
    top = None if scheme in ("databricks", "databricks-uc") else local_path(uri)
    if top is None:
        raise WstrackError(
            f"MLflow's tracking store {redacted(uri, uri)} cannot be read; set MLFLOW_TRACKING_URI to a server "
            "(http://, https://), a database (sqlite:///, postgresql://, mysql://) or an mlruns folder"
        )
    return Folder(top)


def _reference(address: Address, store: Store, run_id: str) -> str:
    if not isinstance(store, Folder) or not address.folder:
        return f"{SCHEME}{address.place}{run_id}"
    place = store.place(run_id)
    ours = place / "artifacts" / FOLDER  # the folder of its recording, so that a run found as both is one run
    return f"{SCHEME}{ours if find_recordings(ours) else place}"


def _stamp(run: StoredRun) -> str:
    """What changes whenever wstrack logs to a run; of one that goes on, was killed or is older, nothing."""
    closed = run.tags.get(CLOSED) == "true" and CLOSED_AT in run.tags and run.status != "RUNNING"
    return f"{run.id} {run.tags[CLOSED_AT]} {run.tags.get(SAMPLES)}" if closed else ""


def _runs(
    address: Address, store: Store, match: str | None, *, settings: bool = False, asked: Asked = EVERY
) -> Iterator[StoredRun]:
    pattern = None if match is None else compiled(match)
    if address.run is not None:
        yield store.run(address.run, settings=settings)
        return
    for run in store.runs(address.experiment, settings=settings, ours=pattern is None, asked=asked):
        if METRICS in run.tags if pattern is None else any(layer_of(pattern, key) for key in store.keys(run.id)):
            yield run


def the_run(address: Address, store: Store, match: str | None = None, *, settings: bool = False) -> StoredRun:
    """The one run at an address.

    Raises:
        WstrackError: there is none, or there are several.
    """
    found = list(_runs(address, store, match, settings=settings))
    if len(found) != 1:
        some = ", ".join(_reference(address, store, run.id) for run in found[:5]) + ", ..." * (len(found) > 5)
        where = f"{SCHEME}{address.place}{address.experiment or ''}"
        raise WstrackError(f"{where} holds {len(found)} runs ({some}); name one of them, or use pull_many()")
    return found[0]


def _watched_run(store: Store, stored: StoredRun, uri: str, metrics: Sequence[str] | None) -> Run:
    run = wholer(
        lambda: _recording(store, stored, uri, metrics),
        lambda: logged_run(store, stored, uri, metrics=metrics),
        lacks=lambda recorded: _not_recorded(recorded, store, stored),
    )
    assert run is not None
    return run


def logged_run(store: Store, stored: StoredRun, uri: str, *, metrics: Sequence[str] | None = None) -> Run:
    """A watched run from MLflow's metrics alone, whatever recording lies beside them.

    Raises:
        ValueError: a metric that the run does not have.
        WstrackError: the manifest among the run's artifacts cannot be read, or the store.
    """
    try:
        manifest = tagged_manifest(stored.tags)
        if manifest is None:
            with artifact(MANIFEST, stored, uri, store) as path:
                manifest = read_manifest(path)
    except WstrackError as error:
        first = stored.tags[METRICS].partition(",")[0]
        raise WstrackError(
            f"{error}; without it pass match= (--match) to read the metrics by their keys, such as "
            f"'{first}/(?P<layer>.+)'"
        ) from error
    return _from_metrics(store.history(stored.id), manifest, stored, metrics)


def _recording(store: Store, stored: StoredRun, uri: str, metrics: Sequence[str] | None) -> Run | None:
    with artifact(RECORDING, stored, uri, store) as folder:
        return read_recording(folder, metrics=metrics) if folder.is_dir() else None


def _not_recorded(recorded: Run, store: Store, stored: StoredRun) -> str | None:
    """What MLflow knows of samples that a recording lacks: by the count of a closed run, or by the intervals."""
    if stored.tags.get(CLOSED) == "true":
        missing = (_whole_number(stored.tags.get(SAMPLES)) or 0) - len(recorded.steps)
    else:
        missing = len(np.setdiff1d(store.history(stored.id, [INTERVAL]).steps, recorded.steps))
    return f"{missing} samples are not in it" if missing > 0 else None


def _from_metrics(history: History, manifest: Manifest, stored: StoredRun, metrics: Sequence[str] | None) -> Run:
    names = [layer.name for layer in manifest.layers]
    keys = layer_keys(names)
    chosen = wanted(metrics, by_layer(manifest.metrics))
    logged = len(history.steps_of(INTERVAL))
    history = history.standing(_resumptions(stored.tags))
    given_up = logged - len(history.steps_of(INTERVAL))
    samples = history.table([INTERVAL])
    table = history.table([f"{metric}/{key}" for metric, key in product(chosen, keys)], also=samples.steps)
    # Where there is an interval, every layer was logged that has the metric.
    has = np.concatenate([manifest.has(metric) for metric in chosen])
    expected = int((table.logged | (np.isin(table.steps, samples.steps)[:, None] & has)).sum())
    notes = [*left_out(given_up), *left_to_recording(manifest.metrics, parts=manifest.origin.get("parts"))]
    ours = {INTERVAL, *(key for metric in manifest.metrics for key in series_keys(metric, keys, manifest.has(metric)))}
    starts = tuple(f"{metric}/" for metric in manifest.metrics)
    others = sum(key not in ours and key.startswith(starts) for key in history.keys)
    if others:
        notes.append(f"{others} series are of layers that the run's last manifest does not have; read them with match=")
    closed = stored.tags.get(CLOSED) == "true"
    lost = 0
    if not closed:
        notes.append("the run was not closed (it is going on, or was killed)")
    elif (written := _whole_number(stored.tags.get(SAMPLES))) is None:
        notes.append(f"how many samples there should be cannot be read: the tag {SAMPLES} is no number")
    elif (lost := max(0, written - given_up - len(history.steps_of(INTERVAL)))) > 0:
        notes.append(f"{lost} of the {written} samples are not there")
    if table.again:
        notes.append(f"{table.again} values were logged again at a step already there (a resumed run); the later stand")
    width = len(names)
    steps = pd.Index(samples.steps, name="step")
    return Run.from_values(
        replace(manifest, metrics=tuple(chosen)),
        table.steps,
        {metric: table.numbers[:, first * width : (first + 1) * width] for first, metric in enumerate(chosen)},
        completeness=Completeness(expected + lost * int(has.sum()), int(table.logged.sum()), tuple(notes)),
        intervals=pd.Series(samples.numbers[:, 0], index=steps).dropna().astype("int64"),
        origin={"source": "mlflow", "closed": closed},
    )


def _resumptions(tags: Mapping[str, str]) -> list[tuple[int, int]]:
    """From which steps training went on from an older checkpoint, and when, in milliseconds."""
    pairs = re.findall(r"(\d{1,18})@(\d{1,18})", tags.get(RESUMED, ""))
    return [(int(step), int(moment)) for step, moment in pairs]


def _whole_number(text: str | None) -> int | None:
    """A tag's number; anybody may set a tag to anything."""
    return int(text) if text is not None and re.fullmatch(r"\d{1,18}", text) else None


def _matched_run(store: Store, stored: StoredRun, pattern: re.Pattern[str], metrics: Sequence[str] | None) -> Run:
    """The run whose series are the metrics that `pattern` fits, layers and metrics in the order of their names."""
    keys = assigned(pattern, store.keys(stored.id), "metrics of the run")
    chosen = wanted(metrics, keys)
    history = store.history(stored.id, [key for metric in chosen for key in keys[metric].values()])
    series, expected, received, again = {}, 0, 0, 0
    for metric in chosen:
        table = history.table(list(keys[metric].values()))
        series[metric] = pd.DataFrame(
            table.numbers, index=pd.Index(table.steps, name="step"), columns=list(keys[metric])
        )
        expected += table.logged.size
        received += int(table.logged.sum())
        again += table.again
    note = f"{again} values were logged again at a step already there; the later ones stand"
    names = dict.fromkeys(layer for metric in chosen for layer in keys[metric])
    return Run(
        series=series,
        layers=layer_table([Layer(name) for name in names]),
        facts={},
        origin={"source": "mlflow", "match": pattern.pattern},
        completeness=Completeness(expected, received, (note,) if again else ()),
    )
