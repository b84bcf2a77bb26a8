"""What did not arrive while training is sent later, by each tracker's own real client, and nothing twice."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow_servers import free_port
from torch import nn
from wstrack_integrations import tensorboard
from wstrack_integrations import wandb as wandb_tracker

import wstrack
from wstrack.cli import main
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER
from wstrack.trackers.pushing import _recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wstrack.runs.run import Run

    from .wandb_server import Server

pytestmark = pytest.mark.slow

LAYERS = tuple(Layer(name, "linear", (2, 2), 4) for name in ("a.weight", "b[0].weight", "größe.weight"))
MANIFEST = Manifest("demo", LAYERS, ("rwc", "norm"), every=5)
SUMS = ("abs_change", "abs_previous", "abs_current")
STEPS = range(5, 105, 5)


def recording(folder: Path, manifest: Manifest = MANIFEST, steps: Sequence[int] = STEPS, *, pace: float = 60.0) -> Path:
    """A recording with a NaN and an infinity, a sample every `pace` seconds."""
    random = np.random.default_rng(0)
    sums = random.uniform(0.1, 1.0, (len(steps), len(manifest.layers), len(SUMS)))
    sums[3, 0, 0], sums[4, 1, 1] = np.nan, 0.0
    recorder = Recorder(folder / FOLDER, manifest, SUMS)
    recorder.append(steps, [5] * len(steps), [1e9 + pace * number for number in range(len(steps))], sums)
    recorder.close()
    return folder


def same(one: Run, other: Run, *, exact: bool = True) -> None:
    for metric in other.metrics:
        left = one.series[metric]
        right = other.series[metric] if exact else other.series[metric].astype("float32").astype("float64")
        pd.testing.assert_frame_equal(left, right, check_exact=True)
    pd.testing.assert_series_equal(one.intervals, other.intervals)
    assert one.completeness.missing == 0


# ---- TensorBoard ----------------------------------------------------------------------------------------------------


def test_into_an_empty_directory_and_again(tmp_path: Path) -> None:
    recorded = recording(tmp_path / "run")
    for sent in (20, 0):
        assert wstrack.push(recorded, f"tensorboard:{tmp_path / 'board'}") == sent
        same(wstrack.pull(f"tensorboard:{tmp_path / 'board'}"), wstrack.pull(recorded), exact=False)


def test_a_hole_in_event_files_is_filled_without_a_step_back_that_hides_what_follows(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recorded = recording(tmp_path / "run")
    (content,) = _recorded(recorded / FOLDER)
    sink = tensorboard.open_sink(tmp_path / "board", MANIFEST)
    sink.write([sample for sample in content.samples if sample.step not in (30, 50)])
    sink.close()
    assert [wstrack.push(recorded, f"tensorboard:{tmp_path / 'board'}") for _ in range(2)] == [2, 0]
    same(wstrack.pull(f"tensorboard:{tmp_path / 'board'}"), wstrack.pull(recorded), exact=False)
    events = EventAccumulator(str(tmp_path / "board"), size_guidance={"scalars": 0}).Reload()
    shown = [event.step for event in events.Scalars("rwc/a/weight")]
    assert shown[-15:] == list(range(30, 105, 5))


# ---- MLflow ---------------------------------------------------------------------------------------------------------


def test_mlflow_gets_what_it_lacks_and_half_samples_whole(tmp_path: Path, mlflow_store: str) -> None:
    recorded = recording(tmp_path / "run")
    run_id = MlflowClient().create_run("0").info.run_id
    assert wstrack.push(recorded, f"mlflow:{run_id}") == 20
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("delete from metrics where step = 15")
        database.execute("delete from metrics where step = 60 and key = 'norm/a/weight'")
    assert [wstrack.push(recorded, f"mlflow:{run_id}") for _ in range(2)] == [2, 0]
    assert wstrack.pull(f"mlflow:{run_id}").origin["source"] == "recording"
    shutil.rmtree(next(tmp_path.rglob(f"{run_id}/artifacts/wstrack/{FOLDER}")))
    logged = wstrack.pull(f"mlflow:{run_id}")
    assert (logged.origin["source"], logged.completeness.notes) == ("mlflow", ())
    same(logged, wstrack.pull(recorded))
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        (points,) = database.execute("select count(*) from metrics").fetchone()
    assert points == 20 * (2 * 3 + 1)
    assert MlflowClient().get_run(run_id).info.status == "RUNNING"  # as it was


# ---- W&B ------------------------------------------------------------------------------------------------------------


def watched(
    server: Server, model: nn.Sequential, train: Callable[..., None]
) -> tuple[wstrack.Watcher, str, list[dict[str, object]]]:
    """A finished run whose server lost four rows and every file; the user's rows in it."""
    import wandb

    with (
        wandb.init(project="p", settings=wandb.Settings(console="off")) as run,
        wstrack.watch(model, every=1, metrics=("rwc", "norm")) as watcher,
    ):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(20):
            train(model, optimizer, 1)
            watcher.flush()
            wandb.log({"loss": float(step)}, step=step)
    stored = server.runs[run.id]
    mine = [{"_step": row["_step"], "loss": row["loss"]} for row in stored.rows if "loss" in row]
    for row in stored.rows[4:8]:
        for key in [key for key in row if key.startswith(("rwc", "norm", "wstrack"))]:
            del row[key]
    stored.files.clear()
    return watcher, f"wandb:team/p/{run.id}", mine


