"""The front page: its commands and code, as printed, and where its links lead."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from torch import nn

from tests.pages import ROOT, blocks, commands, page
from wstrack.cli import main

pytestmark = pytest.mark.slow

README = page("README.md")
COMMANDS = commands("README.md")


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("wstrack ")])
def test_each_command(place: Path, command: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(shlex.split(command)[1:])
    assert end.value.code == 0
    for output in re.findall(r"-o (\S+)", command):
        assert (place / output).stat().st_size > 0


def test_the_set_up_commands_are_those_that_ci_and_the_tests_run() -> None:
    assert "pip install -e '.[all]' && wstrack demo" in COMMANDS
    assert "pip install -e '.[all,test]' && pytest" in COMMANDS
    assert "pip install -e '.[docs]' && mkdocs build --strict" in COMMANDS


def test_the_code_runs(model: nn.Sequential) -> None:
    (code,) = blocks("python", "README.md")
    exec(code, {"model": model})
    assert Path("runs").is_dir()


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target.partition("#")[0]).exists(), target


def test_it_is_a_front_page() -> None:
    assert README.count("\n") < 80
