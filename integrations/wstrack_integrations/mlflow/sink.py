"""Metrics of a run in batches, from the sink's own thread; the manifest and the recording among its artifacts."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wstrack.errors import WstrackError
from wstrack.runs.recording import FOLDER as RECORDING
from wstrack.trackers.naming import layer_keys
from wstrack.trackers.shared import numbers_of, series_keys
from wstrack_integrations.mlflow.address import SCHEME, local_path, redacted, required, tracking_uri
from wstrack_integrations.mlflow.artifacts import FOLDER, MANIFEST, manifest_tags
from wstrack_integrations.mlflow.server import Server
from wstrack_integrations.mlflow.source import CLOSED, CLOSED_AT, INTERVAL, METRICS, RESUMED, SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wstrack.runs.alerts import Alert
    from wstrack.runs.manifest import Manifest
    from wstrack.trackers.contract import Sample

__all__ = ["MlflowSink"]

log = logging.getLogger("wstrack")

ALERT = "wstrack.alert."  # and the rule: a tag
MOST = 5000  # characters of a tag
BATCH = 1000  # metrics; MLflow takes no more at once
TIMEOUT = 45.0  # seconds that opening or closing may take; what MLflow does by itself may take many minutes
Result = TypeVar("Result")


class MlflowSink:
    """A run of MLflow; see `open_sink`. The user's runs are never started or ended here.

    `uri` is the tracking store, by default that of this process; `before` how many samples the run has already, by
    default what it says; `timeout` for how many seconds opening and closing are waited for.
    """

    name = "MLflow"

    def __init__(
        self,
        run_id: str | None,
        manifest: Manifest,
        *,
        uri: str | None = None,
        before: int | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        required()
        self._uri = uri or tracking_uri()  # as it is now: the user may set another later
        self._timeout = timeout
        self._samples, self._before = 0, before
        self._own = run_id is None
        self.recording_directory: Path | None = None
        self.recording_label = ""
        self._recording: Path | None = None
        self._manifest, self._begun = manifest, False
        self._within("opened", lambda: self._open(run_id, manifest.name))
        self.reference = f"{SCHEME}{self._run}"

    def bind(self, directory: Path, manifest: Manifest, flush: Callable[[float], bool] | None = None) -> None:
        """Say what is to come; at the end, the recording in this folder is uploaded, unless it lies there already.

        Raises:
            WstrackError: MLflow cannot be reached or refuses.
        """
        self._recording = directory
        self._within("opened", lambda: self._begin(manifest))

    def write(self, samples: Sequence[Sample]) -> None:
        """Log these samples, the values as float64; an infinity becomes the largest float64.

        Raises:
            WstrackError: MLflow cannot be reached or refuses.
        """
        if not self._begun:
            self._begin(self._manifest)
        self._samples += len(samples)
        points = (point for sample in samples for point in self._points(sample))
        while batch := list(islice(points, BATCH)):
            self._log(metrics=batch)

    def alert(self, alerts: Sequence[Alert]) -> None:
        """Put what rules said into a tag a rule, the latest, and all of it among the artifacts, a file a step.

        Raises:
            WstrackError: MLflow cannot be reached or refuses.
        """
        latest = {re.sub(r"[^-.\w ]", "_", each.rule): f"step {each.step}: {each.sentence}" for each in alerts}
        self._log(tags={f"{ALERT}{rule}": said[:MOST] for rule, said in latest.items()})
        for step, its in groupby(alerts if self._artifacts else (), key=lambda each: each.step):
            text, file = "".join(f"{each}\n" for each in its), f"{FOLDER}/alerts/step-{step}.txt"
            self._guarded(partial(self._client.log_text, self._run, text, file))

    def close(self) -> None:
        """Say how many samples there should be, upload the recording, and end the run if it was begun here.

        Raises:
            WstrackError: MLflow cannot be reached or refuses; or it takes too long, and is left to itself.
        """
        self._within("closed", self._close)

    def _open(self, run_id: str | None, name: str) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(self._uri)
        self._server = Server(self._uri) if self._uri.startswith(("http://", "https://")) else None
        self._run = self._new_run(name) if run_id is None else run_id
        run = self._server.run(self._run) if self._server else None
        if run is None:
            stored = self._client.get_run(self._run)
            artifacts, tags = stored.info.artifact_uri, stored.data.tags
        else:
            artifacts, tags = run.artifacts, run.tags
        if self._before is None and tags.get(CLOSED) != "false":
            self._before = int(tags.get(SAMPLES, 0))
        elif self._before is None:  # an earlier sink was not closed and left no count
            self._before = len({point.step for point in self._client.get_metric_history(self._run, INTERVAL)})
        # Where the artifacts are files of this machine, the recording is one of them from the start.
        self._artifacts = artifacts
        self._resumed = tags.get(RESUMED, "")
        local = local_path(artifacts)
        self.recording_directory = local / FOLDER if local and _takes_files(local) else None

    def _begin(self, manifest: Manifest) -> None:
        self._manifest, self._begun = manifest, True
        self._keys = layer_keys([layer.name for layer in manifest.layers])
        about = {METRICS: ",".join(manifest.metrics), CLOSED: "false"}
        if (after := manifest.origin.get("after")) is not None:
            about[RESUMED] = f"{self._resumed} {after}@{round(time.time() * 1000)}".strip()
        try:
            self._guarded(lambda: self._client.log_text(self._run, manifest.to_json(), f"{FOLDER}/{MANIFEST}"))
        except WstrackError as error:  # read-only, or on S3 without its client: the run itself can still be written to
            log.warning(
                "MLflow: artifacts cannot be written to %s (%s); the manifest goes into tags, and the recording stays "
                "where it is",
                redacted(self._artifacts),
                error,
            )
            self._artifacts = ""
            about |= manifest_tags(manifest)
        self._log(tags=about)

    def _new_run(self, name: str) -> str:
        from mlflow.tracking.fluent import _get_experiment_id  # the one that `mlflow.set_experiment` chose

        experiment = str(_get_experiment_id() or "0")
        if self._server:
            now = round(time.time() * 1000)
            body = {"experiment_id": experiment, "run_name": name, "start_time": now}
            return str(self._server.call("POST", "runs/create", body)["run"]["info"]["run_id"])
        return str(self._client.create_run(experiment, run_name=name).info.run_id)

    def _points(self, sample: Sample) -> Iterator[tuple[str, float, int, int]]:
        """Key, value, time in milliseconds and step; the interval first, so that a sample cut off is seen to be."""
        when = round(sample.time * 1000)
        yield INTERVAL, float(sample.interval), when, sample.step
        for metric in self._manifest.metrics:
            has = self._manifest.has(metric)
            numbers = numbers_of(metric, sample.values[metric], has)
            for key, value in zip(series_keys(metric, self._keys, has), numbers, strict=True):
                yield key, value, when, sample.step

    def _log(self, *, metrics: Sequence[tuple[str, float, int, int]] = (), tags: dict[str, str] | None = None) -> None:
        if self._server:
            fields = ("key", "value", "timestamp", "step")
            points = [dict(zip(fields, (key, _number(value), *rest), strict=True)) for key, value, *rest in metrics]
            pairs = [{"key": key, "value": value} for key, value in (tags or {}).items()]
            self._server.call("POST", "runs/log-batch", {"run_id": self._run, "metrics": points, "tags": pairs})
            return
        from mlflow.entities import Metric, RunTag

        entities = [Metric(*point) for point in metrics]
        labels = [RunTag(key, value) for key, value in (tags or {}).items()]
        # At once, also where MLflow is told to log in threads of its own, which would not tell what fails.
        self._guarded(lambda: self._client.log_batch(self._run, metrics=entities, tags=labels, synchronous=True))

    def _close(self) -> None:
        if self._begun:
            samples = str((self._before or 0) + self._samples)
            self._log(tags={SAMPLES: samples, CLOSED: "true", CLOSED_AT: str(time.time_ns() // 1_000_000)})
            folder = self._recording and self._recording / RECORDING
            if folder and folder.is_dir() and self._artifacts and self._recording != self.recording_directory:
                self._upload(folder)
        if not self._own:
            return
        if self._server:
            end = {"run_id": self._run, "status": "FINISHED", "end_time": round(time.time() * 1000)}
            self._server.call("POST", "runs/update", end)
        else:
            self._client.set_terminated(self._run)

    def _upload(self, folder: Path) -> None:
        try:
            self._guarded(lambda: self._client.log_artifacts(self._run, str(folder), f"{FOLDER}/{RECORDING}"))
        except WstrackError as error:  # of remote stores, also because the interpreter exits and takes no more work
            log.warning(
                "MLflow: the recording cannot be put among the artifacts in %s (%s); it stays in %s, and `wstrack "
                "push` sends it",
                redacted(self._artifacts),
                error,
                folder,
            )

    def _within(self, done: str, work: Callable[[], None]) -> None:
        """Do it in a thread and wait for that, but not for ever."""
        errors: list[WstrackError] = []

        def guarded() -> None:
            try:
                self._guarded(work)
            except WstrackError as error:
                errors.append(error)

        thread = threading.Thread(target=guarded, name="wstrack MLflow", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is exiting, and begins no threads: whoever closes the sink waits anyway
            self._guarded(work)
            return
        thread.join(None if math.isinf(self._timeout) else self._timeout)
        if thread.is_alive():
            raise WstrackError(f"{redacted(self._uri, self._uri)} could not be {done} within {self._timeout:.0f} s")
        if errors:
            raise errors[0]

    def _guarded(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except WstrackError:
            raise
        except Exception as error:  # noqa: BLE001  of MLflow, SQLAlchemy, boto3, ...: each may name the password
            kind = type(error).__name__
            raise WstrackError(f"{redacted(self._uri, self._uri)}: {kind}: {redacted(str(error), self._uri)}") from None


def _takes_files(folder: Path) -> bool:
    """Whether a folder is there, or can be made, and can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _number(value: float) -> float | str:
    """A number as MLflow's JSON has it, where NaN and infinities are strings."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
