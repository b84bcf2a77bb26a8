"""Small real trainings, sound ones and with a planted fault, as rules see them. For `rules.py`.

Each is told by its kind, its seed and its fault; rate, width, batch, noise and cadence are drawn with the seed.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler

import wstrack
from wstrack.rules import Observed

STEPS, BEGIN = 400, 200  # of a training, and of them before a fault
WORDS, CONTEXT = 32, 16

KINDS = (
    "CNN, SGD", "MLP, AdamW", "transformer, warm-up + cosine", "CNN, steps", "MLP, SGD, label noise", "MLP, restarts",
    "CNN, Adam, one cycle", "resumed", "experts, AdamW",
)  # fmt: skip
FAULTS = (
    "rate x10, all", "rate x10, a layer", "frozen block", "zeroed gradient", "NaN", "dead ReLU", "repeated batch",
    "damaged data", "bf16 swallows", "dead expert",
)  # fmt: skip


@dataclass(frozen=True)
class Training:
    """One training; `fault` is one of `FAULTS`, or "" for a sound one."""

    kind: str
    seed: int
    fault: str = ""


class Block(nn.Module):
    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.first(x)
        q, k, v = (each(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.q, self.k, self.v))
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(-2))
        return x + self.down(functional.gelu(self.up(self.second(x))))


class Transformer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.head = nn.Linear(width, WORDS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.words(x) + self.places.weight))


class Experts(nn.Module):
    """Two layers around eight experts, of which each example has the two that a router likes best."""

    def __init__(self, width: int, experts: int = 8) -> None:
        super().__init__()
        self.first, self.router = nn.Linear(64, width), nn.Linear(width, experts)
        self.up = nn.Parameter(torch.randn(experts, width, width) / width**0.5)
        self.down = nn.Parameter(torch.randn(experts, width, width) / width**0.5)
        self.last = nn.Linear(width, 10)
        self.favour = torch.zeros(experts)
        self.balance = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        share = (self.router(x) + self.favour).softmax(-1)
        weight, chosen = share.topk(2)
        gate = torch.zeros_like(share).scatter(1, chosen, weight)
        self.balance = len(self.favour) * ((gate > 0).float().mean(0) * share.mean(0)).sum()
        hidden = torch.relu(torch.einsum("bi,eio->beo", x, self.up))
        return self.last(x + torch.einsum("beo,eop,be->bp", hidden, self.down, gate))


def cnn(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * width, 32),
        nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def mlp(width: int) -> nn.Sequential:
    sizes = (64, width, width, width, 10)
    layers = [layer for pair in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


@cache
def digits() -> tuple[Tensor, Tensor]:
    pictures, labels = load_digits(return_X_y=True)
    return torch.tensor(pictures / 8 - 1, dtype=torch.float32), torch.tensor(labels)


def batches(kind: str, size: int, noise: float, draw: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    if kind.startswith("transformer"):
        table = torch.softmax(3 * torch.randn(WORDS, WORDS, generator=draw), 1)
        text = [torch.randint(WORDS, (512,), generator=draw)]
        for _ in range(8 * CONTEXT):
            text.append(torch.multinomial(table[text[-1]], 1, generator=draw)[:, 0])
        whole = torch.stack(text, 1)
        while True:
            rows = torch.randint(len(whole), (size, 1), generator=draw)
            begins = torch.randint(7 * CONTEXT, (size, 1), generator=draw)
            some = whole[rows, begins + torch.arange(CONTEXT + 1)]
            yield some[:, :-1], some[:, 1:]
    pictures, labels = digits()
    wrong = torch.rand(len(labels), generator=draw) < noise
    labels = torch.where(wrong, torch.randint(10, labels.shape, generator=draw), labels)
    while True:
        for some in torch.randperm(len(labels), generator=draw).split(size):
            if len(some) == size:
                yield pictures[some], labels[some]


def train(training: Training) -> list[Observed]:
    """Train, and have each sample as a rule is shown it."""
    kind, fault = training.kind, training.fault
    torch.manual_seed(training.seed)
    chance = np.random.default_rng((KINDS.index(kind), training.seed))
    draw = torch.Generator().manual_seed(training.seed)
    width, size = int(chance.choice([6, 12])), int(chance.choice([8, 16, 32]))
    family = "MLP" if kind == "resumed" else kind.split(",")[0]
    make = {"CNN": cnn, "MLP": lambda w: mlp(4 * w), "transformer": lambda w: Transformer(2 * w),
            "experts": lambda w: Experts(2 * w)}[family]  # fmt: skip
    model = make(width)
    noise = float(chance.choice([0.1, 0.2, 0.4])) if "noise" in kind else 0.0
    data = batches(kind, size, noise, draw)
    if fault == "bf16 swallows":
        model = model.bfloat16()
        model.balance = torch.zeros(())
    optimizer = _optimizer(model, kind, chance, fault)
    schedule = _schedule(optimizer, kind)
    start = 0
    if kind == "resumed":
        start = 150
        for _ in range(start):
            _step(model, optimizer, schedule, next(data))
        weights, state = model.state_dict(), optimizer.state_dict()
        model = make(width)
        model.load_state_dict(weights)
        optimizer = _optimizer(model, kind, chance, fault)
        optimizer.load_state_dict(state)
        schedule = _schedule(optimizer, kind)
    seen: list[Observed] = []
    every, window = int(chance.choice([2, 4])), str(chance.choice(["interval", "step"]))
    if fault == "bf16 swallows":
        every, window = 2, "step"
    parts = "experts" if family == "experts" else None
    layer = int(chance.integers(3))
    with (
        tempfile.TemporaryDirectory() as folder,
        wstrack.watch(
            model, optimizer, to=folder, every=every, window=window, metrics=("rwc", "changed"), start=start,
            parts={r"^(up|down)$": len(model.favour)} if parts else None, rules=seen.append,
        ),
    ):  # fmt: skip
        repeated = next(data)
        for step in range(STEPS):
            batch = next(data)
            if step >= BEGIN and fault == "repeated batch":
                batch = repeated = batch if step == BEGIN else repeated
            if BEGIN <= step < BEGIN + 40 and fault == "damaged data":
                batch = (batch[0] * 20, batch[1])
            if step == BEGIN:
                _damage(model, optimizer, schedule, fault, layer)
            _step(model, optimizer, schedule, batch, _gradients(model, fault, layer) if step >= BEGIN else None)
    return seen


def _optimizer(model: nn.Module, kind: str, chance: np.random.Generator, fault: str) -> torch.optim.Optimizer:
    groups = [{"params": [parameter]} for parameter in model.parameters()] if "a layer" in fault else model.parameters()
    by = 10 ** float(chance.uniform(-0.4, 0.4))
    if fault == "bf16 swallows":
        return torch.optim.AdamW(groups, lr=2e-6 * by, weight_decay=0.0)
    if "SGD" in kind or "steps" in kind or "restarts" in kind or kind == "resumed":
        return torch.optim.SGD(groups, lr=0.02 * by, momentum=float(chance.choice([0.0, 0.9])), weight_decay=1e-4)
    return torch.optim.AdamW(groups, lr=2e-3 * by, weight_decay=0.01)


def _schedule(optimizer: torch.optim.Optimizer, kind: str) -> Any:
    if "cosine" in kind:
        return lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / 50, (1 + math.cos(math.pi * min(step / STEPS, 1))) / 2 + 0.01)
        )
    if "steps" in kind:
        return lr_scheduler.MultiStepLR(optimizer, [160, 290], gamma=0.1)
    if "restarts" in kind:
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 100, eta_min=1e-4)
    if "one cycle" in kind:
        return lr_scheduler.OneCycleLR(optimizer, [2 * g["lr"] for g in optimizer.param_groups], total_steps=STEPS + 1)
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any, batch: tuple[Tensor, Tensor],
    change: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    x, y = batch
    optimizer.zero_grad()
    out = model(x.to(next(model.parameters()).dtype) if x.is_floating_point() else x).float()
    loss = functional.cross_entropy(out.flatten(0, -2), y.flatten())
    (loss + 0.02 * getattr(model, "balance", 0.0)).backward()
    if change is not None:
        change()
    optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule.step()


def _weights(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.ndim >= 2]


def _damage(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any, fault: str, layer: int) -> None:
    _, weight = _weights(model)[layer]
    if fault.startswith("rate x10"):
        for number, group in enumerate(optimizer.param_groups):
            if fault.endswith("all") or group["params"][0] is weight:
                group["lr"] *= 10
                schedule.base_lrs[number] *= 10
    if fault == "NaN":
        weight.data.view(-1)[0] = torch.nan
    if fault == "frozen block":
        for _, each in _weights(model)[: layer + 1]:
            each.requires_grad_(False)
    if fault == "dead ReLU":
        for module, before in zip(model.modules(), [None, *model.modules()], strict=False):
            if isinstance(module, nn.ReLU) and hasattr(before, "bias"):
                before.bias.data.fill_(-1e3)
                return
    if fault == "dead expert":
        model.favour[layer] = -torch.inf


def _gradients(model: nn.Module, fault: str, layer: int) -> Callable[[], None] | None:
    if fault != "zeroed gradient":
        return None

    def zero() -> None:
        _weights(model)[layer][1].grad.zero_()

    return zero
