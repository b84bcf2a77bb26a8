"""What names and shapes alone tell of a model's layers is what the model itself does."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import pytest
import torch
from same import Zoo
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from tests.measuring.test_kinds import ARCHITECTURES
from wstrack.checkpoints.layers import layers_in
from wstrack.checkpoints.stored import Checkpoint, InMemory, Stored
from wstrack.measuring.kinds import kind_of
from wstrack.measuring.layers import _user_of, owners_of
from wstrack.runs.manifest import Layer

OTHERWISE = {"blip", "clip", "segformer"}  # walk through their parts in ways of their own


def told(model: nn.Module, config: dict[str, object] | None = None) -> tuple[Layer, ...]:
    """The layers by names in the order of the alphabet, as safetensors keeps them."""
    tensors = {name: Stored(name, tuple(one.shape), one.dtype) for name, one in model.named_parameters()}
    checkpoint = Checkpoint(Path("it"), dict(sorted(tensors.items())), config=config or {})
    return layers_in([checkpoint, checkpoint]).layers


def watched(model: nn.Module) -> dict[str, str]:
    """The kinds of a model's layers, by the model itself."""
    kinds = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            module, own = _user_of(model, name)
            owners = owners_of(model, name, module)
            kinds[name] = kind_of(module, name.rpartition(".")[0], own, parameter, owners=owners)
    return kinds


def blocks(names: list[str]) -> list[str]:
    """The numbered blocks that the names are in, in their order."""
    return list(dict.fromkeys(re.match(r"(.*?\.\d+\.)?", name)[0] for name in names))


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_kinds_and_the_order_of_blocks(name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra wstrack[transformers] is not installed")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        config = transformers.AutoConfig.for_model(name)
        model = transformers.AutoModel.from_config(config)
    theirs = watched(model)
    ours = {layer.name: layer.kind for layer in told(model, config.to_dict())}
    assert ours == theirs
    if name not in OTHERWISE:
        assert blocks(list(ours)) == blocks(list(theirs))


def test_kinds_that_names_hide() -> None:
    model = nn.ModuleDict({"zoo": Zoo(), "sound": weight_norm(nn.Conv1d(4, 4, 3)), "gru": nn.GRUCell(4, 4)})
    kinds = watched(model)
    assert {layer.name: layer.kind for layer in told(model)} == kinds
    assert {"conv", "depthwise", "pointwise", "transposed", "linear", "attention", "embedding", "recurrent",
            "norm"} <= set(kinds.values())  # fmt: skip


def test_the_first_convolution_of_one_channel_is_none_in_depth() -> None:
    one = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=8))
    assert [layer.kind for layer in told(nn.Sequential(one[0], nn.Conv2d(8, 4, 3)))] == ["conv", "conv"]
    mixers = nn.ModuleDict(
        {"layers": nn.ModuleList(nn.ModuleDict({"conv1d": nn.Conv1d(8, 8, 4, groups=8)}) for _ in "ab")}
    )
    assert [layer.kind for layer in told(mixers)] == ["depthwise", "depthwise"]


PEFT = {
    "base_model.model.h.0.q.lora_A.weight": "base_model.model.h.0.q.lora_A.default.weight",
    "base_model.model.h.0.q.lora_embedding_B": "base_model.model.h.0.q.lora_embedding_B.default",
    "base_model.model.h.0.q.lora_A.other.weight": "base_model.model.h.0.q.lora_A.other.weight",
    "base_model.model.h.0.q.base_layer.weight": "base_model.model.h.0.q.base_layer.weight",
    "h.0.q.lora_A.weight": "h.0.q.lora_A.weight",
}


def test_names_of_adapters() -> None:
    tensors = {name: Stored(name, (3, 2), torch.float32) for name in PEFT}
    layers = layers_in([Checkpoint(Path("it"), tensors, ordered=True)] * 2).layers
    assert [layer.name for layer in layers] == list(PEFT.values())


def test_wrappers_within_wrappers_are_taken_off() -> None:
    raw = (
        "module._fsdp_wrapped_module._orig_mod._checkpoint_wrapped_module.h.0._orig_mod._fsdp_wrapped_module.fc.weight"
    )
    stored = InMemory(raw, (2, 2), torch.float32, lambda: torch.ones(2, 2))
    (layer,) = layers_in([Checkpoint(Path(name), {raw: stored}, ordered=True) for name in "ab"]).layers
    assert layer.name == "h.0.fc.weight"
