"""How the bits of an element are hashed: the two numbers whose sums are the fingerprint of a layer.

Both hashes are of 32 bits and one to one for an element at its place (`lowbias32` of Chris Wellons, and the finalizer
of Austin Appleby's MurmurHash3), so that an element that differs in any bit is always noticed; that several which
differ add up to the same in both has a chance of 2^-64. They are for finding faults, not for keeping out an enemy. The
same is written down in `cpu.cpp` and `kernels.py`, where it is done in the pass over the weights.
"""

from __future__ import annotations

import torch

__all__ = ["FOLDS", "HASHES", "hashes"]

# The factor of the place; then two rounds of a shift and a factor, and the last shift.
HASHES = (
    (0x9E3779B1, 16, 0x7FEB352D, 15, 0x846CA68B, 16),
    (0x85EBCA77, 16, 0x85EBCA6B, 13, 0xC2B2AE35, 16),
)
FOLDS = ((0x9E3779B1, 0xC2B2AE3D), (0x27D4EB2F, 0x165667B1))  # of 64 bits: the factors of the lower and the upper half
_MASK = 0xFFFFFFFF
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def hashes(weight: torch.Tensor, standing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The two hashes of each element, int64 below 2^32, in plain torch.

    Args:
        weight: any dtype; of complex numbers both parts are hashed, one after the other.
        standing: as `Pair.standing` has it.

    Example:
        >>> one, other = hashes(torch.tensor([1.0, 1.0]), torch.empty(2, device="meta"))
        >>> [hex(value) for value in (*one.tolist(), *other.tolist())]
        ['0xe258db73', '0xedb23162', '0xb1aab1b6', '0x88c4fc9f']
    """
    places = _places(standing, weight.device)
    if weight.is_complex():
        parts = torch.view_as_real(weight.resolve_conj())
        places = torch.stack([2 * places, 2 * places + 1], dim=-1)
        return _hashes(parts, places)
    return _hashes(weight, places)


def _places(standing: torch.Tensor, device: torch.device) -> torch.Tensor:
    places = torch.full((), int(standing.storage_offset()), dtype=torch.int64, device=device)
    for size, stride in zip(standing.shape, standing.stride(), strict=True):
        places = places[..., None] + torch.arange(size, device=device) * stride
    return places


def _hashes(weight: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    width = weight.element_size()
    raw = weight.view(_WORDS[width]).to(torch.int64)
    found = []
    for (key, *rounds), (lower, upper) in zip(HASHES, FOLDS, strict=True):
        bits = raw & ((1 << min(8 * width, 32)) - 1)
        if width == 8:
            bits = bits * lower + ((raw >> 32) & _MASK) * upper
        value = (bits + places * key) & _MASK
        for shift, factor in zip(rounds[0:4:2], rounds[1:4:2], strict=True):
            value = ((value ^ (value >> shift)) * factor) & _MASK
        found.append(value ^ (value >> rounds[4]))
    return found[0], found[1]
