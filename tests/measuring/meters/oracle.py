"""What every meter is held against: NumPy in float64."""

from __future__ import annotations

import numpy as np
import torch

from wstrack import metrics

SUMS = tuple(name for name in metrics.SUMS if not name.startswith("bits"))


def wide(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to(torch.complex128 if tensor.dtype.is_complex else torch.float64).numpy().copy()


def sums(w: np.ndarray, p: np.ndarray, last: np.ndarray, start: np.ndarray) -> dict[str, float]:
    d = w - p
    size = np.abs(p)
    return {
        "abs_change": np.abs(d).sum(),
        "abs_previous": size.sum(),
        "sq_change": (np.abs(d) ** 2).sum(),
        "sq_previous": (size**2).sum(),
        "ratio": (np.abs(d)[size > 0] / size[size > 0]).sum(),
        "nonzero": float((size > 0).sum()),
        "abs_current": np.abs(w).sum(),
        "changed": float(differ(w, p).sum()),
        "changed_bf16": float(differ(bfloat16(w), bfloat16(p)).sum()),
        "dot": (d * last.conj()).real.sum(),
        "sq_last_change": (np.abs(last) ** 2).sum(),
        "abs_from_start": np.abs(w - start).sum(),
        "abs_start": np.abs(start).sum(),
    }


def fingerprint(bits: np.ndarray, places: np.ndarray) -> tuple[int, int]:
    """Two sums of hashes, element by element in Python's own integers, which have no width."""
    low = high = 0
    width = bits.dtype.itemsize * 8
    for word, place in zip(bits.ravel().tolist(), places.ravel().tolist(), strict=True):
        word %= 1 << width
        a = b = word
        if width == 64:
            a = word % 2**32 * 0x9E3779B1 + (word >> 32) * 0xC2B2AE3D
            b = word % 2**32 * 0x27D4EB2F + (word >> 32) * 0x165667B1
        a, b = (a + place * 0x9E3779B1) % 2**32, (b + place * 0x85EBCA77) % 2**32
        a = (a ^ (a >> 16)) * 0x7FEB352D % 2**32
        a = (a ^ (a >> 15)) * 0x846CA68B % 2**32
        b = (b ^ (b >> 16)) * 0x85EBCA6B % 2**32
        b = (b ^ (b >> 13)) * 0xC2B2AE35 % 2**32
        low, high = low + (a ^ (a >> 16)), high + (b ^ (b >> 16))
    return low % 2**32, high % 2**32


def differ(w: np.ndarray, p: np.ndarray) -> np.ndarray:
    return ~((w == p) | (np.isnan(w) & np.isnan(p)))


def bfloat16(values: np.ndarray) -> np.ndarray:
    """To eight binary digits, of two as near the even one; by arithmetic alone, where the meters look at bits."""
    if np.iscomplexobj(values):
        return bfloat16(values.real) + 1j * bfloat16(values.imag)
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32).astype(np.float64)
    finite = np.where(np.isfinite(single), single, 0.0)
    digit = np.ldexp(1.0, np.maximum(np.frexp(finite)[1], -125) - 8)  # the last that there is; of denormals 2^-133
    rounded = np.rint(finite / digit) * digit
    rounded = np.where(np.abs(rounded) < 2.0**128, rounded, np.copysign(np.inf, rounded))
    return np.where(np.isfinite(single), rounded, single)


def rwc(w: np.ndarray, p: np.ndarray) -> float:
    return float(np.abs(w - p).sum() / np.abs(p).sum())
