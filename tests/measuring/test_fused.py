"""Fused projections and heads of real models, by what changes in the network when a part does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.measuring.attending import attention_of, changed, check_every_head, check_fused, cut, rows_of

transformers = pytest.importorskip("transformers", minversion="5", reason="the models are those of Transformers 5")

Built = tuple[nn.Module, Callable[[], Any]]
SMALL = {
    "vocab_size": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "cls_token_id": 1,
    "sep_token_id": 1,
}


def text(kind: str, wanted: str = "AutoModel", **config: Any) -> Callable[[], Built]:
    """A model of one block, and eight tokens for it."""

    def build() -> Built:
        model = getattr(transformers, wanted).from_config(getattr(transformers, kind)(**{**SMALL, **config}))
        tokens = torch.arange(1, 9)[None]
        return model, lambda: model(input_ids=tokens)

    return build


def image(kind: str, wanted: str, **config: Any) -> Callable[[], Built]:
    """A model of one block, and an image for it."""

    def build() -> Built:
        model = getattr(transformers, wanted)(getattr(transformers, kind)(image_size=16, patch_size=4, **config))
        pixels = torch.randn(1, 3, 16, 16)
        return model, lambda: model(pixel_values=pixels)

    return build


def bark() -> Built:
    config = transformers.models.bark.BarkSemanticConfig(
        hidden_size=24, num_heads=4, num_layers=1, input_vocab_size=32, output_vocab_size=32, block_size=32
    )
    model = transformers.models.bark.BarkSemanticModel(config)
    return model, lambda: model(input_ids=torch.arange(8)[None])


def dbrx() -> Built:
    module = transformers.models.dbrx.configuration_dbrx
    attention = module.DbrxAttentionConfig(kv_n_heads=2, clip_qkv=8.0, rope_theta=10000.0)
    experts = module.DbrxFFNConfig(ffn_hidden_size=8, moe_num_experts=2, moe_top_k=1, hidden_size=32)
    return text("DbrxConfig", d_model=32, n_heads=4, n_layers=1, attn_config=attention, ffn_config=experts)()


def qwen2_vl() -> Built:
    config = transformers.models.qwen2_vl.configuration_qwen2_vl.Qwen2VLVisionConfig(
        depth=1, embed_dim=32, hidden_size=32, num_heads=4, mlp_ratio=1, patch_size=2
    )
    model = transformers.models.qwen2_vl.modeling_qwen2_vl.Qwen2VisionTransformerPretrainedModel(config)
    pixels, grid = torch.randn(16, 3 * 2 * 2 * 2), torch.tensor([[1, 4, 4]])
    return model, lambda: model(pixels, grid_thw=grid)


ONE = {"num_hidden_layers": 1, "intermediate_size": 16, "num_attention_heads": 4}
GPT = {"n_embd": 24, "n_head": 4, "n_layer": 1}
FALCON = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 6, "v_head_dim": 5}

FUSED = {
    "bark": bark,
    "blip-2": image("Blip2VisionConfig", "Blip2VisionModel", hidden_size=24, **ONE),
    "bloom": text("BloomConfig", hidden_size=24, n_head=4, n_layer=1),
    "codegen": text("CodeGenConfig", n_embd=64, n_head=8, n_layer=1, rotary_dim=4, n_positions=32),
    "dbrx": dbrx,
    "deberta": text("DebertaConfig", hidden_size=24, relative_attention=False, **ONE),
    "deepseek-v3": text("DeepseekV3Config", hidden_size=32, num_key_value_heads=4, **ONE, **LATENT),
    "falcon, all heads": text("FalconConfig", multi_query=False, **FALCON),
    "falcon, multi-query": text("FalconConfig", multi_query=True, **FALCON),
    "falcon, grouped": text("FalconConfig", new_decoder_architecture=True, num_kv_heads=2, **FALCON),
    "gpt": text("OpenAIGPTConfig", **GPT),
    "gpt-2": text("GPT2Config", **GPT),
    "gpt-bigcode, all heads": text("GPTBigCodeConfig", multi_query=False, **GPT),
    "gpt-bigcode, multi-query": text("GPTBigCodeConfig", multi_query=True, **GPT),
    "gpt-neox": text("GPTNeoXConfig", hidden_size=24, **ONE),
    "gpt-neox-japanese": text("GPTNeoXJapaneseConfig", hidden_size=24, **ONE),
    "image-gpt": text("ImageGPTConfig", **GPT),
    "modernbert": text("ModernBertConfig", hidden_size=24, **ONE),
    "mpt": text("MptConfig", d_model=24, n_heads=4, n_layers=1, max_seq_len=32),
    "persimmon": text("PersimmonConfig", hidden_size=32, **ONE),
    "phi-3": text("Phi3Config", hidden_size=32, num_key_value_heads=2, **ONE),
    "qwen2-vl": qwen2_vl,
}
SEPARATE = {
    "bert": text("BertConfig", hidden_size=24, **ONE),
    "distilbert": text("DistilBertConfig", dim=24, n_heads=4, n_layers=1, hidden_dim=16),
    "gemma-3": text("Gemma3TextConfig", hidden_size=24, head_dim=8, num_key_value_heads=2, **ONE),
    "gpt-j": text("GPTJConfig", rotary_dim=4, **GPT),
    "llama": text("LlamaConfig", hidden_size=32, num_key_value_heads=2, **ONE),
    "opt": text("OPTConfig", hidden_size=24, ffn_dim=16, num_attention_heads=4, num_hidden_layers=1),
    "qwen3": text("Qwen3Config", hidden_size=24, head_dim=8, num_key_value_heads=2, **ONE),
    "qwen3-next": text(
        "Qwen3NextConfig", hidden_size=32, head_dim=8, num_key_value_heads=2, layer_types=["full_attention"],
        num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8, shared_expert_intermediate_size=8, **ONE,
    ),
    "t5": text("T5Config", "AutoModelForTextEncoding", d_model=24, d_kv=5, num_heads=4, num_layers=1, d_ff=16),
    "vit": image("ViTConfig", "ViTModel", hidden_size=24, **ONE),
}  # fmt: skip


def built(make: Callable[[], Built]) -> tuple[nn.Module, Callable[[], Any], dict[str, nn.Parameter]]:
    torch.manual_seed(0)
    model, run = make()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model.eval(), run, dict(model.named_parameters())


@pytest.mark.parametrize("make", FUSED.values(), ids=FUSED)
def test_q_k_and_v_of_a_fused_projection(make: Callable[[], Built]) -> None:
    model, run, weights = built(make)
    found = cut(model, "qkv", "all")  # biases too
    assert {weights[name].ndim for name in found} in ({2}, {1, 2})
    for name, how in found.items():
        check_fused(run, attention_of(model, name), weights[name], how)


@pytest.mark.parametrize("make", [*FUSED.values(), *SEPARATE.values()], ids=[*FUSED, *SEPARATE])
def test_the_heads_of_every_projection(make: Callable[[], Built]) -> None:
    model, run, _ = built(make)
    assert len(check_every_head(model, run)) == 1


def test_torch_s_own_attention_is_the_sum_of_its_heads() -> None:
    attention = nn.MultiheadAttention(24, 4, batch_first=True)
    weights = dict(attention.named_parameters())
    rows = {
        (name, label): weights[name].index_select(how.dim, torch.tensor(each)).double()
        for name, how in cut(attention, "heads", "all").items()
        for label, each in rows_of(how, weights[name].shape[how.dim]).items()
    }
    inputs = torch.randn(2, 8, 24, dtype=torch.float64)
    total = attention.out_proj.bias.detach().double().expand(2, 8, 24)
    for head in range(4):
        q, k, v = (
            inputs @ rows["in_proj_weight", f"{whose}.{head}"].T + rows["in_proj_bias", f"{whose}.{head}"]
            for whose in "qkv"
        )
        shares = (q @ k.transpose(1, 2) / 6**0.5).softmax(-1)
        total = total + shares @ v @ rows["out_proj.weight", str(head)].T
    torch.testing.assert_close(total, attention.double()(inputs, inputs, inputs)[0])


def test_phi_3_s_parts_make_the_llama_that_it_is() -> None:
    """The same network with projections of their own: Phi-3's, with its parts for weights, gives the same numbers."""
    phi, run, weights = built(FUSED["phi-3"])
    _, run_llama, separate = built(text("LlamaConfig", hidden_size=32, num_key_value_heads=2, rms_norm_eps=1e-5, **ONE))
    how = cut(phi, {"qkv_proj": "qkv", "gate_up_proj": {"gate": 16, "up": 16}})
    for name, weight in weights.items():
        if name not in how:
            separate[name].data.copy_(weight)
            continue
        for label, rows in rows_of(how[name], weight.shape[0]).items():
            part = name.replace("qkv_proj", f"{label}_proj").replace("gate_up_proj", f"{label}_proj")
            separate[part].data.copy_(weight[rows])
    with torch.no_grad():
        torch.testing.assert_close(run()[0], run_llama()[0])


