"""How many weights of bfloat16 an optimizer moves, over learning rates, against what rounding says beforehand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from wstrack.measuring.meters import choose

pytestmark = pytest.mark.slow

STEPS = 6


def moves(w: np.ndarray, update: np.ndarray) -> np.ndarray:
    """Whether an update carries a number of eight binary digits over half of what lies between it and the next."""
    digit = np.where(w == 0, 2.0**-133, np.ldexp(1.0, np.frexp(w)[1] - 8))
    inwards = (np.frexp(w)[0] == np.copysign(0.5, w)) & (update * w < 0)  # next below a power of two it is half as far
    half = np.where(inwards, digit / 2, digit) / 2
    odd = (np.abs(w) / digit) % 2 == 1
    return (np.abs(update) > half) | ((np.abs(update) == half) & odd)


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD], ids=["AdamW", "SGD"])
def test_the_share_that_moves_lies_on_the_curve_that_rounding_predicts(make: type[torch.optim.Optimizer]) -> None:
    shares = []
    for rate in 10.0 ** np.arange(-7, -1.9, 0.5):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)).bfloat16()
        inputs, targets = torch.randn(256, 64).bfloat16(), torch.randint(64, (256,))
        twin = copy.deepcopy(model).float()
        # SGD's updates are some 1,000 times smaller than those of AdamW at one rate.
        lr = rate * (1e3 if make is torch.optim.SGD else 1)
        one, other = (make(each.parameters(), lr=lr) for each in (model, twin))
        weights, twins = ([each[0].weight, each[2].weight] for each in (model, twin))
        ours, theirs = (choose(each, ("changed", "changed_bf16")) for each in (weights, twins))
        numel = np.array([weight.numel() for weight in weights])
        counts = []
        for _ in range(STEPS):
            one.zero_grad()
            nn.functional.cross_entropy(model(inputs).float(), targets).backward()
            with torch.no_grad():
                for weight, exact in zip(model.parameters(), twin.parameters(), strict=True):
                    exact.copy_(weight)
                    exact.grad = weight.grad.float()
            before = [weight.detach().double().numpy() for weight in weights]
            ours.snapshot()
            theirs.snapshot()
            one.step()
            other.step()
            updates = [exact.detach().double().numpy() - w for exact, w in zip(twins, before, strict=True)]
            expected = [moves(w, update).sum() for w, update in zip(before, updates, strict=True)]
            found, of_twin = ours.sample().numpy(), theirs.sample().numpy()
            assert of_twin[:, 1].tolist() == expected
            assert found[:, 0].tolist() == found[:, 1].tolist()
            assert (of_twin[:, 0] >= of_twin[:, 1]).all()
            counts.append((found[:, 0] / numel, np.array(expected) / numel))
        found, expected = np.array(counts).mean(axis=0)
        # The optimizer's own arithmetic is of bfloat16 too: AdamW's update is a little another than that of the twin.
        np.testing.assert_allclose(found, expected, rtol=0.05, atol=3e-4)
        shares.append(found)
    curve = np.array(shares)
    assert (np.diff(curve, axis=0)[curve[:-1] < 0.9] > 0).all()
    assert curve[0].max() < 0.03 < 0.9 < curve[-1].min()
