"""What adapters add to weights, on models and adapters as people make them, against what peft itself makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wstrack.measuring.adapters import adapted_weights
from wstrack.measuring.meters.products import ProductMeter
from wstrack.metrics import PRODUCTS

peft = pytest.importorskip("peft", reason="peft is not installed")
transformers = pytest.importorskip("transformers", minversion="5", reason="the models are those of Transformers 5")

pytestmark = pytest.mark.filterwarnings("ignore")  # of peft's: of ranks, of tied weights, of merging


def llama(**more: Any) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=16, **more,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def gpt2() -> Any:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=48, n_positions=16, n_embd=16, n_layer=2, n_head=4)
    )


def bert() -> Any:
    config = transformers.BertConfig(
        vocab_size=48, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24
    )
    return transformers.BertForSequenceClassification(config)


def vit() -> Any:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, image_size=8, patch_size=4
    )
    return transformers.ViTForImageClassification(config)


def mixtral() -> Any:
    config = transformers.MixtralConfig(
        vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, max_position_embeddings=16,
    )  # fmt: skip
    return transformers.MixtralForCausalLM(config)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.attn(x, x, x)[0]
        return result


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(4, 6, 3), nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.Conv2d(4, 8, 1), nn.Conv3d(2, 4, 2)
    )


# The ways in which published configs differ.
WAYS: dict[str, tuple[Callable[[], Any], dict[str, Any], int]] = {
    "q and v": (llama, {"target_modules": ["q_proj", "v_proj"]}, 4),
    "all linear": (llama, {"target_modules": "all-linear", "lora_dropout": 0.05}, 14),
    "rank-stabilised": (llama, {"target_modules": ["q_proj"], "use_rslora": True, "r": 8}, 2),
    "patterns": (
        llama,
        {
            "target_modules": ["q_proj", "k_proj"],
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"layers.0.self_attn.k_proj": 3},
        },
        4,
    ),
    "some blocks": (llama, {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"}, 1),
    "the other way round": (gpt2, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}, 6),
    "embeddings": (llama, {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}, 4),
    "tied embeddings": (lambda: llama(tie_word_embeddings=True), {"target_modules": ["embed_tokens", "q_proj"]}, 3),
    "a head of its own, and biases": (
        bert,
        {"target_modules": ["query", "value"], "modules_to_save": ["classifier"], "bias": "lora_only"},
        4,
    ),
    "a bias of the adapter": (bert, {"target_modules": ["query"], "lora_bias": True}, 2),
    "pictures": (vit, {"target_modules": ["projection", "q_proj", "query"], "modules_to_save": ["classifier"]}, 3),
    "some tokens": (llama, {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [1, 2]}}, 2),
    "experts": (
        mixtral,
        {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
        6,
    ),
    "convolutions": (convolutions, {"target_modules": ["0", "1", "2", "3"]}, 4),
    "multi-head attention": (Attention, {"target_modules": ["attn"]}, 2),
    "PiSSA": (llama, {"target_modules": ["q_proj"], "init_lora_weights": "pissa"}, 2),
    "OLoRA": (llama, {"target_modules": ["q_proj"], "init_lora_weights": "olora"}, 2),
    "MiCA": (llama, {"target_modules": ["q_proj"], "init_lora_weights": "mica"}, 2),
    "in bfloat16": (lambda: llama().bfloat16(), {"target_modules": ["q_proj"]}, 2),
}


def adapted(model: nn.Module, *, seed: int = 0, **config: Any) -> Any:
    """The model with an adapter that adds something, as after some training."""
    torch.manual_seed(seed)
    given = {"r": 4, "lora_alpha": 16, **config}
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**given))
    move(wrapped)
    return wrapped


def move(model: nn.Module, by: float = 0.1) -> None:
    """As an optimizer would."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and parameter.requires_grad:
                parameter.add_(by * torch.randn_like(parameter))


def layers_of_peft(model: nn.Module) -> Iterator[Any]:
    return (module for module in model.modules() if hasattr(module, "get_delta_weight"))