@pytest.mark.parametrize("state", ["finished", "failed", "crashed"])
def test_wandb_gets_what_it_lacks_and_keeps_the_rest(
    server: Server, model: nn.Sequential, train: Callable[..., None], state: str
) -> None:
    watcher, reference, mine = watched(server, model, train)
    stored = server.runs[reference.rpartition("/")[2]]
    stored.state = state
    lost = 20 - sum("wstrack/step" in row for row in stored.rows)
    assert lost >= 3
    assert [wstrack.push(watcher.recording, reference) for _ in range(2)] == [lost, 0]
    assert stored.state == ("finished" if state == "finished" else "failed")
    assert [{"_step": row["_step"], "loss": row["loss"]} for row in stored.rows if "loss" in row] == mine
    assert not {"requirements.txt", "wandb-metadata.json"} & set(stored.files)  # those of the machine that trained
    recorded = wstrack.pull(reference)
    assert recorded.origin["source"] == "recording"
    same(recorded, watcher.run())
    stored.files.clear()
    logged = wstrack.pull(reference)
    assert (logged.origin["source"], logged.completeness.notes) == ("wandb", ())
    same(logged, watcher.run())


def test_wandb_charts_stay_within_guidance(server: Server, tmp_path: Path) -> None:
    layers = tuple(Layer(f"l{number}.weight") for number in range(998))
    manifest = replace(MANIFEST, layers=layers, metrics=("rwc",))
    recorded = recording(tmp_path / "run", manifest, range(1, 151), pace=0.1)
    stored = server.store("old", [], state="finished")
    sent = wstrack.push(recorded, "wandb:team/p/old")
    assert 90 <= sent <= 100
    assert wstrack.push(recorded, "wandb:team/p/old") == 0
    stored.files.clear()
    run = wstrack.pull("wandb:team/p/old")
    assert run.completeness.missing == (150 - sent) * 998
    assert any(f"{150 - sent} of 150" in note for note in run.completeness.notes)


def test_a_run_that_is_going_on_is_left_alone(server: Server, tmp_path: Path) -> None:
    server.store("busy", [], state="running")
    with pytest.raises(wstrack.WstrackError, match="is going on"):
        wstrack.push(recording(tmp_path / "run"), "wandb:team/p/busy")
    assert server.runs["busy"].rows == []
    with pytest.raises(wstrack.WstrackError, match="project"):
        wstrack.push(tmp_path / "run", "wandb:team/p")
    with pytest.raises(wstrack.WstrackError, match="team/p/none"):
        wstrack.push(tmp_path / "run", "wandb:team/p/none")


def test_a_run_on_this_machine_is_not_added_to(tmp_path: Path, server: Server) -> None:
    import wandb

    with wandb.init(project="p", mode="offline", dir=tmp_path) as run:
        sink = wandb_tracker.open_sink(run, MANIFEST)
        sink.close()
    with pytest.raises(wstrack.WstrackError, match="wandb sync"):
        wstrack.push(recording(tmp_path / "run"), f"wandb:{run.dir}")


# ---- whatever the tracker -------------------------------------------------------------------------------------------


def test_a_run_watched_again_with_other_layers_and_from_an_older_step(tmp_path: Path) -> None:
    recorded = recording(tmp_path / "run")
    recording(tmp_path / "run", replace(MANIFEST, layers=(*LAYERS, Layer("new.weight"))), range(80, 160, 5))
    for sent in (15 + 16, 0):
        assert wstrack.push(recorded, f"tensorboard:{tmp_path / 'board'}") == sent
    pulled = wstrack.pull(f"tensorboard:{tmp_path / 'board'}")
    same(pulled, wstrack.pull(recorded), exact=False)


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow"])
def test_of_a_run_that_went_on_from_a_checkpoint_what_is_there_stays(
    tmp_path: Path, mlflow_store: str, tracker: str
) -> None:
    """What is sent later does not count as a branch of its own, which would take the place of what was logged."""
    import mlflow

    folder = tmp_path / "run" / FOLDER
    for steps, after in ((range(5, 55, 5), None), (range(30, 65, 5), 25)):
        origin = {} if after is None else {"after": after}
        recorder = Recorder(folder, replace(MANIFEST, origin=origin), SUMS, after=after)
        sums = np.random.default_rng(len(steps)).uniform(0.1, 1.0, (len(steps), len(MANIFEST.layers), len(SUMS)))
        recorder.append(steps, [5] * len(steps), [1e9 + step for step in steps], sums)
        recorder.close()
    run_id = "" if tracker == "tensorboard" else mlflow.MlflowClient().create_run("0").info.run_id
    reference = f"tensorboard:{tmp_path / 'there'}" if tracker == "tensorboard" else f"mlflow:{run_id}"
    assert wstrack.push(tmp_path / "run", reference) == 12
    assert wstrack.push(tmp_path / "run", reference) == 0
    assert wstrack.pull(reference).steps.tolist() == list(range(5, 65, 5))


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow"])
def test_a_recording_that_began_at_a_checkpoint_hides_nothing_that_is_there(
    tmp_path: Path, mlflow_store: str, tracker: str
) -> None:
    import mlflow

    run_id = "" if tracker == "tensorboard" else mlflow.MlflowClient().create_run("0").info.run_id
    there = f"tensorboard:{tmp_path / 'there'}" if tracker == "tensorboard" else f"mlflow:{run_id}"
    for folder, steps, after in (("first", range(5, 55, 5), None), ("second", range(30, 65, 5), 25)):
        origin = {} if after is None else {"after": after}
        recorder = Recorder(tmp_path / folder / FOLDER, replace(MANIFEST, origin=origin), SUMS, after=after)
        sums = np.full((len(steps), len(MANIFEST.layers), len(SUMS)), 1.0 if after is None else 2.0)
        recorder.append(steps, [5] * len(steps), [1e9 + step for step in steps], sums)
        recorder.close()
        first = wstrack.pull(tmp_path / "first").series["rwc"]
        wstrack.push(tmp_path / folder, there)
    pulled = wstrack.pull(there)
    assert pulled.steps.tolist() == list(range(5, 65, 5))
    np.testing.assert_allclose(pulled.series["rwc"].loc[:50], first, rtol=1e-6)


