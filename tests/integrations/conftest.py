"""Places to log to: MLflow's store and W&B's stand-in, one of its own for each test."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from mlflow_servers import SERVED, mlflow_server, postgres, postgres_folder, store_in

from tests.integrations.wandb_server import WANDB_KEY, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking store without runs. MLflow takes seconds to make its tables, so they are made once."""
    mlflow = pytest.importorskip("mlflow", reason="the extra wstrack[mlflow] is not installed")
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def mlflow_store(mlflow_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a tracking store of its own, in use; no run is left over."""
    import mlflow

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    uri = store_in(tmp_path, mlflow_tables, f"{tmp_path}/mlruns/0")
    mlflow.set_tracking_uri(uri)
    yield uri
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    mlflow.tracking.fluent._active_experiment_id = None


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    programs = postgres_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed here")
    with postgres(programs) as uri:
        yield uri


@pytest.fixture(scope="session")
def sqlite_server(mlflow_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("sqlite-server")
    with mlflow_server(folder, store_in(folder, mlflow_tables, SERVED)) as uri:
        yield uri


@pytest.fixture(scope="session")
def postgres_server(postgres_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("postgres-server"), postgres_uri) as uri:
        yield uri


@pytest.fixture(autouse=True)
def _no_experiment() -> Iterator[None]:
    """MLflow keeps the experiment that a test has chosen for all of the process, and its store goes with the test."""
    yield
    if (fluent := sys.modules.get("mlflow.tracking.fluent")) is not None:
        fluent._active_experiment_id = None
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


@pytest.fixture
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """W&B's client says nothing, and no run of it outlives its test."""
    wandb = pytest.importorskip("wandb", reason="the extra wstrack[wandb] is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    yield
    wandb.teardown()


@pytest.fixture
def server(_quiet: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """W&B's stand-in, in use."""
    import wandb

    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", WANDB_KEY)
        monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("WANDB_DIR", str(tmp_path))
        yield server
        wandb.teardown()  # while there is somebody to answer


@pytest.fixture
def offline(tmp_path: Path) -> Callable[..., Any]:
    """Begins a run of W&B that is files on this machine."""
    import wandb

    def start(**settings: Any) -> Any:
        return wandb.init(project="p", mode="offline", dir=tmp_path, **settings)

    return start
