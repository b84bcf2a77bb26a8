"""Series of checkpoints as runs: recorded, gone on with, bounded in memory, and whole where a layer comes and goes."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import wstrack
from wstrack.checkpoints import walk
from wstrack.checkpoints.source import CheckpointSource
from wstrack.cli import main
from wstrack.errors import WstrackError
from wstrack.metrics import METRICS, SUMS

OF_WEIGHTS = [name for name, metric in METRICS.items() if set(metric.sums) <= set(SUMS) and name != "fingerprint"]
SHAPES = {"big.weight": (700, 1000), "a.weight": (30, 40), "b.weight": (3, 5, 2, 2), "norm.weight": (7,)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (0, 3, 7, 12):
        save_file({name: torch.randn(shape) for name, shape in SHAPES.items()}, folder / f"step_{step}.safetensors")
    return folder


def oracle(folder: Path, layer: str) -> np.ndarray:
    from safetensors.torch import load_file

    files = sorted(folder.glob("step_*"), key=lambda file: int(file.stem.partition("_")[2]))
    values = [load_file(file)[layer].double().numpy() for file in files]
    pairs = itertools.pairwise(values)
    return np.array([np.abs(now - before).sum() / np.abs(before).sum() for before, now in pairs])


def test_against_numpy(saved: Path) -> None:
    run = wstrack.pull(f"checkpoints:{saved}")
    assert run.metrics == ["rwc", "distance"]
    assert run.steps.tolist() == [3, 7, 12]
    assert run.intervals.tolist() == [3, 4, 5]
    assert set(run.layers.index) == {"big.weight", "a.weight", "b.weight"}
    for layer in run.layers.index:
        np.testing.assert_allclose(run.series["rwc"][layer], oracle(saved, layer), rtol=1e-6)


@pytest.mark.parametrize("meter", ["cpu", "portable"])
def test_every_metric_by_either_meter(saved: Path, meter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if meter == "portable":
        monkeypatch.setenv("WSTRACK_METER", "portable")
    run = wstrack.pull(f"checkpoints:{saved}", metrics=OF_WEIGHTS)
    assert run.metrics == OF_WEIGHTS
    for layer in run.layers.index:
        np.testing.assert_allclose(run.series["rwc"][layer], oracle(saved, layer), rtol=1e-6)
    assert run.series["cosine"].iloc[0].isna().all()
    assert run.series["cosine"].iloc[1:].notna().all(axis=None)


def test_the_recording_is_the_run(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pull", f"checkpoints:{saved}", "-o", str(tmp_path / "kept")])
    assert ended.value.code == 0
    kept, fresh = (
        wstrack.pull(tmp_path / "kept", metrics=["rwc", "rwc_l2", "cosine"]),
        wstrack.pull(f"checkpoints:{saved}"),
    )
    assert kept.series["rwc"].equals(fresh.series["rwc"])
    assert kept.metrics == ["rwc", "rwc_l2", "cosine"]  # every sum was taken
    assert sorted(path.name for path in (tmp_path / "kept" / "wstrack-recording").iterdir()) == ["0001.arrow"]
    with pytest.raises(SystemExit) as again:
        main(["pull", f"checkpoints:{saved}", "-o", str(tmp_path / "kept")])
    assert again.value.code == 1
    assert "holds a recording already" in capsys.readouterr().err


def test_work_that_was_interrupted_goes_on(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, reference = CheckpointSource(str(saved)), f"checkpoints:{saved}"
    total = sum(file.stat().st_size for file in saved.iterdir())

    def stop(done: int, whole: int) -> None:
        if done > whole / 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(walk, "MOST_THREADS", 1)
    with pytest.raises(KeyboardInterrupt):
        source.read(reference, to=tmp_path / "kept", progress=stop)
    assert not list((tmp_path / "kept").rglob("*.arrow*"))
    told: list[int] = []
    run = source.read(reference, to=tmp_path / "kept", progress=lambda done, whole: told.append(done))
    assert 0 < told[0] < total
    assert run.series["rwc"].equals(wstrack.pull(reference).series["rwc"])
    assert [path.name for path in (tmp_path / "kept" / "wstrack-recording").iterdir()] == ["0001.arrow"]


def test_what_was_begun_of_other_files_is_not_gone_on_with(saved: Path, tmp_path: Path) -> None:
    source, reference = CheckpointSource(str(saved)), f"checkpoints:{saved}"

    def stop(done: int, whole: int) -> None:
        if done > whole / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        source.read(reference, to=tmp_path / "kept", progress=stop)
    torch.manual_seed(5)
    save_file({name: torch.randn(shape) for name, shape in SHAPES.items()}, saved / "step_7.safetensors")
    run = source.read(reference, to=tmp_path / "kept")
    np.testing.assert_allclose(run.series["rwc"]["big.weight"], oracle(saved, "big.weight"), rtol=1e-6)


def test_a_layer_that_comes_goes_or_changes_its_shape_is_nan_there_and_said(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for step in range(6):
        state = {"a.weight": torch.randn(4, 4), "b.weight": torch.randn(4, 4)}
        if step != 3:
            state["comes.weight"] = torch.randn(3, 3)
        state["grows.weight"] = torch.randn(4 if step < 3 else 8, 2)
        save_file(state, tmp_path / f"step_{step}.safetensors")
    run = wstrack.pull(f"checkpoints:{tmp_path}")
    rwc = run.series["rwc"]
    assert rwc["comes.weight"].isna().tolist() == [False, False, True, True, False]
    assert rwc["grows.weight"].isna().tolist() == [False, False, True, False, False]
    assert rwc[["a.weight", "b.weight"]].notna().all(axis=None)
    assert run.completeness.missing == 3 * 2
    notes = "\n".join(run.completeness.notes)
    assert "comes.weight is not in 1 of 6 checkpoints (step_3.safetensors)" in notes
    assert "grows.weight changes its shape from 4x2 to 8x2" in notes


def test_checkpoints_of_two_dtypes_are_compared_by_value(tmp_path: Path) -> None:
    weights = torch.randn(100, 100)
    save_file({"w": weights}, tmp_path / "step_1.safetensors")
    save_file({"w": weights.bfloat16()}, tmp_path / "step_2.safetensors")
    run = wstrack.pull(f"checkpoints:{tmp_path}")
    rounded = weights.bfloat16().double()
    wanted = float((rounded - weights.double()).abs().sum() / weights.double().abs().sum())
    assert run.series["rwc"].iloc[0, 0] == pytest.approx(wanted, rel=1e-6)
    assert "rounding counts as change" in "\n".join(run.completeness.notes)


def test_two_models_in_one_folder_are_refused(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2)}, tmp_path / "step_1.safetensors")
    save_file({"a.weight": torch.ones(3, 2), "c.weight": torch.ones(2, 2)}, tmp_path / "step_2.safetensors")
    with pytest.raises(
        WstrackError, match=r"are of different models: of 2 and 2 layers 0 have the same name and shape"
    ):
        wstrack.pull(f"checkpoints:{tmp_path}")


def test_a_metric_that_there_is_not_is_refused(saved: Path) -> None:
    with pytest.raises(ValueError, match="unknown metric 'nope'"):
        wstrack.pull(f"checkpoints:{saved}", metrics=["nope"])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_is_that_of_a_few_pieces(tmp_path: Path) -> None:
    rows = 1 << 13  # a tensor of 1 GB, which is a hole
    for step in (0, 1):
        header = json.dumps({"w": {"dtype": "F32", "shape": [rows, 1 << 15], "data_offsets": [0, rows << 17]}}).encode()
        with (tmp_path / f"step_{step}.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + (rows << 17))
    code = (
        "import sys, wstrack\n"
        "wstrack.pull('checkpoints:' + sys.argv[1])\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 700_000  # kB, torch among them


def test_a_layer_in_two_stretches_is_gone_on_with_in_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    for step in range(6):
        state = {"a.weight": torch.randn(30, 30), "grows.weight": torch.randn(600 if step < 3 else 700, 600)}
        save_file(state, tmp_path / f"step_{step}.safetensors")
    source, reference = CheckpointSource(str(tmp_path)), f"checkpoints:{tmp_path}"
    whole = source.read(reference)
    calls: list[int] = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 4:  # what was there before, a.weight, and one of the stretches
            raise KeyboardInterrupt

    monkeypatch.setattr(walk, "MOST_THREADS", 1)
    with pytest.raises(KeyboardInterrupt):
        source.read(reference, to=tmp_path / "kept", progress=stop)
    run = source.read(reference, to=tmp_path / "kept")
    assert run.series["rwc"].equals(whole.series["rwc"])


def test_a_recording_lacks_what_the_checkpoints_lack(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for step in range(4):
        state = {"a.weight": torch.randn(4, 4), "b.weight": torch.randn(4, 4)}
        if step != 2:
            state["comes.weight"] = torch.randn(3, 3)
        save_file(state, tmp_path / f"step_{step}.safetensors")
    source, reference = CheckpointSource(str(tmp_path)), f"checkpoints:{tmp_path}"
    fresh, kept = source.read(reference), source.read(reference, to=tmp_path / "kept")
    assert (fresh.completeness.expected, fresh.completeness.received) == (18, 14)
    assert (kept.completeness.expected, kept.completeness.received) == (18, 14)
