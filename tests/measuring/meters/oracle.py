"""What every meter is held against: NumPy in float64."""

from __future__ import annotations

import numpy as np
import torch

from wstrack.metrics import METRICS, sums_needed

SUMS = sums_needed(METRICS)


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
        "dot": (d * last.conj()).real.sum(),
        "sq_last_change": (np.abs(last) ** 2).sum(),
        "abs_from_start": np.abs(w - start).sum(),
        "abs_start": np.abs(start).sum(),
    }


def rwc(w: np.ndarray, p: np.ndarray) -> float:
    return float(np.abs(w - p).sum() / np.abs(p).sum())
