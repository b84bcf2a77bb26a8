from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.examples.paper_scripts import is_drawn, load, run, tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script() -> Any:
    return load("lazy_and_rich")


@pytest.mark.parametrize("balance", [-3.0, 0.0, 0.4])
@pytest.mark.parametrize("shape", [(4, 4, 4), (6, 3, 3), (3, 3, 5)])
def test_starts_are_balanced(script: Any, shape: tuple[int, int, int], balance: float) -> None:
    first, second = script.balanced(shape, balance, torch.Generator().manual_seed(1))
    assert first.shape == (shape[1], shape[0])
    assert second.shape == (shape[2], shape[1])
    between = second.T @ second - first @ first.T
    np.testing.assert_allclose(between, balance * np.eye(shape[1]), rtol=0, atol=1e-12)
    largest = np.linalg.svd((second @ first).numpy(), compute_uv=False)
    assert largest.min() > 0
    assert largest.max() <= script.SMALL + 1e-12


def test_kernel_is_that_of_the_gradients(script: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    sizes = ((3, 5), (4, 3), (5, 6))
    first, second, data = (torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)

    def outputs(w1: torch.Tensor, w2: torch.Tensor) -> torch.Tensor:
        return (w2 @ w1 @ data).flatten()

    both: Any = torch.autograd.functional.jacobian(outputs, (first, second))
    rows = torch.cat([each.flatten(1) for each in both], dim=1)
    np.testing.assert_allclose(script.kernel(first, second, data), rows @ rows.T, rtol=1e-12)


def test_descent_is_that_of_the_loss(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one step each weight has moved against the gradient that autograd gives, all by one rate."""
    kept: list[Any] = []
    monkeypatch.setattr(script, "losses", lambda *of: kept.append(of) or torch.full((2,), 1.0))
    script.learn((5, 4, 4), [-1.0, 2.0], 1, 1)
    (w1, w2, data, wanted), (after1, after2, _, _) = kept
    before = [weight.clone().requires_grad_() for weight in (w1, w2)]
    loss = ((before[1] @ before[0] @ data - wanted) ** 2).sum() / 2
    gradients = torch.autograd.grad(loss, before)
    rates = (after1 - w1).norm(dim=(1, 2)) / gradients[0].norm(dim=(1, 2))
    for old, new, gradient in zip((w1, w2), (after1, after2), gradients, strict=True):
        np.testing.assert_allclose(new, old - rates[:, None, None] * gradient, rtol=0, atol=1e-12)


def test_changes_are_those_of_numpy(script: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    start, end = ([torch.randn(3, 3, generator=generator, dtype=torch.float64) for _ in range(2)] for _ in range(2))
    first, second, distance, drift = script.measured(tuple(start), tuple(end), torch.eye(3, dtype=torch.float64))
    for found, was, now in zip((first, second), start, end, strict=True):
        assert found == pytest.approx(np.linalg.norm(now - was) / np.linalg.norm(was), rel=1e-12)
    assert 0 < distance < 1
    assert drift > 0


def test_large_balances_are_lazy_and_a_funnel_is_so_on_one_side(tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    said = run("lazy_and_rich.py", "--seeds", 2, "--steps", 20_000, "--balances", -10, 0, 10, "--out", figure)
    found = tables(said)
    kernel = {
        title.split(":")[0]: {float(row[0]): float(row[3].split()[0]) for row in rows}
        for title, rows in found.items()
        if ":" in title
    }
    assert set(kernel) == {"square", "funnel", "inverted funnel"}
    assert kernel["square"][0] > 10 * max(kernel["square"][-10], kernel["square"][10])
    assert kernel["funnel"][-10] > kernel["funnel"][0] > 10 * kernel["funnel"][10]
    assert kernel["inverted funnel"][10] > kernel["inverted funnel"][0] > 10 * kernel["inverted funnel"][-10]
    (last,) = [row for row in found["square: 10-10-10"] if row[0] == "10"]
    assert float(last[1].split()[0]) > 100 * float(last[2].split()[0])  # the smaller layer moves
    assert is_drawn(figure)
