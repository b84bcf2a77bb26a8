"""Kinds of the layers of architectures that people train: told by hand what is an attention's, from each one's code."""

from __future__ import annotations

import logging
import re
import warnings

import pytest
import torch
from torch import nn

from wstrack.measuring.kinds import kind_of
from wstrack.measuring.layers import _user_of, owners_of, select

SELF = r"attention\.(self\.(query|key|value)|output\.dense)"
LLAMA = r"self_attn\.[qkvo]_proj"
BART = r"(self|encoder)_attn\.([qkv]|out)_proj"
NEOX = r"(self_)?attention\.(query_key_value|dense)"
T5 = r"(Self|EncDec)Attention\.[qkvo]"
VIT = r"attention\.[qkvo]_proj"
WAVE = r"attention\.([qkv]|out)_proj"
NONE = r"(?!)"

# By the name that Transformers has for it: the ends of the names of its attentions' projections.
ARCHITECTURES = {
    "albert": r"attention\.(query|key|value|dense)",
    "bart": BART,
    "beit": VIT,
    "bert": SELF,
    "big_bird": SELF,
    "blip": SELF.replace("attention", "(cross)?attention") + r"|self_attn\.(qkv|projection)",
    "bloom": NEOX,
    "clip": r"self_attn\.([qkv]|out)_proj",
    "codegen": r"attn\.(qkv|out)_proj",
    "convnext": NONE,
    "ctrl": r"multi_head_attention\.(W[qkv]|dense)",
    "cvt": r"attention\.(attention\.projection_(query|key|value)|output\.dense)",
    "data2vec-audio": WAVE,
    "deberta-v2": r"attention\.(self\.(query|key|value)_proj|output\.dense)",
    "deepseek_v3": r"self_attn\.(q_a_proj|q_b_proj|kv_a_proj_with_mqa|kv_b_proj|o_proj)",
    "deit": VIT,
    "dinov2": VIT,
    "distilbert": r"attention\.([qkv]|out)_lin",
    "efficientnet": NONE,
    "electra": SELF,
    "falcon": NEOX,
    "fnet": NONE,
    "gemma2": LLAMA,
    "gpt2": r"attn\.(c_attn|c_proj)",
    "gpt_bigcode": r"attn\.(c_attn|c_proj)",
    "gpt_neo": r"attn\.attention\.([qkv]|out)_proj",
    "gpt_neox": NEOX,
    "gpt_oss": LLAMA,
    "gptj": r"attn\.([qkv]|out)_proj",
    "hubert": WAVE,
    "jamba": LLAMA,
    "layoutlm": SELF,
    "llama": LLAMA,
    "llama4_text": LLAMA,
    "longformer": r"attention\.(self\.(query|key|value)(_global)?|output\.dense)",
    "mamba": NONE,
    "mamba2": NONE,
    "mistral": LLAMA,
    "mixtral": LLAMA,
    "mobilevit": r"attention\.(attention\.(query|key|value)|output\.dense)",
    "olmo2": LLAMA,
    "opt": r"self_attn\.([qkv]|out)_proj",
    "pegasus": BART,
    "phi": r"self_attn\.([qkv]_proj|dense)",
    "phi3": r"self_attn\.(qkv|o)_proj",
    "poolformer": NONE,
    "qwen2": LLAMA,
    "qwen3_moe": LLAMA,
    "resnet": NONE,
    "roberta": SELF,
    "segformer": VIT,
    "speech_to_text": BART,
    "swin": VIT,
    "switch_transformers": T5,
    "t5": T5,
    "vit": VIT,
    "wav2vec2": WAVE,
    "whisper": BART,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_attentions_are_told_from_other_linear_layers(name: str) -> None:
    transformers = pytest.importorskip("transformers", minversion="5", reason="the models are those of Transformers 5")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.device("meta"):  # of full size, but without values
        warnings.simplefilter("ignore")
        model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(name))
    expected = re.compile(rf"(.*\.)?({ARCHITECTURES[name]})\.weight")
    kinds = {}
    for full, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            module, own = _user_of(model, full)
            owners = owners_of(model, full, module)
            kinds[full] = kind_of(module, full.rpartition(".")[0], own, parameter, owners=owners)
    assert {full for full, kind in kinds.items() if kind == "attention"} == set(filter(expected.fullmatch, kinds))
    linear = {full for full in kinds if isinstance(model.get_submodule(full.rpartition(".")[0]), nn.Linear)}
    experts = {full for full in kinds if re.search(r"experts\.|router|mlp\.gate\.", full)}
    assert {kinds[full] for full in linear | experts} <= {"linear", "attention", "bias"}


class Attention(nn.Module):
    """As in diffusers."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(4, 4) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(4, 4), nn.Dropout()])


class Block(nn.Module):
    """As people write it for themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.attn1, self.ff = Attention(), nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
        self.q, self.k, self.v, self.o, self.fc1 = (nn.Linear(4, 4) for _ in range(5))


class Linear(nn.Module):
    """As in PyG."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = Linear()


def test_what_others_and_people_themselves_call_it() -> None:
    kinds = {layer.name: layer.kind for layer, _ in select(nn.ModuleDict({"block": Block(), "conv": Graph()}))}
    named = {name.removesuffix(".weight") for name, kind in kinds.items() if kind == "attention"}
    assert named == {f"block.{part}" for part in ("q", "k", "v", "o")} | {
        f"block.attn1.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0")
    }
    assert kinds["block.fc1.weight"] == kinds["block.ff.0.weight"] == kinds["conv.lin.weight"] == "linear"
