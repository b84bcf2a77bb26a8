"""Ranks that do not go together: each is an error that names the cause, and none is a hang."""

from __future__ import annotations

import logging
import os
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

import wstrack
from tests.training.distributed.processes import Processes
from tests.training.distributed.trainings import inputs, plain, seen, spied
from wstrack.training.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.training.distributed.trainings import Seen

pytestmark = pytest.mark.slow


@contextmanager
def said() -> Iterator[list[str]]:
    """What wstrack logs, by level and text."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(f"{record.levelname} {record.getMessage()}")  # type: ignore[method-assign]
    logger = logging.getLogger("wstrack")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def sharded() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = fully_shard(plain())
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(inputs()).square().mean().backward()
        optimizer.step()


def raised(model: nn.Module | None = None, **options: Any) -> str:
    """What watching a model raises; a sharded one, if none is given."""
    if model is None:
        model, _ = sharded()
    try:
        wstrack.watch(model, **options)
    except (ValueError, TypeError, wstrack.WstrackError) as error:
        return f"{type(error).__name__} {error}"
    return "nothing"


# ---- at the start ---------------------------------------------------------------------------------------------------


def only_rank_0_watches(rank: int) -> str:
    if rank > 0:
        Ranks((0, 1))  # as if it had begun: later watches find each other again
        return ""
    short = {"START": timedelta(seconds=0.3), "HINT": timedelta(seconds=0.1)}
    with mock.patch.multiple("wstrack.training.ranks", **short), said() as lines:
        error = raised()
    assert len([line for line in lines if "waiting" in line]) == 1
    return error


def test_a_rank_that_does_not_watch_is_named(two: Processes, tmp_path: Path) -> None:
    error = two(only_rank_0_watches, tmp_path)[0]
    assert error.startswith("WstrackError watch() has not been called on rank 1; a model that is sharded over 2 ranks")


def ranks_watch_differently(rank: int) -> str:
    return raised(every=50 if rank == 0 else 25)


def test_ranks_that_watch_differently(two: Processes, tmp_path: Path) -> None:
    for error in two(ranks_watch_differently, tmp_path):
        assert error.startswith("ValueError")
        assert "every=50 on rank 0 and 25 on rank 1" in error


def ranks_choose_other_layers(rank: int) -> str:
    return raised(layers=None if rank == 0 else "all")


def test_ranks_that_choose_other_layers(two: Processes, tmp_path: Path) -> None:
    for error in two(ranks_choose_other_layers, tmp_path):
        assert "layers=None on rank 0 and 'all' on rank 1" in error


def one_cannot_begin(rank: int) -> tuple[str, str]:
    error = raised(nn.Linear(3, 3) if rank == 0 else nn.LayerNorm(3), process_group=dist.group.WORLD)
    return error, raised(to="runs/next")


def test_what_one_rank_cannot_begin_is_raised_on_all_and_the_next_watch_is_well(two: Processes, tmp_path: Path) -> None:
    (first, then), (second, after) = two(one_cannot_begin, tmp_path)
    assert first.startswith(
        "WstrackError 1 of 2 ranks could not begin to watch; rank 1: ValueError: layers=None: of the"
    )
    assert second.startswith("ValueError layers=None: of the model's trainable parameters (weight, bias")
    assert then == after == "nothing"


def parts_that_do_not_fit(rank: int) -> list[str]:
    alone = [dist.new_group([one]) for one in range(2)][rank]
    stage = nn.Sequential(nn.Linear(7, 12) if rank == 0 else nn.Linear(12, 3))
    inner = plain()
    FullyShardedDataParallel(inner, device_id=torch.device("cpu"), use_orig_params=True)
    return [raised(stage, process_group=dist.group.WORLD), raised(inner), raised(process_group=dist.new_group([0, 1])),
            raised(process_group=alone)]  # fmt: skip


def test_parts_that_do_not_fit_together_are_refused(two: Processes, tmp_path: Path) -> None:
    for stage, inner, whole, alone in two(parts_that_do_not_fit, tmp_path):
        assert "0.weight has the shape (3, 12) on rank 1 and (12, 7) on another; give each part" in stage
        assert "0.weight belongs to an FSDP wrapper outside of this model" in inner
        assert whole == "nothing"
        assert alone.startswith("ValueError process_group: the model is sharded over ranks 0, 1, which are not all")


def tied(rank: int, *, original: bool) -> list[tuple[str, tuple[str, ...]]]:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)
            self.head.weight = self.embedding.weight

    model = FullyShardedDataParallel(Tied(), device_id=torch.device("cpu"), use_orig_params=original)
    with wstrack.watch(model, to="runs/it") as watcher:
        return [(layer.name, layer.aliases) for layer in watcher._measured.delivery._manifest.layers]


@pytest.mark.parametrize("original", [False, True])
def test_a_tied_weight_that_fsdp_has_flattened_is_one_layer(two: Processes, tmp_path: Path, original: bool) -> None:
    assert two(tied, tmp_path, original=original) == [[("embedding.weight", ("head.weight",))]] * 2


def the_first_connects_last(rank: int) -> bool:
    real, left = dist.ProcessGroupGloo, Path("left")

    def slow(*arguments: object) -> object:
        group, late = real(*arguments), time.monotonic() + 1
        while not left.exists() and time.monotonic() < late:
            time.sleep(0.01)
        return group

    model = FullyShardedDataParallel(plain(), device_id=torch.device("cpu"), use_orig_params=True)
    with mock.patch.object(dist, "ProcessGroupGloo", slow if rank == 0 else real), wstrack.watch(model, to="runs/it"):
        early = left.exists()
    if rank == 1:
        left.touch()
    return early


def test_no_rank_goes_before_all_are_connected(two: Processes, tmp_path: Path) -> None:
    assert two(the_first_connects_last, tmp_path) == [False, False]


def nothing_can_be_opened(rank: int) -> str:
    return raised(to="nosuchtracker")


def test_what_the_first_rank_cannot_open_is_raised_on_all(two: Processes, tmp_path: Path) -> None:
    for error in two(nothing_can_be_opened, tmp_path):
        assert error.startswith("ValueError")
        assert "to='nosuchtracker' is no tracker" in error


def test_a_group_that_is_none() -> None:
    with pytest.raises(ValueError, match="this process is not in it"):
        wstrack.watch(plain(), process_group=object())  # type: ignore[arg-type]


# ---- while training -------------------------------------------------------------------------------------------------


def one_counts_twice(rank: int) -> tuple[list[str], int]:
    model, optimizer = sharded()
    with (
        mock.patch("wstrack.training.ranks.MAX_STEP_SKEW", 10),
        mock.patch.multiple("wstrack.training.plan", MAX_STEP_SKEW=10, MAX_CLOCK_SKEW=0.0),
        said() as lines,
    ):
        watcher = wstrack.watch(model, to="runs/it", every=2)
        for _ in range(40):
            train(model, optimizer, 1)
            if rank == 1:
                watcher.step()
        watcher.close()
    return [line for line in lines if line.startswith("ERROR")], watcher.steps


def test_a_rank_that_counts_other_steps_is_named(two: Processes, tmp_path: Path) -> None:
    answers = two(one_counts_twice, tmp_path)
    assert [steps for _, steps in answers] == [40, 80]
    for lines, _ in answers:
        assert len(lines) == 1
        assert "the ranks count different steps" in lines[0]
        assert "rank 1 took the sample of step" in lines[0]
        assert "training goes on" in lines[0]


def one_closes(rank: int) -> tuple[list[str], list[int]]:
    model, optimizer = sharded()
    with said() as lines:
        watcher = wstrack.watch(model, to="runs/it", every=2)
        train(model, optimizer, 2)
        if rank == 1:
            watcher.close()
        train(model, optimizer, 4)
        watcher.close()
    return lines, watcher.run().steps.tolist() if rank == 0 else []


def test_a_rank_that_closes_before_the_others(two: Processes, tmp_path: Path) -> None:
    (lines, steps), (others, _) = two(one_closes, tmp_path)
    assert steps == [2]
    assert not others
    assert "rank 1 did not come to the sample of step 4 (last seen: rank 1 at step 2)" in lines[0]
    assert lines[-1] == "WARNING recording: 2 samples were lost"


def one_cannot_measure(rank: int) -> list[str]:
    from wstrack.measuring.meters.meter import Meter

    model, optimizer = sharded()
    with said() as lines:
        watcher = wstrack.watch(model, to="runs/it", every=1)
        train(model, optimizer, 1)
        if rank == 1:
            with mock.patch.object(Meter, "sample", side_effect=MemoryError):
                train(model, optimizer, 1)
        else:
            train(model, optimizer, 1)
        train(model, optimizer, 2)
        watcher.close()
    if rank == 0:
        frame = watcher.run().series["rwc"]
        assert frame.index.tolist() == [1, 2, 3, 4]
        assert frame.notna().all(axis=1).tolist() == [True, False, False, True]
    return lines


def test_a_sample_that_fails_on_one_rank_is_missing_and_the_next_are_not(two: Processes, tmp_path: Path) -> None:
    lines, others = two(one_cannot_measure, tmp_path)
    assert not lines
    assert [line for line in others if "MemoryError" in line]


def one_dies(rank: int) -> list[str]:
    torch.manual_seed(0)
    model = nn.Linear(4, 4)  # nothing that would make training itself wait for the dead
    watcher = wstrack.watch(model, to="runs/it", every=1, process_group=dist.group.WORLD)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with said() as lines:
        for step in range(3):
            if step == 2 and rank == 1:
                watcher.flush()
                os._exit(1)
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        watcher.close()
    assert watcher.run().steps.tolist() == [1, 2]
    return lines


def test_a_rank_that_dies_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    processes = Processes(2)
    try:
        lines, nothing = processes(one_dies, tmp_path)
    finally:
        processes.stop()
    assert nothing is None
    assert lines[0].startswith("ERROR rank 1 did not come to the sample of step 3 (last seen: rank 1 at step 2)")
    assert "2 of" not in lines[0]


# ---- without sharding -----------------------------------------------------------------------------------------------


def rank_0_watches_alone(rank: int) -> list[int]:
    model = DistributedDataParallel(plain())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = wstrack.watch(model, to="runs/it", every=1) if rank == 0 else None
    train(model, optimizer, 3)
    if watcher is None:
        return []
    watcher.close()
    return watcher.run().steps.tolist()


def test_under_ddp_rank_0_may_watch_alone(two: Processes, tmp_path: Path) -> None:
    assert two(rank_0_watches_alone, tmp_path) == [[1, 2, 3], []]


def all_watch(rank: int) -> tuple[str, int, list[str]]:
    model = DistributedDataParallel(plain())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with said() as lines, wstrack.watch(model, every=1) as watcher:
        dist.barrier()
        train(model, optimizer, 3)
        assert watcher.flush()
        if rank > 0:
            with pytest.raises(wstrack.WstrackError, match="rank 0 measures"):
                watcher.run()
            assert not hasattr(watcher, "_meter")  # nor a copy of the weights
    return repr(watcher), watcher.steps, lines


def test_under_ddp_the_other_ranks_do_nothing(two: Processes, tmp_path: Path) -> None:
    (_, first, _), (text, second, lines) = two(all_watch, tmp_path)
    assert first == second == 3  # they count, for the checkpoint that any of them may write
    assert "measured by rank 0" in text
    assert not lines
    assert len(list((tmp_path / "runs").iterdir())) == 1


def each_has_its_own(rank: int) -> tuple[list[str], list[int]]:
    model = nn.Linear(4 + rank, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with said() as lines:
        watcher = wstrack.watch(model, every=1)
        dist.barrier()
        model(torch.ones(2, 4 + rank)).sum().backward()
        optimizer.step()
        watcher.close()
        alone = [dist.new_group([one]) for one in range(2)][rank]
        watcher = wstrack.watch(model, to=f"runs/{rank}", every=1, process_group=alone)
        optimizer.step()
        watcher.close()
    return lines, watcher.run().steps.tolist()


def test_ranks_with_models_of_their_own_are_told_and_may_watch_them(two: Processes, tmp_path: Path) -> None:
    (first, steps), (second, others) = two(each_has_its_own, tmp_path)
    assert not first
    assert len(second) == 1
    assert "pass process_group=torch.distributed.group.WORLD" in second[0]
    assert steps == others == [1]


# ---- at the end -----------------------------------------------------------------------------------------------------


def the_group_is_destroyed_first(rank: int) -> Seen:
    model, optimizer = sharded()
    watcher = wstrack.watch(model, to="runs/it", every=1)
    totals, collectives = spied(watcher)
    train(model, optimizer, 3)
    dist.destroy_process_group()
    result = seen(watcher, rank, totals, collectives, [])
    dist.init_process_group("gloo", init_method=Path("group").absolute().as_uri(), rank=rank, world_size=2)
    return result


def a_step_after_the_end(rank: int) -> list[str]:
    model = DistributedDataParallel(plain())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with said() as lines:
        watcher = wstrack.watch(model.module, to="runs/it", every=1)
        dist.barrier()
        dist.destroy_process_group()
        train(model.module, optimizer, 2)
        watcher.close()
    dist.init_process_group("gloo", init_method=Path("group").absolute().as_uri(), rank=rank, world_size=2)
    return lines


def test_a_step_after_the_end_of_the_process_group(two: Processes, tmp_path: Path) -> None:
    assert two(a_step_after_the_end, tmp_path) == [[], []]


def test_the_last_samples_survive_the_end_of_the_process_group(two: Processes, tmp_path: Path) -> None:
    first, second = two(the_group_is_destroyed_first, tmp_path)
    assert first.steps == [1, 2, 3]
    assert first.collectives == second.collectives == 3


def resumed(rank: int) -> list[int]:
    model, optimizer = sharded()
    for start, steps in ((None, 5), (5, 4), (3, 6)):
        with wstrack.watch(model, to="runs/it", every=2, start=start) as watcher:
            train(model, optimizer, steps)
    assert watcher.steps == 9
    return watcher.run().steps.tolist() if rank == 0 else []


def test_a_sharded_run_goes_on_at_its_checkpoint(two: Processes, tmp_path: Path) -> None:
    assert two(resumed, tmp_path) == [[2, 4, 6, 8], []]


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "message"), [("ds_id", "DeepSpeed ZeRO-3"), ("tensor_model_parallel", "Megatron-LM")]
)
def test_sharding_that_is_not_supported_is_refused_by_name(attribute: str, message: str) -> None:
    """The parameters bear the marks of DeepSpeed's and Megatron's: neither can be installed here."""
    model = plain()
    setattr(model[2].weight, attribute, 1)
    with pytest.raises(ValueError, match=rf"model: 2.weight .*{message}.*not supported; use"):
        wstrack.watch(model)
    assert wstrack.watch(model, layers=r"^[04]\.weight").recording
