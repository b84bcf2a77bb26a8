from __future__ import annotations

import numpy as np
import pytest
import torch

import wstrack


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_relative_weight_change_of_tensors(dtype: torch.dtype) -> None:
    p = torch.randn(50, 30, dtype=torch.complex64 if dtype.is_complex else torch.float32).to(dtype)
    w = (p + 0.01 * torch.randn_like(p)).to(dtype)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    oracle = (w.to(wide) - p.to(wide)).abs().sum() / p.to(wide).abs().sum()
    assert wstrack.relative_weight_change(p, w) == pytest.approx(oracle.item(), rel=1e-6)


def test_relative_weight_change_of_lists_arrays_and_integers() -> None:
    assert wstrack.relative_weight_change([1, -1], np.array([2, -1])) == 0.5
    assert wstrack.relative_weight_change(np.ones(3)[::-1], np.full(3, 2.0, dtype=">f4")) == 1.0
    assert wstrack.relative_weight_change(np.zeros(3), np.zeros(3)) == 0.0
    assert wstrack.relative_weight_change(np.zeros(3), np.ones(3)) == np.inf


def test_relative_weight_change_wants_one_shape() -> None:
    with pytest.raises(ValueError, match=r"previous has shape \(2,\) and current \(3,\)"):
        wstrack.relative_weight_change([1.0, 2.0], [1.0, 2.0, 3.0])
