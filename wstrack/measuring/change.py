"""The relative change between two tensors that somebody has in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wstrack.measuring.meters.portable import change_sums
from wstrack.metrics import METRICS, compute

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

__all__ = ["relative_weight_change"]


def relative_weight_change(previous: torch.Tensor | ArrayLike, current: torch.Tensor | ArrayLike) -> float:
    """How much a weight changed, relative to itself: sum abs(w - p) / sum abs(p), equation 1 of arXiv 2107.07005.

    Accumulated in float64 over blocks, on the device where `current` is. This waits for the device; in a training
    loop use `wstrack.watch`, which does not.

    Args:
        previous: the weight before, a tensor or anything that NumPy takes; any shape, real or complex.
        current: the same weight now, of the same shape.

    Returns:
        The ratio; 0 if nothing changed, inf if `previous` is zero everywhere and `current` is not.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> relative_weight_change([1.0, -2.0, 1.0], [1.0, -2.0, 1.1])  # doctest: +ELLIPSIS
        0.025...
    """
    sums = change_sums(previous, current, METRICS["rwc"].sums)
    return float(compute(["rwc"], sums, np.ones(1))["rwc"][0])