def test_of_two_models_in_one_recording_both_are_sent(tmp_path: Path) -> None:
    folder = tmp_path / "run" / FOLDER
    for name in ("generator", "critic"):
        manifest = replace(MANIFEST, layers=(Layer(name, numel=6),), metrics=("rwc",))
        recorder = Recorder(folder, manifest, SUMS)
        recorder.append([5, 10], [5, 5], [1e9, 1e9], np.ones((2, 1, 3)))
        recorder.close()
    assert wstrack.push(tmp_path / "run", f"tensorboard:{tmp_path / 'there'}") == 4
    series = wstrack.pull(f"tensorboard:{tmp_path / 'there'}").series["rwc"]
    assert series.notna().sum().to_dict() == {"generator": 2, "critic": 2}


def test_a_recording_that_nobody_closed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run" / FOLDER, MANIFEST, SUMS)
    recorder.append([5, 10], [5, 5], [1e9, 1e9 + 1], np.ones((2, 3, 3)))
    assert wstrack.push(tmp_path / "run", f"tensorboard:{tmp_path / 'board'}") == 2
    recorder.close()


@pytest.mark.parametrize(
    ("recorded", "reference", "error", "message"),
    [
        ("run", "runs/exp1", ValueError, "names no tracker; write mlflow|tensorboard|wandb:"),
        ("nowhere", "tensorboard:board", wstrack.WstrackError, "nowhere: there is no such recording"),
        (".", "tensorboard:board", wstrack.WstrackError, "holds 2 recordings"),
        ("empty", "tensorboard:board", wstrack.WstrackError, "holds 0 recordings"),
        ("run", "mlflow:" + "0" * 32, wstrack.WstrackError, "no run"),
    ],
)
def test_what_cannot_be_pushed(
    tmp_path: Path, mlflow_store: str, recorded: str, reference: str, error: type[Exception], message: str
) -> None:
    mlflow.search_experiments()  # which makes the store
    for name in ("run", "other"):
        recording(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message.replace("|", r"\|")):
        wstrack.push(tmp_path / recorded, reference)
    assert not Path("board").exists()


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording(tmp_path / "run")
    for said in ("sent 20 samples to tensorboard:board", "tensorboard:board lacks no sample of run"):
        with pytest.raises(SystemExit) as end:
            main(["push", "run", "tensorboard:board"])
        assert end.value.code == 0
        assert capsys.readouterr().out.strip() == said
    with pytest.raises(SystemExit) as end:
        main(["push", "run", "somewhere"])
    assert end.value.code == 2


def test_a_password_is_in_no_message(tmp_path: Path, mlflow_store: str) -> None:
    mlflow.set_tracking_uri(f"http://me:planted-secret@127.0.0.1:{free_port()}")
    with pytest.raises(wstrack.WstrackError) as caught:
        wstrack.push(recording(tmp_path / "run"), "mlflow:" + "0" * 32)
    assert "planted" not in str(caught.value)


def test_the_store_named_on_the_command_line(
    tmp_path: Path, mlflow_store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # put back when the test is over
    mlflow.set_tracking_uri(None)
    other = f"sqlite:///{tmp_path}/other.db"
    run_id = MlflowClient(other).create_run("0").info.run_id
    recording(tmp_path / "run")
    for command in (["push", "run"], ["pull"], ["runs", "--check"]):
        with pytest.raises(SystemExit) as end:
            main([*command, f"mlflow:{run_id}", "--tracking-uri", other])
        assert end.value.code == 0
    out = capsys.readouterr().out
    assert "sent 20 samples" in out
    assert out.count("all 120 values") == 2
