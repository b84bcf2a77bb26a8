from __future__ import annotations

import numpy as np
import torch

from wstrack.measuring.meters.table import addresses, cut


def test_a_model_of_seven_billion_weights_on_the_meta_device() -> None:
    block = [(4096, 4096)] * 4 + [(11008, 4096)] * 2 + [(4096, 11008)]
    layers = [torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in [(32_000, 4096), *block * 32]]
    numels = [layer.numel() for layer in layers]
    chunks = cut(numels, 16_384)
    assert chunks.count.sum() == sum(numels) > 2**32
    assert np.bincount(chunks.layer, weights=chunks.count).tolist() == numels
    assert (np.diff(chunks.first) == [-(-numel // 16_384) for numel in numels]).all()
    last = chunks.first[1:] - 1
    assert (chunks.offset[last] + chunks.count[last] == numels).all()


def test_addresses_beyond_32_bits() -> None:
    # Nothing is read: one element, seen as a layer of 6e9.
    layer = torch.zeros(1).expand(6_000_000_000)
    chunks = cut([layer.numel()], 1 << 30)
    where = addresses([layer], chunks)
    assert where[-1] - where[0] == 4 * 5 * (1 << 30)
    assert addresses([None], chunks).tolist() == (chunks.offset * 0).tolist()
