"""Runs and imports the experiments of examples/papers/, without starting an interpreter that imports torch anew."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
from matplotlib import image

PAPERS = Path(__file__).resolve().parents[2] / "examples" / "papers"


def run(script: str, *options: str | float | Path) -> str:
    """What `python examples/papers/<script> <options>` prints."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", [script, *map(str, options)])
        patch.syspath_prepend(PAPERS)
        runpy.run_path(str(PAPERS / script), run_name="__main__")
    return said.getvalue()


def load(name: str) -> ModuleType:
    """A script as a module, for its functions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PAPERS)
        return importlib.import_module(name)


def tables(said: str) -> dict[str, list[list[str]]]:
    """Printed Markdown tables by title, rows of cells, heads left out."""
    found = {}
    for title, body in re.findall(r"### (.*)\n\n((?:\|.*\n)+)", said):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines()]
        found[title] = rows[2:]
    return found


def is_drawn(path: Path) -> bool:
    """Whether a picture is there and not blank."""
    return bool(image.imread(path)[..., :3].std() > 0.01)