def added(model: nn.Module) -> list[np.ndarray[Any, Any]]:
    """What peft says that its adapters add to each weight, in model order, from factors in float64."""
    found = []
    for module in layers_of_peft(model):
        factors = [*module.lora_A.parameters(), *module.lora_B.parameters()]
        factors += [*module.lora_embedding_A.parameters(), *module.lora_embedding_B.parameters()]
        kept = [factor.data for factor in factors]
        for factor in factors:
            factor.data = factor.data.double()
        weight = weight_of(module)
        names = [name for name in module.active_adapters if name in (*module.lora_A, *module.lora_embedding_A)]
        whole = np.zeros(tuple(weight.shape))
        dtype = weight.dtype
        weight.data = weight.data.double()  # or peft rounds the product to its type, of some layers
        for name in names:
            whole += module.get_delta_weight(name).detach().double().numpy()
        weight.data = weight.data.to(dtype)
        for factor, data in zip(factors, kept, strict=True):
            factor.data = data
        found.append(whole)
    return found


def weight_of(module: Any) -> torch.Tensor:
    base = module.get_base_layer()
    own = getattr(module, "parameter_name", "in_proj_weight" if hasattr(base, "in_proj_weight") else "weight")
    weight: torch.Tensor = getattr(base, own)
    return weight


def meter_of(model: nn.Module) -> ProductMeter:
    meter = ProductMeter([one for _, one in adapted_weights(model, set(model.parameters()))], tuple(PRODUCTS))
    meter.snapshot()
    return meter


def squares(arrays: list[np.ndarray[Any, Any]]) -> list[float]:
    return [float((array**2).sum()) for array in arrays]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_what_peft_adds(way: str) -> None:
    model_of, config, count = WAYS[way]
    torch.manual_seed(0)
    model = adapted(model_of(), **config)
    weights = [weight_of(module).detach().double().numpy() for module in layers_of_peft(model)]
    meter = meter_of(model)
    before = added(model)
    move(model, by=1e-3)
    after = added(model)
    taken = meter.sample().numpy()
    assert len(taken) == count
    np.testing.assert_allclose(taken[:, 0], squares(after), rtol=1e-9)
    np.testing.assert_allclose(
        taken[:, 1], squares([new - old for new, old in zip(after, before, strict=True)]), rtol=1e-9
    )
    np.testing.assert_allclose(taken[:, 2], squares(weights), rtol=1e-12)
    assert min(squares(before)) > 0


def test_layers_are_named_as_the_weights_without_what_peft_puts_between() -> None:
    model = adapted(mixtral(), target_modules=["q_proj"], target_parameters=["experts.gate_up_proj"])
    layers = [layer for layer, _ in adapted_weights(model, set(model.parameters()))]
    before = "base_model.model.model.layers."
    assert [(layer.name.removeprefix(before), layer.kind, layer.shape) for layer in layers] == [
        ("0.self_attn.q_proj.weight", "attention", (16, 16)),
        ("0.mlp.experts.gate_up_proj", "linear", (4, 48, 16)),
        ("1.self_attn.q_proj.weight", "attention", (16, 16)),
        ("1.mlp.experts.gate_up_proj", "linear", (4, 48, 16)),
    ]
    model = adapted(Attention(), target_modules=["attn"])
    names = [layer.name for layer, _ in adapted_weights(model, set(model.parameters()))]
    assert names == ["base_model.model.attn.in_proj_weight", "base_model.model.attn.out_proj.weight"]


def test_a_small_change_of_a_large_product_is_exact() -> None:
    """What a difference of two norms, or of two products in float32, would lose."""
    model = adapted(llama(), target_modules=["q_proj"])
    for module in layers_of_peft(model):
        module.lora_A["default"].weight.data = module.lora_A["default"].weight.data.double() * 1e3
        module.lora_B["default"].weight.data = module.lora_B["default"].weight.data.double() * 1e3
    meter = meter_of(model)
    before = added(model)
    with torch.no_grad():
        for module in layers_of_peft(model):
            module.lora_B["default"].weight[0, 0] += 2.0**-30
    changes = [new - old for new, old in zip(added(model), before, strict=True)]
    taken = meter.sample()
    # Here even NumPy's difference of products is rounded; the change is one row of A by 2^-30.
    exact = [
        float((4.0 * 2.0**-30 * module.lora_A["default"].weight[0]).square().sum()) for module in layers_of_peft(model)
    ]
    np.testing.assert_allclose(taken[:, 1], exact, rtol=1e-7)
    assert not np.allclose(squares(changes), exact, rtol=1e-7, atol=0)


def test_a_rank_stabilised_scale() -> None:
    model = adapted(llama(), target_modules=["q_proj"], use_rslora=True, r=4, lora_alpha=16)
    _, weight = adapted_weights(model, set(model.parameters()))[0]
    assert {name: product.scale for name, product in (weight.products() or {}).items()} == {
        "default": 16 / math.sqrt(4)
    }