@pytest.mark.parametrize("gated", [True, False], ids=["qwen3-next", "qwen3.5"])
def test_q_k_and_v_of_linear_attention(gated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the delta rule is given: heads of k are repeated for those of v."""
    size = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 6,
        "linear_value_head_dim": 4,
    }
    kind = "Qwen3NextConfig" if gated else "Qwen3_5TextConfig"
    experts = {
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 8,
    }
    more = {**size, **(experts if gated else {}), "hidden_size": 32, "head_dim": 8, "num_key_value_heads": 2}
    model, run, weights = built(text(kind, layer_types=["linear_attention"], use_cache=False, **more, **ONE))
    (name,) = (name for name in weights if "in_proj_qkv" in name)
    attention = model.get_submodule(name.rpartition(".in_proj")[0])
    given: list[tuple[torch.Tensor, ...]] = []
    code = sys.modules[type(attention).__module__]
    rule = code.torch_chunk_gated_delta_rule

    def keep(*args: Any, **kwargs: Any) -> Any:
        given.append(tuple(each.detach().clone() for each in args[:3]))
        return rule(*args, **kwargs)

    monkeypatch.setattr(code, "torch_chunk_gated_delta_rule", keep)
    how = cut(model, "heads")[name]
    with torch.no_grad():
        run()
        for label, rows in rows_of(how, weights[name].shape[0]).items():
            whose, head = label.split(".")
            with changed(weights[name], 0, rows):
                run()
            apart = [
                ((one - other).abs().amax((0, 1, 3)) > 1e-6) for one, other in zip(given[0], given[-1], strict=True)
            ]
            moved = {
                one: set(each.nonzero().flatten().tolist())
                for one, each in zip("qkv", apart, strict=True)
                if each.any()
            }
            wide = len(apart["qkv".index(whose)]) // 2 if whose in "qk" else 1
            assert moved == ({} if whose == "z" else {whose: set(range(int(head) * wide, (int(head) + 1) * wide))})
    assert set(cut(model, "qkv")[name].labels or ()) == set("qkvz" if gated else "qkv")
