"""What is right: the tests' NumPy in float64, and integers for the fingerprint, of weights copied to the host."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import oracle
import torch

from wstrack.measuring.meters.bits import hashes
from wstrack.measuring.meters.memory import row_major

__all__ = ["differences", "fingerprint", "on_host", "sums_of", "wide"]

EXACT = frozenset({"nonzero", "changed", "changed_bf16", "bits_low", "bits_high"})
RELATIVE = 1e-6
FEW = 5_000  # elements; of more, plain torch on the CPU takes the hashes, which tests hold to Python's integers


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in the host's memory, of the same dtype and, where it has no gaps, the same strides."""
    return tensor.detach().to("cpu", copy=True)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers in float64, or complex128, on the host."""
    kind = torch.complex128 if tensor.dtype.is_complex else torch.float64
    return tensor.detach().cpu().to(kind, copy=True)


def sums_of(w: torch.Tensor, p: torch.Tensor, last: torch.Tensor, start: torch.Tensor) -> dict[str, float]:
    """Every sum of numbers: of a layer, what it was, the change before, and what it was at the start; all `wide`."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        found = oracle.sums(w.numpy(), p.numpy(), last.numpy(), start.numpy())
    if bool(torch.isnan(p).any()):  # which the oracle of the tests never meets: it is not 0
        found |= {"nonzero": float(torch.count_nonzero(p)), "ratio": math.nan}
    return {name: float(value) for name, value in found.items()}


def fingerprint(weight: torch.Tensor, standing: torch.Tensor | None = None) -> dict[str, float]:
    """Both sums of hashes of a weight on the host.

    Args:
        weight: any dtype but complex ones.
        standing: where its elements stand in the whole layer, on the meta device; None = it is the whole layer.
    """
    where = row_major(weight.shape) if standing is None else standing
    if weight.numel() > FEW:
        low, high = (int(each.sum().item()) % 2**32 for each in hashes(weight, where))
    else:
        reach = 1 + where.storage_offset() + sum((n - 1) * s for n, s in zip(where.shape, where.stride(), strict=True))
        places = torch.arange(max(reach, 1)).as_strided(where.shape, where.stride(), where.storage_offset())
        words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[weight.element_size()]
        low, high = oracle.fingerprint(weight.contiguous().view(words).numpy(), places.numpy())
    return {"bits_low": float(low), "bits_high": float(high)}


def differences(found: Mapping[str, float], want: Mapping[str, float]) -> list[str]:
    """A line for each sum that is not what it should be: counts and bits exactly, all others to 1e-6."""
    scale = math.sqrt(abs(want.get("sq_change", 0.0) * want.get("sq_last_change", 0.0)))
    lines = []
    for name, value in found.items():
        right = want[name]
        if name.startswith("bits"):  # sums of chunks, of which each is modulo 2^32
            value %= 2**32
        if math.isnan(right) or math.isinf(right) or name in EXACT:
            same = value == right or (math.isnan(value) and math.isnan(right))
        else:
            same = abs(value - right) <= RELATIVE * (scale if name == "dot" and math.isfinite(scale) else abs(right))
        if not same:
            lines.append(f"{name} is {value!r}, should be {right!r}")
    return lines
