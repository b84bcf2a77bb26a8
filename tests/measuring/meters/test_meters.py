"""What all meters have in common: the numbers."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import oracle
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from oracle import SUMS, wide

from wstrack.measuring.meters import choose, cpu
from wstrack.measuring.meters.portable import BLOCK, DEVICE_BLOCK
from wstrack.metrics import sums_needed

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.float8_e4m3fn,
    torch.complex64, torch.complex128,
]  # fmt: skip
SHAPES = {
    "matrix of several blocks": lambda: torch.randn(300, 701),
    "transposed": lambda: torch.randn(701, 300).t(),
    "every other row": lambda: torch.randn(600, 301)[::2],
    "every other element of long rows": lambda: torch.randn(2, 2, 2 * BLOCK + 10)[:, :, ::2],
    "channels last": lambda: torch.randn(8, 16, 40, 30).contiguous(memory_format=torch.channels_last),
    "a view that is not aligned": lambda: torch.randn(5001)[1:],
    "a part of the middle of another": lambda: torch.randn(100, 1000)[7:31],
    "one value for all": lambda: torch.randn(1).expand(700).clone(),
    "one block exactly": lambda: torch.randn(BLOCK),
    "one more than a block": lambda: torch.randn(BLOCK + 1),
    "one less than a vector": lambda: torch.randn(15),
    "0-d": lambda: torch.randn(()),
    "empty": lambda: torch.randn(0, 3),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_sum_against_numpy_float64(make_meter: Callable, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    layers = []
    for make in SHAPES.values():
        w = make()
        if dtype.is_complex:
            layers.append(torch.complex(w, torch.randn_like(w)).to(dtype))
        elif w.is_contiguous() and w.storage_offset():  # keep the odd beginning
            layers.append(w.to(dtype).new_empty(w.numel() + 1)[1:].view(w.shape).copy_(w))
        else:
            layers.append(w.to(dtype))
    meter = make_meter(layers, SUMS)
    meter.snapshot()
    starts = before = [wide(w) for w in layers]
    lasts = [np.zeros_like(w) for w in before]
    for _ in range(3):
        for w in layers:
            raw = torch.from_numpy(wide(w))
            w.copy_(raw * (1 + 0.1 * torch.randn(raw.shape)))
        found = meter.sample()
        assert found.dtype == torch.float64
        now = [wide(w) for w in layers]
        for shape, row, w, p, last, start in zip(SHAPES, found.tolist(), now, before, lasts, starts, strict=True):
            want = oracle.sums(w, p, last, start)
            scale = {"dot": np.sqrt(want["sq_change"] * want["sq_last_change"])}
            for name, value in zip(SUMS, row, strict=True):
                assert value == pytest.approx(want[name], rel=1e-6, abs=1e-6 * scale.get(name, 0.0)), (shape, name)
        lasts, before = [w - p for w, p in zip(now, before, strict=True)], now


def test_counts_are_exact_beyond_what_float32_can_count(make_meter: Callable, request: pytest.FixtureRequest) -> None:
    count = 40_001 if "cuda" in request.node.name else 2**24 + 3  # the interpreter is slow
    w = torch.ones(count)
    meter = make_meter([w], ("nonzero", "changed", "changed_bf16"))
    meter.snapshot()
    w.neg_()
    assert meter.sample().tolist() == [[count, count, count]]
    assert DEVICE_BLOCK < 2**24  # on accelerators the portable meter's blocks are as long as this


def test_dtypes_mixed_in_one_model(make_meter: Callable) -> None:
    torch.manual_seed(2)
    kinds = [torch.bfloat16, torch.float32, torch.float16, torch.float64, torch.float32, torch.bfloat16, torch.float32]
    layers = [torch.randn(40_000 + index).to(kind) for index, kind in enumerate(kinds)]
    meter = make_meter(layers, sums_needed(["rwc"]))
    meter.snapshot()
    before = [wide(w) for w in layers]
    for w in layers:
        w.mul_(1.25)
    change, previous = meter.sample().T
    want = [oracle.rwc(wide(w), p) for w, p in zip(layers, before, strict=True)]
    np.testing.assert_allclose((change / previous).numpy(), want, rtol=1e-6)


def test_a_change_of_1e_7_of_many_weights(make_meter: Callable, request: pytest.FixtureRequest) -> None:
    interpreted = "cuda" in request.node.name
    torch.manual_seed(0)
    w = torch.randn(200_000 if interpreted else 40_000_000) * 0.05
    meter = make_meter([w], ("abs_change", "abs_previous"))
    meter.snapshot()
    before = w.double()
    w.mul_(1 + 1e-7 * torch.randn(w.shape))
    change, previous = meter.sample()[0].tolist()
    want = (w.double() - before).abs().sum().item() / before.abs().sum().item()
    assert 1e-9 < want < 1e-6
    assert change / previous == pytest.approx(want, rel=1e-6)


def test_not_a_number_zero_and_the_smallest_numbers_stay_in_their_layer(make_meter: Callable) -> None:
    layers = [
        torch.ones(40),
        torch.ones(40),
        torch.zeros(40),
        torch.full((40,), 1e-42),
        torch.zeros(40),
        torch.ones(40),
    ]
    meter = make_meter(layers, sums_needed(["rwc", "rwc_elementwise"]))
    meter.snapshot()
    layers[0][1] = torch.nan
    layers[1][1] = torch.inf
    layers[3].mul_(2)
    layers[4][39] = 3.0
    found = dict(zip(sums_needed(["rwc", "rwc_elementwise"]), meter.sample().T.tolist(), strict=True))
    assert np.isnan(found["abs_change"][0])
    assert np.isnan(found["ratio"][0])
    assert found["abs_change"][1] == np.inf
    assert (found["abs_change"][2], found["abs_previous"][2]) == (0.0, 0.0)
    assert found["abs_change"][3] / found["abs_previous"][3] == pytest.approx(1.0, rel=1e-3)
    assert (found["abs_change"][4], found["abs_previous"][4], found["ratio"][4]) == (3.0, 0.0, 0.0)
    assert (found["abs_change"][5], found["abs_previous"][5]) == (0.0, 40.0)
    assert found["nonzero"] == [40.0, 40.0, 0.0, 40.0, 0.0, 40.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_number_that_16_bits_can_hold(
    make_meter: Callable, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[every.isfinite()]
    if "cuda" in request.node.name and dtype == torch.bfloat16:  # Triton's interpreter drops denormals of bfloat16
        every = every[every.abs() >= torch.finfo(dtype).tiny]
    layers = [one.clone() for one in every.split(512)]
    want = [layer.double().abs().sum().item() for layer in layers]
    broken = [torch.full((3,), value, dtype=dtype) for value in (torch.inf, -torch.inf, torch.nan)]
    meter = make_meter([*layers, *broken], ("abs_previous",))
    meter.snapshot()
    found = meter.sample()[:, 0].numpy()
    # Sums of bfloat16 go up to 1e41, beyond what float32 can hold, in a few layers.
    fits = np.array(want) < 3e38
    assert fits.mean() > 0.9
    np.testing.assert_allclose(found[: len(want)][fits], np.array(want)[fits], rtol=1e-6)
    assert found[-3:-1].tolist() == [np.inf, np.inf]
    assert np.isnan(found[-1])


def test_bit_for_bit_repeatable_whatever_the_number_of_threads(
    make_meter: Callable, request: pytest.FixtureRequest
) -> None:
    def once(threads: int) -> torch.Tensor:
        torch.manual_seed(3)
        layers = [torch.randn(500, 317), torch.randn(5).bfloat16(), torch.randn(99), torch.randn(70_000)]
        meter = make_meter(layers, SUMS)
        meter.snapshot()
        for layer in layers:
            layer.mul_(1.001)
        torch.set_num_threads(threads)
        return meter.sample()

    threads = torch.get_num_threads()
    try:
        with_two = once(2)
        assert torch.equal(with_two, once(2))
        if "portable" not in request.node.name:  # torch's own sums of a block are split among threads
            assert torch.equal(with_two, once(1))
    finally:
        torch.set_num_threads(threads)


def test_nothing_changed_is_zero_and_the_second_sample_begins_anew(make_meter: Callable) -> None:
    w = torch.randn(70_001)
    meter = make_meter([w], SUMS)
    meter.snapshot()
    w.add_(1)
    first = dict(zip(SUMS, meter.sample()[0].tolist(), strict=True))
    second = dict(zip(SUMS, meter.sample()[0].tolist(), strict=True))
    assert first["abs_change"] == pytest.approx(70_001, rel=1e-6)
    assert second["abs_change"] == 0.0
    assert second["abs_from_start"] == pytest.approx(70_001, rel=1e-6)
    assert second["sq_last_change"] == pytest.approx(first["sq_change"], rel=1e-6)


numbers = st.floats(width=32, allow_subnormal=True, min_value=-(2.0**40), max_value=2.0**40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    previous=st.lists(numbers, max_size=70),
    factor=st.sampled_from([0.0, 1.0, 1 + 2**-20, -3.0]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    copies=st.integers(1, 40),
)
def test_any_numbers_against_numpy(
    make_meter: Callable,
    previous: list[float],
    factor: float,
    dtype: torch.dtype,
    copies: int,
    request: pytest.FixtureRequest,
) -> None:
    w = torch.tensor(previous * copies, dtype=torch.float32).to(dtype)
    if "cuda" in request.node.name and dtype == torch.bfloat16:  # Triton's interpreter drops denormals of bfloat16
        assume(not ((w != 0) & (w.float().abs() < torch.finfo(dtype).tiny)).any())
    meter = make_meter([w], SUMS)
    meter.snapshot()
    p = wide(w)
    w.mul_(factor)
    found = dict(zip(SUMS, meter.sample()[0].tolist(), strict=True))
    with np.errstate(invalid="ignore", over="ignore"):
        want = oracle.sums(wide(w), p, np.zeros_like(p), p)
    for name in ("abs_change", "abs_previous", "abs_current", "nonzero", "abs_from_start", "abs_start"):
        assert found[name] == pytest.approx(want[name], rel=1e-6, nan_ok=True), name
    for name in ("changed", "changed_bf16"):
        assert found[name] == want[name], name


PEAK = """
import pathlib, re, sys, torch
from wstrack.measuring.meters import choose
from wstrack.metrics import sums_needed

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

