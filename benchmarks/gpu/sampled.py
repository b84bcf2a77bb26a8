"""A few samples by every path of the CUDA kernels, for a checker of memory to look on: a program of its own."""

from __future__ import annotations

import sys

import torch

from gpu.layers import of_kernel
from gpu.machine import here
from gpu.values import FUSED
from wstrack.measuring.meters.meter import Meter
from wstrack.metrics import SUMS


def main() -> None:
    """Measure, and say how much."""
    machine = here(dry="--dry" in sys.argv, until=0.0)
    rows = 0
    for dtype in FUSED:
        chosen = of_kernel(lambda *shape, dtype=dtype: torch.randn(shape, device=machine.device).to(dtype))  # type: ignore[misc]
        pieces = {number: case.pieces for number, case in enumerate(chosen) if case.pieces}
        for sums in (tuple(SUMS), ("abs_change", "abs_previous")):
            meter = Meter([case.weight for case in chosen], sums, pieces=pieces, only="cuda")
            meter.snapshot()
            meter.sample()
            rows += len(meter.sample().cpu())
    machine.synchronize()
    print(f"measured {rows} rows")


if __name__ == "__main__":
    main()
