from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.examples.paper_scripts import is_drawn, load, run, tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script() -> Any:
    return load("forgetting")


def test_tasks_are_turned_by_their_degrees(script: Any) -> None:
    data = script.digits(None, 20)
    tasks = script.rotated(data, 5)
    np.testing.assert_allclose(tasks[0].train_images, data.train_images, atol=1e-5)
    np.testing.assert_allclose(tasks[4].test_images, torch.rot90(data.test_images, 1, (2, 3)), atol=1e-4)
    assert all(torch.equal(task.train_labels, data.train_labels) for task in tasks)


def test_forgotten_is_what_was_learnt_less_what_is_left(script: Any) -> None:
    after = np.array([[[0.9, 0.1, 0.1], [0.6, 0.8, 0.2], [0.5, 0.7, 0.95]]])  # after each task, of each task
    np.testing.assert_allclose(script.Taught(after, np.zeros((1, 3, 3))).forgotten(), [[0.4, 0.1]])


def test_changes_count_from_the_begin_of_each_task(script: Any) -> None:
    """The same training without wstrack, with copies of the weights before and after each task."""
    tasks = script.rotated(script.digits(None, 150), 3)
    accuracies, moved = script.taught(tasks, 8, seed=4, epochs=2, lr=0.1)

    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10)
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for number, task in enumerate(tasks):
        before = [weight.detach().clone().double() for weight in model.parameters() if weight.ndim == 2]
        for _ in range(2):
            for batch in torch.split(torch.randperm(150), 64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(task.train_images[batch]), task.train_labels[batch]).backward()
                optimizer.step()
        after = [weight.detach().double() for weight in model.parameters() if weight.ndim == 2]
        wanted = [float((w - p).abs().sum() / p.abs().sum()) for w, p in zip(after, before, strict=True)]
        np.testing.assert_allclose(moved[number], wanted, rtol=1e-5)
        right = [(model(each.test_images).argmax(1) == each.test_labels).double().mean().item() for each in tasks]
        np.testing.assert_allclose(accuracies[number], right)


def test_the_table_is_that_of_its_seeds(script: Any, tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    sizes = ("--limit", 300, "--widths", 8, 32, "--tasks", 3, "--epochs", 2, "--lr", 0.1, "--seeds", 2)
    found = tables(run("forgetting.py", *sizes, "--out", figure))
    tasks = script.rotated(script.digits(None, 300), 3)
    seeds = [script.taught(tasks, 32, seed, 2, 0.1) for seed in (0, 1)]
    first = 100 * np.mean([accuracy[0, 0] - accuracy[2, 0] for accuracy, _ in seeds])
    change = np.mean([moved[1:, 0] for _, moved in seeds])
    (row,) = [row for row in found["Forgetting and change"] if row[0] == "32"]
    assert f"{first:.1f} [" in row[2]
    assert f"{change:.3f} [" in row[4]
    assert len(found["For each doubling of the width"]) == 5
    assert is_drawn(figure)
