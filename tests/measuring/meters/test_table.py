from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from wstrack.measuring.meters.table import addresses, cut


def test_a_model_of_seven_billion_weights_on_the_meta_device() -> None:
    block = [(4096, 4096)] * 4 + [(11008, 4096)] * 2 + [(4096, 11008)]
    layers = [torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in [(32_000, 4096), *block * 32]]
    numels = [layer.numel() for layer in layers]
    chunks = cut(layers, 16_384)
    assert chunks.count.sum() == sum(numels) > 2**32
    assert np.bincount(chunks.layer, weights=chunks.count).tolist() == numels
    assert (np.diff(chunks.first) == [-(-numel // 16_384) for numel in numels]).all()
    last = chunks.first[1:] - 1
    assert (chunks.offset[last] + chunks.count[last] == numels).all()


def test_addresses_beyond_32_bits() -> None:
    # Nothing is read: one element, seen as a layer of 6e9.
    layer = torch.zeros(1).expand(6_000_000_000)
    chunks = cut([torch.empty(len(layer), device="meta")], 1 << 30)
    where = addresses([layer], chunks)
    assert where[-1] - where[0] == 4 * 5 * (1 << 30)
    assert addresses([None], chunks).tolist() == (chunks.offset * 0).tolist()


def elements(tensor: torch.Tensor, size: int) -> list[int]:
    """Where in the storage each element lies that a table of this tensor names."""
    chunks = cut([tensor], size)
    assert (chunks.count <= size).all()
    assert (chunks.count > 0).all()
    return [
        tensor.storage_offset() + offset + row * apart + column
        for offset, rows, width, apart in zip(chunks.offset, chunks.rows, chunks.width, chunks.apart, strict=True)
        for row in range(rows)
        for column in range(width)
    ]


@pytest.mark.parametrize("size", [1, 3, 8, 1000])
@pytest.mark.parametrize(
    "view",
    [
        lambda t: t[:, 1:4],
        lambda t: t[:, :, 2:5],
        lambda t: t[2],
        lambda t: t[1:3, 2:4, 1:5],
        lambda t: t[:, :, 3],
        lambda t: t[:, :, 3:4],
        lambda t: t.unfold(2, 2, 3),
        lambda t: t.unfold(1, 2, 3),
        lambda t: t.permute(2, 0, 1)[1:4],
        lambda t: t[:, :, ::2],
        lambda t: t[:0],
        lambda t: t,
    ],
)
def test_tensors_with_gaps_are_named_element_by_element(
    view: Callable[[torch.Tensor], torch.Tensor], size: int
) -> None:
    whole = torch.arange(4 * 5 * 6).view(4, 5, 6)
    tensor = view(whole)
    assert sorted(elements(tensor, size)) == sorted(tensor.flatten().tolist())


def test_rows_of_a_tensor_with_gaps_share_a_chunk() -> None:
    head = torch.empty(4096, 4096, device="meta")[:, :128]
    chunks = cut([head], 65_536, span=65_536)
    assert (len(chunks.rows), set(chunks.rows)) == (256, {16})
    chunks = cut([head], 65_536)
    assert (len(chunks.rows), set(chunks.rows), set(chunks.width), set(chunks.apart)) == (8, {512}, {128}, {4096})
