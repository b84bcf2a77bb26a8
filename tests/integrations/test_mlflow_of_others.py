"""What people have in MLflow: workspaces, stores that take no files, threads of its own, pasted addresses, odd tags."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from wstrack_integrations import mlflow as tracker
from wstrack_integrations.mlflow import recognises_url
from wstrack_integrations.mlflow.address import Address
from wstrack_integrations.mlflow.database import Database
from wstrack_integrations.mlflow.history import History, chosen_experiment
from wstrack_integrations.mlflow.source import open_store

import wstrack
from wstrack.errors import WstrackError
from wstrack.trackers.references import names

mlflow = pytest.importorskip("mlflow", reason="the extra wstrack[mlflow] is not installed")

pytestmark = pytest.mark.slow

Train = Callable[..., None]


@pytest.fixture(autouse=True)
def _store(mlflow_store: str) -> None:
    """A store of its own for each test."""


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def test_experiments_of_one_name_in_two_workspaces_are_told_apart() -> None:
    known = [("digits", 1, "default"), ("digits", 2, "team-b"), ("3", 4, "default"), ("other", 3, "default")]
    with pytest.raises(
        WstrackError, match=r"2 experiments 'digits', with the ids 1 \(workspace default\), 2 \(workspace t"
    ):
        chosen_experiment("digits", known)
    assert chosen_experiment("2", known) == "2"
    assert chosen_experiment("3", known) == "4"  # a name first
    with pytest.raises(WstrackError, match="no experiment 'x'; it has 'digits', 'digits'"):
        chosen_experiment("x", known)


def test_a_store_without_workspaces_has_none_to_tell_of() -> None:
    known = [("digits", 1, None), ("digits", 2, None)]  # of one name in stores that were merged by hand
    with pytest.raises(WstrackError, match="with the ids 1, 2; name one by its id"):
        chosen_experiment("digits", known)


def test_a_history_without_points_is_an_empty_table() -> None:
    empty = History.of(["grad/a"], [], [], [], [])
    table = empty.table(["grad/a"])
    assert table.steps.tolist() == empty.steps_of("grad/a").tolist() == empty.steps_of("grad/b").tolist() == []
    assert table.numbers.shape == table.logged.shape == (0, 1)
    also = empty.table(["grad/a"], also=np.array([3, 5]))
    assert also.steps.tolist() == [3, 5]
    assert not also.logged.any()


@pytest.mark.parametrize("password", ["my/secret", "my secret"])
def test_a_store_of_no_kind_that_is_read_is_named_without_its_password(password: str) -> None:
    with pytest.raises(WstrackError, match="cannot be read; set MLFLOW_TRACKING_URI") as found:
        open_store(f"oracle://me:{password}@db/runs")
    assert "secret" not in str(found.value)


def test_runs_of_others_have_references_too(mlflow_store: str) -> None:
    client = mlflow.MlflowClient()
    ids = [client.create_run("0").info.run_id for _ in range(3)]
    for run_id, key in zip(ids, ("grad/a", "loss", "grad/b"), strict=True):
        client.log_metric(run_id, key, 0.5, step=1)
    source = tracker.open_source("experiment/0")
    assert source.references() == []
    assert source.references(match="grad/(?P<layer>.+)") == [f"mlflow:{ids[0]}", f"mlflow:{ids[2]}"]


def test_the_folder_of_an_experiment_holds_its_runs_alone(
    tmp_path: Path, mlflow_store: str, model: nn.Sequential, train: Train
) -> None:
    mlflow.set_tracking_uri(f"{tmp_path}/mlruns")
    ids = {}
    for name in ("first", "second"):
        ids[name] = mlflow.set_experiment(name).experiment_id
        with mlflow.start_run(run_name=name), wstrack.watch(model, every=1):
            train(model, sgd(model), 2)
    for name, number in ids.items():
        found = names(f"mlflow:{tmp_path}/mlruns/{number}")
        assert list(found.values()) == [name]
        (place,) = found
        assert wstrack.pull(place).name == name


def test_runs_are_listed_by_name_and_not_read(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch, model: nn.Sequential, train: Train
) -> None:
    for name in ("first try", "second try"):
        with mlflow.start_run(run_name=name), wstrack.watch(model, every=1):
            train(model, sgd(model), 2)

    def read(*_: object) -> None:
        raise AssertionError("a list of runs needs nothing of their series")

    monkeypatch.setattr(Database, "history", read)
    found = names("mlflow:experiment/0")
    assert list(found.values()) == ["first try", "second try"]
    assert all(one.startswith("mlflow:") for one in found)


def test_two_workspaces_in_a_real_database(tmp_path: Path, mlflow_store: str) -> None:
    import sqlite3

    mlflow.set_experiment("digits")
    with mlflow.start_run():
        pass
    file = Path(mlflow_store.removeprefix("sqlite:///"))
    with sqlite3.connect(file) as database:
        columns = [name for _, name, *_ in database.execute("pragma table_info(experiments)")]
        row = dict(
            zip(columns, database.execute("select * from experiments where name = 'digits'").fetchone(), strict=True)
        )
        row |= {"experiment_id": 77, "workspace": "team-b"}
        database.execute(
            f"insert into experiments values ({', '.join('?' * len(columns))})", [row[name] for name in columns]
        )
    with pytest.raises(
        WstrackError, match=r"2 experiments 'digits', with the ids .* \(workspace team-b\); name one by its id"
    ):
        list(Database(mlflow_store).runs("digits"))
    assert list(Database(mlflow_store).runs("77")) == []


@pytest.mark.parametrize("why", ["read-only", "no client"])
def test_a_store_that_takes_no_files_stops_nothing(
    tmp_path: Path, model: nn.Sequential, train: Train, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    """The manifest then stands in the run's tags; and the message names the artifacts' place, not the database."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, where a folder should be")
    place = f"{blocked}/artifacts" if why == "read-only" else "s3://no-such-bucket/artifacts"
    experiment = mlflow.create_experiment(f"blocked {why}", artifact_location=place)
    with mlflow.start_run(experiment_id=experiment) as active, wstrack.watch(model, every=1, facts={"seed": 1}):
        train(model, sgd(model), 6)
    assert "artifacts cannot be written to" in caplog.text
    assert "blocked/artifacts" in caplog.text or "s3://no-such-bucket" in caplog.text
    run = wstrack.pull(f"mlflow:{active.info.run_id}")
    assert run.origin["source"] == "mlflow"
    assert run.steps.tolist() == list(range(1, 7))
    assert run.completeness.missing == 0
    assert run.layers["shape"].tolist() == [tuple(parameter.shape) for parameter in model.parameters()][::2]
    assert run.facts == {"seed": 1}


