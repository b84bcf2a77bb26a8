"""The README's commands and code, as printed; and the commands of the page that has them all."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.cli import main

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def commands(page: str) -> list[str]:
    return [line[2:].split("   #")[0].strip() for block in blocks("console", page) for line in block.splitlines()]


COMMANDS = commands(README)
MORE = [line for line in commands((ROOT / "docs" / "command-line.md").read_text()) if "wstrack demo" not in line]


@pytest.fixture
def place(model: nn.Sequential, train: Callable[..., None], tmp_path: Path) -> Path:
    """A folder with the files that the README's commands name."""
    with wstrack.watch(model, to="runs/exp1", every=1):
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


@pytest.mark.parametrize("command", [line for line in (*COMMANDS, *MORE) if line.startswith("wstrack ")])
def test_each_command(place: Path, command: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(shlex.split(command)[1:])
    assert end.value.code == 0
    for output in re.findall(r"-o (\S+)", command):
        assert (place / output).stat().st_size > 0


def test_the_page_on_checkpoints(place: Path) -> None:
    page = (ROOT / "docs" / "checkpoints.md").read_text()
    for command in commands(page):
        with pytest.raises(SystemExit) as end:
            main(shlex.split(command)[1:])
        assert end.value.code == 0, command
    for code in blocks("python", page):
        exec(code, {"wstrack": wstrack})
    assert (place / "diff.html").exists()


def test_the_two_set_up_commands_are_those_that_ci_runs() -> None:
    assert "pip install -e '.[all]' && wstrack demo" in COMMANDS
    assert "pip install -e '.[all,test]' && pytest" in COMMANDS


def test_the_code_runs_in_its_order(place: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])

    for code in blocks("python"):
        exec(code, {"wstrack": wstrack, "model": Net()})
    assert (place / "report.html").exists()


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target.partition("#")[0]).exists(), target
