"""The rooms: what imports what, and that no module hides behind a function of its name."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wstrack
from wstrack.measuring.meters import cuda

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(module.name for module in pkgutil.walk_packages(wstrack.__path__, "wstrack."))


@pytest.mark.parametrize("name", MODULES)
def test_no_function_has_the_name_of_a_module(name: str) -> None:
    if name.endswith(".kernels"):
        pytest.importorskip("triton", reason=str(cuda.unavailable()))
    module = importlib.import_module(name)
    parent, _, leaf = name.rpartition(".")
    assert getattr(sys.modules[parent], leaf) is module


def test_no_module_imports_itself_through_others() -> None:
    grimp = pytest.importorskip("grimp", reason="import-linter is not installed")
    graph = grimp.build_graph("wstrack")
    reached: dict[str, set[str]] = {}

    def reaches(module: str, above: tuple[str, ...] = ()) -> set[str]:
        assert module not in above, f"a circle: {' -> '.join([*above[above.index(module) :], module])}"
        if module not in reached:
            direct = graph.find_modules_directly_imported_by(module)
            # A package's own file re-exports what its modules define; they may not import it back.
            reached[module] = direct.union(*(reaches(other, (*above, module)) for other in direct))
        return reached[module]

    for module in graph.modules - {"wstrack"}:
        reaches(module)


def test_the_drawing_is_that_of_the_code() -> None:
    pytest.importorskip("grimp", reason="import-linter is not installed")
    done = subprocess.run([sys.executable, ROOT / "docs" / "architecture.py", "--check"], check=False)
    assert done.returncode == 0, "run python docs/architecture.py"


def lint(tree: Path) -> tuple[int, str]:
    program = shutil.which("lint-imports")
    if program is None:
        pytest.skip("import-linter is not installed")
    environment = {"PATH": str(Path(program).parent), "PYTHONPATH": f"{tree}:{tree / 'integrations'}"}
    done = subprocess.run(
        [sys.executable, program, "--no-cache"], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "named"),
    [
        ("wstrack/newcomer.py", "", "newcomer"),
        ("wstrack/runs/files.py", "from wstrack.trackers.registry import tracker", "wstrack.runs.files"),
        (
            "wstrack/metrics.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from wstrack.runs.run import Run",
            "wstrack.metrics",
        ),
        ("integrations/wstrack_integrations/skorch.py", "import wstrack_integrations.mlflow", "skorch"),
    ],
    ids=["a module on no floor", "an import upwards", "an annotation upwards", "a trainer that knows a tracker"],
)
def test_what_breaks_the_contract_is_named(tmp_path: Path, file: str, line: str, named: str) -> None:
    for folder in ("wstrack", "integrations"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as changed:
        changed.write(f"\n{line}\n")
    code, out = lint(tmp_path)
    assert code == 1
    assert named in out
    assert "BROKEN" in out or "not listed" in out
