"""The counts of what changed, element by element against NumPy, over every number that there is or near enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import oracle
import pytest
import torch

from wstrack.measuring.meters import cpu
from wstrack.measuring.meters.portable import change_sums

if TYPE_CHECKING:
    from collections.abc import Callable

    from wstrack.measuring.meters.meter import Meter

pytestmark = pytest.mark.slow

COUNTS = ("changed", "changed_bf16")
NAN, INF = torch.nan, torch.inf
EIGHT_BITS = [
    dtype for name in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")
    if (dtype := getattr(torch, f"float8_{name}", None)) is not None
]  # fmt: skip


def counted(make_meter: Callable[..., Meter], p: torch.Tensor, w: torch.Tensor) -> np.ndarray:
    """The counts of each row, (rows, counts)."""
    rows = [row.clone() for row in p]
    meter = make_meter(rows, COUNTS)
    meter.snapshot()
    for row, new in zip(rows, w, strict=True):
        row.copy_(new)
    return meter.sample().numpy()


def wanted(p: torch.Tensor, w: torch.Tensor) -> np.ndarray:
    before, now = oracle.wide(p), oracle.wide(w)
    both = [oracle.differ(now, before), oracle.differ(oracle.bfloat16(now), oracle.bfloat16(before))]
    return np.stack([one.sum(axis=1) for one in both], axis=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_what_counts_as_a_change(make_meter: Callable[..., Meter], dtype: torch.dtype) -> None:
    same = [(1.0, 1.0), (0.0, -0.0), (-0.0, 0.0), (NAN, NAN), (NAN, -NAN), (INF, INF), (-INF, -INF)]
    others = [(1.0, -1.0), (NAN, 0.0), (0.0, NAN), (INF, NAN), (-NAN, -INF), (INF, -INF), (INF, 3e4), (0.0, INF)]
    p, w = torch.tensor([*same, *others], dtype=dtype).T.unsqueeze(-1).expand(-1, -1, 21)
    assert counted(make_meter, p, w).tolist() == [[0, 0]] * len(same) + [[21, 21]] * len(others)


def test_the_smallest_numbers(make_meter: Callable[..., Meter]) -> None:
    tiny = 2.0**-149
    p = torch.tensor([[0.0], [tiny], [tiny], [2.0**-133], [2.0**-134], [0.0]])
    w = torch.tensor([[tiny], [-tiny], [2 * tiny], [2.0**-132], [2.0**-134 + tiny], [2.0**-133]])
    # In bfloat16 the first three are zeros; half the smallest number rounds down to zero, and what is above it up.
    assert counted(make_meter, p, w).tolist() == [[1, 0], [1, 0], [1, 0], [1, 1], [1, 1], [1, 1]]


def test_rounding_to_bfloat16_goes_to_the_even_neighbour(make_meter: Callable[..., Meter]) -> None:
    ulp = 2.0**-7
    p = torch.ones(1, 6).mul(1 + torch.tensor([0.0, 1.0, 0.0, 1.0, 2.0, 1.0]) * ulp).t()
    half = torch.tensor([[0.5, 0.5, 0.501, 0.499, -0.5, -0.5]]).t() * ulp
    assert counted(make_meter, p, p + half).tolist() == [[1, 0], [1, 1], [1, 1], [1, 0], [1, 0], [1, 1]]


def test_beyond_the_largest_number_of_bfloat16_is_infinity(make_meter: Callable[..., Meter]) -> None:
    largest = (2 - 2.0**-7) * 2.0**127
    p = torch.full((2, 3), largest)
    w = torch.stack([p[0] * (1 + 2.0**-10), torch.full((3,), torch.finfo(torch.float32).max)])
    assert counted(make_meter, p, w).tolist() == [[3, 0], [3, 3]]
    assert counted(make_meter, w[1:], torch.full((1, 3), INF)).tolist() == [[3, 0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_number_of_16_bits_against_another(
    make_meter: Callable[..., Meter], dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    if "cuda" in request.node.name and dtype == torch.bfloat16:  # Triton's interpreter drops denormals of bfloat16
        every = every[~(every.float().abs() < torch.finfo(dtype).tiny) | (every == 0)]
    every = every[: len(every) // 16 * 16].view(16, -1)
    near = torch.where(torch.rand(every.shape, generator=torch.Generator().manual_seed(0)) < 0.5, every, every.roll(1))
    found = counted(make_meter, every, near)
    np.testing.assert_array_equal(found, wanted(every, near))
    assert 0.3 < found[:, 0].sum() / every.numel() < 0.7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_numbers_near_where_bfloat16_rounds_the_other_way(make_meter: Callable[..., Meter], dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    halfway = (rng.integers(0, 1 << 16, (20, 500), dtype=np.uint32) << 16) + 0x7FFF
    p, w = (
        torch.from_numpy((halfway + rng.integers(0, 3, halfway.shape, dtype=np.uint32)).view(np.float32)).to(dtype)
        for _ in range(2)
    )
    if dtype == torch.float64:  # so little beside the half that it is lost on the way, in float32
        p, w = p * (1 + 2.0**-40), w * (1 - 2.0**-40)
    found = counted(make_meter, p, w)
    np.testing.assert_array_equal(found, wanted(p, w))
    assert 0.2 < found[:, 1].sum() / p.numel() < 0.6 < found[:, 0].sum() / p.numel()


@pytest.mark.parametrize("dtype", EIGHT_BITS, ids=str)
def test_every_number_of_8_bits_against_every_other(dtype: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8)
    p, w = every.repeat_interleave(256).view(dtype), every.repeat(256).view(dtype)
    found = change_sums(p, w, COUNTS)
    before, now = oracle.wide(p), oracle.wide(w)
    want = oracle.differ(now, before).sum()
    assert 50_000 < want < 256 * 256
    assert (found["changed"].item(), found["changed_bf16"].item()) == (want, want)


def test_what_is_measured_beside_the_counts_is_the_same(make_meter: Callable[..., Meter]) -> None:
    torch.manual_seed(0)
    layers = [torch.randn(70_001), torch.randn(33).bfloat16(), torch.randn(5000).half(), torch.randn(3)]
    others = ("abs_change", "abs_previous", "ratio", "dot", "abs_from_start")
    taken = []
    for sums in (others, (*others, *COUNTS)):
        now = [layer.clone() for layer in layers]
        meter = make_meter(now, sums)
        meter.snapshot()
        for layer in now:
            layer.mul_(1.01)
        meter.sample()
        for layer in now:
            layer.mul_(1.01)
        taken.append(meter.sample()[:, : len(others)])
    assert torch.equal(*taken)


def test_the_fused_kernel_counts_whatever_else_it_takes() -> None:
    if why := cpu.unavailable():
        pytest.skip(why)
    w = torch.linspace(-1, 1, 1001)
    for more in ((), ("ratio",), ("dot",), ("abs_start",), ("dot", "abs_start"), ("ratio", "dot", "abs_start")):
        pair = cpu.Pair(w, w.clone(), torch.zeros_like(w), w.clone())
        pair.previous[::7] += 0.5
        assert cpu.plan([pair], (*COUNTS, *more))()[0, :2].tolist() == [143, 143], more
