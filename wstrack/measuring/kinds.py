"""What a weight does in a model: told by the classes of the modules that own it, then by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import nn

__all__ = ["kind_of", "kind_of_name"]

_ATTENTION_PARAMETERS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
# In the name of a class the last of these words counts: a Qwen3MoeAttention is an attention.
_CLASS = re.compile(
    r"(?P<attention>Attention|Attn|MultiHead|MHA)|MLP|FFN|FF(?![a-z])|FeedForward|Dense(?=Act|Gated|Relu)|Expert|MoE"
    r"|Mamba|SSM|Hyena|GLU|Intermediate|Router", re.IGNORECASE,
)  # fmt: skip
# In the path, the part that is nearest to the weight.
_PART = re.compile(
    r"(?P<attention>((self|cross|enc(oder)?)_?)?(attn|attention)s?_?\d*|mha|c_attn|query_key_value"
    r"|(to_|w)?[qkv]_(proj|lin|linear)|to_[qkv]|w[qkv]|w?qkv(_proj)?)"
    r"|(mlp|ffn?|feed_?forward|fc|experts?|moe)_?\d*", re.IGNORECASE,
)  # fmt: skip
_QUERY = re.compile(r"(to_|w|lin_)?([qkv]|query|key|value)(_proj|_lin|_linear|_layer)?|qkv(_proj)?", re.IGNORECASE)
_OUTPUT = re.compile(r"(to_|w|lin_)?(o|out|output|proj|projection)(_proj|_lin|_linear|_layer)?|c_proj", re.IGNORECASE)


def kind_of(
    module: nn.Module,
    path: str,
    parameter_name: str,
    parameter: torch.Tensor,
    *,
    owners: Sequence[nn.Module] = (),
) -> str:
    """What a weight does, as far as it can be told.

    Args:
        module: the one that owns the weight.
        path: of the module in the model.
        parameter_name: of the weight in the module.
        parameter: the weight.
        owners: the modules that own that module, the nearest first.

    Returns:
        One of "conv", "depthwise", "pointwise", "transposed", "linear", "attention" (a projection of an attention),
        "embedding", "recurrent", "norm", "bias", "other".

    Example:
        >>> conv = nn.Conv2d(8, 8, 3, groups=8)
        >>> kind_of(conv, "blocks.0.dw", "weight", conv.weight)
        'depthwise'
    """
    if parameter_name.startswith("bias") or parameter_name.endswith("_bias"):
        return "bias"
    if parameter_name.startswith("weight") and parameter_name.endswith("_g"):  # the magnitude in a weight norm
        return "norm"
    if isinstance(module, nn.modules.conv._ConvNd):
        if module.transposed:
            return "transposed"
        if module.groups > 1 and module.groups == module.in_channels:
            return "depthwise"
        return "pointwise" if all(size == 1 for size in module.kernel_size) else "conv"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return "recurrent"
    if isinstance(module, nn.MultiheadAttention) or parameter_name in _ATTENTION_PARAMETERS:
        return "attention"
    name = type(module).__name__
    # Conv1D is GPT-2's; experts may be stacked, and a router is a linear layer, whatever its class is called.
    if isinstance(module, nn.Linear | nn.Bilinear) or re.search(r"Conv1D$|Linear|Expert|Router", name):
        return "linear" if parameter.ndim < 2 or not _is_in_attention(path, owners) else "attention"
    if "norm" in name.lower():
        return "norm"
    if (
        parameter.ndim >= 2
        and (found := _CLASS.search(name))
        and found["attention"]
        and _QUERY.fullmatch(parameter_name)
    ):
        return "attention"
    named = f"{name} {path} {parameter_name}".lower()
    if "lora" in named or hasattr(module, "base_layer"):  # an adapter (base_layer: peft's) of what it adapts
        children = module.children()
        kinds = {kind_of(child, path, "weight", parameter, owners=owners) for child in children} - {"other", "norm"}
        if len(kinds) == 1:
            return kinds.pop()
    return "other"


_EMBEDDING = re.compile(
    r"(.*_)?(embed|embd|embedding)s?(_tokens|_in|_positions|_layer)?|.*attention_bias|wte|wpe|shared|lut|tok_emb(eddings)?|.*(token|word"
    r"|position|segment|type|pos)(al)?_emb(edding|eddings)?", re.IGNORECASE,
)  # fmt: skip
_HEAD = re.compile(r"(lm_?)?head|embed_out|classifier|output|score|decoder", re.IGNORECASE)


def kind_of_name(name: str, shape: Sequence[int], *, vocabulary: int | None = None) -> str:
    """What a weight does, where there is its name and its shape and no model: as `kind_of`, as far as these tell.

    Args:
        name: of the weight, with the path of its module.
        shape: of the weight.
        vocabulary: how many tokens the model knows, if it is known: a matrix of as many rows is an embedding.

    Example:
        >>> kind_of_name("blocks.0.dw.weight", (8, 1, 3, 3)), kind_of_name("h.0.attn.c_attn.weight", (8, 24))
        ('depthwise', 'attention')
    """
    if parametrized := re.fullmatch(r"(.*\.)parametrizations\.(\w+)\.original(\d*)", name):
        # Of a weight norm the first is the magnitude; what it is of any other its name does not tell.
        return "norm" if parametrized[3] == "0" else kind_of_name(parametrized[1] + parametrized[2], shape)
    path, _, own = name.rpartition(".")
    path = re.sub(
        r"\.(lora_(A|B|embedding_A|embedding_B)|base_layer)(\..*)?$", "", path
    )  # an adapter, or what it adapts
    module = path.rpartition(".")[2]
    if own.startswith("bias") or own.endswith("_bias"):
        return "bias"
    if own in _ATTENTION_PARAMETERS:
        return "attention"
    if re.match(r"weight_(ih|hh|hr)(_|$)", own):
        return "recurrent"
    if (own.startswith("weight") and own.endswith("_g")) or re.search(r"norm|(^|_)(ln|bn)(_|\d|$)", module.lower()):
        return "norm"
    lora = "lora_" in name.lower() or own in ("lora_A", "lora_B")
    if own != "weight" and not own.startswith("weight") and not lora:
        experts = len(shape) == 3 and "expert" in path.lower()
        return "linear" if experts else "other"
    if len(shape) > 2:
        if "transpose" in path.lower() or "deconv" in path.lower():
            return "transposed"
        if shape[1] == 1 and shape[0] > 1:
            return "depthwise"
        return "pointwise" if all(size == 1 for size in shape[2:]) else "conv"
    if not _HEAD.fullmatch(module) and (_EMBEDDING.fullmatch(module) or (vocabulary and shape[0] == vocabulary)):
        return "embedding"
    parts = path.split(".")
    for part in reversed(parts):  # a module may be named as its class, as in T5
        if not _PART.fullmatch(part) and (words := list(_CLASS.finditer(part))):
            return "attention" if words[-1]["attention"] else "linear"
        if _PART.fullmatch(part):
            break
    else:
        if _OUTPUT.fullmatch(parts[-1]):  # without a query beside it, which names alone do not show
            return "linear"
    return "attention" if len(shape) == 2 and _is_in_attention(path, ()) else "linear"


def _is_in_attention(path: str, owners: Sequence[nn.Module]) -> bool:
    """Whether a linear layer is a projection of an attention."""
    parts = path.split(".")
    for part, owner in zip_longest(reversed(parts), owners):  # outwards, from the layer to the model
        if part is not None and (found := _PART.fullmatch(part)):
            return found["attention"] is not None
        if words := list(_CLASS.finditer(type(owner).__name__)):
            return words[-1]["attention"] is not None
    # A block that has its query, key and value itself; of a module on its own only the name is known.
    own = next((part for part in reversed(parts) if not part.isdigit()), "")
    beside = [name for name, _ in owners[0].named_children()] if owners else []
    has_them = not owners or sum(_QUERY.fullmatch(name) is not None for name in beside) > 1
    return has_them and bool(_QUERY.fullmatch(own) or _OUTPUT.fullmatch(own))
