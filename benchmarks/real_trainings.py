"""Small real trainings of the kinds that people have, and what the report says of each.

`python benchmarks/real_trainings.py FOLDER` trains those that FOLDER lacks (some minutes of one core, no network);
with `--report` it prints the verdict and the findings of each as Markdown. What a careful person sees in the same
curves is in docs/real-trainings.md.
"""

from __future__ import annotations

import argparse
import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

import wstrack
from wstrack.demo import SmallResNet
from wstrack.reporting.words import verdict

CONTEXT, WIDTH = 48, 48

Rate = Callable[[int], float]
Batches = Iterator[tuple[Tensor, Tensor]]


class PlainCNN(nn.Sequential):
    """Six convolutions without normalisation, which a large learning rate can blow up."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inner, width, stride in ((1, 16, 1), (16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 32, 2), (32, 32, 1)):
            layers += [nn.Conv2d(inner, width, 3, stride, padding=1), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(128, 10))


class Block(nn.Module):
    """Attention and a feed-forward network, each added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """From and to (batch, context, width)."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        inner: Tensor = self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return x + inner


class CharacterModel(nn.Module):
    """A transformer that predicts each next byte of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(128, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 128)

    def forward(self, tokens: Tensor) -> Tensor:
        """From (batch, context) to (batch, bytes, context)."""
        scores: Tensor = self.head(self.norm(self.blocks(self.token(tokens) + self.position.weight)))
        return scores.transpose(1, 2)


def digits(*, shuffled: bool = True, kept: range = range(10)) -> Batches:
    """Batches of 64 handwritten digits, epoch after epoch."""
    images, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    those = torch.isin(labels, torch.tensor(kept))
    images, labels = (images[those] / 8 - 1).float().view(-1, 1, 8, 8), labels[those]
    while True:
        order = torch.randperm(len(images)) if shuffled else torch.arange(len(images))
        for batch in order[: len(order) // 64 * 64].view(-1, 64):
            yield images[batch], labels[batch]


def characters() -> Batches:
    """Batches of 16 random pieces of a module of the standard library."""
    text = torch.tensor([ord(one) % 128 for one in inspect.getsource(argparse)])
    while True:
        pieces = text[torch.randint(len(text) - CONTEXT, (16, 1)) + torch.arange(CONTEXT + 1)]
        yield pieces[:, :-1], pieces[:, 1:]


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    steps: int,
    rate: Rate | list[Rate] = lambda step: 1.0,
    each: Callable[[int], None] = lambda step: None,
) -> None:
    """Train; `rate` is what the learning rate (of each group) is multiplied by, `each` is called before a step."""
    schedule = LambdaLR(optimizer, rate)
    for step in range(steps):
        each(step)
        inputs, targets = next(batches)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()


def sgd(model: nn.Module, rate: float = 0.05) -> torch.optim.Optimizer:
    """As image models are often trained."""
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)


def step_drops(to: Path) -> None:
    """ResNet, SGD; the learning rate falls tenfold at step 500 and again at 750 of 1,000; a sample each 5 steps."""
    model = SmallResNet()
    with wstrack.watch(model, to=to, every=5):
        fit(model, sgd(model), digits(), 1000, lambda step: 0.1 ** ((step >= 500) + (step >= 750)))


def warm_up(to: Path) -> None:
    """Transformer, AdamW; linear warm-up over 150 of 1,000 steps, then one cosine to 0; a sample each 5 steps."""
    model = CharacterModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with wstrack.watch(model, to=to, every=5):
        fit(
            model, optimizer, characters(), 1000,
            lambda step: (step + 1) / 150 if step < 150 else 0.5 + 0.5 * math.cos(math.pi * (step - 150) / 850),
        )  # fmt: skip


def restarts(to: Path) -> None:
    """ResNet, SGD; four cosines of 200 steps each, from 0.05 to 0; a sample each 4 steps."""
    model = SmallResNet()
    with wstrack.watch(model, to=to, every=4):
        fit(model, sgd(model), digits(), 800, lambda step: 0.5 + 0.5 * math.cos(math.pi * (step % 200) / 200))


