"""Small real trainings, sound ones and with a planted fault, as rules see them. For `rules.py`.

Each is told by its kind, its seed and its fault; rate, width, batch, noise and cadence are drawn with the seed.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rules_models import EXPERTS, Batches, Experts, Transformer, cnn, mlp, pictures, words
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

import wstrack
from wstrack.rules import Observed

STEPS = 400  # of a training; a fault comes after half of them
BEFORE = 150  # steps of a training that is resumed
BALANCE = 0.3  # of the loss that keeps experts alike
FAIR = 0.05  # of its fair share of the choices, that each expert of a sound training has in every quarter

KINDS = (
    "CNN, SGD", "MLP, AdamW", "transformer, warm-up + cosine", "CNN, steps", "MLP, SGD, label noise", "MLP, restarts",
    "CNN, Adam, one cycle", "MLP, resumed", "MLP, full batch", "experts, AdamW",
)  # fmt: skip
_RELU = [kind for kind in KINDS if kind.startswith(("CNN", "MLP"))]
_BATCHES = [kind for kind in KINDS if "full batch" not in kind]
FAULTS = {  # and the kinds in which they are planted
    "rate x10, all": KINDS,
    "rate x10, a layer": KINDS,
    "frozen block": KINDS,
    "zeroed gradient": KINDS,
    "NaN": KINDS,
    "dead ReLU": _RELU,
    "repeated batch": _BATCHES,
    "damaged data": [kind for kind in _BATCHES if not kind.startswith("transformer")],
    "bf16 swallows": ["MLP, AdamW", "CNN, SGD"],
    "dead expert": ["experts, AdamW"],
}


@dataclass(frozen=True)
class Training:
    """One training; `fault` is one of `FAULTS`, or "" for a sound one."""

    kind: str
    seed: int
    fault: str = ""
    steps: int = STEPS


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        seen: what rules were shown.
        begin: the place of the first sample with the fault in it.
        least: by the router's own counts, of its fair share of the choices that which an expert had in a quarter of
            the training; the least of all.
    """

    seen: list[Observed]
    begin: int
    least: float


