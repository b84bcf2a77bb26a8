from __future__ import annotations

import pytest
import torch
from torch import nn

from wstrack.measuring.kinds import kind_of
from wstrack.measuring.layers import select
from wstrack.runs.names import unwrapped


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.attn = nn.MultiheadAttention(8, 2)
        self.q_proj = nn.Linear(8, 8)
        self.mlp = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.rnn = nn.GRU(8, 8)
        self.up = nn.ConvTranspose2d(8, 4, 2)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(2, 2))


def test_the_papers_choice_is_trainable_weights_of_two_or_more_dimensions() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.Linear(8, 2))
    model[2].weight.requires_grad_(False)
    layers = select(model)
    assert [layer.name for layer, _ in layers] == ["0.weight", "3.weight"]
    assert [layer.shape for layer, _ in layers] == [(8, 3, 3, 3), (2, 8)]
    assert [layer.numel for layer, _ in layers] == [216, 16]
    assert layers[0][1].parameter is model[0].weight
    assert layers[1][1].parameter is model[3].weight


def test_kinds() -> None:
    kinds = {layer.name: layer.kind for layer, _ in select(Attention(), "all")}
    assert kinds["embed.weight"] == "embedding"
    assert kinds["attn.in_proj_weight"] == kinds["attn.out_proj.weight"] == kinds["q_proj.weight"] == "attention"
    assert kinds["mlp.weight"] == "linear"
    assert kinds["norm.weight"] == "norm"
    assert kinds["norm.bias"] == kinds["attn.in_proj_bias"] == kinds["mlp.bias"] == "bias"
    assert kinds["rnn.weight_ih_l0"] == "recurrent"
    assert kinds["up.weight"] == "transposed"
    assert kinds["scale"] == "other"


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv2d(8, 8, 3, groups=8), "depthwise"),
        (nn.Conv2d(8, 16, 3, groups=2), "conv"),
        (nn.Conv2d(8, 16, 1), "pointwise"),
        (nn.Conv1d(4, 4, 3), "conv"),
        (nn.Conv2d(1, 4, 3), "conv"),
    ],
)
def test_kinds_of_convolutions(module: nn.Module, kind: str) -> None:
    assert kind_of(module, "features.0", "weight", module.weight) == kind


def test_a_tied_weight_is_one_layer_and_keeps_its_other_names() -> None:
    layers = {layer.name: layer for layer, _ in select(Attention())}
    assert layers["embed.weight"].aliases == ("head.weight",)
    assert "head.weight" not in layers


def test_wrapper_prefixes_come_off_and_a_module_called_module_stays() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert [layer.name for layer, _ in select(nn.DataParallel(inner))] == ["0.weight", "1.weight"]
    assert [layer.name for layer, _ in select(torch.compile(inner, backend="eager"))] == ["0.weight", "1.weight"]

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)
            self.other = nn.Linear(2, 2)

    assert [layer.name for layer, _ in select(Odd())] == ["module.weight", "other.weight"]
    assert unwrapped("_fsdp_wrapped_module.a._checkpoint_wrapped_module.b") == "a.b"


def test_selection_by_expression_list_and_callable() -> None:
    model = Attention()
    assert [layer.name for layer, _ in select(model, r"^q_proj")] == ["q_proj.weight", "q_proj.bias"]
    assert [layer.name for layer, _ in select(model, [r"mlp\.weight", r"norm"])] == [
        "mlp.weight", "norm.weight", "norm.bias"
    ]  # fmt: skip
    assert [layer.name for layer, _ in select(model, lambda name, parameter: parameter.ndim == 4)] == ["up.weight"]


def frozen() -> nn.Module:
    model = nn.Linear(2, 2)
    return model.requires_grad_(False)


@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        (nn.ReLU(), None, "has no trainable parameter"),
        (frozen(), None, "has no trainable parameter"),
        (nn.LayerNorm(4), None, "pass layers='all'"),
        (nn.Linear(2, 2), "nothing", r"layers='nothing'.*weight, bias"),
        (nn.Linear(2, 2), "(", "is not a regular expression"),
        (nn.LazyLinear(2), None, "run one forward pass"),
        (nn.Linear(2, 2, device="meta"), None, "meta device"),
    ],
)
def test_what_cannot_be_measured_is_said(model: nn.Module, layers: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(model, layers)


def test_a_selection_of_another_type_is_said() -> None:
    with pytest.raises(TypeError, match="layers=3: pass None, 'all', a regular expression"):
        select(nn.Linear(2, 2), 3)  # type: ignore[arg-type]
