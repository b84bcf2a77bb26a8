from __future__ import annotations

import numpy as np
import pytest
import torch

from wstrack.meters.portable import BLOCK, PortableMeter
from wstrack.metrics import METRICS, sums_needed

SUMS = sums_needed(METRICS)
DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.complex64, torch.complex128
]  # fmt: skip
SHAPES = {
    "matrix of several blocks": lambda: torch.randn(300, 701),
    "transposed": lambda: torch.randn(701, 300).t(),
    "every other row": lambda: torch.randn(600, 701)[::2],
    "every other element of long rows": lambda: torch.randn(2, 2, 2 * BLOCK + 10)[:, :, ::2],
    "channels last": lambda: torch.randn(8, 16, 40, 30).contiguous(memory_format=torch.channels_last),
    "one block exactly": lambda: torch.randn(BLOCK),
    "one more than a block": lambda: torch.randn(BLOCK + 1),
    "0-d": lambda: torch.randn(()),
    "empty": lambda: torch.randn(0, 3),
}


def wide(tensor: torch.Tensor) -> np.ndarray:
    return tensor.to(torch.complex128 if tensor.dtype.is_complex else torch.float64).numpy().copy()


def oracle(w: np.ndarray, p: np.ndarray, last: np.ndarray, start: np.ndarray) -> dict[str, float]:
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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_sum_against_numpy_float64(shape: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    w = SHAPES[shape]()
    w = torch.complex(w, torch.randn_like(w)).to(dtype) if dtype.is_complex else w.to(dtype)
    meter = PortableMeter([w], SUMS)
    meter.snapshot()
    start = previous = wide(w)
    last = np.zeros_like(start)
    for _ in range(3):
        raw = torch.from_numpy(wide(w))
        w.copy_(raw * (1 + 0.1 * torch.randn(raw.shape)))
        found = dict(zip(SUMS, meter.sample()[0].tolist(), strict=True))
        now = wide(w)
        want = oracle(now, previous, last, start)
        scale = {"dot": np.sqrt(want["sq_change"] * want["sq_last_change"])}
        for name in SUMS:
            assert found[name] == pytest.approx(want[name], rel=1e-6, abs=1e-6 * scale.get(name, 0.0)), name
        last, previous = now - previous, now


def test_a_change_of_1e_7_of_40_million_weights() -> None:
    torch.manual_seed(0)
    w = torch.randn(40_000_000) * 0.05
    meter = PortableMeter([w], ("abs_change", "abs_previous"))
    meter.snapshot()
    before = w.double()
    w.mul_(1 + 1e-7 * torch.randn(w.shape))
    change, previous = meter.sample()[0].tolist()
    want = (w.double() - before).abs().sum().item() / before.abs().sum().item()
    assert 1e-9 < want < 1e-6
    assert change / previous == pytest.approx(want, rel=1e-6)


def test_not_a_number_zero_and_the_smallest_numbers_stay_in_their_layer() -> None:
    layers = [torch.ones(4), torch.ones(4), torch.zeros(4), torch.full((4,), 1e-42), torch.ones(4)]
    meter = PortableMeter(layers, ("abs_change", "abs_previous"))
    meter.snapshot()
    layers[0][1] = torch.nan
    layers[1][1] = torch.inf
    layers[3].mul_(2)
    found = meter.sample().numpy()
    assert np.isnan(found[0, 0])
    assert np.isinf(found[1, 0])
    assert found[2].tolist() == [0.0, 0.0]
    assert found[3, 0] / found[3, 1] == pytest.approx(1.0, rel=1e-3)
    assert found[4].tolist() == [0.0, 4.0]


@pytest.mark.parametrize(
    "replaced", [torch.zeros(3, 3), torch.zeros(2, 2, dtype=torch.float64)], ids=["other shape", "other dtype"]
)
def test_a_layer_that_was_replaced_is_missing_once_and_measured_again(replaced: torch.Tensor) -> None:
    layer, other = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2, 2))
    meter = PortableMeter([layer, other], SUMS)
    meter.snapshot()
    layer.data = replaced
    found = meter.sample()
    assert found[0].isnan().all()
    assert not found[1, 0].isnan()
    layer.data.add_(1)
    assert meter.sample()[0, SUMS.index("abs_change")] == replaced.numel()


def test_new_storage_of_the_same_shape_is_compared_with_the_old_values() -> None:
    layer = torch.nn.Parameter(torch.ones(2, 2))
    meter = PortableMeter([layer], ("abs_change", "abs_previous"))
    meter.snapshot()
    layer.data = torch.full((2, 2), 3.0)
    assert meter.sample()[0].tolist() == [8.0, 4.0]


def test_bit_for_bit_repeatable() -> None:
    def once() -> torch.Tensor:
        torch.manual_seed(3)
        layers = [torch.randn(1000, 317), torch.randn(5).bfloat16()]
        meter = PortableMeter(layers, SUMS)
        meter.snapshot()
        for layer in layers:
            layer.mul_(1.001)
        return meter.sample()

    assert torch.equal(once(), once())


def test_memory_is_one_copy_and_a_few_blocks() -> None:
    w = torch.randn(64 * BLOCK)
    meter = PortableMeter([w], sums_needed(["rwc"]))
    with torch.profiler.profile(profile_memory=True) as watched:
        meter.snapshot()
        meter.sample()
        meter.sample()
    sizes = [event.cpu_memory_usage for event in watched.events() if event.name == "[memory]"]
    live = np.cumsum(sizes)
    assert live.max() <= 4 * w.numel() + 8 * 4 * BLOCK + 100_000
    meter.release()