layers = [torch.ones(1000)]
for metrics in (["rwc"], ["rwc", "distance"]):  # loads whatever is loaded at first use
    meter = choose(layers, sums_needed(metrics), meter=sys.argv[1])
    meter.snapshot(), meter.sample()
layers = [torch.ones(80_000_000), *(torch.ones(10_000) for _ in range(100))]
before = peak()
for metrics in (["rwc"], ["rwc", "distance"]):
    meter = choose(layers, sums_needed(metrics), meter=sys.argv[1])
    meter.snapshot(), meter.sample(), meter.sample()
    print((peak() - before) / sum(layer.nbytes for layer in layers))
    del meter
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("meter", ["portable", "cpu"])
def test_peak_memory_is_a_copy_for_each_snapshot(meter: str) -> None:
    if meter == "cpu" and (why := cpu.unavailable()):
        pytest.skip(why)
    done = subprocess.run([sys.executable, "-c", PEAK, meter], capture_output=True, text=True, check=True)
    one, two = map(float, done.stdout.split())
    assert 0.9 <= one <= 1.05
    assert 1.9 <= two <= 2.05


def test_mixed_ways_in_one_model_keep_the_order_of_the_layers() -> None:
    torch.manual_seed(4)
    layers = [torch.randn(9, 7), torch.randn(8, 8, dtype=torch.complex64), torch.randn(60)[::3], torch.randn(5)]
    meter = choose(layers, ("abs_change",))
    if cpu.unavailable() is None:
        assert meter.backends() == {"cpu": 2, "portable": 2}
    meter.snapshot()
    for index, layer in enumerate(layers):
        layer.add_(index + 1)
    want = [(index + 1) * layer.numel() for index, layer in enumerate(layers)]
    np.testing.assert_allclose(meter.sample()[:, 0].numpy(), want, rtol=1e-6)
