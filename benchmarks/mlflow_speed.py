"""Reading a run back from MLflow, side by side with the client's own way; prints Markdown.

Run it with `python benchmarks/mlflow_speed.py` (two minutes; it starts an MLflow server of its own).
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from wstrack_integrations.mlflow import open_sink

import wstrack
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER
from wstrack.trackers.contract import Sample

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integrations"))
from mlflow_servers import mlflow_server

LAYERS, STEPS, REPEATS = 100, 200, 5


def write(uri: str) -> str:
    """A run that the sink wrote, with the recording that `watch` would have made; its id."""
    mlflow.set_tracking_uri(uri)
    random = np.random.default_rng(0)
    names = [f"layer{number // 10}.{number % 10}.conv1.weight" for number in range(LAYERS)]
    manifest = Manifest("run", tuple(Layer(name, numel=10) for name in names), ("rwc",), every=1)
    sums = random.random((STEPS, LAYERS, 2))
    steps, times = range(1, STEPS + 1), [time.time() + step for step in range(STEPS)]
    values = sums[:, :, 0] / sums[:, :, 1]
    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as scratch:
        sink = open_sink(run, manifest)
        home = sink.recording_directory or Path(scratch)
        sink.bind(home, manifest)
        recorder = Recorder(home / FOLDER, manifest, ("abs_change", "abs_previous"))
        recorder.append(steps, [1] * STEPS, times, sums)
        recorder.close()
        sink.write([Sample(step, 1, when, {"rwc": row}) for step, when, row in zip(steps, times, values, strict=True)])
        sink.close()
    return str(run.info.run_id)


def read_recording(run_id: str) -> int:
    """The number of points in a `Run` from the recording."""
    run = wstrack.pull(f"mlflow:{run_id}")
    assert run.origin["source"] == "recording"
    return run.completeness.received


def read_metrics(run_id: str) -> int:
    """The number of points in a `Run` from MLflow's metrics."""
    return wstrack.pull(f"mlflow:{run_id}", match="^(?P<metric>rwc)/(?P<layer>.+)").completeness.received


def read_client(run_id: str) -> int:
    """The number of points in the lists of the client."""
    client = MlflowClient()
    keys = [key for key in client.get_run(run_id).data.metrics if key.startswith("rwc/")]
    return sum(len(client.get_metric_history(run_id, key)) for key in keys)


READERS: dict[str, Callable[[str], int]] = {
    "wstrack, from the recording": read_recording,
    "wstrack, from the metrics": read_metrics,
    "a loop of `MlflowClient.get_metric_history`": read_client,
}


def interleaved(jobs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The median seconds of each job; the jobs take turns, so that a busy machine hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(REPEATS):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def reading(folder: Path) -> None:
    """Print the table of readers."""
    medians: dict[str, dict[str, float]] = {}

    def measure(store: str, uri: str) -> None:
        run_id = write(uri)
        jobs = {}
        for name, read in READERS.items():
            assert read(run_id) == LAYERS * STEPS, name
            jobs[name] = lambda read=read: read(run_id)
        medians[store] = interleaved(jobs)

    measure("SQLite file", f"sqlite:///{folder}/mlflow.db")
    # Four workers, as `mlflow server` has by default.
    with mlflow_server(folder / "server", f"sqlite:///{folder}/server/mlflow.db", workers=4) as uri:
        measure("`mlflow server`", uri)
    print(f"Reading {LAYERS} layers x {STEPS} steps, every point:\n")
    print(f"| reader | {' | '.join(medians)} |")
    print("|---|" + "---|" * len(medians))
    slowest = list(READERS)[-1]
    for name in READERS:
        cells = (f"{1000 * each[name]:.1f} ms ({each[slowest] / each[name]:.1f}x as fast)" for each in medians.values())
        print(f"| {name} | {' | '.join(cells)} |")


def machine() -> str:
    """What this was measured on and with."""
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line).split(": ")[1]
    packages = ", ".join(f"{name} {version(name)}" for name in ("mlflow", "sqlalchemy", "numpy", "pandas", "pyarrow"))
    return f"{os.cpu_count()} cores of {cpu}, Python {platform.python_version()}, {packages}"


if __name__ == "__main__":
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    today = datetime.datetime.now(datetime.timezone.utc).date()
    print(f"{today}; {machine()}; medians of {REPEATS}, taking turns, in seconds of the clock.\n")
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        reading(Path(scratch))