def test_where_mlflow_logs_in_threads_of_its_own_all_arrives(tmp_path: Path) -> None:
    """github.com/mlflow/mlflow/issues/13352: at exit it takes no more work; a script that never closes its watch."""
    code = """
import mlflow, torch, wstrack
mlflow.config.enable_async_logging(True)
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
run = mlflow.start_run()
watcher = wstrack.watch(model, every=1)
for _ in range(20):
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
print(run.info.run_id)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot schedule new futures" not in done.stderr
    reference = f"mlflow:{done.stdout.split()[-1]}"
    assert wstrack.pull(reference).completeness.missing == 0
    shutil.rmtree(
        Path(mlflow.get_run(done.stdout.split()[-1]).info.artifact_uri.removeprefix("file://"))
        / "wstrack"
        / "wstrack-recording"
    )
    run = wstrack.pull(reference)
    assert (run.steps.tolist(), run.completeness.notes) == (list(range(1, 21)), ())


def test_a_branch_that_was_given_up_is_left_out(model: nn.Sequential, train: Train) -> None:
    with mlflow.start_run() as active:
        with wstrack.watch(model, every=1):
            train(model, sgd(model), 20)
        with wstrack.watch(model, every=1, start=10) as watcher:
            train(model, sgd(model), 5)
    shutil.rmtree(watcher.recording)
    run = wstrack.pull(f"mlflow:{active.info.run_id}")
    assert run.steps.tolist() == list(range(1, 16))
    assert "training went on from an older checkpoint: 10 samples" in "".join(run.completeness.notes)
    assert run.completeness.missing == 0


@pytest.mark.parametrize("value", ["", "many", "1e999", "-3", "9" * 30])
def test_odd_tags_stop_nothing(model: nn.Sequential, train: Train, value: str) -> None:
    with mlflow.start_run() as active, wstrack.watch(model, every=1) as watcher:
        train(model, sgd(model), 3)
    shutil.rmtree(watcher.recording)
    mlflow.MlflowClient().set_tag(active.info.run_id, "wstrack.samples", value)
    run = wstrack.pull(f"mlflow:{active.info.run_id}")
    assert len(run.steps) == 3
    assert "how many samples there should be cannot be read" in "".join(run.completeness.notes)


# ---- addresses as people paste them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "uri", "experiment", "run"),
    [
        ("http://h:5000/#/experiments/1/runs/0a1b", "http://h:5000", None, "0a1b"),
        ("http://h:5000/#/experiments/1/runs/0a1b/model-metrics", "http://h:5000", None, "0a1b"),
        ("https://h/mlflow/#/experiments/12?searchFilter=&orderByKey=x", "https://h/mlflow", "12", None),
        ("https://h/#/experiments/12/runs?compareRunsMode=CHART", "https://h", "12", None),
        ("http://h:5000", "http://h:5000", None, None),
    ],
)
def test_a_page_is_what_it_shows(address: str, uri: str, experiment: str | None, run: str | None) -> None:
    found = Address.of(address)
    assert (found.uri, found.experiment, found.run) == (uri, experiment, run)
    assert recognises_url(address) == ("#" in address)


def test_the_password_goes_to_where_it_belongs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow.set_tracking_uri("https://mine/")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    assert Address.of("https://mine/#/experiments/1/runs/a").run == "a"
    with pytest.raises(WstrackError, match="is not the server that MLFLOW_TRACKING_URI names"):
        Address.of("https://other/#/experiments/1/runs/a")


@pytest.mark.parametrize("uri", ["databricks", "databricks://profile", "databricks-uc", "ftp://host/store"])
def test_a_store_that_cannot_be_read_is_no_folder(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(WstrackError, match=r"tracking store .* cannot be read"):
        wstrack.pull("mlflow:0a1b")


def test_an_experiment_in_a_folder_has_the_same_address_as_in_a_database(
    tmp_path: Path, model: nn.Sequential, train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    mlflow.set_tracking_uri(tmp_path / "mlruns")
    mlflow.set_experiment("digits")
    with mlflow.start_run() as active, wstrack.watch(model, every=1):
        train(model, sgd(model), 3)
    for address in (f"mlflow:{tmp_path}/mlruns/experiment/digits", f"mlflow:{tmp_path}/mlruns/{active.info.run_id}"):
        assert np.array_equal(wstrack.pull(address).steps, [1, 2, 3])


def test_listing_many_runs_takes_few_connections(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        with mlflow.start_run(tags={"wstrack.metrics": "rwc", "number": number}):
            pass
    asked: list[str] = []
    query = Database._query
    monkeypatch.setattr(
        Database, "_query", lambda self, text, **values: (asked.append(text), query(self, text, **values))[1]
    )
    assert len(wstrack.trackers.references.references("mlflow:")) == 20
    assert len(asked) <= 4
