"""Raw sums on a CUDA device in one pass over the weights, by Triton kernels over a table of chunks.

Everything runs on the current stream and nothing waits for it: the table goes up from pinned memory, and only when a
layer has moved. Written for, and compiled in the tests for, compute capability 8.0 and 9.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wstrack.measuring.meters import portable
from wstrack.measuring.meters.memory import Pair, needs_bits, needs_change, needs_start
from wstrack.measuring.meters.table import addresses, cut, upload
from wstrack.metrics import SUMS

__all__ = ["DTYPES", "TAKES", "plan", "refuses", "unavailable"]

# What kernels.py takes, which can be imported only where Triton is.
TAKES = frozenset(
    name for name in SUMS if f"out + {name.upper()}" in Path(__file__).with_name("kernels.py").read_text("utf-8")
)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WARPS, LAYER_WARPS = 8, 4


@cache
def unavailable() -> str | None:
    """Why nothing can be measured by it on this machine; None if it can."""
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA device"
    if torch.version.hip is not None:
        return "it was not written for ROCm"
    if torch.cuda.get_device_capability() < (7, 0):
        return f"{torch.cuda.get_device_name()} is older than compute capability 7.0"
    try:
        import wstrack.measuring.meters.kernels  # noqa: F401
    except ImportError as error:
        return f"Triton cannot be imported ({error})"
    return disagreement(torch.device("cuda", torch.cuda.current_device()))


def disagreement(device: torch.device) -> str | None:
    """Why the kernels cannot be trusted on a device: a few small layers, measured also in plain torch; None if equal.

    Waits for the device. Compilers and drivers are many, and a wrong kernel would tell wrong numbers without a sign.
    """
    weights = [torch.linspace(-1, 1, count, device=device, dtype=dtype) for count in (20_000, 3) for dtype in DTYPES]
    sums = [name for name, one in SUMS.items() if one.memory == "previous"]
    bits = [sums.index("bits_low"), sums.index("bits_high")]
    taken = []
    try:
        for measure in (plan, portable.plan):
            sample = measure([Pair(weight, weight * 0.75) for weight in weights], sums)
            both = torch.stack([sample(), sample()])  # once more: the snapshots have moved on
            both[:, :, bits] %= 2.0**32  # up to which the sum of a layer's hashes counts, whatever each meter adds up
            taken.append(both)
    except Exception as error:  # noqa: BLE001  whatever a compiler or a driver raises, plain torch measures as well
        return f"its kernels do not run here ({type(error).__name__}: {error})"
    ours, theirs = taken
    return None if torch.allclose(ours, theirs, rtol=1e-5) else "its kernels give other numbers here than plain torch"


def refuses(weight: torch.Tensor) -> str | None:
    """Why this meter cannot measure a weight; None if it can."""
    if weight.device.type != "cuda":
        return f"it is on {weight.device}"
    return None if weight.dtype in DTYPES else f"its dtype is {weight.dtype}"


def plan(pairs: Sequence[Pair], sums: Sequence[str]) -> Callable[[], torch.Tensor]:
    """A function that takes the raw sums of these layers, (layers, sums), and moves their snapshots on.

    It works on memory where it is now: `pairs` must have the same strides in all they hold, be on one device, and stay
    alive and where they are.
    """
    import triton.language as tl

    from wstrack.measuring.meters import kernels

    names = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
    device = pairs[0].weight.device
    bits = needs_bits(sums)
    pairs = [pair.placed() for pair in pairs] if bits else pairs
    kinds = [(DTYPES.index(pair.weight.dtype), _aligned(pair), not pair.dense) for pair in pairs]
    order = sorted(range(len(pairs)), key=lambda index: kinds[index])  # one launch per kind: chunks of each together
    ordered = [pairs[index] for index in order]
    standings = [pair.standing for pair in ordered if pair.standing is not None] if bits else None
    chunks = cut([pair.weight for pair in ordered], kernels.CHUNK, standings=standings)
    fields = ([p.weight for p in ordered], [p.previous for p in ordered], [p.change for p in ordered],
              [p.start for p in ordered])  # fmt: skip
    where = (addresses(field, chunks) for field in fields)
    more = (chunks.count, chunks.width, chunks.apart, chunks.place, chunks.pitch, chunks.stride)
    rows = np.stack([*where, *more], axis=1)
    table, begins = upload(rows, device), upload(chunks.first, device)
    partial = torch.zeros(len(rows), kernels.COLUMNS, dtype=torch.float64, device=device)
    back = upload(np.argsort(order), device)
    columns = upload(np.array([list(SUMS).index(name) for name in sums]), device)
    launches: list[tuple[int, int, Any, bool, bool]] = []  # first chunk, chunks, dtype, aligned, with gaps
    for kind in sorted(set(kinds)):
        members = [position for position, index in enumerate(order) if kinds[index] == kind]
        first, end = int(chunks.first[members[0]]), int(chunks.first[members[-1] + 1])
        if end > first:
            launches.append((first, end - first, names[DTYPES[kind[0]]], *kind[1:]))
    change, start, counts = needs_change(sums), needs_start(sums), "changed" in sums or "changed_bf16" in sums
    memory = fields[1:]  # what the table points to

    def sample() -> torch.Tensor:
        with torch.cuda.device_of(table):  # type: ignore[no-untyped-call]
            for first, count, dtype, aligned, gaps in launches:
                block = 1024 if dtype is tl.float32 else 2048  # 16 bytes for each thread
                kernels.chunk_sums[(count,)](
                    table, partial, first,
                    DTYPE=dtype, ALIGNED=aligned, ROWS=gaps, CHANGE=change, START=start, COUNTS=counts, BITS=bits,
                    BLOCK=block,
                    BLOCKS=kernels.CHUNK // block, FIELDS=kernels.FIELDS, COLUMNS=kernels.COLUMNS, num_warps=WARPS,
                )  # fmt: skip
            result = torch.empty(len(memory[0]), kernels.COLUMNS, dtype=torch.float64, device=device)
            kernels.layer_sums[(len(result),)](
                partial, begins, result, COLUMNS=kernels.COLUMNS, AT_ONCE=kernels.AT_ONCE, num_warps=LAYER_WARPS
            )
            return result.index_select(0, back).index_select(1, columns)

    return sample


def _aligned(pair: Pair) -> bool:
    there = (pair.weight, pair.previous, pair.change, pair.start)
    return all(tensor is None or tensor.data_ptr() % 16 == 0 for tensor in there)
