"""Where parts of a layer lie in what a process holds of it, against labels written beside every element."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from wstrack.measuring.parts import Cut, pieces_of
from wstrack.measuring.sharding import LocalShard

CUTS = [
    ((6, 4), Cut(3)),
    ((6, 4), Cut((1, 2, 3))),
    ((6, 4), Cut(2, dim=1)),
    ((12, 5), Cut(2, repeat=3)),
    ((12, 5), Cut((2, 1, 1), labels=("q", "k", "v"), repeat=3)),
    ((5, 12), Cut((2, 1, 1), dim=1, labels=("q", "k", "v"), repeat=3)),
    ((4, 6, 5), Cut(4)),
    ((4, 6, 5), Cut((1, 2, 3), dim=1)),
    ((4, 6, 5), Cut(5, dim=2)),
    ((7,), Cut((3, 4))),
    ((8, 3), Cut((1, 2, 1, 4), labels=("a", "b", "a", "c"))),
]


def labelled(shape: tuple[int, ...], cut: Cut) -> tuple[list[str], np.ndarray]:
    """The labels, and for each element of a tensor of this shape the number of its own."""
    runs = cut.runs(shape[cut.dim])
    names = list(dict.fromkeys(label for label, _ in runs))
    along = np.concatenate([np.full(size, names.index(label)) for label, size in runs])
    return names, np.broadcast_to(along[(...,) + (None,) * (len(shape) - cut.dim - 1)], shape)


@pytest.mark.parametrize(("shape", "cut"), CUTS, ids=str)
def test_each_element_is_in_the_part_of_its_own(shape: tuple[int, ...], cut: Cut) -> None:
    names, of = labelled(shape, cut)
    weight = torch.arange(of.size).view(shape)
    found = pieces_of(cut, shape, LocalShard(nn.Parameter(weight.float())))
    assert list(found) == names
    for number, pieces in enumerate(found.values()):
        elements = torch.cat([piece.of(weight).flatten() for piece in pieces])
        assert sorted(elements.tolist()) == np.flatnonzero(of.flatten() == number).tolist()


@pytest.mark.parametrize(("shape", "cut"), CUTS, ids=str)
def test_parts_of_any_stretch_of_a_flattened_layer(shape: tuple[int, ...], cut: Cut) -> None:
    names, of = labelled(shape, cut)
    every = np.arange(of.size)
    for first in range(of.size + 1):
        for count in range(of.size - first + 1):
            here = torch.arange(first, first + count)
            shard = LocalShard(nn.Parameter(here.double()), ranks=(0, 1), first=first)
            found = pieces_of(cut, shape, shard)
            assert list(found) == names
            for number, pieces in enumerate(found.values()):
                elements = [element for piece in pieces for element in piece.of(here).flatten().tolist()]
                wanted = every[(of.flatten() == number) & (every >= first) & (every < first + count)]
                assert sorted(elements) == wanted.tolist()


def test_a_part_takes_few_pieces_however_often_its_rows_come() -> None:
    weight = LocalShard(nn.Parameter(torch.zeros(3 * 64 * 8, 16)))
    found = pieces_of(Cut((64, 64, 64), labels=("q", "k", "v"), repeat=8), (3 * 64 * 8, 16), weight)
    assert [len(pieces) for pieces in found.values()] == [1, 1, 1]
    flat = LocalShard(nn.Parameter(torch.zeros(700)), ranks=(0, 1), first=33)
    found = pieces_of(Cut(3, dim=1), (64, 24), flat)
    assert max(len(pieces) for pieces in found.values()) <= 3


def test_what_another_rank_counts_is_in_no_part_here() -> None:
    shard = LocalShard(nn.Parameter(torch.zeros(4, 4)), ranks=(0, 1), counts=False)
    assert pieces_of(Cut(2), (4, 4), shard) == {"0": [], "1": []}


@pytest.mark.parametrize(
    ("cut", "size", "why"),
    [
        (Cut(3), 8, "3 equal parts do not fill 8"),
        (Cut((2, 3)), 8, "2 [+] 3 do not fill 8"),
        (Cut((2, 2), repeat=3), 8, "2 [+] 2, 3 times, do not fill 8"),
        (Cut(9), 8, "9 equal parts do not fill 8"),
    ],
)
def test_a_cut_that_does_not_fill_its_dimension_says_so(cut: Cut, size: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        cut.runs(size)


@pytest.mark.parametrize("wrong", [{"into": 0}, {"into": (1, 0)}, {"into": ()}, {"into": 2, "repeat": 0}])
def test_sizes_count_from_one(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="count from 1"):
        Cut(**wrong)


def test_labels_are_one_for_each_part() -> None:
    with pytest.raises(ValueError, match="2 parts have 3 labels"):
        Cut(2, labels=("q", "k", "v"))
