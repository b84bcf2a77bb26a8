"""`benchmarks/on_gpu.py`, dry: every step is walked on the CPU, and what is wrong is noticed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
STEPS = ["values", "syncs", "training", "sharded", "sanitizer", "times", "cost"]

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")


def run(root: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Its exit code, and what it printed; as on a machine where nobody set a path."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TRITON_INTERPRET")}
    done = subprocess.run(
        [sys.executable, "benchmarks/on_gpu.py", *arguments],
        capture_output=True, text=True, cwd=root, env={**kept, **environment}, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def door() -> ModuleType:
    spec = importlib.util.spec_from_file_location("on_gpu", ROOT / "benchmarks" / "on_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """What it needs of the repository, to be spoiled."""
    for folder in ("wstrack", "integrations", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    oracle = Path("tests/measuring/meters/oracle.py")
    (tmp_path / oracle).parent.mkdir(parents=True)
    shutil.copy(ROOT / oracle, tmp_path / oracle)
    return tmp_path


def spoil(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def test_every_step_is_named_and_has_a_room(door: Any) -> None:
    assert list(door.STEPS) == list(door.LIMITS) == STEPS
    letters = [title[:3] for title in door.STEPS.values()]
    assert set(letters) == {f"({letter})" for letter in "abcdef"}
    for name in STEPS:
        room = ROOT / "benchmarks" / "gpu" / f"{name}.py"
        assert f"def {name}(told: Told, machine: Machine) -> None:" in room.read_text("utf-8")


def test_a_step_that_there_is_not_and_a_machine_without_cuda() -> None:
    code, said = run(ROOT, "--dry", "--only", "walls")
    assert code == 2
    assert all(name in said for name in STEPS)
    if not torch.cuda.is_available():
        code, said = run(ROOT, "--only", "values")
        assert code == 2
        assert "PyTorch sees no CUDA device; --dry walks every step on the CPU" in said


def test_wheels_are_found_by_it_and_its_children(
    door: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    pytest.importorskip("pip")
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "wheels").mkdir()
    with pytest.raises(SystemExit, match="no wheels there"):
        door._install(tmp_path / "wheels", str(tmp_path / "there"))
    about = {"METADATA": "Metadata-Version: 2.1\nName: carried-here\nVersion: 1.0\n", "RECORD": ""}
    about["WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(tmp_path / "wheels" / "carried_here-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried_here.py", "")
        for name, text in about.items():
            wheel.writestr(f"carried_here-1.0.dist-info/{name}", text)
    door._install(tmp_path / "wheels", str(tmp_path / "there"))
    assert sys.path[-1] == str(tmp_path / "there")  # behind what the machine has
    assert find_spec("carried_here") is not None


@needs_triton
@pytest.mark.slow
def test_dry_every_step_is_walked_and_right(door: Any) -> None:
    code, said = run(ROOT, "--dry")
    assert code == 0, said
    assert "\nWrong: nothing.\n" in said
    places = [said.index(f"\n## {title}\n") for title in door.STEPS.values()]
    assert places == sorted(places)
    assert "failed" not in said
    assert "Traceback" not in said


@needs_triton
@pytest.mark.slow
def test_a_meter_that_is_wrong_is_an_exit_code_and_named(copied: Path) -> None:
    kernels = copied / "wstrack" / "measuring" / "meters" / "kernels.py"
    spoil(kernels, "abs_change += tl.abs(d)\n", "abs_change += tl.abs(d) * 1.00001\n")
    code, said = run(copied, "--dry", "--only", "values")
    assert code == 1, said
    assert "**" in said
    wrong = said.partition("\nWrong: ")[2]
    assert "float32: 1024 elements, sample 1: abs_change is" in wrong
    assert "sq_change" not in wrong  # which is right


@needs_triton
@pytest.mark.slow
def test_a_sync_is_an_exit_code_and_a_step_that_breaks_leaves_the_others_alone(copied: Path) -> None:
    meter = copied / "wstrack" / "measuring" / "meters" / "meter.py"
    taken = "        taken = [(where, sums()"
    spoil(meter, taken, f"        self._parameters[0].sum().item()\n{taken}")
    spoil(copied / "benchmarks" / "gpu" / "sharded.py", "def sharded(", "import os\nos._exit(7)\n\n\ndef sharded(")
    code, said = run(copied, "--dry", "--only", "sharded", "syncs")
    assert code == 1, said
    wrong = said.partition("\nWrong: ")[2]
    assert "sharded: its process ended with exit code 7" in wrong
    assert "- rwc: sampled: a sync" in wrong
    assert "between: a sync" not in wrong
    assert "(not watched)" not in wrong


@needs_triton
@pytest.mark.slow
def test_a_snapshot_that_does_not_move_on_is_noticed_in_training(copied: Path) -> None:
    kernels = copied / "wstrack" / "measuring" / "meters" / "kernels.py"
    spoil(kernels, "tl.store(previous + at, raw, mask=", "tl.store(previous + at, p, mask=")
    code, said = run(copied, "--dry", "--only", "training")
    assert code == 1, said
    assert "training, fp32, fused AdamW: rwc at step 4 is" in said.partition("\nWrong: ")[2]
