"""What a process holds of a layer; with real meshes in tests/training/distributed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from wstrack.measuring.sharding import LocalShard, flattened, holders, local_shard, refused, reshard


def test_a_plain_parameter_is_a_whole_layer() -> None:
    parameter = nn.Parameter(torch.arange(6.0).reshape(2, 3))
    shard = local_shard(parameter)
    assert shard.parameter is parameter
    assert (shard.ranks, shard.counts, shard.begin, shard.count, shard.first) == (None, True, None, 0, None)
    assert shard.whole
    assert shard.local() is parameter


def test_a_piece_of_a_flat_parameter_is_a_view_of_it_and_found_again() -> None:
    flat = nn.Parameter(torch.arange(10.0))
    shard = LocalShard(flat, ranks=(0, 1), begin=4, count=3)
    here = shard.local()
    assert here.tolist() == [4.0, 5.0, 6.0]
    assert not shard.whole
    assert shard.local(here) is here
    with torch.no_grad():
        flat.mul_(2)
    assert here.tolist() == [8.0, 10.0, 12.0]
    flat.data = flat.detach().clone()
    assert shard.local(here) is not here


def test_what_another_process_counts_takes_no_memory_here() -> None:
    shard = LocalShard(nn.Parameter(torch.ones(1000)), ranks=(0, 1), counts=False)
    assert shard.local().numel() == 0
    here = shard.local()
    assert shard.local(here) is here


def test_a_model_of_one_process_has_neither_ranks_nor_flat_parameters(model: nn.Sequential) -> None:
    reshard(model)
    assert holders(model) == set()
    assert flattened(model) == {}


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ({"ds_id": 1}, "DeepSpeed ZeRO-3"),
        ({"tensor_model_parallel": True}, "Megatron-LM"),
        ({"placements": [SimpleNamespace(is_partial=lambda: True)]}, "Partial placements"),
    ],
)
def test_kinds_of_sharding_that_are_not_supported_are_named_with_the_way_out(mark: dict, message: str) -> None:
    parameter = nn.Parameter(torch.ones(2, 2))
    for name, value in mark.items():
        setattr(parameter, name, value)
    said = refused(parameter)
    assert said is not None
    assert message in said
    assert refused(nn.Parameter(torch.ones(2, 2))) is None
