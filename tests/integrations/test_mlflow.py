"""Sink and source of MLflow on real stores: SQLite, PostgreSQL, a server over each, and the old file store."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow_servers import SERVED, free_port, mlflow_server, store_in
from torch import nn
from wstrack_integrations import mlflow as tracker
from wstrack_integrations.mlflow import server as rest
from wstrack_integrations.mlflow.sink import BATCH

import wstrack
from wstrack.errors import WstrackError
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run
from wstrack.trackers.contract import Sample, Sink
from wstrack.trackers.references import references

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.slow

ODD_NAMES = [
    "layer1.0.conv1.weight",
    "fc.weight",
    "w[0]",
    "w(0)",
    "a//b",
    "a.b",
    "a/b",
    "größe.权重",
    "two\nlines",
    "x" * 300,
    "x" * 300 + "y",
    "<script>alert(1)</script>",
    ".",
]


@pytest.fixture(autouse=True)
def _store(mlflow_store: str) -> None:
    """Each test has a store of its own."""


@pytest.fixture(params=["sqlite", "postgres", "folder", "sqlite server", "postgres server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The tracking URI of each kind of store, in use."""
    fixtures = {"postgres": "postgres_uri", "sqlite server": "sqlite_server", "postgres server": "postgres_server"}
    if request.param in fixtures:
        uri = str(request.getfixturevalue(fixtures[request.param]))
    else:
        uri = f"sqlite:///{tmp_path}/mlflow.db" if request.param == "sqlite" else f"{tmp_path}/mlruns"
    mlflow.set_tracking_uri(uri)
    return uri


def manifest_of(*names: str, metrics: Sequence[str] = ("rwc",), name: str = "demo", **facts: object) -> Manifest:
    layers = tuple(Layer(layer, "linear", (2, place + 1), 2 * place + 2) for place, layer in enumerate(names))
    return Manifest(name, layers, tuple(metrics), every=10, facts=facts)


def samples_of(manifest: Manifest, steps: Sequence[int], *, seed: int = 0) -> list[Sample]:
    random = np.random.default_rng(seed)
    return [
        Sample(step, 10, 1e9 + step, {m: 10 ** random.uniform(-6, 0, len(manifest.layers)) for m in manifest.metrics})
        for step in steps
    ]


def values(samples: Sequence[Sample], metric: str = "rwc") -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([sample.values[metric] for sample in samples])


def write(manifest: Manifest, samples: Sequence[Sample], *, close: bool = True) -> str:
    """A run that a sink wrote, without a recording; its reference."""
    with mlflow.start_run() as run:
        sink = tracker.open_sink(None, manifest)
        sink.write(samples)
        if close:
            sink.close()
    return f"mlflow:{run.info.run_id}"


def same(one: Run, other: Run) -> None:
    assert one.metrics == other.metrics
    for metric in one.metrics:
        pd.testing.assert_frame_equal(one.series[metric], other.series[metric], check_exact=True)
    pd.testing.assert_frame_equal(one.layers, other.layers)
    pd.testing.assert_series_equal(one.intervals, other.intervals)


def remove_recording(run_id: str, home: Path) -> None:
    """Delete a run's recording among its artifacts, wherever a server has put them."""
    uri = mlflow.get_run(run_id).info.artifact_uri
    found = list(home.rglob(f"{run_id}/artifacts/wstrack/wstrack-recording"))
    assert len(found) == 1, uri
    shutil.rmtree(found[0])


