"""How surely layers that get less of the learning rate than others are told, and how often in sound trainings.

`python benchmarks/expected.py FOLDER` trains small networks with many optimizers, those that FOLDER lacks (half an
hour of one core, no network), and prints Markdown.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from optimizers import AdaMuon, Hidden, Lamb, Lion, Muon
from real_trainings import WIDTH, Batches, Block, CharacterModel, PlainCNN, characters, digits
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

import wstrack
from wstrack.analysis.findings.expected import expected
from wstrack.demo import SmallResNet
from wstrack.metrics import sums_needed
from wstrack.runs.run import Run
from wstrack.training.settings import Window

STEPS = 150
WINDOWS: dict[Window, int] = {"step": 5, "interval": 10}  # with samples every so many steps
METRICS = ("rwc", "rwc_l2")
FACTORS = (3, 5, 10, 25)


class VisionTransformer(nn.Module):
    """A convolution that cuts patches, three blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.position = nn.Conv2d(1, WIDTH, 2, 2), nn.Parameter(0.02 * torch.randn(16, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores."""
        tokens = self.patch(images).flatten(2).transpose(1, 2) + self.position
        scores: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return scores


class Next(nn.Module):
    """Depthwise convolution and a feed-forward network, as in ConvNeXt."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 3, padding=1, groups=width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """From and to (batch, width, height, width of the image)."""
        inner = self.down(nn.functional.gelu(self.up(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))))
        return x + inner.permute(0, 3, 1, 2)


class Recurrent(nn.Module):
    """Two layers of LSTM over bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.lstm = nn.Embedding(128, 32), nn.LSTM(32, 64, 2, batch_first=True)
        self.inner, self.head = nn.Linear(64, 64), nn.Linear(64, 128)

    def forward(self, tokens: Tensor) -> Tensor:
        """From (batch, context) to (batch, bytes, context)."""
        scores: Tensor = self.head(torch.relu(self.inner(self.lstm(self.token(tokens))[0])))
        return scores.transpose(1, 2)


def dense(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers = [nn.Flatten(), nn.Linear(64, widths[0])]
    for before, after in zip(widths, (*widths[1:], 10), strict=True):
        layers += [nn.ReLU(), nn.Linear(before, after)]
    return nn.Sequential(*layers)


def convolutions_and_linears() -> nn.Sequential:
    """As AlexNet."""
    body = list(PlainCNN())[:6]
    return nn.Sequential(
        *body, nn.Flatten(), nn.Linear(384, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    )


def mobile(width: int = 24) -> nn.Sequential:
    """Depthwise and pointwise convolutions with batch normalisation."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1)]
    for groups, size in (width, 3), (1, 1), (width, 3), (1, 1), (width, 3), (1, 1):
        conv = nn.Conv2d(width, width, size, padding=size // 2, groups=groups, bias=False)
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def autoencoder() -> nn.Sequential:
    """Convolutions, four linear layers, transposed convolutions."""
    inner = [layer for sizes in ((128, 64), (64, 16), (16, 64), (64, 128)) for layer in (nn.Linear(*sizes), nn.ReLU())]
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), *inner,
        nn.Unflatten(1, (32, 2, 2)), nn.ConvTranspose2d(32, 16, 2, 2), nn.ReLU(), nn.ConvTranspose2d(16, 1, 2, 2),
    )  # fmt: skip


def next_net() -> nn.Sequential:
    """A stem and three blocks."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 2, 2), *(Next(32) for _ in range(3)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )


def images() -> Batches:
    """Digits to be drawn again."""
    return ((digit, digit) for digit, _ in digits())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Batches]]] = {
    "ViT": (VisionTransformer, digits),
    "CNN with three linear layers": (convolutions_and_linears, digits),
    "ConvNeXt": (next_net, digits),
    "autoencoder": (autoencoder, images),
    "ResNet": (SmallResNet, digits),
    "MobileNet": (mobile, digits),
    "GPT": (CharacterModel, characters),
    "LSTM": (Recurrent, characters),
    "MLP": (partial(dense, 128, 128, 128, 64), digits),
    "MLP of many widths": (partial(dense, 512, 128, 32, 16), digits),
}


def hidden_and_others(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """What Muon is for, and what its users leave to Adam: the first layer, embeddings, the head, norms and biases."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    embeddings = {one.weight for one in model.modules() if isinstance(one, nn.Embedding)}
    inner = set(matrices[1:-1]) - embeddings
    return [one for one in matrices if one in inner], [one for one in model.parameters() if one not in inner]


def two_groups(model: nn.Module, scale: str) -> list[dict[str, Any]]:
    """Muon and Adam at one learning rate."""
    inner, others = hidden_and_others(model)
    return [{"params": inner, "scale": scale}, {"params": others, "adam": True}]


def muon_and_adamw(model: nn.Module) -> list[Optimizer]:
    """Two optimizers with learning rates of their own."""
    inner, others = hidden_and_others(model)
    return [Muon(inner, 0.02), AdamW(others, 3e-4)]


def each_its_own(model: nn.Module, rate: Callable[[int, Tensor], float]) -> list[dict[str, Any]]:
    """A group for each parameter; its number is counted from the output."""
    parameters = list(model.parameters())
    return [{"params": [one], "lr": rate(len(parameters) - at, one)} for at, one in enumerate(parameters)]


Optimizers = Callable[[nn.Module], list[Optimizer]]
SOUND: dict[str, Optimizers] = {
    "SGD": lambda model: [SGD(model.parameters(), 0.1)],
    "SGD, momentum, weight decay": lambda model: [SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)],
    "Adam": lambda model: [Adam(model.parameters(), 1e-3)],
    "AdamW, weight decay 0.1": lambda model: [AdamW(model.parameters(), 3e-3, weight_decay=0.1)],
    "AdamW, a rate for each layer": lambda model: [AdamW(each_its_own(model, lambda at, _: 2e-3 * 0.85**at))],
    "AdamW, rates by width": lambda model: [
        AdamW(each_its_own(model, lambda _, one: 0.1 / one[0].numel() if one.ndim > 1 else 3e-3))
    ],
    "RMSprop": lambda model: [RMSprop(model.parameters(), 3e-4)],
    "Adagrad": lambda model: [Adagrad(model.parameters(), 1e-2)],
    "Lion, weight decay": lambda model: [Lion(model.parameters(), 3e-4, weight_decay=0.1)],
    "LAMB": lambda model: [Lamb(model.parameters(), 3e-3)],
    "Muon": lambda model: [Muon(model.parameters(), 0.02)],
    "Muon and AdamW": muon_and_adamw,
    "Muon and Adam in one, one rate": lambda model: [Muon(two_groups(model, "spectral"), 2e-3)],
    "Muon as large as Adam, and Adam": lambda model: [Muon(two_groups(model, "rms"), 2e-3, weight_decay=0.1)],
    "AdaMuon": lambda model: [AdaMuon(model.parameters(), 5e-3)],
}
PLANTED: dict[str, Optimizers] = {
    "AdaMuon as in timm before PR #2791": lambda model: [AdaMuon(model.parameters(), 5e-3, faulty=True)],
    **{
        f"AdamW, convolutions {factor} times less": lambda model, factor=factor: [  # type: ignore[misc]
            Hidden(model.parameters(), 3e-3, factor=1 / factor)
        ]
        for factor in FACTORS
    },
}
WITH_BOTH = list(NETWORKS)[:6]  # networks with convolutions and linear layers


def warm_up_and_cosine(step: int) -> float:
    """What the learning rate is multiplied by."""
    return min(1, (step + 1) / 20) * (0.55 + 0.45 * math.cos(math.pi * step / STEPS))


def train(network: str, optimizers: Optimizers, window: Window, seed: int, to: Path) -> None:
    """Train a network, watched."""
    torch.manual_seed(seed)
    make, data = NETWORKS[network]
    model, batches = make(), data()
    those = optimizers(model)
    rates = [LambdaLR(one, warm_up_and_cosine) for one in those]
    loss_of = nn.functional.mse_loss if data is images else nn.functional.cross_entropy
    with wstrack.watch(model, to=to, every=WINDOWS[window], window=window, metrics=(*METRICS, "lr")):
        for _ in range(STEPS):
            inputs, targets = next(batches)
            model.zero_grad()
            torch.autograd.backward(loss_of(model(inputs), targets))
            for optimizer in (*those, *rates):
                optimizer.step()


def judged(run: Run, metric: str) -> bool:
    """Whether a kind is told to be far off, had this been the metric."""
    kept = {*sums_needed([metric, "lr"])}
    return expected([replace(run, sums={name: frame for name, frame in run.sums.items() if name in kept})]) is not None


def main() -> None:
    """Train what is not there yet, and print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--seeds", type=int, default=1)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    ways = [(window, metric) for window in WINDOWS for metric in METRICS]
    heads = " | ".join(f"{metric}, {window}, every {WINDOWS[window]}" for window, metric in ways)
    print(f"{datetime.date.today()}; {STEPS} steps, {given.seeds} seed{'s' * (given.seeds > 1)}.\n")
    for title, some, networks in ("sound", SOUND, list(NETWORKS)), ("planted", PLANTED, WITH_BOTH):
        print(f"| {title}: told of | {heads} |\n|---|{'---|' * len(ways)}")
        for name, optimizers in some.items():
            runs: list[tuple[str, str, Run]] = []
            for network, window, seed in itertools.product(networks, WINDOWS, range(given.seeds)):
                to = given.folder / f"{name}, {network}, {window}, {seed}".replace(" ", "-").replace("#", "")
                if not to.exists():
                    train(network, optimizers, window, seed, to)
                runs.append((network, window, wstrack.pull(to)))
            cells = []
            for way, metric in ways:
                found = [(network, judged(run, metric)) for network, window, run in runs if window == way]
                odd = sorted({network for network, told in found if told != (title == "planted")})
                which = f" ({'not' if title == 'planted' else 'in'} {', '.join(odd)})" if odd else ""
                cells.append(f"{sum(told for _, told in found)} of {len(found)}{which}")
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
        print()


if __name__ == "__main__":
    main()
