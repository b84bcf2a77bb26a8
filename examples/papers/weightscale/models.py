"""The paper's models for images of 32 x 32, of any width; and every model of torchvision or timm by its name.

A width of 64 is the published one. Weights are initialised as PyTorch's layers are by default.
"""

from __future__ import annotations

import torch
from torch import nn


def build(name: str, *, channels: int, classes: int, width: int = 64) -> nn.Module:
    """A model with random weights.

    Args:
        name: "resnet18", "vgg11" or "alexnet" (below), or "torchvision:<name>" or "timm:<name>".
        channels: of the images.
        classes: how many.
        width: channels of the first stage, the later ones in proportion; the named models of torchvision and timm have
            their own.
    """
    library, _, model = name.rpartition(":")
    if library == "torchvision":
        from torchvision.models import get_model

        return _Coloured(get_model(model, weights=None, num_classes=classes))
    if library == "timm":
        from timm import create_model

        made: nn.Module = create_model(model, pretrained=False, num_classes=classes, in_chans=channels)
        return made
    if name not in SMALL:
        raise ValueError(
            f"unknown model {name!r}; pass --model one of: {', '.join(SMALL)}, torchvision:NAME, timm:NAME"
        )
    return SMALL[name](channels, classes, width)


def resnet18(channels: int, classes: int, width: int) -> nn.Module:
    """ResNet-18 as it is used on CIFAR: a 3 x 3 stem without pooling, four stages of two blocks. 21 layers."""
    stages, before = [], width
    for number in range(4):
        after = width * 2**number
        stages.append(nn.Sequential(Block(before, after, 1 if number == 0 else 2), Block(after, after, 1)))
        before = after
    stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
    names = ("stem", "stage1", "stage2", "stage3", "stage4", "head")
    model = nn.Sequential()
    for part, module in zip(names, (stem, *stages, head), strict=True):
        model.add_module(part, module)
    return model


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, projected by a 1 x 1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features, (batch, after, side / stride, side / stride)."""
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(images)))))
        return torch.relu(inner + self.shortcut(images))


def vgg11(channels: int, classes: int, width: int) -> nn.Module:
    """VGG-11 with batch norm: eight convolutions and its three fully connected layers. 11 layers."""
    model = nn.Sequential()
    before = channels
    plan = ((1, True), (2, True), (4, False), (4, True), (8, False), (8, True), (8, False), (8, True))
    for number, (out, pooled) in enumerate(plan, start=1):
        model.add_module(f"conv{number}", nn.Conv2d(before, width * out, 3, padding=1))
        model.add_module(f"norm{number}", nn.BatchNorm2d(width * out))
        model.add_module(f"after{number}", _after(pooled))
        before = width * out
    return _connected(model, before, width * 64, classes)


def alexnet(channels: int, classes: int, width: int) -> nn.Module:
    """AlexNet with kernels and strides for 32 x 32: five convolutions, three fully connected layers. 8 layers."""
    model = nn.Sequential()
    before = channels
    plan = ((1, 2, True), (3, 1, True), (6, 1, False), (4, 1, False), (4, 1, True))
    for number, (out, stride, pooled) in enumerate(plan, start=1):
        model.add_module(f"conv{number}", nn.Conv2d(before, width * out, 3, stride, padding=1))
        model.add_module(f"after{number}", _after(pooled))
        before = width * out
    return _connected(model, before * 4, width * 64, classes)


def _after(pooled: bool) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)) if pooled else nn.ReLU()


def _connected(model: nn.Sequential, before: int, hidden: int, classes: int) -> nn.Module:
    model.add_module("flat", nn.Flatten())
    for number, (into, out) in enumerate(((before, hidden), (hidden, hidden), (hidden, classes)), start=1):
        if number < 3:
            model.add_module(f"dropout{number}", nn.Dropout())
        model.add_module(f"fc{number}", nn.Linear(into, out))
        if number < 3:
            model.add_module(f"active{number}", nn.ReLU())
    return model


class _Coloured(nn.Module):
    """A model for three channels that takes grey images too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores, (batch, classes), of images (batch, 1 or 3, side, side)."""
        scores: torch.Tensor = self.model(images.expand(-1, 3, -1, -1))
        return scores


SMALL = {"resnet18": resnet18, "vgg11": vgg11, "alexnet": alexnet}