def test_same_run_from_recording_and_from_metrics(
    store: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    model: nn.Sequential,
    train: Callable[..., None],
) -> None:
    experiment = f"digits-{tmp_path.name}"
    mlflow.set_experiment(experiment)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mlflow.start_run(run_name="mine") as active:
        with wstrack.watch(model, every=3, metrics=("rwc", "norm")) as watcher:
            train(model, optimizer, 30)
        assert mlflow.active_run() is not None
        assert mlflow.get_run(active.info.run_id).info.status == "RUNNING"
    reference = f"mlflow:{active.info.run_id}"
    assert references(f"mlflow:experiment/{experiment}") == [reference]
    recorded = wstrack.pull(reference)
    assert recorded.origin["source"] == "recording"
    same(recorded, watcher.run())
    assert recorded.completeness.notes == ()
    remove_recording(active.info.run_id, tmp_path_factory.getbasetemp())
    logged = wstrack.pull(reference)
    assert logged.origin["source"] == "mlflow"
    same(logged, recorded)
    assert (logged.completeness.expected, logged.completeness.missing, logged.completeness.notes) == (60, 0, ())
    kind = "file" if store.endswith("mlruns") else store.partition(":")[0].partition("+")[0]
    for run in (recorded, logged):
        assert (run.name, run.origin["tracking_store"], run.origin["reference"]) == ("mine", kind, reference)
        assert "planted-secret" not in repr(run.origin)


def test_odd_names_and_numbers(store: str) -> None:
    manifest = manifest_of(*ODD_NAMES, metrics=("rwc", "norm"), seed=3, note="größe")
    samples = samples_of(manifest, range(10, 60, 10))
    samples[3].values["rwc"][:5] = np.nan, np.inf, -np.inf, 5e-324, 1.7e308
    reference = write(manifest, samples)
    run = wstrack.pull(reference)
    for metric in ("rwc", "norm"):
        assert list(run.series[metric].columns) == ODD_NAMES
        assert run.series[metric].index.tolist() == [10, 20, 30, 40, 50]
        np.testing.assert_array_equal(run.series[metric].to_numpy(), values(samples, metric))
    assert run.completeness.received == run.completeness.expected == 2 * 5 * len(ODD_NAMES)
    assert run.facts["note"] == "größe"
    assert run.intervals.to_dict() == dict.fromkeys(range(10, 60, 10), 10)
    assert wstrack.pull(reference, metrics=["norm"]).metrics == ["norm"]
    with pytest.raises(ValueError, match="cosine"):
        wstrack.pull(reference, metrics=["cosine"])


def test_a_sample_of_more_layers_than_a_batch_holds(store: str) -> None:
    manifest = manifest_of(*(f"block{number}.weight" for number in range(BATCH + 1)))
    samples = samples_of(manifest, [10, 20])
    run = wstrack.pull(write(manifest, samples))
    np.testing.assert_array_equal(run.series["rwc"].to_numpy(), values(samples))
    assert run.completeness.notes == ()


def test_series_logged_without_wstrack(store: str) -> None:
    mlflow.set_experiment(f"other-{time.time_ns()}")
    with mlflow.start_run() as active:
        for step in range(3):
            mlflow.log_metrics({"grad/a": step, "grad/b": float("inf"), "loss": 1.0}, step=step)
        mlflow.log_metric("grad/a", 7.0, step=1)
        mlflow.log_metric("grad/c", 1.0, step=2)
    for value, when in ((7.0, 2000), (1.0, 1000)):  # the later in time stands
        for key in ("clock/a", "clock/b"):
            MlflowClient().log_metric(active.info.run_id, key, value, timestamp=when, step=0)
    reference = f"mlflow:{active.info.run_id}"
    assert wstrack.pull(reference, match="clock/(?P<layer>.+)").series["clock"].loc[0].tolist() == [7, 7]
    run = wstrack.pull(reference, match="grad/(?P<layer>.+)")
    expected = pd.DataFrame(
        {"a": [0.0, 7.0, 2.0], "b": [np.inf] * 3, "c": [np.nan, np.nan, 1.0]},
        index=pd.Index([0, 1, 2], name="step", dtype="int64"),
    )
    pd.testing.assert_frame_equal(run.series["grad"], expected, check_column_type=False)
    assert run.completeness.missing == 2
    assert "1 values were logged again" in run.completeness.notes[0]
    with pytest.raises(WstrackError, match=r"match= \(--match\)"):
        wstrack.pull(reference)
    with pytest.raises(ValueError, match="no group"):
        wstrack.pull(reference, match="grad")
    with pytest.raises(WstrackError, match="fits none"):
        wstrack.pull(reference, match="nothing/(?P<layer>.+)")


