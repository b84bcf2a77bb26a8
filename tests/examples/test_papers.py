from __future__ import annotations

import contextlib
import importlib
import io
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from matplotlib import image
from torch import nn

pytestmark = pytest.mark.slow

PAPERS = Path(__file__).resolve().parents[2] / "examples" / "papers"
NAMES = ("intervals", "drawing", "lazy_and_rich", "forgetting", "twins_iris", "twins_mnist", "weightscale.data")


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts import what stands beside them, as if each was run from a shell; the number of threads comes back."""
    monkeypatch.syspath_prepend(PAPERS)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for name in NAMES:
        sys.modules.pop(name, None)


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def run(name: str, *options: str | Path) -> str:
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", [name, *map(str, options)])
        runpy.run_path(str(PAPERS / name), run_name="__main__")
    return said.getvalue()


def rows(said: str, title: str) -> list[list[str]]:
    """The cells of the table with this title, without its head."""
    below = said.split(f"### {title}", 1)[1].split("\n\n")[1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in below.splitlines()[2:]]


def drawn(path: Path) -> bool:
    return image.imread(path)[..., :3].std() > 0.01


def test_intervals_are_students() -> None:
    intervals = script("intervals")
    mean, low, high = intervals.interval([1.0, 2.0, 4.0, np.nan])
    half = 4.302652729911275 * np.std([1, 2, 4], ddof=1) / np.sqrt(3)
    assert (mean, low, high) == pytest.approx((7 / 3, 7 / 3 - half, 7 / 3 + half))
    assert intervals.shown([0.25], 2) == "0.25"
    assert intervals.shown([], 2) == "–"


@pytest.mark.parametrize("shape", [(4, 4, 4), (6, 3, 3), (3, 3, 5)])
def test_lazy_and_rich_kernel_is_that_of_autograd(shape: tuple[int, int, int]) -> None:
    lazy = script("lazy_and_rich")
    generator = torch.Generator().manual_seed(1)
    for balance in (-2.0, 0.0, 2.0):
        first, second = lazy.balanced(shape, balance, generator)
        gap = second.T @ second - first @ first.T
        assert torch.allclose(gap, balance * torch.eye(shape[1], dtype=torch.float64), atol=1e-12)
    data = torch.randn(shape[0], 3, generator=generator, dtype=torch.float64)

    def outputs(w1: torch.Tensor, w2: torch.Tensor) -> torch.Tensor:
        return (w2 @ w1 @ data).flatten()

    jacobians = torch.autograd.functional.jacobian(outputs, (first, second))
    features = torch.cat([each.flatten(1) for each in jacobians], dim=1)
    assert torch.allclose(lazy.kernel(first, second, data), features @ features.T, atol=1e-12)


def test_lazy_and_rich_in_small(tmp_path: Path) -> None:
    said = run("lazy_and_rich.py", "--seeds", "2", "--balances", "-3", "0", "3", "--steps", "3000",
               "--out", tmp_path / "lazy.png")  # fmt: skip
    for title, lazy_sides in (("square: 10-10-10", (0, 2)), ("funnel: 20", (2,)), ("inverted funnel: 10", (0,))):
        kernels = [float(row[3].split()[0]) for row in rows(said, title)]
        assert len(kernels) == 3
        assert all((kernels[side] < kernels[1]) == (side in lazy_sides) for side in (0, 2)), title
        changes = [[float(cell.split()[0]) for cell in row[1:3]] for row in rows(said, title)]
        assert changes[0][0] < changes[0][1]
        assert changes[2][0] > changes[2][1]
    assert len(rows(said, "The claims")) == 3
    assert drawn(tmp_path / "lazy.png")


def test_forgetting_counts_from_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    forgetting = script("forgetting")
    tasks = forgetting.rotated(forgetting.digits(None, 256), 3)
    assert torch.equal(tasks[0].train_labels, tasks[2].train_labels)
    turned = tasks[0].train_images.numpy(), tasks[2].train_images.numpy()
    assert not np.allclose(*turned)
    states: list[dict[str, torch.Tensor]] = []
    accuracy = forgetting.accuracy

    def spy(model: nn.Module, task: object) -> float:
        states.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
        return float(accuracy(model, task))

    monkeypatch.setattr(forgetting, "accuracy", spy)
    accuracies, moved = forgetting.taught(tasks, 16, 0, 2, 0.1)
    assert accuracies.shape == (3, 3)
    assert moved.shape == (3, 3)
    after = states[::3]  # each task's end is looked at once a task
    for task in (1, 2):
        for layer, name in enumerate(forgetting.LAYERS):
            was, now = (after[at][f"{name}.weight"].double() for at in (task - 1, task))
            assert moved[task, layer] == pytest.approx(float((now - was).abs().sum() / was.abs().sum()), rel=1e-6)


def test_forgotten_is_what_was_known_less_what_is_left() -> None:
    forgetting = script("forgetting")
    accuracy = np.array([[[0.9, 0.1, 0.2], [0.6, 0.8, 0.3], [0.5, 0.7, 0.95]]])
    taught = forgetting.Taught(accuracy, np.ones((1, 3, 3)))
    assert taught.forgotten() == pytest.approx(np.array([[0.4, 0.1]]))


def test_forgetting_in_small(tmp_path: Path) -> None:
    sizes = ("--widths", "8", "32", "--tasks", "2", "--epochs", "2", "--limit", "300")
    said = run("forgetting.py", "--seeds", "2", *sizes, "--out", tmp_path / "forgetting.png")
    found = rows(said, "Forgetting and change")
    assert [row[0] for row in found] == ["8", "32"]
    assert float(found[1][4].split()[0]) < float(found[0][4].split()[0])  # the first layer of the wider one moves less
    assert len(rows(said, "For each doubling")) == 5
    assert drawn(tmp_path / "forgetting.png")


def trained(model: nn.Sequential, images: torch.Tensor, labels: torch.Tensor, rate: float, epochs: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(epochs):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(images), labels))
        optimizer.step()


def test_twins_iris_descends_as_torch_does() -> None:
    iris = script("twins_iris")
    begun = iris.families(iris.starts(2), 1e-3)
    *_, (weights, _) = iris.descended(begun, 1.0, 20)
    features, species = iris.flowers()
    for network in (0, 7):
        model = nn.Sequential(nn.Linear(4, 10), nn.Sigmoid(), nn.Linear(10, 3)).double()
        with torch.no_grad():
            for parameter, start in zip(model.parameters(), begun, strict=True):
                parameter.copy_(start[network].T.reshape(parameter.shape))
        trained(model, features, species, 1.0, 20)
        for parameter, end in zip(model.parameters(), weights, strict=True):
            assert torch.allclose(parameter, end[network].T.reshape(parameter.shape), rtol=1e-9, atol=1e-12)


def test_twins_iris_begin_apart_by_eps_in_the_weights_alone() -> None:
    iris = script("twins_iris")
    w1, b1, w2, b2 = (each.reshape(2, 6, *each.shape[1:]) for each in iris.families(iris.starts(2), 1e-3))
    for weight in (w1, w2):
        away = (weight[:, 1:] - weight[:, :1]).abs()
        assert 0.9e-3 < float(away.max()) <= 1e-3
    assert not b1.any()
    assert not b2.any()


def test_twins_iris_in_small(tmp_path: Path) -> None:
    said = run("twins_iris.py", "--seeds", "6", "--epochs", "130", "--out", tmp_path / "iris.png")
    found = rows(said, "Twins in three regimes")
    assert [row[1] for row in found] == ["2", "6", "2", "2"]
    assert float(found[0][5].split()[0]) < 1 < float(found[1][5].split()[0])  # powers of ten
    assert len(rows(said, "The middle regime")) == 8
    pairs = rows(said, "From checkpoints")
    assert [row[1] for row in pairs] == ["131"] * 3
    for row in pairs:
        assert float(row[2]) < 1e-12
        assert len(set(row[3].split(", "))) == 1
    assert drawn(tmp_path / "iris.png")


def test_twins_mnist_follows_as_torch_does() -> None:
    mnist = script("twins_mnist")
    data = script("forgetting").digits(None, 100)
    apart, accuracy = mnist.follow(data, 0.5, 3, 11, 1e-3)
    generator = torch.Generator().manual_seed(3)
    twins = [nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)).double() for _ in range(2)]
    with torch.no_grad():
        for layer in (0, 2):
            into, out = twins[0][layer].in_features, twins[0][layer].out_features
            start, moves = (2 * torch.rand(into, out, generator=generator, dtype=torch.float64) - 1 for _ in range(2))
            start = (6 / (into + out)) ** 0.5 * start
            for twin, weight in zip(twins, (start, start + 1e-3 * moves), strict=True):
                twin[layer].weight.copy_(weight.T)
                twin[layer].bias.zero_()
    for twin in twins:
        trained(twin, mnist.scaled(data.train_images), data.train_labels, 0.5, 10)
    both = zip(*(twin.parameters() for twin in twins), strict=True)
    assert apart[-1] == pytest.approx(sum(float((one - other).abs().sum().detach()) for one, other in both), rel=1e-9)
    right = twins[0](mnist.scaled(data.test_images)).argmax(1) == data.test_labels
    assert accuracy[-1] == float(right.double().mean())


def test_twins_mnist_in_small(tmp_path: Path) -> None:
    said = run("twins_mnist.py", "--seeds", "2", "--rates", "0.2", "8", "--epochs", "60", "--limit", "300",
               "--out", tmp_path / "mnist.png")  # fmt: skip
    slow, fast = rows(said, "Twins by learning rate")
    assert float(slow[3].split()[0]) < 1 < float(fast[3].split()[0])
    assert len(rows(said, "Where learning is fastest")) == 5
    assert drawn(tmp_path / "mnist.png")
