from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import wstrack
from wstrack.runs.recording import FOLDER
from wstrack.trackers.references import homes_of, references

if TYPE_CHECKING:
    from collections.abc import Callable


def watched(folder: Path, model: nn.Module, train: Callable[..., None], steps: int = 4) -> None:
    with wstrack.watch(model, to=folder, every=2):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), steps)


def test_a_path_reads_the_recording_and_a_reference_the_tracker(
    model: nn.Sequential, train: Callable[..., None], tmp_path: Path
) -> None:
    watched(tmp_path / "exp", model, train)
    recorded, logged = wstrack.pull(tmp_path / "exp"), wstrack.pull(f"tensorboard:{tmp_path / 'exp'}")
    assert (recorded.origin["source"], logged.origin["source"]) == ("recording", "tensorboard")
    float32 = recorded.series["rwc"].astype("float32").astype("float64")
    assert float32.equals(logged.series["rwc"])
    assert recorded.series["rwc"].to_numpy().tolist() != logged.series["rwc"].to_numpy().tolist()


def test_runs_under_a_folder_by_pattern_and_one_by_one(
    model: nn.Sequential, train: Callable[..., None], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        watched(tmp_path / "runs" / name, model, train)
    with SummaryWriter(tmp_path / "runs" / "other") as writer:
        writer.add_scalar("loss", 1.0, 1)
    runs = tmp_path / "runs"
    assert references(runs) == [str(runs / "a"), str(runs / "b")]
    assert references(f"tensorboard:{runs}") == [f"tensorboard:{runs / 'a'}", f"tensorboard:{runs / 'b'}"]
    assert references(runs, match="(?P<layer>loss)") == [f"tensorboard:{runs / 'other'}"]
    assert references(f"{runs}/[ab]") == [str(runs / "a"), str(runs / "b")]
    assert [run.name for run in wstrack.pull_many(f"{runs}/[ab]")] == ["a", "b"]
    assert [run.name for run in wstrack.pull_many([runs / "b", runs / "a", runs / "b"])] == ["b", "a"]
    with pytest.raises(wstrack.WstrackError, match=r"holds 2 runs .*name one, or use pull_many"):
        wstrack.pull(runs)


def test_a_run_is_where_it_was_named_wherever_it_was_logged_to(
    model: nn.Sequential, train: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs, copy, moved = (tmp_path / name for name in ("exp", "theirs", "copy", "moved"))
    with wstrack.watch(model, to=[ours, theirs], every=2):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 4)
    assert homes_of(wstrack.pull(ours)) == [("tensorboard", str(ours)), ("tensorboard", str(theirs))]
    shutil.copytree(ours, copy)
    assert homes_of(wstrack.pull(copy)) == [("tensorboard", str(copy))]
    assert homes_of(wstrack.pull(copy / FOLDER)) == [("tensorboard", str(copy))]
    ours.rename(moved)
    monkeypatch.chdir(tmp_path)
    run = wstrack.pull("moved")
    assert homes_of(run) == [("tensorboard", str(moved))]
    run.origin["references"] = ["wandb:team/project/id", *run.origin["references"]]
    assert homes_of(run) == [("wandb", "team/project/id"), ("tensorboard", str(moved))]


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("nowhere", wstrack.WstrackError, "nowhere: there is no such file or folder"),
        ("nowhere/*", wstrack.WstrackError, r"nothing matches nowhere/\*"),
        ("wandbb:team/project/id", ValueError, "unknown tracker 'wandbb'.*tensorboard"),
        (".", wstrack.WstrackError, "holds no run: no recording, no table"),
        ("tensorboard:nowhere", wstrack.WstrackError, "nowhere"),
    ],
)
def test_references_to_nothing(reference: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wstrack.pull(reference)


# ---- as people write them --------------------------------------------------------------------------------------------


def test_a_path_may_begin_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: nn.Sequential, train: Callable[..., None]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    watched(tmp_path / "runs" / "a", model, train)
    for reference in ("~/runs/a", Path("~/runs/a"), "tensorboard:~/runs/a"):
        assert len(wstrack.pull(reference).steps) > 0
    wstrack.watch(model, to="~/runs/b").close()
    wstrack.watch(model, to="tensorboard:~/runs/c").close()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a", "b", "c"]


def test_a_pattern_may_follow_a_tracker(tmp_path: Path, model: nn.Sequential, train: Callable[..., None]) -> None:
    for name in ("a1", "a2", "b"):
        watched(tmp_path / "runs" / name, model, train)
    found = references(f"tensorboard:{tmp_path}/runs/a*")
    assert found == [f"tensorboard:{tmp_path}/runs/a1", f"tensorboard:{tmp_path}/runs/a2"]


@pytest.mark.parametrize(
    "reference", ["tensorboard:", "tensorboard:  ", "tensorboard:s3://bucket/runs", "s3://bucket/x"]
)
def test_what_is_no_folder_here_is_refused_and_not_made(tmp_path: Path, reference: str, model: nn.Sequential) -> None:
    with pytest.raises(ValueError, match=r"names no directory|no path on this machine|unknown tracker 's3'"):
        wstrack.pull(reference)
    with pytest.raises(ValueError, match=r"names no directory|no path on this machine|is no tracker"):
        wstrack.watch(model, to=reference)
    assert not list(tmp_path.iterdir())


def test_a_path_that_only_a_tracker_knows_gives_the_metrics_that_are_asked_for(
    model: nn.Sequential, train: Callable[..., None], tmp_path: Path
) -> None:
    with wstrack.watch(model, to=tmp_path / "exp", every=2, metrics=("rwc", "norm")):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 4)
    shutil.rmtree(tmp_path / "exp" / FOLDER)
    assert wstrack.pull(tmp_path / "exp").metrics == ["rwc", "norm"]
    assert wstrack.pull(tmp_path / "exp", metrics=["norm"]).metrics == ["norm"]
