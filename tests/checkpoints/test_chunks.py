"""Putting a tensor together from its chunks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from wstrack.checkpoints.chunks import joined
from wstrack.checkpoints.stored import InBlocks, InMemory, InPieces, Stored

WHOLE = torch.arange(60, dtype=torch.float32).view(5, 4, 3)


@dataclass(frozen=True)
class Part(Stored):
    """A part of WHOLE that knows what is asked of it."""

    values: torch.Tensor | None = None

    def read(self, into: torch.Tensor, start: int) -> None:
        assert self.values is not None
        into.copy_(self.values.reshape(-1)[start : start + into.numel()])


def parts(*places: tuple[slice, ...]) -> dict[tuple[int, ...], Stored]:
    found = {}
    for place in places:
        values = WHOLE[place]
        first = tuple(one.start or 0 for one in place) + (0,) * (3 - len(place))
        found[first] = Part("w", tuple(values.shape), values.dtype, values, content=first)
    return found


CUTS = {
    "rows": ((slice(3, 5),), (slice(0, 1),), (slice(1, 3),)),
    "columns": ((slice(None), slice(0, 1)), (slice(None), slice(1, 4))),
    "no grid": ((slice(0, 2), slice(0, 3)), (slice(0, 2), slice(3, 4)), (slice(2, 5), slice(0, 1)),
                (slice(2, 5), slice(1, 4))),
}  # fmt: skip


@pytest.mark.parametrize("cut", list(CUTS))
def test_any_stretch_of_it_is_that_of_the_whole(cut: str) -> None:
    tensor = joined("w", (5, 4, 3), torch.float32, parts(*CUTS[cut]))
    assert isinstance(tensor, InPieces if cut == "rows" else InBlocks)
    assert tensor.in_stretches == (cut == "rows")
    assert tensor.content is not None
    for start in range(0, 60, 7):
        for count in (0, 1, 13, 60 - start):
            into = torch.empty(min(count, 60 - start))
            tensor.read(into, start)
            np.testing.assert_array_equal(into, WHOLE.view(-1)[start : start + len(into)])


def test_a_piece_that_is_had_whole_or_not_at_all_makes_all_of_it_so() -> None:
    rows = parts(*CUTS["rows"])
    rows[(0, 0, 0)] = InMemory("w", (1, 4, 3), torch.float32, lambda: WHOLE[:1])
    assert not joined("w", (5, 4, 3), torch.float32, rows).in_stretches


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_each_missing_chunk_is_named(place: int) -> None:
    chunks = parts(*CUTS["no grid"])
    first = list(chunks)[place]
    del chunks[first]
    with pytest.raises(ValueError, match=rf"its element \({first[0]}, {first[1]}, 0\) is in no chunk"):
        joined("w", (5, 4, 3), torch.float32, chunks)


def test_chunks_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="in several chunks"):
        joined("w", (5, 4, 3), torch.float32, parts((slice(0, 3),), (slice(2, 5),)))
    with pytest.raises(ValueError, match="not within"):
        joined("w", (4, 4, 3), torch.float32, parts((slice(0, 5),)))
    with pytest.raises(ValueError, match="1 dimensions, where it has 3"):
        joined("w", (5, 4, 3), torch.float32, {(0, 0, 0): Stored("w", (60,), torch.float32)})
    with pytest.raises(ValueError, match="in no chunk"):
        joined("w", (5, 4, 3), torch.float32, {})


def test_a_scalar_and_nothing() -> None:
    assert joined("w", (), torch.float32, {(): Stored("v", (), torch.float32)}).name == "w"
    assert joined("w", (0, 3), torch.float32, {(0, 0): Stored("v", (0, 3), torch.float32)}).numel == 0


def test_as_many_cuts_as_nobody_makes_take_no_memory() -> None:
    diagonal = {(at, at, at): Stored("w", (1, 1, 1), torch.float32) for at in range(0, 4000, 2)}
    with pytest.raises(ValueError, match="more ways than are read"):
        joined("w", (4000, 4000, 4000), torch.float32, diagonal)
