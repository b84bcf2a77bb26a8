"""Small optimizers that torch has not, as sound as their papers have them, and with a fault planted on request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

__all__ = ["AdaMuon", "Hidden", "Lamb", "Lion", "Muon"]


class _Plain(Optimizer):
    """One that updates each parameter by itself."""

    def update(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """What is taken off a parameter, by the learning rate."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self.update(parameter, group)
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * update)

    def mean(self, parameter: Tensor, name: str, value: Tensor, memory: float) -> Tensor:
        """A running mean, without the bias of its start."""
        kept, weight = self.state[parameter].get(name, (torch.zeros_like(value), 0.0))
        kept, weight = kept.lerp(value, 1 - memory), memory * weight + 1 - memory
        self.state[parameter][name] = kept, weight
        return kept / weight

    def adam(self, parameter: Tensor, second: float = 0.999) -> Tensor:
        """Adam's update."""
        gradient = parameter.grad
        assert gradient is not None
        first = self.mean(parameter, "mean", gradient, 0.9)
        return first / (self.mean(parameter, "square", gradient.square(), second).sqrt() + 1e-8)


class Lion(_Plain):
    """The sign of a mean of gradients (arXiv 2302.06675)."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    def update(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Plus or minus one."""
        mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
        found = torch.lerp(parameter.grad, mean, 0.9).sign()  # type: ignore[arg-type]
        mean.lerp_(parameter.grad, 0.01)
        return found


class Lamb(_Plain):
    """Adam's update as long as the weights are (arXiv 1904.00962)."""

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": 0.0})

    def update(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """As long as the parameter."""
        found = self.adam(parameter)
        return found * (parameter.norm() / found.norm().clamp_min(1e-12) if parameter.norm() > 0 else 1.0)


class Muon(_Plain):
    """A mean of gradients with all singular values about one (Jordan 2024); of groups with `adam=True`, Adam.

    Args:
        scale: "spectral" = by the root of rows over columns, if more than 1; "rms" = 0.2 by weight, as Adam's.
    """

    def __init__(
        self, parameters: Iterable[Any], lr: float, *, scale: str = "spectral", weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "scale": scale, "weight_decay": weight_decay, "adam": False})

    def update(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """A kernel is a matrix of as many rows as it has outputs."""
        if group["adam"] or parameter.ndim < 2:
            return self.adam(parameter, 0.95)
        gradient = parameter.grad
        assert gradient is not None
        mean = self.mean(parameter, "mean", gradient, 0.95)
        found = orthogonal(gradient.lerp(mean, 0.95).flatten(1))
        rows, columns = found.shape
        found *= max(1, rows / columns) ** 0.5 if group["scale"] == "spectral" else 0.2 * max(rows, columns) ** 0.5
        return found.view_as(parameter)


class AdaMuon(_Plain):
    """Muon by the root of its mean square, of 0.2 by weight (arXiv 2507.11005).

    Args:
        faulty: take the last two dimensions for the matrix when it is scaled, as timm did until its PR #2791: conv
            weights of n inputs and m outputs then change sqrt(n m) times too little.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, *, faulty: bool = False) -> None:
        super().__init__(parameters, {"lr": lr, "faulty": faulty, "weight_decay": 0.0})

    def update(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """As long as the root of the number of weights that it is taken for, times 0.2."""
        if parameter.ndim < 2:
            return self.adam(parameter)
        mean = self.mean(parameter, "mean", parameter.grad, 0.95)  # type: ignore[arg-type]
        matrix = orthogonal(mean.sign().flatten(1))
        matrix = matrix / (self.mean(parameter, "square", matrix.square(), 0.95).sqrt() + 1e-8)
        numel = parameter.shape[-2] * parameter.shape[-1] if group["faulty"] else matrix.numel()
        return (0.2 * numel**0.5 / matrix.norm() * matrix).view_as(parameter)


class Hidden(AdamW):
    """AdamW that moves convolutions by a factor of what its learning rate says, in one group with all others."""

    def __init__(self, params: Iterable[Tensor], lr: float, *, factor: float) -> None:
        super().__init__(params, lr)
        self._factor = factor

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step."""
        kernels = [one for group in self.param_groups for one in group["params"] if one.ndim > 2]
        before = [one.clone() for one in kernels]
        super().step(closure)  # type: ignore[arg-type]
        for one, old in zip(kernels, before, strict=True):
            one.copy_(torch.lerp(old, one, self._factor))


def orthogonal(matrix: Tensor) -> Tensor:
    """All singular values near one, by five Newton-Schulz steps."""
    flat = matrix.shape[0] > matrix.shape[1]
    found = (matrix.T if flat else matrix) / (matrix.norm() + 1e-7)
    for _ in range(5):
        square = found @ found.T
        found = 3.4445 * found + (-4.7750 * square + 2.0315 * square @ square) @ found
    return found.T if flat else found
