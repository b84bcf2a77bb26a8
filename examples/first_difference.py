"""Find the layer that is not deterministic: train twice with the same seeds, save every step, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import wstrack

STEPS, ODD_STEP = 12, 5
ROOT = Path("runs/first-difference")


class SummedAnew(torch.autograd.Function):
    """A linear layer whose weight gradient adds up the batch in another order at some steps, as atomic adds may."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The layer's output, (batch, outputs)."""
        ctx.save_for_backward(inputs, weight)
        return inputs @ weight.T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradients of inputs and weight; the latter's sum over the batch runs backwards."""
        inputs, weight = ctx.saved_tensors
        (gradient,) = gradients
        total = torch.zeros_like(weight)
        for one, other in zip(gradient.flip(0), inputs.flip(0), strict=True):
            total += torch.outer(one, other)
        return gradient @ weight, total


class Middle(nn.Linear):
    """A linear layer that can be told to add up its gradient in another order."""

    other_order = False

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name that nn.Linear has
        """The layer's output, (batch, outputs)."""
        if not self.other_order:
            return super().forward(input)
        summed: torch.Tensor = SummedAnew.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return summed + self.bias


def train(folder: Path, *, odd: bool) -> None:
    """A training whose every step is saved; `odd`: one layer adds up in another order at one step."""
    torch.manual_seed(0)
    middle = Middle(32, 32)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), middle, nn.Tanh(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / "step_0.pt")
    for step in range(1, STEPS + 1):
        middle.other_order = odd and step == ODD_STEP
        inputs, labels = torch.randn(64, 16), torch.randint(4, (64,))
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(inputs), labels))
        optimizer.step()
        torch.save(model.state_dict(), folder / f"step_{step}.pt")


if __name__ == "__main__":
    train(ROOT / "one", odd=False)
    train(ROOT / "other", odd=True)
    run = wstrack.diff(ROOT / "one", ROOT / "other")
    print(run.series["differing"].round(3).to_string())
    (parted,) = [found for found in wstrack.report(run).findings if found.kind == "parted"]
    print(parted.text)
