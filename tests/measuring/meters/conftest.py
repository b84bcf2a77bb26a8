from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import torch

from wstrack.measuring.meters import cpu, cuda
from wstrack.measuring.meters.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@pytest.fixture(params=["portable", "cpu", "cuda"])
def make_meter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Meter]:
    """Makes a meter of one way: the CUDA one in Triton's interpreter, on the CPU."""
    name = request.param
    if name == "cpu" and (why := cpu.unavailable()):
        pytest.skip(why)
    if name == "cuda":
        interpreted(monkeypatch)

    def make(parameters: Sequence[torch.Tensor], sums: Sequence[str], **more: Any) -> Meter:
        return Meter(parameters, sums, only=name, **more)

    return make


def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CUDA meter take tensors on the CPU, where Triton's interpreter works on them."""
    if find_spec("triton") is None or torch.cuda.is_available():
        pytest.skip("needs Triton, and no CUDA device, so that Triton is interpreted (see tests/conftest.py)")
    refusal = "its dtype"
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    monkeypatch.setattr(cuda, "refuses", lambda weight: None if weight.dtype in cuda.DTYPES else refusal)
