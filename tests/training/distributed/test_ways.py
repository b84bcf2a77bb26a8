"""The series of a sharded run is that of a single process, whatever shares the model out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.training.distributed.trainings import (
    CUTS,
    EVERY,
    LAYERS,
    LR,
    STEPS,
    WAYS,
    Seen,
    alone,
    experts,
    parts_alone,
    pipelined,
    stacked,
    together,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.distributed.processes import Processes

pytestmark = pytest.mark.slow

REPLICATED = ("DDP", "DDP, inner module", "DDP, ZeRO-1")  # rank 0 has all it needs
GRID = ("HSDP", "FSDP1, hybrid", "tensor parallel in two replicas", "FSDP2 of tensor parallel")  # of two by two ranks


def check(seen: list[Seen], way: str, dtype: torch.dtype = torch.float64) -> None:
    first, *others = seen
    assert first.layers == LAYERS
    assert first.steps == list(range(EVERY, STEPS + 1, EVERY))
    oracles = alone(dtype)
    if dtype == torch.float32:
        del oracles["rwc_elementwise"]  # near zero it tells the rounding of the training itself
    for metric, oracle in oracles.items():
        np.testing.assert_allclose(first.values[metric], oracle, rtol=1e-6, err_msg=metric)
    meetings = 0 if way in (*REPLICATED, "FSDP1, not sharded") else len(first.steps)
    for rank in seen:
        assert rank.collectives == meetings
        assert len(rank.totals) == meetings
    for rank in others:
        for mine, theirs in zip(first.totals, rank.totals, strict=True):
            assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("way", [way for way in WAYS if way not in GRID])
def test_two_ranks(two: Processes, tmp_path: Path, way: str) -> None:
    seen = two(together, tmp_path, way=way)
    check(seen, way)
    if way == "tensor parallel" or "sharded" in way:
        return
    assert (sum(seen[0].parts) < 204) == (way not in REPLICATED)  # or nothing would be sharded here


@pytest.mark.parametrize("way", list(WAYS))
def test_four_ranks(four: Processes, tmp_path: Path, way: str) -> None:
    seen = four(together, tmp_path, way=way)
    check(seen, way)
    if way in ("FSDP2", "FSDP1, flat parameters", "FSDP1, original parameters"):
        assert 0 in [part for rank in seen for part in rank.parts]  # some hold nothing of a layer
    if way == "HSDP":
        assert [sum(rank.parts) > 0 for rank in seen] == [True, True, False, False]  # a replica is not measured twice


@pytest.mark.parametrize("way", ["DDP", "FSDP2", "FSDP1, flat parameters"])
def test_weights_in_float32(two: Processes, tmp_path: Path, way: str) -> None:
    check(two(together, tmp_path, way=way, dtype=torch.float32), way, torch.float32)


def test_the_change_of_single_steps(two: Processes, tmp_path: Path) -> None:
    sharded = two(together, tmp_path / "a", way="FSDP2", window="step")[0]
    whole = two(together, tmp_path / "b", way="DDP", window="step")[0]
    assert sharded.steps == whole.steps == [2, 4, 6]
    for metric, values in whole.values.items():
        np.testing.assert_allclose(sharded.values[metric], values, rtol=1e-6)
        assert not np.allclose(values, alone()[metric]) or metric in ("norm", "lr")


def test_pipeline_stages_make_one_run(two: Processes, tmp_path: Path) -> None:
    check(two(pipelined, tmp_path), "pipeline")


@pytest.mark.parametrize("alike", [False, True])
def test_experts_of_one_name_are_one_layer(two: Processes, tmp_path: Path, alike: bool) -> None:
    (seen, *first), (_, *second) = two(experts, tmp_path, alike=alike)
    assert seen.layers == ["shared.weight", "expert.weight"]
    changed = sum(np.abs(after - before).sum() for before, after in (first, second))
    had = sum(np.abs(before).sum() for before, _ in (first, second))
    np.testing.assert_allclose(seen.values["rwc"], [[0.5, changed / had]], rtol=1e-6)
    mean = np.mean([np.abs(after).mean() for _, after in (first, second)])
    np.testing.assert_allclose(seen.values["norm"][0, 1], mean, rtol=1e-6)


@pytest.mark.parametrize("way", ["FSDP2", "FSDP1, original parameters", "FSDP1, flat parameters"])
def test_a_model_that_was_evaluated_before(two: Processes, tmp_path: Path, way: str) -> None:
    """FSDP leaves whole weights in the place of shards after a forward pass without a backward one."""
    check(two(together, tmp_path, way=way, evaluated=True), way)


def check_parts(seen: list[Seen]) -> None:
    names, changes = parts_alone()
    first = seen[0]
    assert [layer for layer in first.layers if "[" in layer] == names
    assert [layer for layer in first.layers if "[" not in layer] == LAYERS
    order = [first.layers.index(name) for name in names]
    np.testing.assert_allclose(first.values["rwc"][:, order], changes, rtol=1e-6)
    whole = [first.layers.index(name) for name in LAYERS]
    np.testing.assert_allclose(first.values["rwc"][:, whole], alone()["rwc"], rtol=1e-6)
    assert (first.values["lr"] == LR).all()


@pytest.mark.parametrize("way", [way for way in WAYS if way not in GRID])
def test_parts_by_two_ranks(two: Processes, tmp_path: Path, way: str) -> None:
    check_parts(two(together, tmp_path, way=way, parts=CUTS))


@pytest.mark.parametrize("way", [way for way in WAYS if "DDP" not in way])
def test_parts_by_four_ranks(four: Processes, tmp_path: Path, way: str) -> None:
    check_parts(four(together, tmp_path, way=way, parts=CUTS))


@pytest.mark.parametrize(
    "how", ["experts", "rows", "experts and rows", "experts twice", "replicas of columns", "each its own"]
)
def test_experts_that_four_ranks_share_out(four: Processes, tmp_path: Path, how: str) -> None:
    (names, changes), *_ = four(stacked, tmp_path, how=how)
    assert names == ["experts", *(f"experts[{number}]" for number in range(8))]
    np.testing.assert_allclose(changes[1:], 1.0 / np.arange(1, 9), rtol=1e-12)


@pytest.mark.parametrize("how", ["experts", "rows", "each its own"])
def test_experts_that_two_ranks_share_out(two: Processes, tmp_path: Path, how: str) -> None:
    (names, changes), *_ = two(stacked, tmp_path, how=how)
    assert names == ["experts", *(f"experts[{number}]" for number in range(8))]
    np.testing.assert_allclose(changes[1:], 1.0 / np.arange(1, 9), rtol=1e-12)
