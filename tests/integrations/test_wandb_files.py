"""Runs of W&B that are files on this machine, as the real client writes them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from wstrack_integrations import wandb as tracker
from wstrack_integrations.wandb.framing import records

import wstrack
from tests.integrations.wandb_framing import framed
from tests.integrations.wandb_runs import NAMES, manifest_of, read, samples_of, values
from tests.integrations.wandb_written import written
from wstrack.errors import WstrackError
from wstrack.runs.manifest import Manifest
from wstrack.runs.recording import FOLDER
from wstrack.trackers.contract import Sample

wandb = pytest.importorskip("wandb", reason="the extra wstrack[wandb] is not installed")

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_quiet")]


def logged(offline: Callable[..., Any], manifest: Manifest, samples: Sequence[Sample]) -> Path:
    run = offline()
    sink = tracker.open_sink(run, manifest)
    for sample in samples:
        sink.write([sample])
        run.log({"loss": sample.step, "grad/fc.weight": 0.5, "note": "text", "lr": True})
    sink.close()
    run.finish()
    written(run.dir)
    return Path(run.dir).parent


def test_round_trip_through_the_file(offline: Callable[..., Any]) -> None:
    manifest = manifest_of(*NAMES, "a.b", "a/b", "x" * 300, metrics=("rwc", "norm"))
    samples = samples_of(manifest, range(10, 210, 10))
    samples[3].values["rwc"][:3] = np.nan, np.inf, -np.inf
    samples[4].values["norm"][:2] = 0.0, 5e-324
    folder = logged(offline, manifest, samples)
    run = read(folder)
    for metric in ("rwc", "norm"):
        assert run.series[metric].columns.tolist() == [layer.name for layer in manifest.layers]
        assert run.series[metric].index.tolist() == [sample.step for sample in samples]
        np.testing.assert_array_equal(run.series[metric].to_numpy(), values(samples, metric))
    assert run.completeness.expected == run.completeness.received == 2 * 20 * len(manifest.layers)
    assert run.completeness.notes == ()
    assert run.intervals.to_dict() == {sample.step: 10 for sample in samples}
    assert run.layers.loc["fc.weight", "shape"] == (2, 2)
    assert (run.name, run.facts["seed"], run.origin["source"]) == ("demo", 3, "wandb")
    assert tracker.recognises(folder)
    assert tracker.recognises(folder.parent)
    assert tracker.recognises(folder.parent.parent)
    assert tracker.open_source(str(folder.parent)).references() == [f"wandb:{folder / 'files'}"]
    assert read(folder, metrics=["norm"]).metrics == ["norm"]
    with pytest.raises(ValueError, match="rwc, norm"):
        read(folder, metrics=["cosine"])


def test_series_that_others_logged(offline: Callable[..., Any]) -> None:
    folder = logged(offline, manifest_of(), samples_of(manifest_of(), [1, 2, 3]))
    run = read(folder, match=r"(?P<metric>grad)/(?P<layer>.+)")
    assert run.series["grad"].to_dict() == {"fc.weight": {0: 0.5, 1: 0.5, 2: 0.5}}
    assert read(folder, match=r"^(?P<layer>lr)$").series["value"]["lr"].tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(WstrackError, match="fits none"):
        read(folder, match=r"^(?P<layer>note)$")
    with pytest.raises(ValueError, match="group"):
        read(folder, match="loss")


def test_a_file_that_lost_its_end(offline: Callable[..., Any], tmp_path: Path) -> None:
    samples = samples_of(manifest_of(), range(1, 301))
    folder = logged(offline, manifest_of(), samples)
    (file,) = folder.glob("*.wandb")
    whole = file.read_bytes()
    cut = tmp_path / "run-cut.wandb"
    for share in (0.3, 0.6, 0.9):
        cut.write_bytes(whole[: int(len(whole) * share)])
        os.utime(cut, (0, 0))
        run = read(cut)
        kept = len(run.steps)
        assert 0 < kept < 300
        np.testing.assert_array_equal(run.series["rwc"].to_numpy(), values(samples[:kept]))
        assert any("end" in note for note in run.completeness.notes)


def test_a_damaged_place_costs_its_block_alone(offline: Callable[..., Any], tmp_path: Path) -> None:
    samples = samples_of(manifest_of(), range(1, 301))
    folder = logged(offline, manifest_of(), samples)
    (file,) = folder.glob("*.wandb")
    data = bytearray(file.read_bytes())
    assert len(data) > 3 * 32_768
    data[40_000] ^= 0xFF
    damaged = tmp_path / "run-damaged.wandb"
    damaged.write_bytes(data)
    run = read(damaged)
    assert run.completeness.missing == 4 * (300 - len(run.steps)) > 0
    assert any("damaged" in note for note in run.completeness.notes)
    expected = values([sample for sample in samples if sample.step in run.steps])
    np.testing.assert_array_equal(run.series["rwc"].to_numpy(), expected)


def test_a_run_that_was_killed(tmp_path: Path) -> None:
    script = """
import os, signal, sys, torch, wandb, wstrack
from torch import nn
run = wandb.init(project="p", mode="offline", dir=sys.argv[1])
model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(40)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watcher = wstrack.watch(model, every=1)
for step in range(100):
    model(torch.randn(2, 4)).square().mean().backward()
    optimizer.step()
    watcher.flush()
    run.log({"loss": step})
run.step  # answered when all before it has come
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    recorded = wstrack.pull(folder)
    assert recorded.steps.tolist() == list(range(1, 101))
    shutil.rmtree(folder / "files" / FOLDER)
    logged = wstrack.pull(folder)
    kept = len(logged.steps)
    assert kept > 50  # wandb writes its file by blocks of 32 KiB: what had not filled one is gone
    assert logged.series["rwc"].equals(recorded.series["rwc"].iloc[:kept])
    assert any("killed" in note for note in logged.completeness.notes)


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "run-x.wandb").write_bytes(b"something else")
    with pytest.raises(WstrackError, match=r"run-x\.wandb"):
        read(tmp_path / "run-x.wandb")
    (tmp_path / "empty").mkdir()
    assert not tracker.recognises(tmp_path / "empty")
    with pytest.raises(WstrackError, match=r"no \.wandb file"):
        read(tmp_path / "empty")


@pytest.mark.parametrize("length", [0, 1, 32_747, 32_754, 32_755, 32_761, 70_000])
def test_framing(length: int) -> None:
    """Records around the block's size, framed as LevelDB's log does it."""
    payloads = [bytes(length), b"second" * 10, b"third"]
    notes: list[str] = []
    assert list(records(framed(payloads), notes)) == payloads
    assert notes == []
