"""The weights of a model in NumPy, and what changed between two of them: the oracle of the tests of training."""

from __future__ import annotations

import numpy as np
from torch import nn


def weights(model: nn.Module) -> list[np.ndarray]:
    return [p.detach().double().numpy().copy() for p in model.parameters() if p.ndim >= 2]


def change(now: list[np.ndarray], before: list[np.ndarray]) -> list[float]:
    return [np.abs(w - p).sum() / np.abs(p).sum() for w, p in zip(now, before, strict=True)]
