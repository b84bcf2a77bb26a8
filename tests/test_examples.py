from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wstrack

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(script: str, folder: Path, *launcher: str) -> str:
    env = {**os.environ, "PYTHONWARNINGS": "error::DeprecationWarning:wstrack"}
    done = subprocess.run(
        [sys.executable, *launcher, EXAMPLES / script],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plain_loop(tmp_path: Path) -> None:
    out = run("plain_loop.py", tmp_path)
    assert "0.weight" in out
    found = wstrack.pull(tmp_path / "runs" / "plain")
    assert found.metrics == ["rwc", "cosine"]
    assert found.steps.tolist() == list(range(10, 291, 10))


def test_mlflow_run(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    out = run("mlflow_run.py", tmp_path)
    assert "rwc; 3 layers x 14 samples; all 42 values" in out
    (pulled,) = wstrack.pull_many(tmp_path / "mlflow.db")
    assert pulled.steps.tolist() == list(range(10, 141, 10))


def test_wandb_run(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    out = run("wandb_run.py", tmp_path)
    assert "0.weight" in out
    (pulled,) = wstrack.pull_many(tmp_path / "wandb")
    assert pulled.steps.tolist() == list(range(10, 291, 10))


def test_lightning_run(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    assert "net.0.weight" in run("lightning_run.py", tmp_path)
    found = wstrack.pull(tmp_path / "lightning_logs" / "version_0" / "wstrack")
    assert found.steps.tolist() == list(range(10, 181, 10))


def test_huggingface_run(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    run("huggingface_run.py", tmp_path)
    (folder,) = (tmp_path / "out" / "runs").glob("*/wstrack")
    found = wstrack.pull(folder)
    assert found.steps.tolist() == list(range(10, 231, 10))
    assert (tmp_path / "report.html").stat().st_size > 0


def test_fsdp2_run(tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    out = run("fsdp2_run.py", tmp_path, *torchrun)
    assert "blocks.3.mlp.2.weight" in out
    found = wstrack.pull("tensorboard:runs/fsdp2")
    assert found.steps.tolist() == list(range(10, 101, 10))
    assert len(found.layers) == 19
    assert found.origin["ranks"] == 2


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_each_example_has_a_test(script: str) -> None:
    assert f'run("{script}"' in Path(__file__).read_text()


def test_mup_widths(tmp_path: Path) -> None:
    out = run("mup_widths.py", tmp_path)
    assert "hidden.2.weight (-1.5" in out  # the planted fault
    assert (tmp_path / "sweep" / "index.html").exists()


def test_first_difference(tmp_path: Path) -> None:
    out = run("first_difference.py", tmp_path)
    assert "up to step 4; at step 5 they differ in 2.weight," in out.splitlines()[-1]
    folder = tmp_path / "runs" / "first-difference"
    differing = wstrack.diff(folder / "one", folder / "other").series["differing"]
    assert (differing.loc[:4] == 0).all(axis=None)
    assert differing.columns[differing.loc[5] > 0].tolist() == ["2.weight"]
