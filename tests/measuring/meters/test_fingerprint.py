"""The fingerprint of a layer: alike in all meters, against Python's integers, and no bit too small for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import oracle
import pytest
import torch

from wstrack.measuring.meters import choose
from wstrack.measuring.parts import Piece
from wstrack.metrics import METRICS, compute

if TYPE_CHECKING:
    from collections.abc import Callable

BITS = ("bits_low", "bits_high")
WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.complex64]


def wanted(weight: torch.Tensor) -> tuple[int, int]:
    """Of a whole layer, whatever its strides."""
    flat = weight.contiguous()
    flat = (torch.view_as_real(flat) if flat.is_complex() else flat).reshape(-1)
    return oracle.fingerprint(flat.view(WORDS[flat.element_size()]).numpy(), np.arange(flat.numel()))


def taken(meter: object) -> list[list[int]]:
    return [[int(value) % 2**32 for value in row] for row in meter.sample().tolist()]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_against_integers_of_python(make_meter: Callable, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    made = [
        torch.randn(70, 301), torch.randn(301, 70).t(), torch.randn(60, 31)[::2], torch.randn(5001)[1:],
        torch.randn(4, 6, 5, 3).contiguous(memory_format=torch.channels_last), torch.randn(()), torch.randn(0, 3),
    ]  # fmt: skip
    layers = [torch.empty_strided(one.shape, one.stride(), dtype=dtype).copy_(one) for one in made]
    layers[0].view(-1)[:3] = torch.tensor([float("nan"), float("inf"), -0.0]).to(dtype)
    meter = make_meter(layers, BITS)
    meter.snapshot()
    for layer in layers:
        layer.copy_(layer.to(torch.complex64 if dtype.is_complex else torch.float32) * 1.5)
    assert [tuple(row) for row in taken(meter)] == [wanted(layer) for layer in layers]


def test_more_elements_than_a_chunk_has(make_meter: Callable, request: pytest.FixtureRequest) -> None:
    count = 40_001 if "cuda" in request.node.name else 150_001  # the interpreter is slow
    weight = torch.randn(3, count // 3)
    meter = make_meter([weight, weight.t()], BITS)
    meter.snapshot()
    assert [tuple(row) for row in taken(meter)] == [wanted(weight), wanted(weight.t())]


def test_parts_add_up_to_the_layer(make_meter: Callable) -> None:
    torch.manual_seed(1)
    weight = torch.randn(12, 40)
    pieces = [Piece(0, 1, 2, step=4, count=3), Piece(0, 0, 1), Piece(0, 3, 2, step=4, count=2), Piece(0, 11, 1)]
    meter = make_meter([weight], BITS, pieces={0: pieces})
    meter.snapshot()
    rows = np.array(taken(meter))
    assert (rows.sum(axis=0) % 2**32).tolist() == list(wanted(weight))
    one = Piece(0, 1, 2, step=4, count=3)
    words, places = weight.view(torch.int32), torch.arange(480).view(12, 40)
    assert tuple(rows[0]) == oracle.fingerprint(one.of(words).numpy(), one.of(places).numpy())


def test_shards_add_up_to_the_layer(make_meter: Callable) -> None:
    torch.manual_seed(2)
    weight = torch.randn(13, 40)
    places = torch.empty(13, 40, device="meta")
    shards = [weight[:5].clone(), weight[5:, :17].clone(), weight[5:, 17:].clone()]
    standings = [places[:5], places[5:, :17], places[5:, 17:]]
    meter = make_meter(shards, BITS, standings=standings)
    meter.snapshot()
    assert (np.array(taken(meter)).sum(axis=0) % 2**32).tolist() == list(wanted(weight))


def test_every_single_bit_is_noticed_and_its_place(make_meter: Callable, request: pytest.FixtureRequest) -> None:
    torch.manual_seed(3)
    size = 3 if "cuda" in request.node.name else 45  # the interpreter is slow
    weight = torch.randn(1, size)
    rows = weight.repeat(33 * size, 1, 1)
    words = rows.view(torch.int32).view(len(rows), -1)
    for place in range(size):
        for bit in range(32):
            words[place * 32 + bit, place] ^= -(2**31) if bit == 31 else 1 << bit
    for place in range(size - 1):  # two neighbours change places
        values = words[32 * size + place]
        values[place], values[place + 1] = values[place + 1].item(), values[place].item()
    meter = make_meter(list(rows), BITS)
    meter.snapshot()
    found = compute(["fingerprint"], dict(zip(BITS, np.array(meter.sample().tolist()).T, strict=True)), np.ones(1))
    assert len(set(found["fingerprint"].tolist())) == len(rows)  # the last one is the weight as it was


def test_a_thousand_equal_pairs_are_silent() -> None:
    torch.manual_seed(4)
    ours = [torch.randn(int(torch.randint(1, 3000, ()))) for _ in range(1000)]
    both = []
    for layers in (ours, [layer.clone() for layer in ours]):
        meter = choose(layers, BITS)
        meter.snapshot()
        both.append(taken(meter))
    assert both[0] == both[1]
    assert len({tuple(row) for row in both[0]}) == 1000


def test_the_metric_is_a_whole_number_that_a_float_holds() -> None:
    sums = {"bits_low": np.array([2.0**33 + 5]), "bits_high": np.array([2.0**40 + 2.0**21 - 1])}
    value = METRICS["fingerprint"].value(sums, np.ones(1))[0]
    assert value == 5 + 2**32 * (2**21 - 1) < 2**53
