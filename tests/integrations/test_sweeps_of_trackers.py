"""Sweeps of a thousand runs in MLflow, of hundreds elsewhere, with settings that were given to the tracker alone."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import wstrack
from wstrack.runs.recording import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from wstrack.sweeps.summed import Summed

    from .wandb_server import Server

pytestmark = pytest.mark.slow

RATES = np.geomspace(1e-3, 1.0, 10)
ROOT = "4.weight"  # its change is made to go with the root of the rate, that of the others with the rate
TABLES = ("tags", "params", "latest_metrics", "metrics")


def factors(place: int, keys: list[str]) -> dict[str, float]:
    """By what a copy of a run has its series multiplied: by the rate or its root, and some noise."""
    rng = np.random.default_rng(place)
    rate = RATES[place % len(RATES)]
    return {
        key: float(
            rate ** (0.5 if key.replace("/", ".").endswith(ROOT) else 1.0) * 10 ** (0.03 * rng.standard_normal())
        )
        for key in sorted(keys)
    }


@pytest.fixture
def watch(model: nn.Sequential, train: Callable[..., None]) -> Callable[..., None]:
    def run(to: object) -> None:
        with wstrack.watch(model, to=to, every=1):
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), 6)

    return run


def copies(uri: str, first: str, count: int) -> None:
    """So many copies of a run in MLflow's database, each with a rate of its own, as a sweep's script would log it."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    inspector = sqlalchemy.inspect(engine)
    columns = {name: [each["name"] for each in inspector.get_columns(name)] for name in ("runs", *TABLES)}
    with engine.begin() as database:
        keys = [
            key
            for (key,) in database.execute(
                sqlalchemy.text("select key from latest_metrics where run_uuid = :first"), {"first": first}
            )
            if key.startswith("rwc/")
        ]
        for place in range(count):
            new = f"{place:032x}"
            made = {"new": new, "first": first, "place": f"run {place}", "at": place}
            for table, names in columns.items():
                special = (
                    {"run_uuid": ":new", "name": ":place", "start_time": "start_time + :at"}
                    if table == "runs"
                    else {"run_uuid": ":new"}
                )
                chosen = ", ".join(special.get(name, name) for name in names)
                query = f"insert into {table} ({', '.join(names)}) select {chosen} from {table} where run_uuid = :first"
                asked = {name: value for name, value in made.items() if f":{name}" in query}
                database.execute(sqlalchemy.text(query), asked)
            rate = {"new": new, "rate": str(RATES[place % len(RATES)])}
            database.execute(
                sqlalchemy.text("update params set value = :rate where run_uuid = :new and key = 'lr'"), rate
            )
            for key, factor in factors(place, keys).items():
                for table in ("metrics", "latest_metrics"):
                    query = f"update {table} set value = value * :factor where run_uuid = :new and key = :key"
                    database.execute(sqlalchemy.text(query), {"factor": factor, "new": new, "key": key})
    engine.dispose()


def first_run(watch: Callable[..., None]) -> str:
    """A run of somebody who never heard of facts."""
    import mlflow

    mlflow.set_experiment("fleet")
    with mlflow.start_run() as active:
        mlflow.log_params({"lr": 0.0, "model": "mlp"})
        watch(None)
        mlflow.log_metric("val/loss", 1.0)
    (recording,) = Path(active.info.artifact_uri.removeprefix("file://")).rglob(FOLDER)
    shutil.rmtree(recording)  # the artifacts are those of the copies too, whose series are others
    return str(active.info.run_id)


def check(found: Summed, count: int) -> None:
    assert (len(found.runs), dict(found.unread)) == (count, {})
    (trend,) = found.slopes.values()
    assert trend.by == "lr"
    for layer, row in trend.layers.iterrows():
        assert row["slope"] == pytest.approx(0.5 if layer == ROOT else 1.0, abs=0.05)
        assert bool(row["unlike"]) == (layer == ROOT)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", ["mlflow_store", "postgres_uri"])
