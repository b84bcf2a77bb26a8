"""Parameters that are freed, moved, resized or replaced between two samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.measuring.meters.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable

RWC = ("abs_change", "abs_previous")


def relay(layer: nn.Parameter) -> None:
    """The same values in another order of memory."""
    layer.data = layer.data.t().contiguous().t()


def new_memory(layer: nn.Parameter) -> None:
    layer.data = layer.data.clone()


def gaps(layer: nn.Parameter) -> None:
    """The same values as a view of every other column."""
    layer.data = layer.data.repeat_interleave(2, dim=1)[:, ::2]


def swapped(layer: nn.Parameter) -> None:
    """What `Module.to` does if it is told to swap."""
    torch.utils.swap_tensors(layer, nn.Parameter(layer.detach().clone()))


@pytest.mark.parametrize("move", [relay, new_memory, gaps, swapped])
def test_the_same_values_elsewhere_are_compared_with_the_old_ones(make_meter: Callable, move: Callable) -> None:
    torch.manual_seed(0)
    layer, other = nn.Parameter(torch.randn(30, 70)), nn.Parameter(torch.randn(5))
    meter = make_meter([layer, other], (*RWC, "dot", "sq_last_change", "abs_from_start"))
    meter.snapshot()
    start = layer.detach().double().numpy().copy()
    last = np.zeros_like(start)
    for step in range(3):
        before = layer.detach().double().numpy().copy()
        if step == 1:
            move(layer)
        with torch.no_grad():
            layer.mul_(torch.rand(30, 70) + 0.5)
        now = layer.detach().double().numpy()
        row = meter.sample()[0].tolist()
        assert row[:2] == pytest.approx([np.abs(now - before).sum(), np.abs(before).sum()], rel=1e-6)
        assert row[4] == pytest.approx(np.abs(now - start).sum(), rel=1e-6)
        if step:
            assert row[3] == pytest.approx((last**2).sum(), rel=1e-6)
            assert row[2] == pytest.approx(((now - before) * last).sum(), rel=1e-5, abs=1e-5)
        last = now - before


def smaller_in_place(layer: nn.Parameter) -> None:
    layer.requires_grad_(False).resize_(2, 2)


def larger_in_place(layer: nn.Parameter) -> None:
    layer.requires_grad_(False).resize_(50, 60).fill_(1.0)


def other_shape_of_the_same_memory(layer: nn.Parameter) -> None:
    layer.data = layer.data.view(-1)


def other_dtype(layer: nn.Parameter) -> None:
    layer.data = layer.data.double()


def other_dtype_of_the_same_memory(layer: nn.Parameter) -> None:
    layer.data = layer.data.view(torch.int32).view(torch.float32)[:2]


@pytest.mark.parametrize(
    "replace",
    [smaller_in_place, larger_in_place, other_shape_of_the_same_memory, other_dtype, other_dtype_of_the_same_memory],
)
def test_a_layer_that_was_replaced_is_missing_once_and_measured_again(make_meter: Callable, replace: Callable) -> None:
    layer, other = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(2, 2))
    meter = make_meter([layer, other], RWC)
    meter.snapshot()
    meter.sample()
    replace(layer)
    found = meter.sample()
    assert found[0].isnan().all()
    assert found[1].tolist() == [0.0, 4.0]
    layer.data.add_(1)
    assert meter.sample()[0].tolist() == [layer.numel(), layer.numel()]


@pytest.mark.parametrize("how", ["storage", "meta"])
def test_a_layer_that_was_freed_is_missing_until_it_is_back(make_meter: Callable, how: str) -> None:
    layer, other = nn.Parameter(torch.ones(300, 300)), nn.Parameter(torch.ones(2, 2))
    meter = make_meter([layer, other], (*RWC, "dot"))
    meter.snapshot()
    if how == "storage":  # what FSDP does between uses
        layer.untyped_storage().resize_(0)
    else:
        torch.utils.swap_tensors(layer, nn.Parameter(torch.empty(300, 300, device="meta")))
    for _ in range(2):
        found = meter.sample()
        assert found[0].isnan().all()
        assert found[1, :2].tolist() == [0.0, 4.0]
    if how == "storage":
        layer.untyped_storage().resize_(4 * 300 * 300)
        layer.data.fill_(3.0)
    else:
        torch.utils.swap_tensors(layer, nn.Parameter(torch.ones(300, 300)))
    assert meter.sample()[0].isnan().all()
    layer.data.add_(1)
    assert meter.sample()[0, 0] == 300 * 300


def test_memory_that_shrank_under_a_layer_is_not_read(make_meter: Callable) -> None:
    layer = nn.Parameter(torch.ones(1 << 20))
    meter = make_meter([layer], RWC)
    meter.snapshot()
    layer.untyped_storage().resize_(4096)  # the tensor still claims a million elements
    assert meter.sample().isnan().all()


def test_released_and_taken_again(make_meter: Callable) -> None:
    layer = nn.Parameter(torch.ones(100))
    meter = make_meter([layer], RWC)
    for step in range(1, 4):
        meter.snapshot()
        layer.data.add_(step)
        assert meter.sample()[0, 0] == 100 * step
        meter.release()
    assert meter.sample().isnan().all()


def test_a_parameter_in_the_place_of_another_and_none_at_all() -> None:
    first, second = torch.ones(4), torch.full((4,), 3.0)
    meter = Meter([first], RWC)
    meter.snapshot()
    meter.replace(0, second)
    assert meter.sample().tolist() == [[8.0, 4.0]]
    meter.replace(0, None)
    assert meter.sample().isnan().all()


# ---- through watch() -----------------------------------------------------------------------------------------------


def test_weights_assigned_by_load_state_dict_are_followed(model: nn.Sequential, train: Callable) -> None:
    watcher = wstrack.watch(model, every=1)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    before = model[0].weight.detach().double().numpy().copy()
    state = {name: 2 * value for name, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    assert model[0].weight.data_ptr() == state["0.weight"].data_ptr()
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    series = watcher.run().series["rwc"]
    assert series.index.tolist() == [1, 2, 3, 4]
    assert series.loc[3, "0.weight"] == pytest.approx(1.0, abs=0.3)  # doubled, and one step
    assert 0 < series.loc[4, "0.weight"] < 0.3
    assert before.shape == (16, 6)


def test_a_head_that_was_replaced_is_followed_under_its_name(model: nn.Sequential, train: Callable) -> None:
    watcher = wstrack.watch(model, every=1)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    model[4] = nn.Linear(8, 5)  # another shape: nothing to compare with in the next sample
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3)
    series = watcher.run().series["rwc"]
    assert np.isnan(series["4.weight"]).tolist() == [False, False, True, False, False]
    assert (series.loc[[4, 5], "4.weight"] > 0).all()
    assert series["0.weight"].notna().all()


def test_a_layer_that_is_gone_is_missing_and_the_others_go_on(model: nn.Sequential, train: Callable) -> None:
    watcher = wstrack.watch(model, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 1)
    model[2] = nn.Identity()
    model[4] = nn.Linear(16, 3)
    train(model, optimizer, 2)
    series = watcher.run().series["rwc"]
    assert np.isnan(series["2.weight"]).tolist() == [False, True, True]
    assert series["0.weight"].notna().all()


def test_a_parameter_under_another_name_stays_the_same_layer(model: nn.Sequential, train: Callable) -> None:
    watcher = wstrack.watch(model, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 1)
    nn.utils.parametrize.register_parametrization(model[2], "weight", nn.Identity())
    train(model, optimizer, 2)
    assert (watcher.run().series["rwc"]["2.weight"] > 0).all()


def test_a_model_that_changes_its_dtype_is_missing_once(model: nn.Sequential, train: Callable) -> None:
    watcher = wstrack.watch(model, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 2)
    model.double()
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(8, 6, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
    series = watcher.run().series["rwc"]
    assert np.isnan(series["0.weight"]).tolist() == [False, False, True, False]


def test_a_parameter_added_later_disturbs_nothing(model: nn.Sequential, train: Callable) -> None:
    watcher = wstrack.watch(model, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 1)
    model.append(nn.Linear(3, 3))
    optimizer.add_param_group({"params": model[5].parameters()})
    train(model, optimizer, 2)
    series = watcher.run().series["rwc"]
    assert list(series.columns) == ["0.weight", "2.weight", "4.weight"]
    assert series.notna().all(axis=None)


def test_a_model_that_is_sharded_later_is_missing_not_wrong(model: nn.Sequential, train: Callable) -> None:
    watcher = wstrack.watch(model, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 1)
    model[2].weight = nn.Parameter(torch.ones(8, 16).to_sparse(), requires_grad=False)
    watcher.step()
    series = watcher.run().series["rwc"]
    assert np.isnan(series["2.weight"]).tolist() == [False, True]
    assert series["0.weight"].notna().all()
