"""The series of a sharded run is that of a single process, whatever shares the model out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.distributed.trainings import EVERY, LAYERS, STEPS, WAYS, Seen, alone, together

if TYPE_CHECKING:
    from pathlib import Path

    from tests.distributed.processes import Processes

REPLICATED = ("DDP", "DDP, inner module", "DDP, ZeRO-1")  # rank 0 has all it needs
GRID = ("HSDP", "FSDP1, hybrid", "tensor parallel in two replicas", "FSDP2 of tensor parallel")  # of two by two ranks


def check(seen: list[Seen], way: str, dtype: torch.dtype = torch.float64) -> None:
    first, *others = seen
    assert first.layers == LAYERS
    assert first.steps == list(range(EVERY, STEPS + 1, EVERY))
    for metric, oracle in alone(dtype).items():
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
