"""A report put on the run that it came from, where each tracker's own users look."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from mlflow_servers import free_port
from torch import nn

import wstrack
from tests.integrations.wandb_server import WANDB_KEY
from wstrack.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from .wandb_server import Server

pytestmark = pytest.mark.slow

FILES = {"report.html", "report.md", "layers.csv", "overview.png", "heatmap.png", "curves.png", "plane.png", "tree.png"}
PICTURES = {"overview", "heatmap", "curves", "plane", "tree"}


@pytest.fixture
def trained(train: Callable[..., None]) -> Callable[[object], wstrack.Watcher]:
    """Trains a model of six layers, watched."""

    def run(to: object) -> wstrack.Watcher:
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(6)))
        with wstrack.watch(model, every=1, to=to) as watcher:
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), 12)
        return watcher

    return run


# ---- TensorBoard ----------------------------------------------------------------------------------------------------


def test_tensorboard_shows_images_and_a_text(trained: Callable[..., Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(tmp_path / "exp1")
    before = wstrack.pull(f"tensorboard:{tmp_path / 'exp1'}")
    for k in (2, 3):  # the second takes the place of the first
        (said,) = wstrack.report(before, k=k).attach()
    assert "Images and Text" in said
    attached = list((tmp_path / "exp1").glob("events*wstrack-report"))
    assert len(attached) == 1
    events = EventAccumulator(str(attached[0])).Reload()
    tags = {f"wstrack-report/{name}" for name in (*PICTURES, "summary")}
    assert set(events.Tags()["tensors"]) == tags
    width, height, png = events.Tensors("wstrack-report/heatmap")[0].tensor_proto.string_val
    assert png.startswith(b"\x89PNG")
    assert int(width) > int(height) > 300
    summary = events.Tensors("wstrack-report/summary")[0].tensor_proto.string_val[0].decode()
    assert "**piece 3**: " in summary  # of a few samples, which are no clusters
    assert {path.name for path in (tmp_path / "exp1" / "wstrack-report").iterdir()} == FILES
    after = wstrack.pull(f"tensorboard:{tmp_path / 'exp1'}")
    assert after.series["rwc"].equals(before.series["rwc"])
    assert after.completeness == before.completeness


def test_a_run_read_by_its_path_or_from_its_watcher(trained: Callable[..., Any], tmp_path: Path) -> None:
    watcher = trained(tmp_path / "exp1")
    for run in (wstrack.pull(tmp_path / "exp1"), watcher.run()):
        (said,) = wstrack.report(run, k=2).attach()
        assert said.startswith(f"tensorboard:{tmp_path / 'exp1'}:")


# ---- MLflow ---------------------------------------------------------------------------------------------------------


def artifacts_of(run_id: str) -> set[str]:
    return {Path(file.path).name for file in MlflowClient().list_artifacts(run_id, "wstrack/report")}


def test_mlflow_has_it_among_the_artifacts(
    trained: Callable[..., Any], mlflow_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with mlflow.start_run() as active:
        watcher = trained(None)
        wstrack.report(watcher.run(), k=2).attach()  # the run is open
        assert artifacts_of(active.info.run_id) == FILES
    with pytest.raises(SystemExit) as end:
        main(["report", f"mlflow:{active.info.run_id}", "--k", "3", "--attach"])
    assert end.value.code == 0
    assert f"attached: mlflow:{active.info.run_id}: wstrack/report/report.html" in capsys.readouterr().out
    assert not Path("report.html").exists()
    folder = Path(active.info.artifact_uri) / "wstrack" / "report"
    assert "piece 3" in (folder / "report.md").read_text()
    assert (folder / "layers.csv").read_text().startswith("layer,kind,")
    assert mlflow.get_run(active.info.run_id).info.status == "FINISHED"


def test_mlflow_over_a_server(trained: Callable[..., Any], mlflow_store: str, sqlite_server: str) -> None:
    mlflow.set_tracking_uri(sqlite_server)
    with mlflow.start_run() as active:
        trained(None)
    wstrack.report(wstrack.pull(f"mlflow:{active.info.run_id}"), k=2).attach()
    assert artifacts_of(active.info.run_id) == FILES


def test_a_password_is_in_no_message(trained: Callable[..., Any], mlflow_store: str) -> None:
    with mlflow.start_run():
        run = trained(None).run()
    mlflow.set_tracking_uri(f"http://me:planted-secret@127.0.0.1:{free_port()}")
    with pytest.raises(wstrack.WstrackError) as caught:
        wstrack.report(run, k=2).attach()
    assert "planted" not in str(caught.value)


# ---- W&B ------------------------------------------------------------------------------------------------------------


def panels(row: dict[str, Any]) -> dict[str, str]:
    """The media in a row of history: by key, of what kind."""
    return {
        key.removeprefix("wstrack-report/"): value["_type"] for key, value in row.items() if isinstance(value, dict)
    }


SHOWN = {"page": "html-file", "layers": "table-file", **dict.fromkeys(PICTURES, "image-file")}


def test_wandb_run_that_is_over_gets_an_artifact_and_panels(server: Server, trained: Callable[..., Any]) -> None:
    import wandb

    with wandb.init(project="p") as run:
        trained(None)
        run.log({"loss": 1.0})
    stored = server.runs[run.id]
    stored.state = "crashed"
    rows, config = json.dumps(stored.rows), copy.deepcopy(stored.config["wstrack"])
    machine = stored.files["wandb-metadata.json"], stored.files["requirements.txt"]
    (said,) = wstrack.report(wstrack.pull(f"wandb:team/p/{run.id}"), k=2).attach()
    assert said.startswith(f"{server.url}/team/p/runs/{run.id}")
    artifact = server.artifacts[f"wstrack-report-{run.id}"]
    assert artifact.committed
    assert set(artifact.files) == FILES | {"manifest"}
    assert artifact.files["report.html"].startswith(b"<!DOCTYPE html>")
    assert json.dumps(stored.rows[:-1]) == rows
    assert panels(stored.rows[-1]) == SHOWN
    assert stored.config["wstrack"] == config
    assert (stored.files["wandb-metadata.json"], stored.files["requirements.txt"]) == machine
    assert not any(WANDB_KEY in text for text in server.heard)
    assert not any(WANDB_KEY.encode() in content for content in artifact.files.values())
    assert stored.state == "failed"  # it did not come to its end, and a report must not say that it did
    again = wstrack.pull(f"wandb:team/p/{run.id}")
    assert again.completeness.notes == ()


def test_wandb_run_that_is_open_here_takes_it_in_the_users_row(server: Server, trained: Callable[..., Any]) -> None:
    import wandb

    with wandb.init(project="p") as run:
        watcher = trained(None)
        run.log({"loss": 1.0}, step=5)
        wstrack.report(watcher.run(), k=2).attach()
        run.log({"loss": 2.0}, step=6)
    rows = server.runs[run.id].rows
    assert [(row["_step"], row["loss"]) for row in rows if "loss" in row] == [(5, 1.0), (6, 2.0)]
    assert [panels(row) for row in rows if panels(row)] == [SHOWN]
    assert server.artifacts[f"wstrack-report-{run.id}"].committed


def test_a_wandb_run_of_the_same_id_in_another_project_is_another(server: Server) -> None:
    import wandb
    from wstrack_integrations.wandb.attach import _open_here

    with wandb.init(project="p", id="seed0") as run:
        assert _open_here(["team", "p", "seed0"]) is run
        assert _open_here(["team", "q", "seed0"]) is None


def test_wandb_run_that_goes_on_elsewhere_or_lies_here_is_left_alone(
    server: Server, trained: Callable[..., Any]
) -> None:
    import wandb

    with wandb.init(project="p") as run:
        trained(None)
    report = wstrack.report(wstrack.pull(f"wandb:team/p/{run.id}"), k=2)
    server.runs[run.id].state = "running"
    with pytest.raises(wstrack.WstrackError, match="is going on"):
        report.attach()
    with wandb.init(project="p", mode="offline") as offline:
        trained(None)
    with pytest.raises(wstrack.WstrackError, match="wandb sync"):
        wstrack.report(wstrack.pull(offline.dir), k=2).attach()


# ---- several, and none ----------------------------------------------------------------------------------------------


def test_runs_of_several_trackers_in_one_report(
    server: Server, mlflow_store: str, trained: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    with mlflow.start_run() as active:
        trained("mlflow")
    with wandb.init(project="p") as run:
        trained("wandb")
    trained("runs/exp1")
    references = [f"mlflow:{active.info.run_id}", f"wandb:team/p/{run.id}", "tensorboard:runs/exp1"]
    with pytest.raises(SystemExit) as end:
        main(["report", *references, "--k", "2", "-o", "report.json", "--attach"])
    assert end.value.code == 0
    report = json.loads(Path("report.json").read_text())
    assert [each["reference"] for each in report["runs"]] == references
    assert [each["completeness"]["missing"] for each in report["runs"]] == [0, 0, 0]
    assert capsys.readouterr().out.count("attached: ") == 3
    assert artifacts_of(active.info.run_id) == FILES
    assert server.artifacts[f"wstrack-report-{run.id}"].committed
    assert Path("runs/exp1/wstrack-report/report.html").exists()


def test_a_table_is_in_no_tracker(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("layer,1,2,3\n" + "".join(f"l{i},{i + 1},{i + 2},{i + 1}\n" for i in range(5)))
    with pytest.raises(wstrack.WstrackError, match=r"mine\.csv is in no tracker"):
        wstrack.report(wstrack.pull("mine.csv"), k=2).attach()