def test_a_thousand_runs_of_mlflow(
    watch: Callable[..., None], store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    import mlflow

    uri = request.getfixturevalue(store)
    mlflow.set_tracking_uri(uri)
    first = first_run(watch)
    copies(uri, first, 1000)
    mlflow.MlflowClient().delete_run(first)
    reference = "mlflow:experiment/fleet"
    assert len(wstrack.runs_table(reference, where="lr < 0.002 and model == 'mlp'")) == 100
    check(wstrack.sweep(reference, to=tmp_path / "sweep"), 1000)
    chosen = wstrack.sweep(reference, where="lr > 0.3", to=tmp_path / "chosen")
    assert len(chosen.runs) == 200
    some = wstrack.pull_many(reference, limit=20)
    report = wstrack.report(some, compare="model" if len({run.settings["model"] for run in some}) > 1 else "lr", k=2)
    assert report.comparison is not None
    assert len(report.comparison.settings) == 10


@pytest.mark.timeout(600)
def test_a_hundred_of_a_thousand_runs_behind_a_server_of_mlflow(
    watch: Callable[..., None], mlflow_store: str, tmp_path: Path
) -> None:
    import mlflow

    from tests.integrations.mlflow_servers import mlflow_server

    first = first_run(watch)
    copies(mlflow_store, first, 1000)
    mlflow.MlflowClient().delete_run(first)
    with mlflow_server(tmp_path / "server", mlflow_store) as uri:
        mlflow.set_tracking_uri(uri)
        assert len(wstrack.runs_table("mlflow:experiment/fleet")) == 1000
        check(wstrack.sweep("mlflow:experiment/fleet", limit=100, to=tmp_path / "sweep"), 100)


@pytest.mark.timeout(600)
def test_three_hundred_runs_of_wandb(watch: Callable[..., None], server: Server, tmp_path: Path) -> None:
    import wandb

    with wandb.init(project="p", config={"lr": 0.0, "model": {"name": "mlp"}}) as run:
        watch(None)
    first = server.runs.pop(run.id)
    keys = [key for key in first.keys()["keys"] if key.startswith("rwc/")]
    for place in range(300):
        made = copy.deepcopy(first)
        made.name, made.display_name, made.files, made.state = f"r{place:03d}", f"run {place}", {}, "finished"
        made.config["lr"] = {"value": float(RATES[place % len(RATES)])}
        by = factors(place, keys)
        made.rows = [{key: value * by.get(key, 1.0) for key, value in row.items()} for row in made.rows]
        server.runs[made.name] = made
    check(wstrack.sweep("wandb:team/p", to=tmp_path / "sweep"), 300)
    asked = server.asked["HistoryPage"] + server.asked["RunParquetHistory"]
    assert asked >= 300
    again = wstrack.sweep("wandb:team/p", to=tmp_path / "sweep")  # finished runs are not asked for again
    assert server.asked["HistoryPage"] + server.asked["RunParquetHistory"] == asked
    assert len(again.runs) == 300


@pytest.mark.usefixtures("_quiet")
def test_offline_folders_of_wandb(watch: Callable[..., None], tmp_path: Path) -> None:
    import wandb

    from tests.integrations.wandb_written import written

    for lr in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2):
        with wandb.init(project="p", mode="offline", config={"optimizer": {"lr": lr}, "model": "mlp"}) as run:
            watch(None)
        written(run.dir)
    found = wstrack.sweep("wandb:wandb", by="optimizer.lr", to=tmp_path / "sweep")
    assert (len(found.runs), found.slopes["optimizer.lr"].runs) == (6, 6)
    chosen = wstrack.sweep("wandb:wandb", where="optimizer.lr < 0.5 and model == 'mlp'")
    assert len(chosen.runs) == 3
    report = wstrack.report(wstrack.pull_many("wandb:wandb"), compare="optimizer.lr", k=2)
    assert report.comparison is not None
    assert len(report.comparison.settings) == 6


@pytest.mark.timeout(600)
def test_five_hundred_event_files_with_hparams(watch: Callable[..., None], tmp_path: Path) -> None:
    """TensorBoard's own files, without a recording: the settings are what `add_hparams` wrote."""
    from wstrack.trackers.references import pull

    watch("./runs/first")
    shutil.rmtree(tmp_path / "runs" / "first" / FOLDER)
    series = pull("runs/first").series["rwc"]
    (events,) = (tmp_path / "runs" / "first").iterdir()
    for place in range(500):
        folder = tmp_path / "sweep" / f"{place:03d}"
        with SummaryWriter(str(folder)) as writer:
            writer.add_hparams({"lr": float(RATES[place % len(RATES)]), "model": "mlp"}, {"hparam/loss": 1.0})
            by = factors(place, [str(layer) for layer in series])
            for step, row in series.iterrows():
                for layer, value in row.items():
                    writer.add_scalar(f"rwc/{layer}", value * by[str(layer)], int(str(step)))
    found = wstrack.sweep("tensorboard:sweep", match="^(?P<metric>rwc)/(?P<layer>.+)", to=tmp_path / "out")
    assert events.exists()
    check(found, 500)


def test_five_hundred_recordings(watch: Callable[..., None], tmp_path: Path) -> None:
    """And choosing among them by their own settings."""
    from tests.sweeps.conftest import POWERS, record

    for place in range(500):
        record(tmp_path / "runs" / f"{place:03d}", float(RATES[place % len(RATES)]), place)
    found = wstrack.sweep(tmp_path / "runs", where="lr < 0.5 and model == 'mlp'")
    assert len(found.runs) == 450
    np.testing.assert_allclose(found.slopes["lr"].layers["slope"], POWERS, atol=0.02)
