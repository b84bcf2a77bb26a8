"""What the experiments of the papers compute, redone without wstrack: by copies of weights, one network at a time."""

from __future__ import annotations

import contextlib
import importlib
import io
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytestmark = pytest.mark.slow

PAPERS = Path(__file__).resolve().parents[2] / "examples" / "papers"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a script by its name, with what stands beside it; the number of threads comes back."""
    monkeypatch.syspath_prepend(PAPERS)
    threads, known = torch.get_num_threads(), set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    torch.set_num_threads(threads)
    for name in set(sys.modules) - known:
        if str(PAPERS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_lazy_and_rich_descends_on_its_loss(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a step each weight has moved against the gradient that autograd gives, both of a network by one rate."""
    lazy = script("lazy_and_rich")
    kept: list[tuple[torch.Tensor, ...]] = []

    def losses(*of: torch.Tensor) -> torch.Tensor:
        kept.append(of)
        return torch.ones(2)

    monkeypatch.setattr(lazy, "losses", losses)
    lazy.learn((5, 4, 4), [-1.0, 2.0], 1, 1)
    (w1, w2, data, wanted), (after1, after2, *_) = kept
    before = [weight.clone().requires_grad_() for weight in (w1, w2)]
    gradients = torch.autograd.grad(((before[1] @ before[0] @ data - wanted) ** 2).sum() / 2, before)
    rates = (after1 - w1).norm(dim=(1, 2)) / gradients[0].norm(dim=(1, 2))
    assert (rates > 0).all()
    for old, new, gradient in zip((w1, w2), (after1, after2), gradients, strict=True):
        np.testing.assert_allclose(new, old - rates[:, None, None] * gradient, rtol=0, atol=1e-12)


def test_lazy_and_rich_measures_norms(script: Any) -> None:
    lazy = script("lazy_and_rich")
    generator = torch.Generator().manual_seed(3)
    start, end = ([torch.randn(3, 3, generator=generator, dtype=torch.float64) for _ in range(2)] for _ in range(2))
    found = lazy.measured(tuple(start), tuple(end), torch.eye(3, dtype=torch.float64))
    wanted = [np.linalg.norm(now - was) / np.linalg.norm(was) for was, now in zip(start, end, strict=True)]
    assert found[:2] == pytest.approx(wanted, rel=1e-12)
    w1, w2 = (weight.numpy() for weight in end)
    assert found[3] == pytest.approx(np.linalg.norm(w2.T @ w2 - w1 @ w1.T) / np.sqrt(3), rel=1e-12)
    start, end = (lazy.balanced((5, 3, 3), balance, generator) for balance in (-2.0, 0.5))
    assert lazy.measured(start, end, torch.eye(5, dtype=torch.float64))[3] == pytest.approx(0.5, rel=1e-12)


def test_a_quarter_turn_is_that_of_torch(script: Any) -> None:
    forgetting = script("forgetting")
    data = forgetting.digits(None, 20)
    tasks = forgetting.rotated(data, 5)
    np.testing.assert_allclose(tasks[0].train_images, data.train_images, atol=1e-5)
    np.testing.assert_allclose(tasks[4].test_images, torch.rot90(data.test_images, 1, (2, 3)), atol=1e-4)


def test_forgetting_trains_as_one_would_without_a_watch(script: Any) -> None:
    forgetting = script("forgetting")
    tasks = forgetting.rotated(forgetting.digits(None, 150), 3)
    accuracies, moved = forgetting.taught(tasks, 8, seed=4, epochs=2, lr=0.1)
    torch.manual_seed(4)
    layers = nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10)
    model = nn.Sequential(nn.Flatten(), *layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for number, task in enumerate(tasks):
        before = [weight.detach().clone().double() for weight in model.parameters() if weight.ndim == 2]
        for _ in range(2):
            for batch in torch.split(torch.randperm(150), 64):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(task.train_images[batch]), task.train_labels[batch])
                torch.autograd.backward(loss)
                optimizer.step()
        after = [weight.detach().double() for weight in model.parameters() if weight.ndim == 2]
        wanted = [float((w - p).abs().sum() / p.abs().sum()) for w, p in zip(after, before, strict=True)]
        np.testing.assert_allclose(moved[number], wanted, rtol=1e-5)
        right = [float((model(one.test_images).argmax(1) == one.test_labels).double().mean()) for one in tasks]
        np.testing.assert_allclose(accuracies[number], right)


