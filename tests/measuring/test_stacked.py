"""Stacked experts: a part is what one expert computes with, and no other."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.measuring.attending import changed, cut, rows_of
from wstrack.measuring.cuts import stacked_experts
from wstrack.measuring.layers import select

E, IN, HIDDEN = 4, 6, 5


class GroupedExperts(nn.Module):
    """pytorch/torchtitan: each expert [out, in]."""

    def __init__(self) -> None:
        super().__init__()
        self.num_experts = E
        self.w1, self.w3 = (nn.Parameter(torch.empty(E, HIDDEN, IN)) for _ in range(2))
        self.w2 = nn.Parameter(torch.empty(E, IN, HIDDEN))

    def forward(self, each: Tensor) -> Tensor:
        hidden = torch.einsum("eoi,ei->eo", self.w1, each).sigmoid() * torch.einsum("eoi,ei->eo", self.w3, each)
        return torch.einsum("eoi,ei->eo", self.w2, hidden)


class SparseMLP(nn.Module):
    """databricks/megablocks: the rows of all experts one after the other, and their number in its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.args = SimpleNamespace(moe_num_experts=E)
        self.w1, self.w2 = nn.Parameter(torch.empty(E * HIDDEN, IN)), nn.Parameter(torch.empty(E * HIDDEN, IN))

    def forward(self, each: Tensor) -> Tensor:
        hidden = torch.einsum("eoi,ei->eo", self.w1.view(E, HIDDEN, IN), each).sigmoid()
        return torch.einsum("eoi,eo->ei", self.w2.view(E, HIDDEN, IN), hidden)


class Routed(nn.Module):
    def __init__(self, experts: nn.Module) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(IN, E), experts
        self.shared_experts = nn.Linear(IN, E * IN)


def alone(module: nn.Module) -> nn.Module:
    return nn.ModuleDict({"experts": nn.ModuleDict({"mlp": module})})


def of(name: str, **config: Any) -> Callable[[], nn.Module]:
    """A small model of Transformers."""

    def build() -> nn.Module:
        transformers = pytest.importorskip(
            "transformers", minversion="5", reason="the models are those of Transformers 5"
        )
        small = {
            "vocab_size": 16, "hidden_size": 32, "intermediate_size": 8, "moe_intermediate_size": 8,
            "num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 1, "pad_token_id": 0,
            "shared_expert_intermediate_size": 8, "num_experts_per_tok": 2,
        }  # fmt: skip
        kind = getattr(transformers, f"{name}Config")
        return transformers.AutoModel.from_config(kind(**small | config))

    return build


def dbrx() -> nn.Module:
    module = pytest.importorskip(
        "transformers", minversion="5", reason="the models are those of Transformers 5"
    ).models.dbrx.configuration_dbrx
    attention = module.DbrxAttentionConfig(kv_n_heads=2, clip_qkv=8.0, rope_theta=10000.0)
    experts = module.DbrxFFNConfig(ffn_hidden_size=8, moe_num_experts=E, moe_top_k=2, hidden_size=32)
    return of("Dbrx", d_model=32, n_heads=4, n_layers=1, attn_config=attention, ffn_config=experts)()


def routed(experts: nn.Module, each: Tensor) -> Tensor:
    """As Transformers' modules of experts are called: token e to expert e alone."""
    return experts(each, torch.arange(E)[:, None], torch.ones(E, 1))


def in_order(experts: nn.Module, each: Tensor) -> Tensor:
    return experts(each)


def parallel(experts: nn.Module, each: Tensor) -> Tensor:
    return experts(each[:, : experts.input_size], [1] * E)


LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}
STACKED: dict[str, tuple[Callable[[], nn.Module], str, Callable[[nn.Module, Tensor], Tensor], int]] = {
    "dbrx": (dbrx, "experts", routed, 3),
    "deepseek-v3": (
        of("DeepseekV3", n_routed_experts=E, n_group=1, topk_group=1, first_k_dense_replace=0, **LATENT),
        "experts", routed, 2,
    ),
    "gpt-oss": (of("GptOss", num_local_experts=E, head_dim=8), "experts", routed, 4),
    "granite": (of("GraniteMoe", num_local_experts=E), "experts", routed, 2),
    "jetmoe": (of("JetMoe", num_local_experts=E, kv_channels=8), "input_linear", parallel, 4),
    "llama-4": (
        of("Llama4Text", num_local_experts=E, head_dim=8, interleave_moe_layer_step=1), "experts", in_order, 2,
    ),
    "megablocks": (lambda: alone(SparseMLP()), "mlp", in_order, 2),
    "mixtral": (of("Mixtral", num_local_experts=E), "experts", routed, 2),
    "qwen2-moe": (of("Qwen2Moe", num_experts=E), "experts", routed, 2),
    "qwen3-moe": (of("Qwen3Moe", num_experts=E, head_dim=8), "experts", routed, 2),
    "torchtitan": (lambda: Routed(GroupedExperts()), "experts", in_order, 3),
}  # fmt: skip


@pytest.mark.parametrize(("make", "called", "call", "layers"), STACKED.values(), ids=STACKED)
def test_a_part_is_one_expert(make: Any, called: str, call: Any, layers: int) -> None:
    torch.manual_seed(0)
    model = make()
    weights = dict(model.named_parameters())
    for weight in weights.values():
        nn.init.normal_(weight)
    found = cut(model, "experts")
    assert len(found) == layers
    module = next(one for name, one in model.named_modules() if name.rpartition(".")[2] == called)
    own = {id(weight) for weight in module.parameters()}
    each = torch.randn(E, 32 if hasattr(model, "config") else IN)
    checked = [name for name in found if id(weights[name]) in own]
    assert checked
    for name in checked:
        for label, rows in rows_of(found[name], weights[name].shape[found[name].dim]).items():
            with torch.no_grad():
                before = call(module, each)
                with changed(weights[name], found[name].dim, rows):
                    apart = (before - call(module, each)).abs().flatten(1).amax(1) > 1e-6
            assert apart.nonzero().flatten().tolist() == [int(label)], name


def test_experts_that_are_modules_and_shared_ones_are_not_cut() -> None:
    model = Routed(nn.ModuleList(nn.Linear(IN, IN) for _ in range(E)))
    with pytest.raises(ValueError, match="'experts' cuts nothing; no layer is a stacked weight of several experts"):
        cut(model, "experts")
    assert set(cut(Routed(GroupedExperts()), "experts")) == {"experts.w1", "experts.w2", "experts.w3"}


def test_no_number_told_is_the_first_dimension_s_and_another_one_told_is_not() -> None:
    class Experts(nn.Module):
        def __init__(self, **told: int) -> None:
            super().__init__()
            self.__dict__.update(told)
            self.w = nn.Parameter(torch.empty(E, IN, HIDDEN))

    assert cut(Experts(), "experts")["w"].into == E
    with pytest.raises(ValueError, match="'experts' cuts nothing"):
        cut(Experts(num_experts=2 * E), "experts")  # one rank's own, which are not the first


def test_adapters_of_stacked_experts() -> None:
    """What peft adds to expert e is made of that expert's part of both factors."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    base = of("Mixtral", num_local_experts=E)()
    config = peft.LoraConfig(r=2, target_modules=[], target_parameters=["experts.gate_up_proj", "experts.down_proj"])
    model = peft.get_peft_model(base, config)
    weights = dict(model.named_parameters())
    found = cut(model, "experts")
    assert len(found) == 4
    for name in found:
        nn.init.normal_(weights[name])
    for name, how in found.items():
        wrapper = model.get_submodule(name.partition(".lora_")[0])
        for label, rows in rows_of(how, weights[name].shape[how.dim]).items():
            before = wrapper.get_delta_weight("default").detach()
            with changed(weights[name], how.dim, rows):
                apart = (before - wrapper.get_delta_weight("default")).abs().flatten(1).amax(1) > 0
            assert apart.nonzero().flatten().tolist() == [int(label)]


def test_what_the_word_would_do_is_said_of_models_that_have_stacked_experts() -> None:
    def advice(model: nn.Module) -> str | None:
        return stacked_experts(model, [layer for layer, _ in select(model)])

    assert advice(Routed(GroupedExperts())) == (
        "3 layers hold stacked experts and are measured whole, all experts together; "
        'parts="experts" measures each expert too, 12 parts in all'
    )
    assert advice(nn.MultiheadAttention(8, 2)) is None
