"""The smallest real training run: watched in one line, read back by reference, reported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from wstrack.reporting.report import report
from wstrack.trackers.references import pull
from wstrack.training.watching import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from wstrack.reporting.report import Report

__all__ = ["DemoResult", "SmallResNet", "demo"]

EPOCHS = 15
EVERY = 1


class _Block(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False) if width_in != width else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(images)))))
        return torch.relu(inner + self.shortcut(images))


class SmallResNet(nn.Module):
    """A ResNet of six blocks for images of 8 x 8: 16 layers, 65,000 parameters."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.stage1 = nn.Sequential(_Block(16, 16, 1), _Block(16, 16, 1))
        self.stage2 = nn.Sequential(_Block(16, 24, 2), _Block(24, 24, 1))
        self.stage3 = nn.Sequential(_Block(24, 32, 2), _Block(32, 32, 1))
        self.head = nn.Linear(32, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores, (batch, classes), of images (batch, 1, 8, 8)."""
        features = self.stage3(self.stage2(self.stage1(torch.relu(self.stem(images)))))
        scores: torch.Tensor = self.head(features.mean((2, 3)))
        return scores


@dataclass
class DemoResult:
    """What the demo leaves: test accuracy (0 to 1), the run's reference, its report, the page and the log folder."""

    accuracy: float
    reference: str
    report: Report
    page: Path
    logs: Path


def demo(folder: str | Path = "wstrack-demo", *, say: Callable[[str], None] = lambda line: None) -> DemoResult:
    """Train a small ResNet on scikit-learn's handwritten digits, watched; read the run back; write its report.

    Args:
        folder: gets `runs/` with TensorBoard's event files, and `report.html`, `.json` and `.csv`.
        say: is told what is being done, a line at a time.

    Raises:
        WstrackError: the folder cannot be written to.
    """
    folder = Path(folder)
    logs = folder / "runs"
    name = next(name for name in (f"digits-{number}" for number in range(1, 10_000)) if not (logs / name).exists())
    say(f"training on 1,347 handwritten digits, logging to {logs / name}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on images this small, threads wait for each other: on a busy machine, for minutes
    try:
        accuracy = train(logs / name)
    finally:
        torch.set_num_threads(threads)

    reference = f"tensorboard:{logs / name}"
    say(f"reading {reference} back")
    run = pull(reference)
    say("reducing, clustering, writing the report")
    result = report(run)
    for ending in (".html", ".json", ".csv"):
        result.save((folder / "report").with_suffix(ending))
    return DemoResult(accuracy, reference, result, folder / "report.html", logs)


def train(logs: Path, *, epochs: int = EPOCHS, seed: int = 0) -> float:
    """An ordinary training loop with one line more; returns the accuracy on held-out digits."""
    torch.manual_seed(seed)
    images, labels = load_digits(return_X_y=True)
    images = (images / 8 - 1).astype(np.float32).reshape(-1, 1, 8, 8)
    split = train_test_split(images, labels, random_state=seed, stratify=labels)
    train_images, test_images, train_labels, test_labels = map(torch.from_numpy, split)

    model = SmallResNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watcher = watch(model, to=logs, every=EVERY)  # the one line

    for _ in range(epochs):
        model.train()
        for batch in torch.split(torch.randperm(len(train_images)), 64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(train_images[batch]), train_labels[batch])
            torch.autograd.backward(loss)
            optimizer.step()
    watcher.close()

    model.eval()
    with torch.no_grad():
        return float((model(test_images).argmax(1) == test_labels).double().mean())
