"""Which checkpoints an address names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import wstrack
from wstrack.checkpoints.folder import runs_at
from wstrack.errors import WstrackError


def save(file: Path, value: float = 1.0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"fc.weight": torch.full((2, 2), value)}, file)
    return file


def names(address: object) -> list[list[str]]:
    return [[path.name for path in found.paths] for found in runs_at(str(address))]


def test_a_folder_of_files_and_what_lies_beside_them(tmp_path: Path) -> None:
    for name in ("step_2.safetensors", "step_10.safetensors"):
        save(tmp_path / name)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin", "scaler.pt", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert names(tmp_path) == [["step_2.safetensors", "step_10.safetensors"]]


def test_a_folder_of_runs(tmp_path: Path) -> None:
    for run in ("lr1", "lr2"):
        for step in (5, 10):
            save(tmp_path / run / f"checkpoint-{step}" / "model.safetensors")
    assert wstrack.pull_many(f"checkpoints:{tmp_path}")[1].name == "lr2"
    with pytest.raises(WstrackError, match=r"holds 2 runs"):
        wstrack.pull(f"checkpoints:{tmp_path}")


def test_the_last_weights_at_the_top_count_where_their_step_is_said(tmp_path: Path) -> None:
    for step in (5, 10):
        save(tmp_path / f"checkpoint-{step}" / "model.safetensors")
    save(tmp_path / "model.safetensors", 2.0)
    found = runs_at(str(tmp_path))[0]
    assert len(found.paths) == 2
    assert "left out" in found.notes[0]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 12}))
    assert wstrack.pull(f"checkpoints:{tmp_path}").steps.tolist() == [10, 12]


def test_a_pattern_is_one_run_of_files_or_one_run_a_folder(tmp_path: Path) -> None:
    for seed in (1, 2):
        for step in (5, 10):
            save(tmp_path / f"seed{seed}-step{step}.safetensors")
            save(tmp_path / f"run{seed}" / f"step{step}.safetensors")
    assert names(tmp_path / "seed1-*") == [["seed1-step5.safetensors", "seed1-step10.safetensors"]]
    assert names(tmp_path / "run*") == [["step5.safetensors", "step10.safetensors"]] * 2
    assert wstrack.pull(f"checkpoints:{tmp_path}/seed2-*").steps.tolist() == [10]


def test_a_list_is_one_run_in_its_order(tmp_path: Path) -> None:
    first, second = save(tmp_path / "b.safetensors"), save(tmp_path / "a.safetensors", 3.0)
    run = wstrack.pull(f"checkpoints:{first},{second}")
    assert run.series["rwc"].to_numpy().tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "no series of checkpoints"),
        (lambda folder: save(folder / "model.safetensors"), "one checkpoint, and a series needs two"),
    ],
)
def test_too_few_are_refused(tmp_path: Path, make: object, says: str) -> None:
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises(WstrackError, match=says):
        runs_at(str(tmp_path))


def test_one_file_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WstrackError, match="wstrack diff"):
        runs_at(str(save(tmp_path / "model.safetensors")))


def test_a_path_alone_still_means_a_trackers_run(tmp_path: Path) -> None:
    save(tmp_path / "step_1.safetensors")
    save(tmp_path / "step_2.safetensors")
    with pytest.raises(WstrackError, match=r"to measure saved weights, write checkpoints:FOLDER"):
        wstrack.pull(tmp_path)
