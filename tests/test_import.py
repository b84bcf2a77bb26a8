"""What an import costs, in a fresh interpreter."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import wstrack

pytestmark = pytest.mark.slow

HEAVY = {"torch", "pandas", "numpy", "pyarrow", "sklearn", "bokeh", "tensorboard", "wandb", "mlflow", "click"}
TRAINERS = {"accelerate", "fastai", "ignite", "keras", "lightning", "pytorch_lightning", "skorch", "transformers"}


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_wstrack_brings_in_nothing_heavy() -> None:
    assert not (HEAVY | TRAINERS) & modules_after("import wstrack")


def test_a_page_is_written_without_matplotlib_and_torch() -> None:
    written = Path(__file__).parent / "runs" / "written" / "0.1.0"
    code = f"""
import contextlib, io, tempfile
from wstrack.cli import main
with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
    with contextlib.suppress(SystemExit):
        main(["report", {str(written)!r}, "-o", folder + "/report.html"])"""
    brought = modules_after(code)
    assert "bokeh" in brought
    assert not {"matplotlib", "torch", "tensorboard"} & brought


def test_watching_brings_in_no_trainer() -> None:
    code = "import torch, wstrack; wstrack.watch(torch.nn.Linear(2, 2), to='./one').close()"
    assert not TRAINERS & modules_after(code)


@pytest.mark.parametrize("trainer", sorted(TRAINERS - {"accelerate", "pytorch_lightning"}))
def test_a_trainer_that_is_not_installed_is_named_with_the_way_to_get_it(trainer: str) -> None:
    code = f"""
import sys

class Absent:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in ({trainer!r}, "pytorch_lightning"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])

sys.meta_path.insert(0, Absent())
import wstrack_integrations.{trainer}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'wstrack[{trainer}]'" in done.stderr.splitlines()[-1]


def test_the_heavy_ones_are_there_once_used() -> None:
    code = "import wstrack; wstrack.relative_weight_change([1.], [2.]); wstrack.Run"
    assert {"torch", "pandas"} <= modules_after(code)


def test_help_needs_the_command_line_only() -> None:
    code = "import contextlib, wstrack.cli\nwith contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):\n"
    loaded = modules_after(code + "    wstrack.cli.main(['report', '--help'])")
    assert "click" in loaded
    assert not (HEAVY - {"click"}) & loaded


def test_reading_and_reporting_need_no_torch(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("layer,1,2,3\n" + "".join(f"l{i},{i + 1},{i + 2},{i + 1}\n" for i in range(5)))
    code = f"import wstrack; wstrack.report(wstrack.pull({str(table)!r})).save({str(tmp_path / 'r.html')!r})"
    assert not {"torch", "tensorboard"} & modules_after(code)


def test_the_public_names_are_there_and_the_functions_keep_their_names() -> None:
    assert len(wstrack.__all__) <= 14
    for name in wstrack.__all__:
        assert getattr(wstrack, name) is not None
    importlib.import_module("wstrack.reporting.page")
    importlib.import_module("wstrack.training.watcher")
    assert callable(wstrack.watch)
    assert callable(wstrack.report)
    assert set(wstrack.__all__) <= set(dir(wstrack))


def test_a_torch_without_distributed_is_enough() -> None:
    code = """
import sys, torch, torch.distributed
torch.distributed.is_available = lambda: False
sys.modules["torch.distributed.distributed_c10d"] = None
import wstrack
with wstrack.watch(torch.nn.Linear(2, 2), to="./one"):
    pass
"""
    assert "wstrack.training.ranks" in modules_after(code)
