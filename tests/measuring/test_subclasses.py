"""Weights of tensor classes of their own: measured right, or refused with the layer's name, and never by their address.

torchao's int8 mixed-precision and BitNet weights were tried by hand (0.18, measured right; its int8 weight-only ones
have no `empty_like` and are refused). torch's own TwoTensor stands for them here: its address is 0 as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

import wstrack
from wstrack.measuring.meters import choose
from wstrack.measuring.meters.backends import backend_for

RWC = ("abs_change", "abs_previous")


class Wrapper(torch.Tensor):
    """Holds another tensor, doubled to whoever looks, as a quantised weight holds its integers."""

    inner: torch.Tensor
    refuses: tuple[Any, ...] = ()

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Wrapper:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)  # type: ignore[attr-defined]

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        if function in cls.refuses:
            raise NotImplementedError(f"no {function}\nand a second line")
        if function is torch.ops.aten.detach.default:
            return cls(arguments[0].inner)
        plain = [one.inner * 2 if isinstance(one, Wrapper) else one for one in arguments]
        return function(*plain, **(keywords or {}))


class Rigid(Wrapper):
    refuses = (torch.ops.aten.empty_like.default,)


def test_only_plain_tensors_are_read_by_their_address() -> None:
    assert TwoTensor(torch.ones(4), torch.ones(4)).data_ptr() == 0
    for weight in (TwoTensor(torch.ones(4), torch.ones(4)), Wrapper(torch.ones(4))):
        name, why = backend_for(weight, RWC)
        assert name == "portable"
        assert f"it is a {type(weight).__name__}, which may have no memory of its own" in why
    assert backend_for(nn.Parameter(torch.ones(4)).detach(), RWC) == backend_for(torch.ones(4), RWC)


@pytest.mark.parametrize("meter", [None, "portable"])
def test_a_wrapper_is_measured_by_the_values_that_it_shows(meter: str | None) -> None:
    plain, wrapped = torch.arange(1.0, 7.0).reshape(2, 3), Wrapper(torch.arange(1.0, 7.0).reshape(2, 3))
    found = choose([plain, wrapped], RWC, meter=meter)
    found.snapshot()
    with torch.no_grad():
        plain.mul_(1.5)
        wrapped.inner.mul_(1.5)
    np.testing.assert_allclose(found.sample().numpy(), [[10.5, 21.0], [21.0, 42.0]])


def test_a_model_of_wrapped_weights_trains_on_and_is_measured() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 4, bias=False))
    inner = model[0].weight.detach()
    model[0].weight = nn.Parameter(TwoTensor(inner.clone(), inner.clone()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = wstrack.watch(model, every=1)
    oracle = []
    for _ in range(3):
        before = model[0].weight.a.detach().double().numpy().copy()
        optimizer.zero_grad()
        model(torch.randn(16, 8)).square().mean().backward()
        optimizer.step()
        oracle.append(np.abs(model[0].weight.a.detach().double().numpy() - before).sum() / np.abs(before).sum())
    watcher.close()
    np.testing.assert_allclose(watcher.run().series["rwc"]["0.weight"], oracle, rtol=1e-6)


def test_weights_that_are_wrapped_after_the_watch_began() -> None:
    model = nn.Linear(8, 8, bias=False)
    watcher = wstrack.watch(model, every=1)
    watcher.step()
    inner = model.weight.detach()
    model.weight = nn.Parameter(TwoTensor(inner.clone(), inner.clone()))
    watcher.step()
    with torch.no_grad():
        model.weight.mul_(2)
    watcher.step()
    watcher.close()
    assert watcher.run().series["rwc"]["weight"].tolist() == [0.0, 0.0, 1.0]


def test_a_class_that_cannot_be_measured_is_refused_with_the_layers_name() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 4, bias=False))
    model[1].weight = nn.Parameter(Rigid(model[1].weight.detach()), requires_grad=True)
    says = r"model: 1\.weight is a Rigid, which cannot be measured \(NotImplementedError: no aten\S+\); .* layers="
    with pytest.raises(ValueError, match=says):
        wstrack.watch(model)
    with wstrack.watch(model, layers=r"^0\.", every=1) as watcher:
        watcher.step()
    assert watcher.run().layers.index.tolist() == ["0.weight"]


def test_buffers_of_ours_stay_where_they_belong_whatever_the_default_device() -> None:
    """`torch.set_default_device("cuda")`, for which "meta" stands here: what lands there has no values."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with torch.device("meta"):
        watcher = wstrack.watch(model, every=1, meter="portable")
        model[0].weight.data = torch.ones(4, 4, device="cpu")  # moved: what measures it is laid out anew
        watcher.step()
        with torch.no_grad():
            model[0].weight.mul_(3)
        watcher.step()
        watcher.close()
    assert watcher.run().series["rwc"]["0.weight"].iloc[1] == 2.0
    assert watcher.run().series["rwc"]["1.weight"].tolist() == [0.0, 0.0]
