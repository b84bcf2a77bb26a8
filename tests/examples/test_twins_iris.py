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
    return load("twins_iris")


def test_descent_is_that_of_autograd(script: Any) -> None:
    features, species = script.flowers()
    begun = script.starts(3)
    *_, (weights, losses) = script.descended(begun, 0.5, 4)
    for network in range(3):
        w1, b1, w2, b2 = (one[network].clone().requires_grad_() for one in begun)
        for step in range(5):
            loss = torch.nn.functional.cross_entropy(torch.sigmoid(features @ w1 + b1) @ w2 + b2, species)
            if step == 4:
                break
            gradients = torch.autograd.grad(loss, (w1, b1, w2, b2))
            pairs = zip((w1, b1, w2, b2), gradients, strict=True)
            w1, b1, w2, b2 = ((one - 0.5 * gradient).detach().requires_grad_() for one, gradient in pairs)
        assert float(losses[network]) == pytest.approx(loss.item(), rel=1e-12)
        for found, wanted in zip(weights, (w1, b1, w2, b2), strict=True):
            np.testing.assert_allclose(found[network], wanted.detach(), rtol=1e-12, atol=1e-14)


def test_twins_begin_eps_apart_in_their_weights_only(script: Any) -> None:
    begun = script.starts(3)
    for number, (one, all_) in enumerate(zip(begun, script.families(begun, 1e-3), strict=True)):
        apart = all_.reshape(3, script.TWINS + 1, *one.shape[1:]) - one[:, None]
        assert torch.equal(apart[:, 0], torch.zeros_like(apart[:, 0]))
        assert apart.abs().max() <= 1e-3
        if number in (0, 2):
            assert apart[:, 1:].abs().min() > 0
            assert apart.max() > 9e-4 > -9e-4 > apart.min()
        else:
            assert not apart.any()


def test_distances_are_those_of_networks_trained_one_by_one(script: Any) -> None:
    begun = script.starts(2)
    followed = script.follow(script.REGIMES[1], begun, 20, 1e-3)
    assert followed.apart.shape == (21, 2, script.TWINS)
    all_ = script.families(begun, 1e-3)
    alone = [
        [weights for weights, _ in script.descended(tuple(one[[network]] for one in all_), 1.0, 20)]
        for network in range(2 * (script.TWINS + 1))
    ]
    for family, twin in ((0, 1), (1, 4)):
        place = family * (script.TWINS + 1)
        wanted = [
            sum(float((v - w).abs().sum()) for v, w in zip(ours, theirs, strict=True))
            for ours, theirs in zip(alone[place], alone[place + twin], strict=True)
        ]
        np.testing.assert_allclose(followed.apart[:, family, twin - 1], wanted, rtol=1e-12)


def test_checkpoints_tell_the_same_as_sums_taken_in_training(tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    found = tables(run("twins_iris.py", "--seeds", 20, "--epochs", 40, "--out", figure))
    pairs = found["From checkpoints by wstrack.diff, and directly"]
    assert [row[1] for row in pairs] == ["41", "41", "41"]
    assert all(float(row[2]) <= 1e-12 for row in pairs)
    assert all(row[3].split(", ")[0] == row[3].split(", ")[1] for row in pairs)
    assert len(found["Twins in three regimes"]) == 4
    assert is_drawn(figure)


def test_a_share_has_the_interval_of_a_binomial(script: Any) -> None:
    assert script.share(0, 10) == "0.00 [0.00, 0.31]"  # 1 - 0.025 ** (1 / 10)
    assert script.share(10, 10) == "1.00 [0.69, 1.00]"