def diverges(to: Path) -> None:
    """CNN without normalisation, SGD; the learning rate is 3 times as high from step 300 on, 300 times from 400 on.

    800 steps, a sample each 4.
    """
    model = PlainCNN()
    with wstrack.watch(model, to=to, every=4):
        fit(model, sgd(model, 0.02), digits(), 800, lambda step: 1.0 if step < 300 else 3.0 if step < 400 else 300.0)


def collapses(to: Path) -> None:
    """The same network; the learning rate grows a hundredfold from step 300 to 600 of 800, which kills all units.

    From then on weight decay is all that changes a weight; nothing ever becomes infinite. A sample each 4 steps.
    """
    model = PlainCNN()
    with wstrack.watch(model, to=to, every=4):
        fit(model, sgd(model, 0.02), digits(), 800, lambda step: 100 ** min(max((step - 300) / 300, 0.0), 1.0))


def frozen(to: Path) -> None:
    """ResNet fine-tuned from digits 0-4 to 5-9, AdamW, 600 steps, every 4.

    The stem and the first stage are frozen from the start, the second stage from step 240 on by a learning rate of 0.
    """
    model = SmallResNet()
    fit(model, sgd(model), digits(kept=range(5)), 100)
    model.head.reset_parameters()
    model.stem.requires_grad_(requires_grad=False)
    model.stage1.requires_grad_(requires_grad=False)
    others = [*model.stage3.parameters(), *model.head.parameters()]
    groups: list[dict[str, Any]] = [{"params": model.stage2.parameters()}, {"params": others}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    with wstrack.watch(model, to=to, every=4, layers=lambda name, parameter: parameter.ndim >= 2):
        fit(model, optimizer, digits(kept=range(5, 10)), 600, [lambda step: float(step < 240), lambda step: 1.0])


def dead(to: Path) -> None:
    """ResNet, AdamW, 200 steps, every step; two blocks have dead ReLUs, one from the start and one from step 80 on.

    No gradient reaches the two convolutions of such a block; weight decay goes on.
    """
    model = SmallResNet()
    norms = {0: model.stage1.get_submodule("1.bn1"), 80: model.stage2.get_submodule("1.bn1")}

    def die(step: int) -> None:
        if step in norms:
            nn.init.constant_(norms[step].get_parameter("bias"), -1e3)

    with wstrack.watch(model, to=to, every=1):
        fit(model, torch.optim.AdamW(model.parameters(), lr=1e-3), digits(), 200, each=die)


def same_order(to: Path) -> None:
    """ResNet, SGD without momentum; the same 28 batches in the same order in each of 8 epochs; every step."""
    model = SmallResNet()
    with wstrack.watch(model, to=to, every=1):
        fit(model, torch.optim.SGD(model.parameters(), lr=0.03), digits(shuffled=False), 224)


def plain(to: Path) -> None:
    """ResNet, AdamW, constant learning rate, 600 steps, a sample each 3."""
    model = SmallResNet()
    with wstrack.watch(model, to=to, every=3):
        fit(model, torch.optim.AdamW(model.parameters(), lr=1e-3), digits(), 600)


TRAININGS = (step_drops, warm_up, restarts, diverges, collapses, frozen, dead, same_order, plain)


def main() -> None:
    """Train what is not there yet, and report."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--report", action="store_true", help="print what the report says of each run")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    for train in TRAININGS:
        to = given.folder / train.__name__
        if not to.exists():
            torch.manual_seed(0)
            train(to)
        if given.report:
            report = wstrack.report(wstrack.pull(to))
            print(f"\n## {train.__name__}\n\n{inspect.getdoc(train)}\n\n**{verdict(report)[1]}**\n")
            print("\n".join(f"{place}. {found.text}" for place, found in enumerate(report.findings, 1)), flush=True)


if __name__ == "__main__":
    main()
