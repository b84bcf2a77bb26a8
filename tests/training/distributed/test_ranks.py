"""The ranks of one watch, between real processes: who belongs to it, what the first makes of all, how sums add up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from wstrack.errors import WstrackError
from wstrack.measuring.rows import rows_of
from wstrack.measuring.sharding import LocalShard
from wstrack.runs.manifest import Layer
from wstrack.training.finding_ranks import find_ranks
from wstrack.training.ranks import Ranks

if TYPE_CHECKING:
    from tests.training.distributed.processes import Processes

pytestmark = pytest.mark.slow


def found(rank: int) -> list[object]:
    whole = nn.Linear(2, 2)
    chosen = find_ranks(dist.group.WORLD, whole)
    return [find_ranks(None, whole), chosen.ranks if chosen else None, chosen.writes if chosen else None]


def test_whole_weights_are_of_one_rank_unless_the_user_says_otherwise(two: Processes, tmp_path: Path) -> None:
    assert two(found, tmp_path) == [[None, (0, 1), True], [None, (0, 1), False]]


def planned(rank: int) -> dict[str, Any]:
    """Rank 0 holds `shared` and its own; rank 1 the same copy of `shared`, and another layer."""
    ranks = Ranks((0, 1), whose=f"rank {rank}")
    layers = [Layer("shared", shape=(2,), numel=2), Layer(f"own {rank}", shape=(2,), numel=2)]
    shared = LocalShard(nn.Parameter(torch.ones(2)), ranks=(0, 1))
    own = LocalShard(nn.Parameter(torch.full((2,), rank + 1.0)))
    ranks.offer(rows_of(list(zip(layers, [shared, own], strict=True)), {}), [shared, own], {"every": 1})
    plan = ranks.plan(lambda all_layers: {"name": f"run of {len(all_layers)} layers"})
    ranks.connect(plan)
    sums = np.array([[1.0 + rank], [10.0 * (rank + 1)]])  # (layers here, sums)
    total = ranks.total(5, 5, 0.0, sums)
    ranks.close()
    try:
        ranks.total(6, 1, 0.0, sums)
    except WstrackError as error:
        return {"names": [layer.name for layer in plan.layers], "told": plan.told, "total": total, "after": str(error)}
    raise AssertionError("a closed connection added up sums")


def test_sums_of_shards_add_up_and_the_plan_is_everyones(two: Processes, tmp_path: Path) -> None:
    for one in two(planned, tmp_path):
        assert one["names"] == ["shared", "own 0", "own 1"]
        assert one["told"] == {"name": "run of 3 layers"}
        np.testing.assert_array_equal(one["total"], [[3.0], [10.0], [20.0]])
        assert one["after"] == "this rank has closed its watch"


def differing(rank: int) -> str:
    ranks = Ranks((0, 1), whose=f"rank {rank}")
    shard = LocalShard(nn.Parameter(torch.ones(1)))
    ranks.offer(rows_of([(Layer("a", numel=1), shard)], {}), [shard], {"every": rank + 1})
    with pytest.raises(ValueError, match="every=") as said:
        ranks.plan(lambda layers: {})
    return str(said.value)


def test_settings_that_differ_are_refused_on_all_ranks(two: Processes, tmp_path: Path) -> None:
    first, second = two(differing, tmp_path)
    assert "every=1 on rank 0 and 2 on rank 1; call watch() alike" in first
    assert "every=1 on rank 0 and 2 on rank 1" in second
