"""The experiment of networks as graphs: its networks, its numbers against sums by hand, and a small run of it."""

from __future__ import annotations

import contextlib
import importlib
import io
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from matplotlib import image
from torch import nn

pytestmark = pytest.mark.slow

PAPERS = Path(__file__).resolve().parents[2] / "examples" / "papers"


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, which imports what stands beside it, as if it was run from a shell; the threads come back."""
    monkeypatch.syspath_prepend(PAPERS)
    threads = torch.get_num_threads()
    yield importlib.import_module("networks")
    torch.set_num_threads(threads)
    for name in ("networks", "forgetting", "drawing", "intervals", "weightscale.data"):
        sys.modules.pop(name, None)


def test_all_weights_and_biases_are_drawn_alike(networks: ModuleType) -> None:
    drawn = [torch.cat([p.detach().flatten() for p in networks.made("convolutional", shape, 0.5, 28, 3).parameters()])
             for shape in ("uniform", "normal")]  # fmt: skip
    assert 0.499 < float(drawn[0].abs().max()) <= 0.5
    assert float(drawn[0].std()) == pytest.approx(0.5 / np.sqrt(3), rel=0.01)
    assert float(drawn[1].std()) == pytest.approx(0.5, rel=0.01)
    assert float(drawn[1].abs().max()) > 1.5


def test_a_network_is_measured_at_its_own_accuracy(networks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[nn.Sequential] = []
    made = networks.made
    monkeypatch.setattr(networks, "made", lambda *args: kept.append(made(*args)) or kept[0])
    data = networks.digits(None, 64)
    grown = networks.grow("connected", "uniform", 0.5, data, 0, 3, 2)
    layers = [layer for layer in kept[0] if isinstance(layer, nn.Linear)]
    weights = [layer.weight.detach().double() for layer in layers]
    received = [
        [float(weight[node].sum() + layer.bias[node].detach().double()) for node in range(len(weight))]
        for weight, layer in zip(weights, layers, strict=True)
    ]
    for place, nodes in enumerate(received):
        behind = weights[place + 1] if place + 1 < len(weights) else None
        strengths = [own + (1.0 if behind is None else float(behind[:, node].sum())) for node, own in enumerate(nodes)]
        assert grown.values["strength"][-1, place] == pytest.approx(np.mean(strengths), abs=1e-12)
        assert grown.values["fluctuation"][-1, place] == pytest.approx(np.std(strengths), abs=1e-12)
    assert len(grown.accuracy) == len(grown.links) == len(grown.values["norm"]) == 3  # of six steps, every second
    guesses = kept[0](data.test_images).argmax(1)
    assert grown.accuracy[-1] == float((guesses == data.test_labels).double().mean())


def test_levels_bins_and_separation_are_those_of_loops(networks: ModuleType) -> None:
    values = np.array([[1.0], [2.0], [4.0], [8.0]])
    one = networks.Grown(np.array([0.1, 0.375, 0.375, 1.0]), {"strength": values}, np.zeros((4, 1)))
    assert one.level("strength", 0.3, 0.5) == [3.0]
    assert np.isnan(one.level("strength", 0.5, 0.6)).all()
    at, there = networks.binned([one], "strength", 0)
    assert at == pytest.approx([0.1125, 0.3875, 1.0125])
    assert there.tolist() == [[1.0, 3.0, 8.0]]
    rng = np.random.default_rng(0)
    low, high = rng.integers(0, 5, 9).astype(float), rng.integers(1, 6, 9).astype(float)
    low[2] = high[5] = np.nan
    wins = [
        (high[j] > low[i]) + (high[j] == low[i]) / 2 for i in range(9) for j in range(9) if i != j and i != 2 and j != 5
    ]
    assert networks.separation(low, high) == pytest.approx(np.mean(wins), abs=1e-12)


def test_a_small_run_prints_its_tables_and_draws_both_kinds(
    networks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--seeds", "2", "--limit", "256", "--epochs", "2", "--every", "4", "--out", str(tmp_path / "few.png"))
    monkeypatch.setattr(sys, "argv", ["networks", *options])
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        runpy.run_path(str(PAPERS / "networks.py"), run_name="__main__")
    assert said.getvalue().count("| uniform 0.05 |") == 2 * (5 + 4)
    assert "### convolutional: from bad to good" in said.getvalue()
    for kind in ("connected", "convolutional"):
        assert image.imread(tmp_path / f"few-{kind}.png")[..., :3].std() > 0.01
