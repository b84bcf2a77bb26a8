"""Every metric, keyword, flag, public name and kind of finding is in docs/."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click
import pytest
import torch
from torch import nn

import wstrack
from wstrack.analysis.findings.words import Kind
from wstrack.cli import cli
from wstrack.measuring.meters.backends import BACKENDS
from wstrack.metrics import METRICS

ROOT = Path(__file__).resolve().parents[1]
PAGES = "".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))
TABLE = (ROOT / "docs" / "metrics.md").read_text().splitlines()
COMMANDS = (ROOT / "docs" / "command-line.md").read_text()
REFERENCE = "".join(page.read_text() for page in sorted((ROOT / "docs" / "reference").glob("*.md")))
TRAINERS = sorted((ROOT / "integrations" / "wstrack_integrations").glob("[!_]*.py"))
PUBLIC = ("wstrack", "wstrack.rules", "wstrack.analysis", "wstrack.trackers.contract")

FUNCTIONS = (wstrack.watch, wstrack.report, wstrack.pull, wstrack.pull_many, wstrack.push, wstrack.diff, wstrack.sweep)
KEYWORDS = [
    (function.__name__, name)
    for function in FUNCTIONS
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
]
FLAGS = [
    (name, option)
    for name, command in sorted(cli.commands.items())
    for parameter in command.params
    if isinstance(parameter, click.Option)
    for option in parameter.opts
    if option.startswith("--")
]


def public_in(module: Path) -> list[str]:
    """What a module names as public; read and not imported, for not every trainer is installed."""
    (names,) = re.findall(r"^__all__ = (\[.*?\])", module.read_text(), re.MULTILINE | re.DOTALL)
    return list(ast.literal_eval(names))


def plain(text: str) -> str:
    return re.sub(r"[\s`]", "", text)


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_stands_in_the_table_with_its_formula(metric: str) -> None:
    rows = [row for row in TABLE if row.startswith(f"| `{metric}` |")]
    assert len(rows) == 1, f"the table of docs/metrics.md has {len(rows)} rows for {metric}"
    formula = (
        METRICS[metric].formula.replace(" over elements with", " where").replace(", s = w when watching began", "")
    )
    assert plain(formula) in plain(rows[0]), f"{metric}: its formula there is not {METRICS[metric].formula!r}"


@pytest.mark.parametrize(("function", "keyword"), KEYWORDS)
def test_each_keyword_is_shown_in_use(function: str, keyword: str) -> None:
    assert re.search(rf"\b{keyword}=", PAGES), f"{function}({keyword}=) is not in docs/"
    text = inspect.getdoc(getattr(wstrack, function)) or ""
    if function != "pull_many":  # whose keywords are those of pull
        assert re.search(rf"\b{keyword}\b.*: ", text), f"{function}({keyword}=) is not in its docstring"


@pytest.mark.parametrize(("command", "flag"), FLAGS)
def test_each_flag_is_shown(command: str, flag: str) -> None:
    assert re.search(rf"(?<![\w-]){flag}(?![\w-])", COMMANDS), (
        f"wstrack {command} {flag} is not in docs/command-line.md"
    )


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_each_command_is_shown(command: str) -> None:
    assert f"wstrack {command}" in COMMANDS


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_kind_of_finding_is_explained(kind: str) -> None:
    page = (ROOT / "docs" / "analysis.md").read_text()
    assert re.search(rf"^\| `{kind}` \|", page, re.MULTILINE), (
        f"docs/analysis.md has no row for findings of kind {kind!r}"
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_meter_is_named(backend: str) -> None:
    assert re.search(rf"`{backend}`|\b{backend.upper()}\b|meter=\"{backend}\"", PAGES)


@pytest.mark.parametrize("name", wstrack.__all__)
def test_each_public_name_is_shown(name: str) -> None:
    assert re.search(rf"\b{name}\b", PAGES)


def test_the_reference_has_what_is_public_and_nothing_twice() -> None:
    names = [f"{module}.{name}" for module in PUBLIC for name in importlib.import_module(module).__all__]
    trainers = [f"wstrack_integrations.{path.stem}.{name}" for path in TRAINERS for name in public_in(path)]
    assert sorted(re.findall(r"^::: (\S+)$", REFERENCE, re.MULTILINE)) == sorted([*names, *trainers, "wstrack.testing"])


def test_the_code_of_the_page_on_analysis_runs(
    model: nn.Sequential, train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with wstrack.watch(model, to="runs/exp1", every=1, layers="all"):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 40)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "analysis.md").read_text(), re.DOTALL)
    scope: dict[str, object] = {}
    exec(code, scope)
    assert scope["held"] is None or scope["choice"].k > 1  # type: ignore[attr-defined]
    assert capsys.readouterr().out.count("\n") >= 1
