"""What several tests need: a place to run in, the authors' data, small trainings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if not torch.cuda.is_available():  # before anything imports Triton: without a GPU its kernels are interpreted
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("KERAS_BACKEND", "torch")  # before anything imports Keras

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that write to the working directory (runs/, report.html) write to one of their own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """No watcher outlives its test."""
    yield
    from wstrack.training.watching import _watchers

    for watcher in list(_watchers.values()):
        watcher.close()
    _watchers.clear()


@pytest.fixture
def weightscale() -> Path:
    """The folder of the authors' series and clusters."""
    for folder in (ROOT / "shared" / "weightscale", ROOT.parent / "shared" / "weightscale"):
        if folder.is_dir():
            return folder
    pytest.skip("the authors' series (shared/weightscale) are not here")


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def train() -> Callable[..., None]:
    """Train a model for some steps on noise."""

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            model(torch.randn(32, 6)).square().mean().backward()
            optimizer.step()

    return steps


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    from wstrack.cli import main

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture
def place(model: nn.Sequential, train: Callable[..., None], tmp_path: Path) -> Path:
    """A folder with the files that the commands of the documentation name."""
    import wstrack

    for run, dataset in (("exp1", "cifar10"), ("seed-0", "digits"), ("seed-1", "digits")):
        with wstrack.watch(model, to=f"runs/{run}", every=1, facts={"dataset": dataset}):
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), 12)
    rows = "".join(f"l{i}.weight,{','.join(map(str, np.geomspace(1, 2 + i, 12)))}\n" for i in range(12))
    (tmp_path / "measured.csv").write_text("layer," + ",".join(f"epoch_{i}" for i in range(12)) + "\n" + rows)
    for step, folder in enumerate(
        ("base", "out/checkpoint-1", "out/checkpoint-2", "pythia/step0", "pythia/step8", "tuned")
    ):
        (tmp_path / folder).mkdir(parents=True)
        weights = {f"h.{i}.mlp.weight": torch.full((8, 8), 1.0 + step * 0.1 * i) for i in range(12)}
        torch.save(weights, tmp_path / folder / "pytorch_model.bin")
    return tmp_path
