"""Freezing by rule: what time it saves and what accuracy it costs, on two small trainings; prints Markdown.

Run it with `python benchmarks/freezing.py` (some minutes). Time is that of the processor, on one thread. The digits are
scikit-learn's; the text is the source of Python's own argparse, of which the last tenth is kept for the accuracy.
"""

from __future__ import annotations

import argparse
import datetime
import inspect
import logging
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import wstrack
from wstrack.rules import Settled

SHARES = (None, 0.5, 0.3, 0.1)
CONTEXT = 64
Batches = Iterator[tuple[Tensor, Tensor]]


class Task:
    """What is trained, on what, and how well it does on what it has not seen."""

    def __init__(
        self,
        name: str,
        steps: int,
        model: Callable[[], nn.Module],
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        data: Callable[[int], tuple[Batches, tuple[Tensor, Tensor]]],
    ) -> None:
        self.name, self.steps, self.model, self.optimizer, self.data = name, steps, model, optimizer, data


class Characters(nn.Module):
    """A transformer of two layers that says which character comes next."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(128, width), nn.Embedding(CONTEXT, width)
        layers = [nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True) for _ in range(2)]
        self.layers, self.head = nn.ModuleList(layers), nn.Linear(width, 128)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT))

    def forward(self, x: Tensor) -> Tensor:
        """The logits of the next character, (batch, context, 128)."""
        x = self.words(x) + self.places.weight
        for layer in self.layers:
            x = layer(x, self.mask)
        logits: Tensor = self.head(x)
        return logits


def perceptron() -> nn.Module:
    """Four layers, as wide as a small table of features has them."""
    sizes = (64, 512, 512, 512, 10)
    layers = [nn.Linear(size, after) for size, after in pairwise(sizes)]
    return nn.Sequential(*(one for layer in layers for one in (layer, nn.ReLU())))[:-1]


def digits(seed: int) -> tuple[Batches, tuple[Tensor, Tensor]]:
    """Batches of 64, and the last fifth of the pictures."""
    pictures, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pictures / 8 - 1, dtype=torch.float32), torch.tensor(labels)
    draw = torch.Generator().manual_seed(seed)

    def batches() -> Batches:
        while True:
            for some in torch.randperm(1437, generator=draw).split(64):
                yield x[some], y[some]

    return batches(), (x[1437:], y[1437:])


@cache
def text() -> Tensor:
    """Characters of a real text."""
    return torch.tensor([min(ord(one), 127) for one in inspect.getsource(argparse)])


def characters(seed: int) -> tuple[Batches, tuple[Tensor, Tensor]]:
    """Batches of 16 pieces, and those of the last tenth of the text."""
    whole, draw = text(), torch.Generator().manual_seed(seed)
    kept = len(whole) * 9 // 10

    def batches() -> Batches:
        while True:
            begins = torch.randint(kept - CONTEXT - 1, (16, 1), generator=draw)
            some = whole[begins + torch.arange(CONTEXT + 1)]
            yield some[:, :-1], some[:, 1:]

    rest = whole[kept:]
    pieces = rest[: len(rest) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)
    return batches(), (pieces[:, :-1], pieces[:, 1:])


TASKS = (
    Task("digits, four layers, SGD, cosine", 1500, perceptron,
         lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), digits),
    Task("characters, transformer, AdamW, cosine", 1500, Characters,
         lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3), characters),
)  # fmt: skip


def train(task: Task, seed: int, share: float | None, steps: int) -> tuple[float, float, list[int]]:
    """Seconds of the processor, the accuracy in per cent, and the steps at which layers were frozen."""
    torch.manual_seed(seed)
    batches, (x, y) = task.data(seed)
    model = task.model()
    optimizer = task.optimizer(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    rules = {} if share is None else {"rules": Settled(share=share), "act": "freeze"}
    with tempfile.TemporaryDirectory() as folder, wstrack.watch(model, to=folder, every=10, **rules) as watcher:
        began = time.process_time()
        for _ in range(steps):
            given, wanted = next(batches)
            optimizer.zero_grad()
            functional.cross_entropy(model(given).flatten(0, -2), wanted.flatten()).backward()
            optimizer.step()
            schedule.step()
        took = time.process_time() - began
        frozen = [step for step, name in watcher.run().marks if name.startswith("froze ")]
    model.eval()
    with torch.no_grad():
        right = (model(x).argmax(-1) == y).float().mean()
    return took, 100 * float(right), frozen


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500, help="of each training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("wstrack").setLevel(logging.ERROR)
    about = f"{options.seeds} seeds, {options.steps} steps"
    print(f"{datetime.date.today()}; torch {torch.__version__}, one thread; {about}.\n")
    print("| training | settled at | frozen, median | first at step | time saved | accuracy | lost to freezing |")
    print("|---|---|---|---|---|---|---|")
    for task in TASKS:
        plain: list[tuple[float, float, list[int]]] = []
        found: dict[float | None, list[tuple[float, float, list[int]]]] = {share: [] for share in SHARES}
        for seed in range(options.seeds):
            for share in SHARES:  # in turn, so that what else the machine does falls on all alike
                found[share].append(train(task, seed, share, options.steps))
        plain = found[None]
        for share, those in found.items():
            accuracy = f"{statistics.mean(one[1] for one in those):.1f} %"
            if share is None:
                print(f"| {task.name} | never | – | – | – | {accuracy} | – |")
                continue
            saved = [100 * (1 - one[0] / before[0]) for one, before in zip(those, plain, strict=True)]
            lost = [before[1] - one[1] for one, before in zip(those, plain, strict=True)]
            count = statistics.median(len(one[2]) for one in those)
            firsts = [min(one[2]) for one in those if one[2]]
            first = f"{statistics.median(firsts):.0f}" if firsts else "–"
            print(
                f"| {task.name} | {share:g} | {count:g} | {first} | {_spread(saved)} | {accuracy} | {_spread(lost)} |",
                flush=True,
            )


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} % ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
