"""Snapshots in the host's memory. What runs here is the batching, on the CPU; streams and the bus need a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import oracle
import pytest
import torch
from oracle import SUMS

import wstrack
from wstrack.measuring.meters import cpu, offload, portable
from wstrack.measuring.meters.memory import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


@pytest.mark.parametrize("way", [portable, cpu], ids=["portable", "cpu"])
@pytest.mark.parametrize("batch", [64, 4096, 1 << 26])
def test_in_batches_the_sums_are_the_same(way: object, batch: int) -> None:
    if way is cpu and (why := cpu.unavailable()):
        pytest.skip(why)
    torch.manual_seed(0)
    layers = [
        torch.randn(30, 21), torch.randn(0, 2), torch.randn(700).bfloat16(), torch.randn(20, 30).t(), torch.randn(()),
        torch.randn(900).double(), torch.randn(3), torch.randn(0),
    ]  # fmt: skip
    kept = [Snapshot() for _ in layers]
    for one, layer in zip(kept, layers, strict=True):
        one.look(layer)
        one.remember(layer, SUMS)
    before = starts = [oracle.wide(layer) for layer in layers]
    lasts = [0 * values for values in before]
    sample = offload.plan(way, [one.pair(layer) for one, layer in zip(kept, layers, strict=True)], SUMS, batch=batch)
    for _ in range(3):
        for layer in layers:
            layer.mul_(1 + 0.1 * torch.randn(layer.shape).to(layer.dtype))
        found = sample()
        now = [oracle.wide(layer) for layer in layers]
        for row, *states in zip(found.tolist(), now, before, lasts, starts, strict=True):
            want = oracle.sums(*states)
            for name, value in zip(SUMS, row, strict=True):
                assert value == pytest.approx(want[name], rel=1e-6, abs=1e-4 if name == "dot" else 0.0), name
        assert all(torch.equal(one.previous, layer) for one, layer in zip(kept, layers, strict=True))
        lasts, before = [w - p for w, p in zip(now, before, strict=True)], now


def test_through_watch_it_changes_no_number(model: nn.Sequential, train: Callable) -> None:
    series = []
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for snapshot in ("device", "cpu"):
        model.load_state_dict(state)
        torch.manual_seed(1)
        metrics = ("rwc", "cosine", "distance")
        with wstrack.watch(model, every=2, metrics=metrics, snapshot=snapshot, to=f"./{snapshot}") as watcher:
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), 6)
        series.append(watcher.run().series)
    for metric in series[0]:
        assert series[0][metric].equals(series[1][metric])
