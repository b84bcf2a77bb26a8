from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.util
import io
import json
import pickle
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from matplotlib import image
from scipy.io import savemat
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

import wstrack
from tests.cuda_torchvision import import_datasets

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).resolve().parents[2] / "examples" / "papers" / "weightscale"


def run(script: str, *options: str | Path) -> str:
    """Run as `python <script>` would, without starting an interpreter that imports torch anew."""
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
    raw = header + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


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


@pytest.fixture
def datasets() -> ModuleType:
    """torchvision's readers, as data.py uses them."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    return import_datasets()


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.delitem(sys.modules, "data", raising=False)
    return importlib.import_module("data").load


NAMES = ("mnist", "fashion-mnist", "cifar10", "cifar100", "svhn")
COUNTS = {"train": 110, "test": 40}
CLASSES = {"cifar100": 100}
Pictures = tuple[np.ndarray, np.ndarray]


def pictures(name: str, part: str) -> Pictures:
    """Noise, (count, channels, side, side); in the middle of the first channel the label."""
    count, classes = COUNTS[part], CLASSES.get(name, 10)
    side, channels = (28, 1) if "mnist" in name else (32, 3)
    rng = np.random.default_rng(len(part))
    labels = rng.permutation(np.arange(count) % classes)
    images = rng.integers(0, 256, (count, channels, side, side), np.uint8)
    images[:, 0, 8:20, 8:20] = labels[:, None, None]
    return images, labels


def write(name: str, folder: Path, datasets: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Both parts as they are published, with the checksums of these files where torchvision has those of the real."""
    train, test = (pictures(name, part) for part in COUNTS)
    if name == "mnist":
        write_mnist(folder / "MNIST" / "raw", train, test)
    elif name == "fashion-mnist":
        write_mnist(folder / "FashionMNIST" / "raw", train, test)
    elif name == "cifar10":
        write_cifar(folder, train, test, datasets.CIFAR10, "labels", patch)
    elif name == "cifar100":
        write_cifar(folder, train, test, datasets.CIFAR100, "fine_labels", patch)
    else:
        write_svhn(folder, train, test, datasets.SVHN, patch)


def write_mnist(folder: Path, train: Pictures, test: Pictures) -> None:
    folder.mkdir(parents=True)
    for part, (images, labels) in (("train", train), ("t10k", test)):
        write_idx(folder / f"{part}-images-idx3-ubyte", images[:, 0])
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))


def write_cifar(root: Path, train: Pictures, test: Pictures, reader: Any, key: str, patch: pytest.MonkeyPatch) -> None:
    folder = root / reader.base_folder
    folder.mkdir()
    meta = folder / reader.meta["filename"]
    meta.write_bytes(pickle.dumps({reader.meta["key"]: [f"class {number}" for number in range(100)]}, protocol=2))
    patch.setattr(reader, "meta", {**reader.meta, "md5": md5(meta)})
    for attribute, (images, labels) in (("train_list", train), ("test_list", test)):
        files = [folder / file for file, _ in getattr(reader, attribute)]
        for file, some in zip(files, np.array_split(np.arange(len(labels)), len(files)), strict=True):
            batch = {"data": images[some].reshape(len(some), -1), key: labels[some].tolist()}
            file.write_bytes(pickle.dumps(batch, protocol=2))
        patch.setattr(reader, attribute, [[file.name, md5(file)] for file in files])


def write_svhn(folder: Path, train: Pictures, test: Pictures, reader: Any, patch: pytest.MonkeyPatch) -> None:
    listed = {}
    for part, (images, labels) in (("train", train), ("test", test)):
        path = folder / f"{part}_32x32.mat"
        digits = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]  # a zero has the label 10
        savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": digits})
        listed[part] = [reader.split_list[part][0], path.name, md5(path)]
    patch.setattr(reader, "split_list", listed)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_torchvision_reads_what_is_published(
    name: str, datasets: ModuleType, load: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(name, tmp_path, datasets, monkeypatch)
    data = load(name, tmp_path, limit=None, test_limit=None, size=32)
    train, test = (pictures(name, part) for part in COUNTS)
    frame = (32 - train[0].shape[-1]) // 2
    wide = [np.pad(images / 255, ((0, 0), (0, 0), (frame, frame), (frame, frame))) for images, _ in (train, test)]
    mean, deviation = wide[0].mean((0, 2, 3), keepdims=True), wide[0].std((0, 2, 3), keepdims=True, ddof=1)
    for found, images in zip((data.train_images, data.test_images), wide, strict=True):
        np.testing.assert_allclose(found, (images - mean) / deviation, rtol=0, atol=1e-5)
    assert data.train_labels.tolist() == train[1].tolist()
    assert data.test_labels.tolist() == test[1].tolist()
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64
    assert data.classes == CLASSES.get(name, 10)

    part, again = (load(name, tmp_path, limit=30, test_limit=20, size=64) for _ in range(2))
    assert part.train_images.shape == (30, train[0].shape[1], 64, 64)
    assert part.test_images.shape[0] == len(part.test_labels) == 20
    assert part.classes == data.classes
    assert torch.equal(part.train_images, again.train_images)
    assert torch.equal(part.train_labels, again.train_labels)
    assert np.corrcoef(part.train_images[:, 0, 32, 32], part.train_labels)[0, 1] == pytest.approx(1, abs=1e-5)


def test_train_takes_a_data_set_of_torchvision(
    datasets: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("cifar10", tmp_path, datasets, monkeypatch)
    sizes = ("--model", "alexnet", "--width", "2", "--seeds", "1", "--epochs", "1", "--device", "cpu")
    run("train.py", "--data", "cifar10", "--data-dir", tmp_path, "--out", tmp_path / "runs", *sizes)
    one = wstrack.pull(tmp_path / "runs" / "alexnet-w2-cifar10-adam-seed0")
    assert one.layers["shape"].iloc[0][1] == 3  # channels
    assert np.isfinite(one.series["rwc"].to_numpy()).all()


@pytest.mark.parametrize("name", NAMES)
def test_torchvision_without_a_network(
    name: str, datasets: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    words = f"there is no {name} in the folder {str(tmp_path)!r}, .*Network is unreachable.*pass --data-dir"
    with pytest.raises(SystemExit, match=f"^{words}[^\n]*$"):
        run("train.py", "--data", name, "--data-dir", tmp_path)


def test_train_says_in_a_line_what_is_wrong_with_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"^unknown data 'cifar', without files.*; pass --data one of: mnist, .*svhn$"):
        run("train.py", "--data", "cifar")
    with pytest.raises(SystemExit, match=r"^unknown data 'cifar', and .* holds neither train-images\* nor 0.json;.*"):
        run("train.py", "--data", "cifar", "--data-dir", tmp_path)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(SystemExit, match=r"^--data svhn needs torchvision, .*: pip install torchvision; .*--data-dir"):
        run("train.py", "--data", "svhn", "--data-dir", tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((2, 28, 28), np.uint8))
    with pytest.raises(SystemExit, match=r"lacks train-images\* or train-labels\*; pass --data-dir"):
        run("train.py", "--data", "mnist", "--data-dir", tmp_path)
