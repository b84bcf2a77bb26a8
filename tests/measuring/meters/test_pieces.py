"""Layers that are measured piece by piece, in every way of measuring, against NumPy in float64 on the same slices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tests.measuring.meters.oracle import SUMS, sums, wide
from wstrack.measuring.meters import choose
from wstrack.measuring.meters.meter import Meter
from wstrack.measuring.parts import Cut, Piece, pieces_of
from wstrack.measuring.sharding import LocalShard

QKV = ("q", "k", "v")
LAYERS = {  # a name, the shape of a weight, how it is cut
    "stacked experts": ((4, 24, 40), Cut(4)),
    "rows": ((96, 50), Cut((64, 16, 16), labels=QKV)),
    "columns": ((50, 96), Cut(3, dim=1, labels=QKV)),
    "heads of an output": ((48, 64), Cut(8, dim=1)),
    "interleaved rows": ((96, 33), Cut((8, 8, 8), labels=QKV, repeat=4)),
    "interleaved columns": ((33, 96), Cut((8, 8, 8), dim=1, labels=QKV, repeat=4)),
    "single columns": ((19, 5), Cut(5, dim=1)),
    "kernels": ((8, 6, 3, 3), Cut(3, dim=1)),
    "many chunks": ((40, 3000), Cut((1000, 2000), dim=1)),
}


def slices(pieces: dict[str, list[Piece]], array: np.ndarray) -> list[np.ndarray]:
    """What each piece has of an array."""
    tensor = torch.from_numpy(array)
    return [piece.of(tensor).numpy() for some in pieces.values() for piece in some]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("lies", ["in order", "transposed"])
def test_every_sum_of_every_piece(make_meter: Callable[..., Meter], dtype: torch.dtype, lies: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weights: list[torch.Tensor] = []
    for shape, _ in LAYERS.values():
        weight = torch.randn(shape, generator=generator).to(dtype)
        weights.append(weight if lies == "in order" else weight.transpose(0, -1).contiguous().transpose(0, -1))
    whole = torch.randn(7, 9, generator=generator).to(dtype)  # beside them, one that is not cut
    weights.insert(4, whole)
    cut: dict[int, dict[str, list[Piece]]] = {}
    for number, (shape, how) in zip([0, 1, 2, 3, 5, 6, 7, 8, 9], LAYERS.values(), strict=True):
        cut[number] = pieces_of(how, shape, LocalShard(nn.Parameter(weights[number])))
    flat = {number: [piece for some in pieces.values() for piece in some] for number, pieces in cut.items()}
    meter = make_meter(weights, SUMS, pieces=flat)
    meter.snapshot()
    start = [wide(weight) for weight in weights]
    previous, last = start, [np.zeros_like(each) for each in start]
    for _ in range(3):
        for weight in weights:
            moved = (
                torch.randn(weight.shape, generator=generator) * 1e-2 * torch.rand(weight.shape, generator=generator)
            )
            weight += moved.to(dtype) * (torch.rand(weight.shape, generator=generator) < 0.7)
        taken = meter.sample().numpy()
        now = [wide(weight) for weight in weights]
        wanted = [
            list(sums(*four).values())
            for number, four in enumerate(zip(now, previous, last, start, strict=True))
            for four in (zip(*(slices(cut[number], one) for one in four), strict=True) if number in cut else [four])
        ]
        columns = list(sums(*(np.ones(1),) * 4))
        assert taken.shape == (len(wanted), len(SUMS)) == meter.shape
        order = [columns.index(name) for name in SUMS]
        np.testing.assert_allclose(taken, np.array(wanted)[:, order], rtol=2e-6, atol=1e-6)
        last = [one - before for one, before in zip(now, previous, strict=True)]
        if dtype != torch.float64:
            last = [each.astype(np.float32).astype(np.float64) for each in last]
        previous = now


@pytest.mark.parametrize("name", LAYERS)
def test_pieces_add_up_to_the_whole(make_meter: Callable[..., Meter], name: str) -> None:
    shape, cut = LAYERS[name]
    weight = nn.Parameter(torch.randn(shape))
    cut_up = [piece for some in pieces_of(cut, shape, LocalShard(weight)).values() for piece in some]
    names = ("abs_change", "abs_previous", "changed")
    whole, apart = make_meter([weight], names), make_meter([weight], names, pieces={0: cut_up})
    whole.snapshot()
    apart.snapshot()
    with torch.no_grad():
        weight += torch.randn(shape) * (torch.rand(shape) < 0.5)
    first, second = whole.sample()[0].double().numpy(), apart.sample().double().numpy().sum(axis=0)
    np.testing.assert_allclose(second[:2], first[:2], rtol=1e-6)  # blocks, which add up float32, begin elsewhere
    assert second[2] == first[2]


def test_a_snapshot_given_back_and_taken_again(make_meter: Callable[..., Meter]) -> None:
    weight = torch.ones(4, 6)
    meter = make_meter([weight], ("abs_change", "abs_previous"), pieces={0: [Piece(0, 0, 1), Piece(0, 1, 3)]})
    for step in range(1, 4):
        meter.snapshot()
        weight += 1.0
        assert meter.sample().tolist() == [[6.0, 6.0 * step], [18.0, 18.0 * step]]
        meter.release()


def test_a_layer_that_got_another_shape_is_nan_in_all_its_pieces() -> None:
    weight, other = torch.ones(4, 6), torch.ones(3)
    meter = Meter([weight, other], ("abs_change", "abs_previous"), pieces={0: [Piece(0, 0, 2), Piece(0, 2, 2)]})
    meter.snapshot()
    meter.replace(0, torch.ones(8, 6))
    for _ in range(2):
        taken = meter.sample()
        assert taken[:2].isnan().all()
        assert taken[2].tolist() == [0.0, 3.0]
    meter.replace(0, weight)
    meter.sample()
    weight += 1.0
    assert meter.sample()[:2].tolist() == [[12.0, 12.0], [12.0, 12.0]]


def test_pieces_of_nothing_take_no_row() -> None:
    meter = Meter([torch.ones(0), torch.ones(3)], ("abs_current",), pieces={0: []})
    meter.snapshot()
    assert meter.sample().tolist() == [[3.0]]


def test_pieces_with_gaps_stay_on_the_device() -> None:
    weight = torch.empty(4, 6, device="meta")
    with pytest.raises(ValueError, match="snapshot='device'"):
        choose([weight], ("abs_change",), pieces={0: [Piece(1, 0, 3), Piece(1, 3, 3)]}, snapshot="cpu")
    choose([weight], ("abs_change",), pieces={0: [Piece(0, 0, 2), Piece(0, 2, 2)]}, snapshot="cpu")
