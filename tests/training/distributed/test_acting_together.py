"""Processes that act on what rules say: all of them at the same step, or none."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import wstrack
from wstrack.rules import Alert, Observed, StopTraining

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.distributed.processes import Processes

pytestmark = pytest.mark.slow


def at_step_4(seen: Observed) -> list[Alert]:
    return [seen.alert("at_step_4", 1, 1, "is as planned")] if seen.step == 4 else []


def built(how: str) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    if how == "DDP":
        return DistributedDataParallel(model, find_unused_parameters=True)
    for each in (model[0], model[2], model[4]):
        fully_shard(each)
    return fully_shard(model)


def train(rank: int, how: str, **options: Any) -> tuple[list[str], list[int], int]:
    """What asks for gradients after each step, the steps at which that changed, and how many there were."""
    model = built(how)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    changed, asks, taken = [], [True] * 6, 0
    try:
        with wstrack.watch(model, to="runs/it", every=2, rules=at_step_4, **options) as watcher:
            for step in range(1, 21):
                optimizer.zero_grad()
                model(torch.randn(8, 4)).square().mean().backward()
                taken = step
                optimizer.step()
                if watcher.steps % 2 == 0:
                    watcher._measured.flush(60)
                now = [parameter.requires_grad for parameter in model.parameters()]
                if now != asks:
                    changed.append(step)
                    asks = now
    except StopTraining:
        pass
    names = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    return [name.removeprefix("module.") for name in names], changed, taken


@pytest.mark.parametrize("how", ["DDP", "FSDP2"])
def test_all_freeze_at_the_same_step(two: Processes, tmp_path: Path, how: str) -> None:
    first, second = two(train, tmp_path, how=how, act="freeze")
    assert first == second == (["2.weight", "2.bias"], [6], 20)


@pytest.mark.parametrize("how", ["DDP", "FSDP2"])
def test_all_stop_at_the_same_step(two: Processes, tmp_path: Path, how: str) -> None:
    assert two(train, tmp_path, how=how, act="stop") == [([], [], 6)] * 2


def call(rank: int) -> list[tuple[int, str]]:
    model = built("DDP")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    called: list[tuple[int, str]] = []
    with wstrack.watch(
        model, to="runs/it", every=2, rules=at_step_4, act=lambda alert: called.append((watcher.steps, str(alert)))
    ) as watcher:
        for _ in range(12):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
            watcher._measured.flush(60)
    return called


def test_a_function_is_called_in_each_process(two: Processes, tmp_path: Path) -> None:
    said = [(6, "step 4: 2.weight is as planned (rule 'at_step_4')")]
    assert two(call, tmp_path) == [said, said]


def always(seen: Observed) -> list[Alert]:
    return [seen.alert("always", 0, 1, "is there")]


def ten_steps(rank: int) -> list[int]:
    """The steps at which a function was called; of a run that was begun before, only the first process knows that."""
    model = built("DDP")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    called: list[int] = []
    with wstrack.watch(
        model, to="runs/it", name="it", every=3, rules=always, act=lambda alert: called.append(watcher.steps)
    ) as watcher:
        for _ in range(10):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
            watcher._measured.flush(60)
    return called


def test_a_run_that_goes_on_is_counted_alike(two: Processes, tmp_path: Path) -> None:
    assert two(ten_steps, tmp_path) == [[6, 9]] * 2
    assert two(ten_steps, tmp_path) == [[15, 18]] * 2


def first_alone(rank: int) -> str:
    model = built("DDP")
    said = ""
    if rank == 0:
        short = timedelta(seconds=0.5)
        with mock.patch("wstrack.training.agreement.START", short), pytest.raises(wstrack.WstrackError) as caught:
            wstrack.watch(model, to="runs/it", rules="default", act="stop")
        said = str(caught.value)
    dist.barrier()
    return said


def test_a_process_that_does_not_watch_is_named(two: Processes, tmp_path: Path) -> None:
    said = two(first_alone, tmp_path)[0]
    assert said.startswith("act: watch() has not been called on rank 1")
    two(catch_up, tmp_path)


def catch_up(rank: int) -> None:
    """Later watches of these processes find each other again."""
    from wstrack.training.agreement import Agreement

    if rank == 1:
        Agreement((0, 1))


def ends_early(rank: int) -> tuple[list[int], int]:
    """The first process closes its watch while the other goes on."""
    model = built("DDP")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    called: list[int] = []
    watcher = wstrack.watch(
        model, to="runs/it", every=2, rules=at_step_4, act=lambda alert: called.append(watcher.steps)
    )
    for step in range(1, 13):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        if rank == 0 and step == 5:
            watcher.close()
    watcher.close()
    return called, step


def test_who_waits_for_a_process_that_has_ended_its_watch_waits_no_more(two: Processes, tmp_path: Path) -> None:
    assert two(ends_early, tmp_path) == [([], 12), ([], 12)]


def plain_ddp(rank: int) -> str:
    model = DistributedDataParallel(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="find_unused_parameters=True") as caught:
        wstrack.watch(model, to="runs/it", rules="default", act="freeze")
    return str(caught.value)


def test_ddp_that_waits_for_every_gradient_is_refused(two: Processes, tmp_path: Path) -> None:
    assert all(two(plain_ddp, tmp_path))
