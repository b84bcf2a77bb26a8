"""Sums of checkpoints read from files, against NumPy in float64, and against the meter that follows a training."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.measuring.meters.oracle import SUMS, sums, wide
from tests.measuring.meters.test_build import needs_compiler
from wstrack.measuring.meters import cpu
from wstrack.measuring.meters.memory import Pair, working_dtype

BEYOND = 1 << 20  # numbers after the room, which are not to be written
OFFSET = 6  # bytes before the first element: no file lays tensors out for a vector's sake


def taken(weights: Sequence[torch.Tensor], names: Sequence[str] = SUMS) -> np.ndarray:
    room = np.full(cpu.SERIES_ROOM + BEYOND, np.nan)  # what was there before is of no account
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in weights]
        for file, weight in zip(files, weights, strict=True):
            file.write(bytes(OFFSET) + weight.view(torch.uint8).numpy().tobytes() + b"\xff" * 64)
            file.flush()
        handles, offsets = [file.fileno() for file in files], [OFFSET] * len(files)
        found, failed = cpu.series(handles, offsets, weights[0].numel(), weights[0].dtype, names, room)
    assert failed is None
    assert np.isnan(room[cpu.SERIES_ROOM :]).all()
    return found


def oracle(weights: Sequence[torch.Tensor]) -> np.ndarray:
    values = [wide(weight) for weight in weights]
    nothing = np.zeros_like(values[0])
    changes = [nothing, *(now - was for was, now in pairwise(values))]
    rows = [sums(now, was, last, values[0]) for was, now, last in zip(values, values[1:], changes, strict=False)]
    return np.array([[row[name] for name in SUMS] for row in rows])


def walk(count: int, checkpoints: int, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(count * checkpoints)
    start = torch.randn(count, dtype=torch.float64)
    found = [(start + 0.01 * place * torch.randn(count, dtype=torch.float64)).to(dtype) for place in range(checkpoints)]
    found[0][count // 2] = 0
    found[-1][0] = found[-2][0]
    return found


@needs_compiler
@pytest.mark.parametrize("dtype", cpu.DTYPES, ids=str)
@pytest.mark.parametrize("checkpoints", [2, 3, 7, 8, 9, 17])  # fewer and more than are taken together
@pytest.mark.parametrize("count", [1, 15, 16, 17, 511, 513, 529, 40_961, 300_003])  # vectors, blocks, stretches
def test_as_numpy_has_them(count: int, checkpoints: int, dtype: torch.dtype) -> None:
    weights = walk(count, checkpoints, dtype)
    ours, theirs = taken(weights), oracle(weights)
    size = np.abs(theirs)
    size[:, SUMS.index("dot")] = np.sqrt(  # whose terms have both signs
        theirs[:, SUMS.index("sq_change")] * theirs[:, SUMS.index("sq_last_change")]
    )
    assert (np.abs(ours - theirs) <= (1e-12 if dtype == torch.float64 else 2e-6) * size).all()
    for name in ("nonzero", "changed", "changed_bf16"):
        column = SUMS.index(name)
        assert ours[:, column].tolist() == theirs[:, column].tolist()


@needs_compiler
@pytest.mark.parametrize("dtype", cpu.DTYPES, ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1, 8])
def test_what_is_not_finite_is_told_as_while_training(place: int, bad: float, dtype: torch.dtype) -> None:
    weights = walk(600, 10, dtype)
    weights[place][577] = bad
    now, was = weights[0].clone(), weights[0].clone()
    change, start = torch.zeros(600, dtype=working_dtype(dtype)), weights[0].clone()
    sample = cpu.plan([Pair(now, was, change, start)], SUMS)
    rows = []
    for weight in weights[1:]:
        now.copy_(weight)
        rows.append(sample()[0].numpy().copy())
    np.testing.assert_allclose(taken(weights), np.array(rows), rtol=1e-12)


@needs_compiler
def test_the_sums_that_are_asked_for_in_their_order() -> None:
    weights = walk(1000, 5, torch.float32)
    every = taken(weights)
    some = ("sq_last_change", "abs_start", "abs_change", "abs_previous")
    assert np.array_equal(taken(weights, some), every[:, [SUMS.index(name) for name in some]])
