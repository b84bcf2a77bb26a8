"""Two runs never share a folder because their names map alike, on whatever file system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER, read_recording
from wstrack.trackers.naming import RUNS, run_folder, run_home

LONG = (
    "resnet18 " + "optimizer=adamw weight_decay=0.05 augment=randaug schedule=cosine warmup=5 mixup=0.2 batch=256 " * 3
)
ALIKE = [
    ("lr:0.1", "lr?0.1"),
    ("lr=1e-3", "lr=1e-3 "),
    (LONG + "seed=1", LONG + "seed=2"),
    ("🔥", "🐢"),
    ("../a", "a"),
    ("a//b", "a/b"),
    ("", "run"),
    ("日本語の実験" * 30 + "1", "日本語の実験" * 30 + "2"),
    ("a\0", "a\1"),
]


def record(home: Path, name: str) -> Recorder:
    recorder = Recorder(
        home / FOLDER, Manifest(name, (Layer("a", numel=1),), ("rwc",), 1), ("abs_change", "abs_previous")
    )
    recorder.append([1], [1], [0.0], np.ones((1, 1, 2)))
    return recorder


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_map_alike_have_folders_of_their_own(one: str, other: str) -> None:
    assert run_folder(one) != run_folder(other)
    for name in (one, other):
        assert all(len(part.encode()) <= 255 for part in run_folder(name).parts)
        assert not run_folder(name).is_absolute()
        assert ".." not in run_folder(name).parts
        (RUNS / run_folder(name)).mkdir(parents=True)


def test_a_run_has_its_folder_again_and_no_other_run_has_it() -> None:
    assert run_home("exp") == RUNS / "exp"
    record(RUNS / "exp", "exp").close()
    assert run_home("exp") == RUNS / "exp"
    record(RUNS / "Exp2", "EXP2").close()  # as a file system does that takes one letter for the other
    assert run_home("Exp2") == RUNS / "Exp2-2"
    open_one = record(RUNS / "exp", "exp")
    assert run_home("exp") == RUNS / "exp"  # by this process: another model of the same run
    open_one.close()


@pytest.mark.slow
def test_processes_of_one_name_have_a_folder_each(tmp_path: Path) -> None:
    code = """
import sys, torch, wstrack
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
sys.stdin.readline()
with wstrack.watch(model, every=1, name="exp") as watcher:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[1])):
        model(torch.randn(2, 4)).sum().backward()
        optimizer.step()
print(watcher.recording, flush=True)
"""
    command = [sys.executable, "-c", code]
    running = [
        subprocess.Popen([*command, str(steps)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for steps in (3, 4, 5)
    ]
    for process in running:  # all at once
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    found = [process.communicate("\n")[0].strip() for process in running]
    assert len(set(found)) == 3
    assert sorted(len(read_recording(Path(folder)).steps) for folder in found) == [3, 4, 5]
    assert all(read_recording(Path(folder)).name == "exp" for folder in found)
    assert len(list((tmp_path / "runs").iterdir())) == 3
