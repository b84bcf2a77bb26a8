from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

import wstrack

SCRIPTS = Path(__file__).resolve().parents[1] / "examples" / "paper"


def run(script: str, *options: str | Path) -> str:
    """Run as `python examples/paper/<script>` would, without starting an interpreter that imports torch anew."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", [script, *map(str, options)])
        patch.syspath_prepend(SCRIPTS)
        for name in ("data", "models", "runs"):
            patch.delitem(sys.modules, name, raising=False)
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    return said.getvalue()


def write_idx(path: Path, array: np.ndarray) -> None:
    header = b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets of two kinds of squares, the harder one noisy, each trained on with two seeds."""
    folder = tmp_path_factory.mktemp("paper")
    rng = np.random.default_rng(0)
    for data, noise in (("harder", 200), ("easier", 20)):
        files = folder / data
        files.mkdir()
        for part, count in (("train", 64), ("t10k", 40)):
            labels = np.arange(count, dtype=np.uint8) % 2
            images = rng.integers(0, noise, (count, 28, 28), np.uint8)
            images[labels == 1, 8:20, 8:20] += 50
            write_idx(files / f"{part}-images-idx3-ubyte.gz", images)
            write_idx(files / f"{part}-labels-idx1-ubyte.gz", labels)
        sizes = ("--width", "2", "--seeds", "2", "--epochs", "4", "--batch", "16", "--limit", "48", "--lr", "0.01")
        out = ("--data", data, "--data-dir", files, "--out", folder / "runs", "--device", "cpu")
        assert "epoch 4: loss" in run("train.py", "--model", "vgg11", *sizes, *out)
    return folder / "runs"


def test_train_records_every_epoch_of_every_seed(runs: Path) -> None:
    found = wstrack.pull_many(runs)
    assert len(found) == 4
    for one in found:
        assert one.metrics == ["rwc", "rwc_elementwise", "norm"]
        assert one.steps.tolist() == [3, 6, 9, 12]  # 48 images, 16 a step
        assert not one.series["rwc"].isna().any(axis=None)
    results = [json.loads(path.read_text()) for path in sorted(runs.glob("*/result.json"))]
    assert [(one["data"], one["seed"], one["train"], one["test"]) for one in results] == [
        ("easier", 0, 48, 40), ("easier", 1, 48, 40), ("harder", 0, 48, 40), ("harder", 1, 48, 40),
    ]  # fmt: skip
    assert all(one["loss"][-1] < one["loss"][0] for one in results if one["data"] == "easier")


@pytest.fixture(scope="module")
def compared(runs: Path) -> str:
    return run("compare.py", runs, "--harder", "harder", "--easier", "easier", "--k", "3")


def test_compare_says_what_numpy_says(runs: Path, compared: str) -> None:
    levels = {
        (data, seed): np.log10(wstrack.pull(runs / f"vgg11-w2-{data}-adam-seed{seed}").series["rwc"]).mean().to_numpy()
        for data in ("harder", "easier")
        for seed in (0, 1)
    }
    late_to_early = [levels["harder", seed][8:].mean() - levels["harder", seed][:4].mean() for seed in (0, 1)]
    (row,) = re.findall(r"\| vgg11, width 2 \| adam \| harder \| rwc \|.*", compared)
    assert f"× {10 ** np.mean(late_to_early):.2f} [" in row.split("|")[-2]

    gaps = [levels["harder", seed] - levels["easier", seed] for seed in (0, 1)]
    (row,) = re.findall(r"\| vgg11, width 2 \| adam \| rwc \| 2 \|.*", compared)
    cells = row.split("|")[5:]
    assert f"× {10 ** np.mean([gap[:4].mean() for gap in gaps]):.2f} [" in cells[0]
    assert f"× {10 ** np.mean([gap[8:].mean() for gap in gaps]):.2f} [" in cells[2]
    assert f"× {10 ** np.mean([gap[-1] for gap in gaps]):.2f} [" in cells[3]
    assert compared.count("Agreement of clusterings") == 2


def test_compare_says_how_far_two_seeds_have_the_same_clusters(runs: Path, compared: str) -> None:
    default = compared.partition("wstrack's default")[2]
    (row,) = re.findall(r"\| vgg11, width 2 \| adam \| harder \| 3 \|.*", default)
    labels = []
    for seed in (0, 1):
        curves = np.log10(wstrack.pull(runs / f"vgg11-w2-harder-adam-seed{seed}").series["rwc"]).to_numpy().T
        labels.append(KMeans(3, n_init=10, random_state=0).fit_predict(PCA(2).fit_transform(curves)))
    assert row.split("|")[-3].strip() == f"{adjusted_rand_score(*labels):.2f}"


def test_figures_are_drawn(runs: Path, tmp_path: Path) -> None:
    run("figures.py", runs, tmp_path, "--harder", "harder", "--easier", "easier", "--k", "3")
    for name in ("weightscale-layers.png", "weightscale-stability.png"):
        pixels = image.imread(tmp_path / name)
        assert pixels[..., :3].std() > 0.01, f"{name} is blank"