def test_what_is_not_there_is_said(store: str) -> None:
    mlflow.search_experiments()  # which makes the store
    with pytest.raises(WstrackError, match=r"no run|not found"):
        wstrack.pull("mlflow:" + "0" * 32)
    with pytest.raises(WstrackError, match="no experiment 'nowhere'"):
        references("mlflow:experiment/nowhere")
    with pytest.raises(WstrackError, match=r"no run|not found"):
        tracker.open_sink("0" * 32, manifest_of("a"))


def test_own_run_is_ended_and_no_other_begun(store: str) -> None:
    mlflow.set_experiment(f"own-{time.time_ns()}")
    manifest = manifest_of("a.weight", name="by itself")
    sink = tracker.open_sink(None, manifest)
    assert mlflow.active_run() is None
    (run,) = mlflow.search_runs(output_format="list")
    assert (run.info.run_name, run.info.status) == ("by itself", "RUNNING")
    sink.write(samples_of(manifest, [1]))
    sink.close()
    (run,) = mlflow.search_runs(output_format="list")
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time
    assert isinstance(sink, Sink)


def test_samples_that_did_not_arrive(tmp_path: Path) -> None:
    manifest = manifest_of("a", "b")
    reference = write(manifest, samples_of(manifest, [10, 20, 30, 40]))
    import sqlite3

    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("delete from metrics where step = 20")
        database.execute("delete from metrics where step = 30 and key = 'rwc/b'")
    run = wstrack.pull(reference)
    assert (run.completeness.expected, run.completeness.received) == (8, 5)
    assert run.completeness.notes == ("1 of the 4 samples are not there",)
    assert np.isnan(run.series["rwc"].loc[30, "b"])
    unfinished = wstrack.pull(write(manifest, samples_of(manifest, [10]), close=False))
    assert unfinished.completeness.notes == ("the run was not closed (it is going on, or was killed)",)
    assert unfinished.origin["closed"] is False


def test_a_recording_that_lacks_samples_is_not_used(
    tmp_path: Path, model: nn.Sequential, train: Callable[..., None]
) -> None:
    with mlflow.start_run() as active, wstrack.watch(model, every=2):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 10)
    manifest = manifest_of("0.weight", "2.weight", "4.weight")
    sink = tracker.open_sink(active, manifest)  # elsewhere, where the recording is another
    sink.write(samples_of(manifest, [12, 14]))
    sink.close()
    run = wstrack.pull(f"mlflow:{active.info.run_id}")
    assert run.origin["source"] == "mlflow"
    assert run.steps.tolist() == [2, 4, 6, 8, 10, 12, 14]
    assert "2 samples are not in it" in run.completeness.notes[0]


def test_resumed_run(model: nn.Sequential, train: Callable[..., None]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mlflow.start_run() as active, wstrack.watch(model, every=2):
        train(model, optimizer, 6)
    with wstrack.watch(model, every=2, to=f"mlflow:{active.info.run_id}"):
        train(model, optimizer, 4)
    assert mlflow.get_run(active.info.run_id).info.status == "FINISHED"
    reference = f"mlflow:{active.info.run_id}"
    recorded = wstrack.pull(reference)
    assert recorded.origin["source"] == "recording"
    assert recorded.steps.tolist() == [2, 4, 6, 8, 10]
    remove_recording(active.info.run_id, Path.cwd())
    same(wstrack.pull(reference), recorded)


def test_paths_as_references(tmp_path: Path, model: nn.Sequential, train: Callable[..., None]) -> None:
    with mlflow.start_run() as active, wstrack.watch(model, every=2):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 4)
    assert tracker.recognises(tmp_path / "mlflow.db")
    assert not tracker.recognises(tmp_path / "mlruns")  # the artifacts of a database, not a file store
    (tmp_path / "other.db").write_bytes(b"SQLite format 3\0")
    assert not tracker.recognises(tmp_path / "other.db")
    before = (tmp_path / "mlflow.db").read_bytes()
    assert references("mlflow.db") == [f"mlflow:mlflow.db/{active.info.run_id}"]
    assert wstrack.pull("mlflow.db").steps.tolist() == [2, 4]
    assert len(wstrack.pull_many("mlflow:mlflow.db/experiment/Default")) == 1
    assert (tmp_path / "mlflow.db").read_bytes() == before
    assert references("mlflow:") == [f"mlflow:{active.info.run_id}"]