def train(training: Training) -> Trained:
    """Train, and have each sample as a rule is shown it."""
    kind, fault, steps = training.kind, training.fault, training.steps
    torch.manual_seed(training.seed)
    chance = np.random.default_rng((KINDS.index(kind), training.seed))
    width, size = int(chance.choice([6, 12])), int(chance.choice([8, 16, 32]))
    every, window = int(chance.choice([2, 4])), str(chance.choice(["interval", "step"]))
    data = _data(kind, size, chance, torch.Generator().manual_seed(training.seed))
    start = BEFORE if "resumed" in kind else 0
    it = Loop(_model(kind, width), training, np.random.default_rng((1, training.seed)))
    for _ in range(start):
        it.step(next(data))
    if start:
        it = it.resumed(_model(kind, width))
    if fault == "bf16 swallows":
        every, window = 2, "step"
    seen: list[Observed] = []
    shares = []
    parts = {r"^(up|down)$": EXPERTS} if isinstance(it.model, Experts) else None
    with (
        tempfile.TemporaryDirectory() as folder,
        wstrack.watch(
            it.model, it.optimizer, to=folder, every=every, window=window, metrics=("rwc", "changed"), start=start,
            parts=parts, rules=seen.append,
        ),
    ):  # fmt: skip
        for step in range(steps):
            if fault and step == steps // 2:
                it.plant()
            it.step(next(data))
            if parts and step % (steps // 4) == steps // 4 - 1:
                shares.append(float(it.model.chosen.min() / it.model.chosen.mean()))
                it.model.chosen.zero_()
    at = 0 if fault == "bf16 swallows" else start + steps // 2
    begin = next(place for place, sample in enumerate(seen) if sample.step > at)
    return Trained(seen, begin, min(shares, default=1.0))


class Loop:
    """A model that is trained, by one step after the other."""

    def __init__(self, model: nn.Module, training: Training, chance: np.random.Generator) -> None:
        self.training, self.model = training, model
        self._chance = chance
        self._layer = int(chance.integers(3))
        if training.fault == "bf16 swallows":
            self.model = model.bfloat16()
        self._by, self._momentum = 10 ** float(chance.uniform(-0.4, 0.4)), float(chance.choice([0.0, 0.9]))
        self.optimizer = self._optimizer()
        self._schedule = _schedule(self.optimizer, training.kind, training.steps)
        self._planted = False
        self._times = [1.0] * len(self.optimizer.param_groups)
        self._always: tuple[torch.Tensor, torch.Tensor] | None = None

    def resumed(self, model: nn.Module) -> Loop:
        """The same training, as from a checkpoint."""
        anew = Loop(model, self.training, np.random.default_rng((1, self.training.seed)))
        anew.model.load_state_dict(self.model.state_dict())
        anew.optimizer.load_state_dict(self.optimizer.state_dict())
        return anew

    def step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        """One step, with the fault if it has been planted."""
        x, y = self._damaged(batch) if self._planted else batch
        self.optimizer.zero_grad()
        out = self.model(x.to(next(self.model.parameters()).dtype) if x.is_floating_point() else x).float()
        loss = functional.cross_entropy(out.flatten(0, -2), y.flatten())
        if isinstance(self.model, Experts):
            loss = loss + BALANCE * self.model.balance
        loss.backward()
        if self._planted and self.training.fault == "zeroed gradient":
            self._weights[self._layer].grad.zero_()
        self.optimizer.step()
        self._next_rate()

    def plant(self) -> None:
        """Have the fault from the next step on."""
        self._planted = True
        fault, weight = self.training.fault, self._weights[self._layer]
        if fault.startswith("rate x10"):
            for place, group in enumerate(self.optimizer.param_groups):
                if fault.endswith("all") or group["params"][0] is weight:
                    group["lr"] *= 10
                    self._times[place] = 10.0
        if fault == "NaN":
            weight.data.view(-1)[0] = torch.nan
        if fault == "frozen block":
            for each in self._weights[: self._layer + 1]:
                each.requires_grad_(False)
        if fault == "dead ReLU":
            before = next(module for module in self.model.modules() if isinstance(module, nn.Linear | nn.Conv2d))
            before.bias.data.fill_(-1e3)
        if fault == "dead expert":
            self.model.favour[self._layer] = -torch.inf

    def _damaged(self, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        if self.training.fault == "repeated batch":
            self._always = self._always or batch
            return self._always
        if self.training.fault == "damaged data":
            return batch[0] * 20, batch[1]
        return batch

    def _next_rate(self) -> None:
        # What is planted must outlast a schedule that sets the rate anew, and not be multiplied by one that does not.
        for group, times in zip(self.optimizer.param_groups, self._times, strict=True):
            group["lr"] /= times
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._schedule.step()
        for group, times in zip(self.optimizer.param_groups, self._times, strict=True):
            group["lr"] *= times

    @property
    def _weights(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.ndim >= 2]

    def _optimizer(self) -> torch.optim.Optimizer:
        kind, fault = self.training.kind, self.training.fault
        parameters = list(self.model.parameters())
        groups: list[dict[str, Any]] = [{"params": parameters}]
        if "a layer" in fault:
            groups = [{"params": [parameter]} for parameter in parameters]
        if fault == "bf16 swallows":
            return torch.optim.AdamW(groups, lr=2e-6 * self._by, weight_decay=0.0)
        if any(word in kind for word in ("SGD", "steps", "restarts", "resumed", "full batch")):
            return torch.optim.SGD(groups, lr=0.02 * self._by, momentum=self._momentum, weight_decay=1e-4)
        return torch.optim.AdamW(groups, lr=2e-3 * self._by, weight_decay=0.01)


def _model(kind: str, width: int) -> nn.Module:
    if kind.startswith("CNN"):
        return cnn(width)
    if kind.startswith("MLP"):
        return mlp(4 * width)
    return Experts(2 * width) if kind.startswith("experts") else Transformer(2 * width)


def _data(kind: str, size: int, chance: np.random.Generator, draw: torch.Generator) -> Batches:
    if kind.startswith("transformer"):
        return words(size, draw)
    noise = float(chance.choice([0.1, 0.2, 0.4])) if "noise" in kind else 0.0
    return pictures(None if "full batch" in kind else size, noise, draw)


def _schedule(optimizer: torch.optim.Optimizer, kind: str, steps: int) -> Any:
    if "cosine" in kind:
        return lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / 50, (1 + math.cos(math.pi * min(step / steps, 1))) / 2 + 0.01)
        )
    if "steps" in kind:
        return lr_scheduler.MultiStepLR(optimizer, [240, 330], gamma=0.1)
    if "restarts" in kind:
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 80, eta_min=1e-4)
    if "one cycle" in kind:
        return lr_scheduler.OneCycleLR(optimizer, [2 * g["lr"] for g in optimizer.param_groups], total_steps=steps + 1)
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