def test_the_table_of_forgetting_is_that_of_its_seeds(script: Any, tmp_path: Path) -> None:
    forgetting = script("forgetting")
    said = io.StringIO()
    sizes = ["--limit", "300", "--widths", "8", "32", "--tasks", "3", "--epochs", "2", "--lr", "0.1", "--seeds", "2"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", ["forgetting.py", *sizes, "--out", str(tmp_path / "figure.png")])
        runpy.run_path(str(PAPERS / "forgetting.py"), run_name="__main__")
    tasks = forgetting.rotated(forgetting.digits(None, 300), 3)
    seeds = [forgetting.taught(tasks, 32, seed, 2, 0.1) for seed in (0, 1)]
    first = 100 * np.mean([accuracy[0, 0] - accuracy[2, 0] for accuracy, _ in seeds])
    change = np.mean([moved[1:, 0] for _, moved in seeds])  # the first task begins at random weights
    (row,) = [line.split("|") for line in said.getvalue().splitlines() if line.startswith("| 32 |")]
    assert f" {first:.1f} [" in row[3]
    assert f" {change:.3f} [" in row[5]


def test_twins_in_a_batch_are_those_trained_one_by_one(script: Any) -> None:
    iris = script("twins_iris")
    begun = iris.starts(2)
    followed = iris.follow(iris.REGIMES[1], begun, 20, 1e-3)
    assert followed.apart.shape == (21, 2, iris.TWINS)
    everyone = iris.families(begun, 1e-3)
    for family, twin in ((0, 1), (1, 4)):
        place = family * (iris.TWINS + 1)
        ours, theirs = (
            [weights for weights, _ in iris.descended(tuple(one[[network]] for one in everyone), 1.0, 20)]
            for network in (place, place + twin)
        )
        wanted = [
            sum(float((v - w).abs().sum()) for v, w in zip(one, other, strict=True))
            for one, other in zip(ours, theirs, strict=True)
        ]
        np.testing.assert_allclose(followed.apart[:, family, twin - 1], wanted, rtol=1e-9)


def test_a_share_has_the_interval_of_a_binomial(script: Any) -> None:
    share = script("twins_iris").share
    assert share(0, 10) == "0.00 [0.00, 0.31]"  # 1 - 0.025 ** (1 / 10)
    assert share(10, 10) == "1.00 [0.69, 1.00]"


def test_learning_rates_are_compared_by_when_twins_part_and_what_is_learnt(script: Any) -> None:
    mnist = script("twins_mnist")
    epochs = np.arange(60)
    together, parting = 1e-6 * np.ones(60), 1e-6 * np.exp(0.3 * epochs)
    slow, fast = np.minimum(0.01 * epochs, 0.85), np.minimum(0.2 * epochs, 0.9)
    found = {
        0.1: mnist.Followed(np.array([together, together]), np.array([slow, slow])),
        1.0: mnist.Followed(np.array([together, parting]), np.array([fast, slow])),
        2.0: mnist.Followed(np.array([together, parting]), np.array([slow, fast])),
    }
    np.testing.assert_array_equal(mnist.onsets(found), [np.nan, 1.0])
    np.testing.assert_array_equal(found[1.0].epochs_to(0.5), [3, 50])
    np.testing.assert_array_equal(found[2.0].epochs_to(0.87), [np.inf, 5])
    assert [one.rate for one in found[1.0].exponents()] == pytest.approx([0, 0.3], abs=1e-12)