def test_file_store_moved_elsewhere(tmp_path: Path, model: nn.Sequential, train: Callable[..., None]) -> None:
    mlflow.set_tracking_uri(f"{tmp_path}/mlruns")
    manifest = manifest_of("a.weight")
    with mlflow.start_run(), wstrack.watch(model, every=2):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 4)
    write(manifest, samples_of(manifest, [1, 2]))
    with mlflow.start_run() as deleted:
        tracker.open_sink(deleted, manifest).close()
    mlflow.delete_run(deleted.info.run_id)
    moved = tmp_path / "moved here"
    (tmp_path / "mlruns").rename(moved)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    assert tracker.recognises(moved)
    found = references(moved)
    assert len(found) == 2  # one of them is found as a recording too
    runs = wstrack.pull_many(moved)
    assert sorted(run.steps.tolist() for run in runs) == [[1, 2], [2, 4]]
    for run in runs:
        assert wstrack.pull(run.origin["reference"]).steps.tolist() == run.steps.tolist()
    assert sorted(map(len, (references(f"mlflow:{moved}"), references(f"mlflow:{moved}/0")))) == [2, 2]
    for each in references(f"mlflow:{moved}"):
        assert wstrack.pull(each).origin["reference"] == each


def test_killed_while_training(tmp_path: Path) -> None:
    script = """
import sys, time, torch, mlflow, wstrack
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with mlflow.start_run() as run:
    watcher = wstrack.watch(model, every=1)
    for step in range(20):
        model(torch.randn(2, 4)).sum().backward()
        optimizer.step()
    watcher.flush()
    print(run.info.run_id, flush=True)
    time.sleep(100)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        run_id = child.stdout.readline().strip()
        child.send_signal(signal.SIGKILL)
    recorded = wstrack.pull(f"mlflow:{run_id}")
    assert recorded.origin["source"] == "recording"
    assert recorded.steps.tolist() == list(range(1, 21))
    assert "was not closed" in recorded.completeness.notes[0]
    remove_recording(run_id, tmp_path)
    logged = wstrack.pull(f"mlflow:{run_id}")
    same(logged, recorded)
    assert logged.completeness.notes == ("the run was not closed (it is going on, or was killed)",)


def silent() -> socket.socket:
    """A socket that accepts and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def accept() -> None:
        try:
            while True:
                held.append(listener.accept()[0])
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    return listener


