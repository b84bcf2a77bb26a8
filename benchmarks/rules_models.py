"""Small models and data of the trainings that rules are tried on. For `rules_trainings.py`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

WORDS, CONTEXT = 32, 16
EXPERTS = 8

Batches = Iterator[tuple[Tensor, Tensor]]


class Block(nn.Module):
    """A block of a small GPT."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """What the block makes of it."""
        normed = self.first(x)
        q, k, v = (each(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.q, self.k, self.v))
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(-2))
        return x + self.down(functional.gelu(self.up(self.second(x))))


class Transformer(nn.Module):
    """A small GPT of two blocks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.head = nn.Linear(width, WORDS)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.blocks(self.words(x) + self.places.weight))


class Experts(nn.Module):
    """Two layers around eight experts, of which each example has the two that a router likes best."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.router = nn.Linear(64, width), nn.Linear(width, EXPERTS)
        self.up = nn.Parameter(torch.randn(EXPERTS, width, width) / width**0.5)
        self.down = nn.Parameter(torch.randn(EXPERTS, width, width) / width**0.5)
        self.last = nn.Linear(width, 10)
        self.favour = torch.zeros(EXPERTS)
        self.balance = torch.zeros(())
        self.chosen = torch.zeros(EXPERTS)  # how often, since somebody set it to 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = torch.relu(self.first(x))
        share = (self.router(x) + self.favour).softmax(-1)
        weight, chosen = share.topk(2)
        gate = torch.zeros_like(share).scatter(1, chosen, weight)
        often = torch.zeros_like(share).scatter(1, chosen, 1.0).mean(0)
        self.chosen += often
        self.balance = EXPERTS * (often * share.mean(0)).sum()
        hidden = torch.relu(torch.einsum("bi,eio->beo", x, self.up))
        return self.last(x + torch.einsum("beo,eop,be->bp", hidden, self.down, gate))


def cnn(width: int) -> nn.Sequential:
    """Three convolutions and two layers for the digits."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * width, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def mlp(width: int) -> nn.Sequential:
    """Four layers for the digits."""
    sizes = (64, width, width, width, 10)
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


@cache
def digits() -> tuple[Tensor, Tensor]:
    """1797 pictures and their labels."""
    pictures, labels = load_digits(return_X_y=True)
    return torch.tensor(pictures / 8 - 1, dtype=torch.float32), torch.tensor(labels)


def pictures(size: int | None, noise: float, draw: torch.Generator) -> Batches:
    """The digits in a new order each epoch, a share of the labels drawn by chance; no size: always the same 256."""
    shown, labels = digits()
    wrong = torch.rand(len(labels), generator=draw) < noise
    labels = torch.where(wrong, torch.randint(10, labels.shape, generator=draw), labels)
    always = torch.randperm(len(labels), generator=draw)[:256]
    while size is None:
        yield shown[always], labels[always]
    while True:
        for some in torch.randperm(len(labels), generator=draw).split(size):
            if len(some) == size:
                yield shown[some], labels[some]


def words(size: int, draw: torch.Generator) -> Batches:
    """Text of a Markov chain, 512 lines of it."""
    table = torch.softmax(3 * torch.randn(WORDS, WORDS, generator=draw), 1)
    text = [torch.randint(WORDS, (512,), generator=draw)]
    for _ in range(8 * CONTEXT):
        text.append(torch.multinomial(table[text[-1]], 1, generator=draw)[:, 0])
    lines = torch.stack(text, 1)
    while True:
        rows = torch.randint(len(lines), (size, 1), generator=draw)
        begins = torch.randint(7 * CONTEXT, (size, 1), generator=draw)
        some = lines[rows, begins + torch.arange(CONTEXT + 1)]
        yield some[:, :-1], some[:, 1:]