def test_several_adapters_are_added_up() -> None:
    torch.manual_seed(0)
    model = adapted(llama(), target_modules=["q_proj", "v_proj"])
    model.add_adapter("second", peft.LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj"], init_lora_weights=False))
    meter = meter_of(model)
    before = added(model)
    np.testing.assert_allclose(meter.sample()[:, 0], squares(before), rtol=1e-9)
    model.base_model.set_adapter(["default", "second"])
    both = added(model)
    taken = meter.sample()
    np.testing.assert_allclose(taken[:, 0], squares(both), rtol=1e-9)
    change = squares([new - old for new, old in zip(both, before, strict=True)])
    np.testing.assert_allclose(taken[:, 1], change, rtol=1e-9)
    assert [square > 0 for square in change] == [True, False, True, False]  # the second adapts q_proj alone
    model.set_adapter("second")
    taken = meter.sample()
    np.testing.assert_allclose(taken[:, 0], squares(added(model)), rtol=1e-9)
    np.testing.assert_allclose(taken[:, 1], squares(before), rtol=1e-9)  # what "default" added is gone
    assert taken[1, 0] == 0


def test_a_weighted_adapter() -> None:
    torch.manual_seed(0)
    model = adapted(llama(), target_modules=["q_proj"])
    model.add_adapter("second", peft.LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj"], init_lora_weights=False))
    model.add_weighted_adapter(["default", "second"], [0.7, 0.3], "both", combination_type="cat")
    meter = meter_of(model)
    model.set_adapter("both")
    np.testing.assert_allclose(meter.sample()[:, 0], squares(added(model)), rtol=1e-9)


def test_another_scale_is_a_change() -> None:
    model = adapted(llama(), target_modules=["q_proj"])
    meter = meter_of(model)
    whole = squares(added(model))
    for module in layers_of_peft(model):
        module.scale_layer(0.5)
    taken = meter.sample()
    np.testing.assert_allclose(taken[:, 0], [square / 4 for square in whole], rtol=1e-9)
    np.testing.assert_allclose(taken[:, 1], [square / 4 for square in whole], rtol=1e-9)


@pytest.mark.parametrize("way", ["q and v", "the other way round", "embeddings", "experts", "convolutions"])
def test_merged_or_not(way: str) -> None:
    """Of a model that is merged when the watch begins too, the norm is that of the weight without the adapter."""
    model_of, config, _ = WAYS[way]
    torch.manual_seed(0)
    model = adapted(model_of(), **config)
    unmerged = meter_of(model)
    apart = unmerged.sample()
    model.merge_adapter()
    np.testing.assert_array_equal(unmerged.sample()[:, [0, 2]], apart[:, [0, 2]])
    merged = meter_of(model).sample()
    np.testing.assert_allclose(merged[:, [0, 2]], apart[:, [0, 2]], rtol=1e-5)
    assert not merged[:, 1].any()
    # Of several that are active, those that are merged are in use.
    model.unmerge_adapter()
    np.testing.assert_array_equal(unmerged.sample()[:, 0], apart[:, 0])


def test_adapters_that_are_disabled_add_nothing() -> None:
    model = adapted(llama(), target_modules=["q_proj"])
    meter = meter_of(model)
    with model.disable_adapter():
        assert not meter.sample()[:, 0].any()
    assert meter.sample()[:, 0].all()


def test_modules_that_are_gone_are_nan_and_come_back() -> None:
    model = adapted(llama(), target_modules=["q_proj", "v_proj"])
    meter = meter_of(model)
    attention = model.base_model.model.model.layers[0].self_attn
    kept, attention.q_proj = attention.q_proj, nn.Linear(16, 16, bias=False)
    taken = meter.sample()
    assert taken[0, :2].isnan().all()
    assert not taken[1:].isnan().any()
    attention.q_proj = kept
    taken = meter.sample()
    assert taken[0].isnan().tolist() == [False, True, False]  # a change since nothing
    assert not meter.sample().isnan().any()


def test_an_adapter_of_another_rank_takes_the_place_of_one() -> None:
    model = adapted(llama(), target_modules=["q_proj"])
    meter = meter_of(model)
    before = added(model)
    model.delete_adapter("default")
    model.add_adapter("default", peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.set_adapter("default")
    after = added(model)
    taken = meter.sample()
    change = squares([new - old for new, old in zip(after, before, strict=True)])
    np.testing.assert_allclose(taken[:, 1], change, rtol=1e-9)


def test_nan_stays_in_its_weight() -> None:
    model = adapted(llama(), target_modules=["q_proj"])
    meter = meter_of(model)
    next(layers_of_peft(model)).lora_A["default"].weight.data[0, 0] = torch.nan
    taken = meter.sample()
    assert taken[0, :2].isnan().all()
    assert not taken[1].isnan().any()


def test_grouped_convolutions() -> None:
    """peft cannot merge these: by what the adapter gives for each weight's own picture."""
    torch.manual_seed(0)
    model = adapted(nn.Sequential(nn.Conv2d(4, 8, 1, groups=2, bias=False)), target_modules=["0"])
    ((_, weight),) = adapted_weights(model, set(model.parameters()))
    module = model.base_model.model[0]
    seen = module(torch.eye(4).view(4, 4, 1, 1)) - module.base_layer(torch.eye(4).view(4, 4, 1, 1))
    meter = ProductMeter([weight], ("sq_adapters",))
    assert meter.sample().item() == pytest.approx(float(seen.detach().square().sum()), rel=1e-5)


def test_injected_without_a_model_of_peft() -> None:
    """As diffusers does it."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    model = peft.inject_adapter_in_model(config, llama())
    names = [layer.name for layer, _ in adapted_weights(model, set(model.parameters()))]
    assert names == [f"model.layers.{number}.self_attn.q_proj.weight" for number in range(2)]


class Quantised(nn.Linear):
    """As HQQ keeps a weight: whole numbers, that it makes numbers of when asked."""

    def dequantize(self) -> torch.Tensor:
        return self.weight.float() / 16


def test_a_quantised_weight_is_read_as_peft_reads_it() -> None:
    base = Quantised(8, 8)
    model = adapted(nn.Sequential(base), target_modules=["0"])
    base.W_q = base.weight = nn.Parameter(torch.randint(-8, 8, (8, 8), dtype=torch.int8), requires_grad=False)
    ((layer, weight),) = adapted_weights(model, set(model.parameters()))
    assert layer.shape == (8, 8)
    assert weight.square == pytest.approx(float((base.weight.double() / 16).square().sum()))


def test_a_quantised_weight_that_nobody_reads_is_refused() -> None:
    base = nn.Linear(8, 8)
    model = adapted(nn.Sequential(base), target_modules=["0"])
    base.weight = nn.Parameter(torch.zeros(8, 8, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match=r"norm of base_model.model.0.weight, which is kept as uint8; leave"):
        adapted_weights(model, set(model.parameters()))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            lambda: peft.LoraConfig(target_modules=["q_proj"], use_dora=True),
            r"the adapter 'default' \(DoRALinear\).*`wstrack diff`",
        ),
        (
            lambda: peft.AdaLoraConfig(target_modules=["q_proj"], total_step=10),
            r"the adapter 'default' \(AdaLoRA\) adds to .*q_proj.* is not s B A.*leave 'lora' and 'lora_change' out",
        ),
        (lambda: peft.LoHaConfig(target_modules=["q_proj"]), r"none that is measured \(it has adapters of loha\)"),
        (lambda: peft.VeraConfig(target_modules=["q_proj"]), r"none that is measured \(it has adapters of vera\)"),
        (
            lambda: peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
            r"none that is measured \(it has adapters of ia3\)",
        ),
    ],
)
def test_adapters_of_other_kinds_are_refused(kind: Callable[[], Any], said: str) -> None:
    model = peft.get_peft_model(llama(), kind())
    with pytest.raises(ValueError, match=said):
        adapted_weights(model, set(model.parameters()))


def test_a_model_without_adapters_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"metrics: 'lora' is of LoRA adapters.*LlamaForCausalLM has none.*get_peft_mo"
    ):
        adapted_weights(llama(), set())


def test_nothing_waits_for_the_device() -> None:
    """No number is asked for, whose tensor might still be under way."""
    from torch.utils._python_dispatch import TorchDispatchMode

    asked = []

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            asked.append(str(function))
            return function(*args, **(kwargs or {}))

    model = adapted(llama(), target_modules=["q_proj", "v_proj"])
    meter = meter_of(model)
    meter.sample()
    with Watched():
        meter.sample()
    assert "aten.bmm.default" in asked
    assert not [name for name in asked if "_local_scalar_dense" in name or "nonzero" in name]