def test_a_server_that_dies_holds_up_nothing_and_gets_the_rest_later(
    mlflow_tables: Path,
    tmp_path: Path,
    model: nn.Sequential,
    train: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    store, port = store_in(tmp_path / "server", mlflow_tables, SERVED), free_port()
    with mlflow_server(tmp_path / "server", store, port) as uri:
        mlflow.set_tracking_uri(uri.replace("://", "://me:planted-secret@"))
        active = MlflowClient().create_run("0")
        watcher = wstrack.watch(model, every=1, to=active)
        train(model, optimizer, 5)
        assert watcher.flush()
    with caplog.at_level(logging.DEBUG), monkeypatch.context() as patch:
        patch.setattr(rest, "RETRIES", 1)  # this one is sent at once, those after it seconds later
        train(model, optimizer, 50)
        watcher.close()
    assert watcher.run().steps.tolist() == list(range(1, 56))
    text = "\n".join(record.getMessage() for record in caplog.records if record.name == "wstrack")
    assert "50 of 55 samples did not arrive" in text
    assert "planted-secret" not in caplog.text
    reference = f"mlflow:{active.info.run_id}"
    with mlflow_server(tmp_path / "server", store, port):
        before = wstrack.pull(reference)
        assert before.steps.tolist() == [1, 2, 3, 4, 5]
        assert "was not closed" in before.completeness.notes[0]
        assert [wstrack.push(watcher.recording, reference) for _ in range(2)] == [50, 0]
        after = wstrack.pull(reference)
        assert after.origin["source"] == "recording"
        same(after, watcher.run())
        assert after.completeness.missing == 0


@pytest.mark.parametrize("make", ["dead", "silent"])
def test_no_server_at_the_start(make: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "TIMEOUT", 0.2)
    listener = silent() if make == "silent" else None
    port = listener.getsockname()[1] if listener else free_port()
    mlflow.set_tracking_uri(f"http://me:planted%2Dsecret@127.0.0.1:{port}")
    for work in (lambda: tracker.open_sink("0" * 32, manifest_of("a")), lambda: wstrack.pull("mlflow:" + "0" * 32)):
        with pytest.raises(WstrackError, match="no answer from") as caught:
            work()
        assert "planted" not in str(caught.value)
        assert caught.value.__cause__ is None
    if listener:
        listener.close()


def test_training_does_not_wait_for_a_silent_server(
    model: nn.Sequential, train: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sink's thread is stuck while training ends: no step may have waited for it."""
    monkeypatch.setattr(rest, "TIMEOUT", 1)
    monkeypatch.setattr(rest, "RETRIES", 0)
    with mlflow.start_run():
        sink = tracker.open_sink(None, manifest_of("0.weight", "2.weight", "4.weight"))
    listener = silent()
    with wstrack.watch(model, every=1, to=sink) as watcher:
        sink._server = rest.Server(f"http://127.0.0.1:{listener.getsockname()[1]}")  # as if it had fallen silent
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 20)
        assert not watcher.flush(timeout=0)
    listener.close()
    assert watcher.run().steps.tolist() == list(range(1, 21))


@pytest.mark.parametrize("password", ["planted-secret", "pl@nted/secret"])
def test_passwords_of_a_database_are_nowhere(password: str, caplog: pytest.LogCaptureFixture) -> None:
    uri = f"postgresql+psycopg2://me:{quote(password, safe='')}@127.0.0.1:{free_port()}/runs?application_name=planted"
    mlflow.set_tracking_uri(uri)
    with caplog.at_level(logging.DEBUG), pytest.raises(WstrackError) as caught:
        wstrack.pull("mlflow:" + "0" * 32)
    for secret in (password, quote(password, safe=""), "planted"):
        assert secret not in str(caught.value)
        assert secret not in caplog.text


def test_secrets_are_in_nothing_that_is_stored(
    postgres_uri: str,
    model: nn.Sequential,
    train: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    mlflow.set_tracking_uri(postgres_uri)
    with caplog.at_level(logging.DEBUG), mlflow.start_run() as active, wstrack.watch(model, every=2):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 4)
    run = wstrack.pull(f"mlflow:{active.info.run_id}")
    folder = Path(active.info.artifact_uri)
    stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"wstrack" in stored
    assert b"planted-secret" not in stored
    shown = repr(run) + repr(run.origin) + json.dumps(mlflow.get_run(active.info.run_id).data.tags)
    assert "planted-secret" not in shown + caplog.text


def test_importing_it_imports_no_mlflow() -> None:
    script = (
        "import sys; import wstrack_integrations.mlflow as tracker; assert not tracker.is_active(); "
        "assert not tracker.accepts(3); assert 'mlflow' not in sys.modules; sys.modules['mlflow'] = None\n"
        "try: tracker.open_source('x').references()\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-c", script]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert "pip install 'wstrack[mlflow]'" in out


def test_what_is_accepted() -> None:
    assert not tracker.is_active()
    with mlflow.start_run() as active:
        assert tracker.is_active()
        assert tracker.accepts(active)
        assert tracker.accepts(MlflowClient().get_run(active.info.run_id))
    with pytest.raises(TypeError, match="neither a run"):
        tracker.open_sink(3, manifest_of("a"))
    with pytest.raises(ValueError, match="is no reference"):
        tracker.open_source("http://host/experiments/3").references()


def test_a_history_of_several_pages(sqlite_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "PAGE", 7)
    mlflow.set_tracking_uri(sqlite_server)
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, [Metric("grad/a", step / 3, 1000 + step, step) for step in range(20)])
    run = wstrack.pull(f"mlflow:{run_id}", match="grad/(?P<layer>.+)")
    np.testing.assert_array_equal(run.series["grad"]["a"].to_numpy(), np.arange(20) / 3)
