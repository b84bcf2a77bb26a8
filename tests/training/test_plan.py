"""Who counts which layer, and whether the samples of several ranks are of one moment: without any rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from wstrack.measuring.sharding import LocalShard
from wstrack.runs.manifest import Layer
from wstrack.training.plan import (
    MAX_CLOCK_SKEW,
    MAX_STEP_SKEW,
    _numbered_on,
    disagreement,
    format_ranks,
    merged,
    replica_ids,
)

A, B = Layer("a", shape=(2, 2), numel=4), Layer("b", shape=(2, 2), numel=4)


def test_replicas_count_once_and_stages_each_their_own() -> None:
    layers, owners = merged({0: ([A, B], ["of size 1", "of size 2"]), 1: ([A, B], ["of size 1", "of size 2"])})
    assert layers == (A, B)
    assert owners == ({"of size 1": 0}, {"of size 2": 0})
    layers, owners = merged({0: ([A], ["rank 0"]), 1: ([B], ["rank 1"])})
    assert (layers, owners) == ((A, B), ({"rank 0": 0}, {"rank 1": 1}))


def test_experts_of_one_name_are_one_layer_and_shards_are_counted_where_they_are() -> None:
    layers, owners = merged({0: ([A], ["rank 0"]), 1: ([A], ["rank 1"])})
    assert layers[0].numel == 8
    assert owners == ({"rank 0": 0, "rank 1": 1},)
    layers, owners = merged({rank: ([A], ["shards of rank 0"]) for rank in range(4)})
    assert layers == (A,)
    assert owners == ({"shards of rank 0": -1},)


def test_one_name_for_two_shapes_is_refused_with_both() -> None:
    with pytest.raises(ValueError, match=r"a has the shape \(3, 3\) on rank 1 and \(2, 2\) on another"):
        merged({0: ([A], ["x"]), 1: ([Layer("a", shape=(3, 3), numel=9)], ["y"])})


def test_a_replica_is_known_by_its_size() -> None:
    one, same, other = (LocalShard(nn.Parameter(torch.full((3,), value))) for value in (2.0, -2.0, 3.0))
    assert replica_ids([one, same, other]) == ["of size 6.0", "of size 6.0", "of size 9.0"]
    assert replica_ids([one], "rank 1") == ["rank 1"]
    assert replica_ids([LocalShard(one.parameter, ranks=(4, 2))]) == ["shards of rank 2"]


def test_samples_of_one_moment_agree() -> None:
    said = np.array([[100.0, 100.0], [50.0, 50.0], [9.0, 9.1]])
    assert disagreement([0, 3], said, None) is None
    assert disagreement([0, 3], said, (50, np.array([5.0, 5.0]))) is None


@pytest.mark.parametrize(("row", "what"), [(0, "step 50 on rank 3, step 100 on rank 0"), (1, "a change over")])
def test_other_steps_and_other_intervals_are_named_with_their_ranks(row: int, what: str) -> None:
    said = np.array([[100.0, 100.0], [50.0, 50.0], [9.0, 9.1]])
    said[row, 1] = 50.0 if row == 0 else 25.0
    found = disagreement([0, 3], said, None)
    assert found is not None
    assert what in found
    assert found.startswith("the ranks took different samples")


def test_ranks_that_count_different_steps_are_seen_by_their_clocks() -> None:
    early = (0, np.array([0.0, 100.0]))  # rank 3 took the earlier sample at second 100
    late = np.array([[MAX_STEP_SKEW] * 2, [MAX_STEP_SKEW] * 2, [100.0 - MAX_CLOCK_SKEW - 1, 200.0]], dtype=float)
    assert "rank 0 took the sample of step 50 before rank 3 took that of step 0" in str(
        disagreement([0, 3], late, early)
    )
    late[2, 0] = 100.0 - MAX_CLOCK_SKEW + 1  # within what a host may run ahead
    assert disagreement([0, 3], late, early) is None


def test_clocks_are_only_asked_of_samples_that_lie_far_enough_apart() -> None:
    early = (1000, np.array([0.0, 100.0]))
    late = np.array([[1000.0 + MAX_STEP_SKEW - 1] * 2, [50.0, 50.0], [10.0, 200.0]])
    assert disagreement([0, 3], late, early) is None
    late[0] += 1
    assert disagreement([0, 3], late, early) is not None


def test_copies_of_numbered_parts_go_on_where_the_others_end() -> None:
    """Rank 0 has three experts of each weight, rank 1 others, which it numbers from 0 too; q is a part of one whole."""
    known = {name: Layer(name, of=name.partition("[")[0]) for name in ("w[0]", "w[2]", "w[1]", "w[q]", "v[8]")}
    held = [known["w[0]"], known["w[1]"], known["w[q]"], known["v[8]"]]
    assert _numbered_on("w", held, known) == {"w[0]": "w[3]", "w[1]": "w[4]"}
    assert _numbered_on("v", held, known) == {"v[8]": "v[17]"}
    assert _numbered_on("u", [Layer("u[1]", of="u")], known) == {"u[1]": "u[1]"}


def test_ranks_in_words() -> None:
    assert (format_ranks([3]), format_ranks([0, 1])) == ("rank 3", "ranks 0, 1")
    assert format_ranks(range(8)) == "ranks 0, 1, 2, 3, 4, 5, 6, 7"
    assert format_ranks(range(9)) == "ranks 0, 1, 2, 3, 4, 5, 6, 7 and 1 more"
    assert format_ranks(range(11)) == "ranks 0, 1, 2, 3, 4, 5, 6, 7 and 3 more"
