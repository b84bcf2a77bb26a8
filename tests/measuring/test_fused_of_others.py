"""Fused projections as others write them: each split here as in the code that is named, and as its users would call it.

The classes are small ones of our own that split as theirs do and have their names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.measuring.attending import attention_of, check_every_head, check_fused, cut, multiplied
from wstrack.measuring.attention import _KNOWN
from wstrack.measuring.parts import Cut

B, T, E, H, D = 1, 6, 24, 4, 6  # a batch of one, tokens, features, heads, and the size of a head


class Fused(nn.Module):
    """Splits as a subclass says, attends, and puts out through what is named `out`."""

    out = "proj"

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        q, k, v = self.split(inputs)
        k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], dim=1) for each in (k, v))
        heads = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, -1)
        return getattr(self, self.out)(heads)

    @staticmethod
    def by_head(each: Tensor, heads: int) -> Tensor:
        return each.reshape(B, T, heads, -1).transpose(1, 2)


class CausalSelfAttention(Fused):
    """karpathy/nanoGPT and minGPT; with fewer heads of k and v as its many descendants have them."""

    out = "c_proj"

    def __init__(self, n_kv_head: int = H) -> None:
        super().__init__()
        self.n_head, self.n_embd = H, E
        if n_kv_head != H:
            self.n_kv_head = n_kv_head
        self.kept = n_kv_head * D
        self.c_attn = nn.Linear(E, E + 2 * self.kept)
        self.c_proj = nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.c_attn(inputs).split((E, self.kept, self.kept), dim=2)
        return self.by_head(q, H), self.by_head(k, self.kept // D), self.by_head(v, self.kept // D)


class QWenAttention(Fused):
    """Qwen/Qwen-7B's own code: a size of heads that is not what the width suggests."""

    out = "c_proj"

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.config = H, SimpleNamespace(kv_channels=8)
        self.c_attn, self.c_proj = nn.Linear(E, 3 * 8 * H), nn.Linear(8 * H, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.c_attn(inputs).split(8 * H, dim=2)
        return self.by_head(q, H), self.by_head(k, H), self.by_head(v, H)


class WindowAttention(Fused):
    """timm, Swin, DINO, MAE, DiT, Segment Anything and whoever copied their attention."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.scale = H, D**-0.5
        self.qkv, self.proj = nn.Linear(E, 3 * E), nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, width = inputs.shape
        qkv = self.qkv(inputs).reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v


class MultiheadAttention(Fused):
    """phlippe's tutorials (UvA): q, k and v of each head side by side."""

    out = "o_proj"

    def __init__(self) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.head_dim = E, H, D
        self.qkv_proj, self.o_proj = nn.Linear(16, 3 * E), nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.qkv_proj(inputs[..., :16])
        # A reader is not to fall for what stands in a comment: qkv.reshape(B, T, 3, self.num_heads, D)
        qkv = qkv.reshape(inputs.size(0), inputs.size(1), self.num_heads, 3 * self.head_dim).permute(0, 2, 1, 3)
        q, k, v = qkv.chunk(3, dim=-1)
        return q, k, v


class ClipAttention(Fused):
    """mlfoundations/open_clip: torch's names, in a class of its own."""

    out = "out_proj"

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim = H, D
        self.in_proj_weight = nn.Parameter(torch.empty(3 * E, E))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * E))
        self.out_proj = nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = functional.linear(inputs, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        return self.by_head(q, H), self.by_head(k, H), self.by_head(v, H)


class Attention(Fused):
    """lucidrains/vit-pytorch: heads as wide as one likes, whose size only a scale tells."""

    out = "to_out"

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.scale = H, 8**-0.5
        self.to_qkv = nn.Linear(E, 3 * 8 * H, bias=False)
        self.to_out = nn.Sequential(nn.Linear(8 * H, E), nn.Dropout(0))

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.to_qkv(inputs).chunk(3, dim=-1)
        return self.by_head(q, H), self.by_head(k, H), self.by_head(v, H)


class PerceiverAttention(Fused):
    """lucidrains' perceivers and flamingos, and those after them: k and v together, q alone."""

    out = "to_out"

    def __init__(self) -> None:
        super().__init__()
        self.heads = H
        self.to_q, self.to_kv, self.to_out = nn.Linear(E, 8 * H), nn.Linear(E, 16 * H), nn.Linear(8 * H, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k, v = self.to_kv(inputs).chunk(2, dim=-1)
        return self.by_head(self.to_q(inputs), H), self.by_head(k, H), self.by_head(v, H)


class QKVAttentionLegacy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n_heads = H

    def forward(self, qkv: Tensor) -> tuple[Tensor, ...]:
        width = qkv.shape[1] // (3 * self.n_heads)
        return qkv.reshape(B * self.n_heads, width * 3, T).split(width, dim=1)


class QKVAttention(nn.Module):
    def forward(self, qkv: Tensor) -> tuple[Tensor, ...]:
        return tuple(each.reshape(B * H, -1, T) for each in qkv.chunk(3, dim=1))


class AttentionBlock(Fused):
    """openai/guided-diffusion and what came of it: a convolution, split by a module of either class."""

    out = "proj_out"

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.num_heads = H
        self.qkv, self.attention, self.proj_out = nn.Conv1d(E, 3 * E, 1), kind(), nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (each[None].transpose(2, 3) for each in self.attention(self.qkv(inputs.transpose(1, 2))))
        return q, k, v


class LitAttention(Fused):
    """Lightning-AI/litgpt."""

    __module__ = "litgpt.model"

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(n_head=H, n_query_groups=2, head_size=8)
        self.qkv, self.proj = nn.Linear(E, (H + 4) * 8), nn.Linear(8 * H, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(inputs).split((8 * H, 16, 16), dim=-1)
        return self.by_head(q, H), self.by_head(k, 2), self.by_head(v, 2)


class MHA(Fused):
    """Dao-AILab/flash-attention."""

    __module__ = "flash_attn.modules.mha"
    out = "out_proj"

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.num_heads_kv, self.head_dim = H, 2, D
        self.Wqkv, self.out_proj = nn.Linear(E, (H + 4) * D), nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.Wqkv(inputs).split((E, 2 * D, 2 * D), dim=-1)
        return self.by_head(q, H), self.by_head(k, 2), self.by_head(v, 2)


class InternLM2Attention(Fused):
    """InternLM/InternLM: the heads of q of a head of k, then it and its v."""

    out = "wo"

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.num_key_value_heads, self.head_dim = H, 2, D
        self.wqkv, self.wo = nn.Linear(E, (H + 4) * D), nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.wqkv(inputs).reshape(B, T, 2, H // 2 + 2, D)
        q = qkv[..., :-2, :].reshape(B, T, H, D)
        return q.transpose(1, 2), qkv[..., -2, :].transpose(1, 2), qkv[..., -1, :].transpose(1, 2)


class MegatronAttention(InternLM2Attention):
    """NVIDIA/Megatron-LM, Megatron core: the same order by another name."""

    __module__ = "megatron.core.transformer.attention"
    out = "linear_proj"

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.num_attention_heads_per_partition, self.num_query_groups_per_partition = H, 2
        self.hidden_size_per_attention_head = D
        self.linear_qkv, self.linear_proj = nn.Linear(E, (H + 4) * D), nn.Linear(E, E)

    @property
    def wqkv(self) -> nn.Module:
        return self.linear_qkv


class SelfAttention(Fused):
    """THUDM/ChatGLM: with fewer heads of k and v they follow one another, else they lie side by side."""

    __module__ = "transformers_modules.THUDM.chatglm2-6b.modeling_chatglm"
    out = "dense"

    def __init__(self, grouped: bool) -> None:
        super().__init__()
        self.num_attention_heads_per_partition, self.hidden_size_per_attention_head = H, D
        self.multi_query_attention = grouped
        if grouped:
            self.num_multi_query_groups_per_partition = 2
        self.query_key_value, self.dense = nn.Linear(E, (H + 4) * D if grouped else 3 * E), nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mixed = self.query_key_value(inputs)
        if self.multi_query_attention:
            q, k, v = mixed.split((E, 2 * D, 2 * D), dim=-1)
            return self.by_head(q, H), self.by_head(k, 2), self.by_head(v, 2)
        q, k, v = mixed.reshape(B, T, H, 3 * D).transpose(1, 2).split(D, dim=-1)
        return q, k, v


class BertUnpadSelfAttention(Fused):
    """mosaicml/examples, MosaicBERT; the output is elsewhere."""

    out = "same"

    def __init__(self) -> None:
        super().__init__()
        self.num_attention_heads, self.attention_head_size = H, D
        self.Wqkv, self.same = nn.Linear(E, 3 * E), nn.Identity()

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.Wqkv(inputs).reshape(B, T, 3, H, D).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v


class OpenELMMultiHeadCausalAttention(Fused):
    """apple/OpenELM, whose layers differ in their heads."""

    out = "out_proj"

    def __init__(self) -> None:
        super().__init__()
        self.num_q_heads, self.num_k_heads, self.num_v_heads, self.head_dim = H, 2, 2, D
        self.config = SimpleNamespace(num_query_heads=[H, 8], num_kv_heads=[2, 4], head_dim=D)
        self.qkv_proj, self.out_proj = nn.Linear(E, (H + 4) * D), nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv_proj(inputs).reshape(B, T, H + 4, D).transpose(1, 2).split((H, 2, 2), dim=1)
        return q, k, v


KNOWN: dict[str, Callable[[], nn.Module]] = {
    "chatglm": lambda: SelfAttention(False),
    "chatglm2": lambda: SelfAttention(True),
    "flash-attention": MHA,
    "guided diffusion": lambda: AttentionBlock(QKVAttention),
    "guided diffusion, legacy": lambda: AttentionBlock(QKVAttentionLegacy),
    "internlm2": InternLM2Attention,
    "litgpt": LitAttention,
    "lucidrains": Attention,
    "lucidrains, k and v": PerceiverAttention,
    "megatron": MegatronAttention,
    "mosaicbert": BertUnpadSelfAttention,
    "nanogpt": CausalSelfAttention,
    "nanogpt, grouped": lambda: CausalSelfAttention(2),
    "open_clip": ClipAttention,
    "openelm": OpenELMMultiHeadCausalAttention,
    "qwen": QWenAttention,
    "timm": WindowAttention,
    "uva": MultiheadAttention,
}


def built(make: Callable[[], nn.Module]) -> tuple[nn.Module, Callable[[], Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(make())
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    inputs = torch.randn(B, T, E)
    return model, lambda: model(inputs)


@pytest.mark.parametrize("make", KNOWN.values(), ids=KNOWN)
def test_q_k_and_v_and_their_heads(make: Callable[[], nn.Module]) -> None:
    model, run = built(make)
    weights = dict(model.named_parameters())
    for name, how in cut(model, "qkv", "all").items():
        check_fused(run, attention_of(model, name), weights[name], how)
    assert len(check_every_head(model, run)) == (not isinstance(model[0], BertUnpadSelfAttention))


class MultiHeadAttention(Fused):
    """FrancescoSaverioZuppichini/ViT and those after it: q, k and v of each single feature side by side."""

    out = "projection"

    def __init__(self) -> None:
        super().__init__()
        self.emb_size, self.num_heads = E, H
        self.qkv, self.projection = nn.Linear(E, 3 * E), nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.qkv(inputs)
        q, k, v = qkv.reshape(B, T, H, D, 3).permute(4, 0, 2, 1, 3).unbind(0)  # rearranged from "b n (h d qkv)"
        return q, k, v


class MaxAttention(Fused):
    """timm's MaxViT, which can do either."""

    def __init__(self, head_first: bool) -> None:
        super().__init__()
        self.num_heads, self.dim_head, self.head_first = H, D, head_first
        self.qkv, self.proj = nn.Linear(E, 3 * E), nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.head_first:
            q, k, v = self.qkv(inputs).view(B, -1, self.num_heads, 3 * D).transpose(1, 2).chunk(3, dim=3)
        else:
            q, k, v = self.qkv(inputs).reshape(B, -1, 3, self.num_heads, D).transpose(1, 3).unbind(2)
        return q, k, v


class FastAttention(Fused):
    """pytorch-labs/gpt-fast: by InternLM's name, in another order."""

    out = "wo"

    def __init__(self) -> None:
        super().__init__()
        self.n_head, self.n_local_heads, self.head_dim = H, 2, D
        self.wqkv, self.wo = nn.Linear(E, (H + 4) * D), nn.Linear(E, E)

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.wqkv(inputs).split([E, 2 * D, 2 * D], dim=-1)
        return self.by_head(q, H), self.by_head(k, 2), self.by_head(v, 2)


UNKNOWN: dict[str, tuple[Callable[[], nn.Module], object]] = {
    "vit tutorial": (MultiHeadAttention, Cut((1, 1, 1), labels=("q", "k", "v"), repeat=E)),
    "maxvit, head first": (lambda: MaxAttention(True), Cut((D, D, D), labels=("q", "k", "v"), repeat=H)),
    "maxvit": (lambda: MaxAttention(False), {"q": E, "k": E, "v": E}),
    "gpt-fast": (FastAttention, {"q": E, "k": 2 * D, "v": 2 * D}),
}


@pytest.mark.parametrize(("make", "told"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_order_that_is_not_known_is_not_guessed_and_can_be_told(make: Callable[[], nn.Module], told: object) -> None:
    model, run = built(make)
    with pytest.raises(
        ValueError, match=rf"'qkv' cuts nothing; the order .* not known of .* of {type(model[0]).__name__}"
    ):
        cut(model, "qkv")
    (name,) = cut(model, {"qkv": told})
    check_fused(run, model[0], dict(model.named_parameters())[name], cut(model, {"qkv": told})[name])


def test_what_is_left_whole_beside_what_is_cut_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(MultiHeadAttention(), WindowAttention(), MultiHeadAttention())
    with caplog.at_level(logging.WARNING, "wstrack"):
        assert list(cut(model, "qkv")) == ["1.qkv.weight"]
    (said,) = caplog.messages
    assert "0.qkv.weight [72, 24] of MultiHeadAttention and 1 more" in said


def test_a_wrong_order_would_be_seen() -> None:
    """The check itself: heads side by side, read as if they followed one another, and q for k."""
    model, run = built(MultiheadAttention)
    weight = dict(model.named_parameters())["0.qkv_proj.weight"]
    assert len(multiplied(run, model[0])["q"]) == H
    for wrong in (Cut(3, labels=("q", "k", "v")), Cut((D, D, D), labels=("k", "q", "v"), repeat=H)):
        with pytest.raises(AssertionError):
            check_fused(run, model[0], weight, wrong)


@pytest.mark.parametrize("called", sorted({name for names, *_ in _KNOWN for name in re.split(r"\|", names)}))
def test_each_known_projection_is_on_the_page(called: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "parts.md").read_text()
    for name in {called.replace("z?", "").replace("q?", ""), called.replace("?", "")}:
        assert f"`{name}`" in page or name == "in_proj_bias"
