"""Layers are found again, by their names, when parameters or whole modules take the place of others."""

from __future__ import annotations

import copy
import gc
import weakref

import torch
from torch import nn

from wstrack.training.lookup import Lookup


def looked_up(model: nn.Module) -> Lookup:
    return Lookup(model, [parameter for parameter in model.parameters() if parameter.ndim >= 2])


def test_a_new_head_and_assigned_weights(model: nn.Sequential) -> None:
    lookup = looked_up(model)
    assert lookup.replaced() == {}
    model[4] = nn.Linear(8, 5)
    assert lookup.replaced() == {2: model[4].weight}
    assert lookup.replaced() == {}
    model.load_state_dict(copy.deepcopy(model).state_dict(), assign=True)
    found = lookup.replaced()
    assert list(found) == [0, 1, 2]
    assert found[0] is model[0].weight


def test_a_layer_that_is_gone_and_comes_back(model: nn.Sequential) -> None:
    lookup = looked_up(model)
    kept = model[4]
    model[4] = nn.Identity()
    assert lookup.replaced() == {2: None}
    model[4] = kept
    assert lookup.replaced() == {2: kept.weight}


def test_a_parameter_that_goes_by_another_name_is_the_same_layer(model: nn.Sequential) -> None:
    lookup = looked_up(model)
    nn.utils.parametrizations.weight_norm(model[0])
    assert lookup.replaced() == {0: None}  # its weight is computed now, and no parameter any more
    wrapped = nn.Sequential(nn.Linear(2, 2))
    lookup = looked_up(wrapped)
    wrapped.add_module("again", wrapped[0])
    del wrapped._modules["0"]
    assert lookup.replaced() == {}


def test_what_cannot_be_measured_is_none(model: nn.Sequential) -> None:
    lookup = looked_up(model)
    model[0].to("meta")
    model[0].weight = nn.Parameter(torch.empty(16, 6, device="meta"))
    assert lookup.replaced() == {0: None}


def test_it_keeps_neither_the_model_nor_its_modules_alive() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    lookup, gone = looked_up(model), weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert lookup.replaced() == {}


def test_names_of_some_parameters(model: nn.Sequential) -> None:
    stranger = nn.Parameter(torch.ones(2))
    assert looked_up(model).named([model[2].bias, stranger]) == {"2.bias": model[2].bias}
