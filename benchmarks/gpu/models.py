"""The models of the tables: lists of weights, and two that train."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from overhead_peers import gpt2, resnet
from torch import nn

from gpu.machine import Machine

__all__ = ["LISTS", "TRAINED", "made"]

Shapes = Sequence[tuple[int, ...]]


def _resnet_50() -> Shapes:
    with torch.device("meta"):
        model = resnet([3, 4, 6, 3], wide=True, classes=1000)
    return [tuple(parameter.shape) for parameter in model.parameters()]


def _llama_7b() -> Shapes:
    block = [(4096, 4096)] * 4 + [(11008, 4096), (11008, 4096), (4096, 11008)]
    return [(32000, 4096), *block * 32, (32000, 4096)]


LISTS: dict[str, tuple[Callable[[], Shapes], torch.dtype]] = {
    "ResNet-50": (_resnet_50, torch.float32),
    "GPT-2 small": (gpt2, torch.float32),
    "5000 tensors of 1024": (lambda: [(1024,)] * 5000, torch.float32),
    "the matrices of Llama-7B, bfloat16": (_llama_7b, torch.bfloat16),
}
"""By name: the shapes of all weights, and their dtype."""


def made(shapes: Shapes, dtype: torch.dtype, machine: Machine) -> list[nn.Parameter]:
    """Weights of these shapes, scaled like weights; dry, a few small ones."""
    if machine.dry:
        shapes = [tuple(min(size, 8) for size in shape) for shape in shapes[:4]]
    return [nn.Parameter(torch.randn(shape, device=machine.device, dtype=dtype).mul_(0.05)) for shape in shapes]


class _Gpt(nn.Module):
    """A decoder of GPT-2 small's size, of torch's own layers; its loss."""

    def __init__(self, *, dry: bool) -> None:
        super().__init__()
        self.words, wide, blocks, heads = (50, 16, 1, 2) if dry else (50257, 768, 12, 12)
        self.embedding = nn.Embedding(self.words, wide)
        self.places = nn.Parameter(0.02 * torch.randn(1024, wide))
        layer = nn.TransformerEncoderLayer(
            wide, heads, 4 * wide, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, blocks, enable_nested_tensor=False)
        self.last = nn.LayerNorm(wide)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, length) -> the mean loss of the next token."""
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device)
        inner = self.blocks(self.embedding(tokens) + self.places[:length], mask=mask, is_causal=True)
        scores = self.last(inner) @ self.embedding.weight.T
        return nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())


def _train_resnet(machine: Machine) -> tuple[nn.Module, Callable[[], torch.Tensor]]:
    count, blocks = (2, [1]) if machine.dry else (256, [3, 4, 6, 3])
    model = resnet(blocks, wide=not machine.dry, classes=10).to(machine.device)
    images = torch.randn(count, 3, 32, 32, device=machine.device)
    labels = torch.randint(0, 10, (count,), device=machine.device)
    return model, lambda: nn.functional.cross_entropy(model(images).float(), labels)


def _train_gpt(machine: Machine) -> tuple[nn.Module, Callable[[], torch.Tensor]]:
    model = _Gpt(dry=machine.dry).to(machine.device)
    shape = (2, 8) if machine.dry else (8, 1024)
    tokens = torch.randint(0, model.words, shape, device=machine.device)
    return model, lambda: model(tokens)


TRAINED: dict[str, Callable[[Machine], tuple[nn.Module, Callable[[], torch.Tensor]]]] = {
    "ResNet-50, 256 images of 32x32, autocast to bf16": _train_resnet,
    "GPT-2 small, 8 x 1024 tokens, autocast to bf16": _train_gpt,
}
"""By name: the model on the device, and its loss in a step."""
