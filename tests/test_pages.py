"""The commands and the code of docs/: run as printed where a small training is all they need.

The others are held to what is there: commands with such flags, functions with such arguments, scripts of such names.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from torch import nn

import wstrack
from tests.pages import ROOT, blocks, commands
from wstrack.cli import cli, main
from wstrack.demo import SmallResNet

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
COMMANDS = [(name, line) for name in ["CONTRIBUTING.md", *PAGES] for line in commands(name)]
OURS = [(name, line) for name, line in COMMANDS if line.startswith("wstrack ")]
RUN = ("checkpoints", "command-line", "reading-back", "recording", "reports", "tensorboard", "trackers")
CODE = (
    "checkpoints", "layers-and-parts", "metrics", "reading-back", "recording", "relative-weight-change",
    "steps-and-samples", "tensorboard", "watch",
)  # fmt: skip


class Net(nn.Module):
    """The model that a page's reader has."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(inputs))  # type: ignore[no-any-return]


@pytest.fixture
def given(train: Callable[..., None]) -> dict[str, Any]:
    """What the page's reader has already."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {"wstrack": wstrack, "model": model, "train": lambda model: train(model, optimizer, 20)}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_commands_run_in_their_order(place: Path, name: str) -> None:
    for command in commands(f"docs/{name}.md"):
        if command.startswith("wstrack ") and "demo" not in command:
            assert main_of(command) == 0, command
            for output in re.findall(r"-o (\S+)", command):
                assert (place / output).exists()


def main_of(command: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(shlex.split(command)[1:])
    return int(end.value.code or 0)


@pytest.mark.parametrize(("page", "command"), OURS)
def test_each_command_is_one(page: str, command: str) -> None:
    Path("runs/exp1").mkdir(parents=True)  # which `push` looks for before it does anything
    _, *words = shlex.split(command)
    with click.Context(cli) as above:
        name, asked, rest = cli.resolve_command(above, words)
        assert asked is not None
        asked.make_context(name, rest, parent=above).close()


@pytest.mark.parametrize(("page", "command"), [(page, line) for page, line in COMMANDS if "python " in line])
def test_each_script_is_there(page: str, command: str) -> None:
    (script,) = re.findall(r"python (-m \S+|\S+\.py)", command)
    assert (ROOT / (script[3:].replace(".", "/") + ".py" if script.startswith("-m") else script)).exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", CODE)
def test_the_code_runs_in_its_order(place: Path, given: dict[str, Any], name: str) -> None:
    for code in blocks("python", f"docs/{name}.md"):
        exec(code, given)


@pytest.mark.slow
def test_the_code_of_the_page_on_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    model = SmallResNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with wstrack.watch(model, to="runs/exp1", every=1):
        for _ in range(12):
            optimizer.zero_grad()
            model(torch.randn(8, 1, 8, 8)).square().mean().backward()
            optimizer.step()
    given: dict[str, Any] = {"wstrack": wstrack, "torch": torch, "model": model}
    for code in blocks("python", "docs/reports.md"):
        exec(code, given)
    assert len(shown) == 1
    assert sum(len(group["params"]) for group in given["optimizer"].param_groups) == len(list(model.parameters()))


@pytest.mark.slow
def test_the_code_of_the_page_on_wandb(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for code in blocks("python", "docs/wandb.md"):
        exec(code, given)
    runs = wstrack.pull_many("wandb")
    assert [run.steps.tolist() for run in runs] == [[10, 20], [10, 20]]


@pytest.fixture
def store() -> Iterator[None]:
    """MLflow's store, where the page has it."""
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    yield
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    mlflow.tracking.fluent._active_experiment_id = None


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_the_pages_on_mlflow_and_on_trackers(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    for code in blocks("python", "docs/mlflow.md"):
        exec(code, given)
    assert given["run"].info.run_id in given["report"].to_dict()["runs"][0]["reference"]
    for command in commands("docs/mlflow.md"):
        if command.startswith("wstrack "):
            assert main_of(command) == 0, command
    for code in blocks("python", "docs/trackers.md"):
        exec(code, given)
    given["train"](given["model"])
    given["watcher"].close()
    assert (len(wstrack.pull_many("mlflow.db")), len(wstrack.pull_many("runs"))) == (2, 1)


@pytest.mark.parametrize("name", PAGES)
def test_each_call_in_code_is_of_a_function_with_such_arguments(name: str) -> None:
    for code in blocks("python", name):
        for call in ast.walk(ast.parse(code)):
            if isinstance(call, ast.Call) and re.fullmatch(r"wstrack(\.\w+)+", ast.unparse(call.func)):
                function: object = wstrack
                for part in ast.unparse(call.func).split(".")[1:]:
                    function = getattr(function, part)
                assert callable(function)
                named = {word.arg: None for word in call.keywords if word.arg}
                inspect.signature(function).bind_partial(*call.args, **named)
