"""Attention: how queries, keys and values lie in a fused projection, and how many heads a projection has."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import product

from wstrack.measuring.parts import Cut
from wstrack.measuring.place import Place, kinds

__all__ = ["heads", "looks_fused", "looks_projecting", "qkv"]

_HEADS = (
    "num_attention_heads", "num_heads", "n_heads", "n_head", "heads", "num_attn_heads", "num_head", "no_heads", "nhead",
    "num_q_heads", "num_attention_heads_per_partition",
)  # fmt: skip
_KEY_HEADS = (
    "num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_kv_head", "kv_heads", "num_heads_kv", "kv_n_heads",
    "num_k_heads", "n_query_groups", "num_query_groups", "num_query_groups_per_partition",
    "num_multi_query_groups_per_partition",
)  # fmt: skip
_SIZES = (
    "head_dim", "attention_head_size", "head_size", "dim_head", "d_head", "key_value_proj_dim", "d_kv", "kv_channels",
    "hidden_size_per_attention_head", "qk_head_dim", "v_head_dim", "global_head_dim",
)  # fmt: skip


@dataclass(frozen=True)
class _Order:
    """What follows what along the outputs of a fused projection: (whose, heads, rows), all of it `repeat` times.

    No heads (0) are heads whose number nothing tells.
    """

    blocks: tuple[tuple[str, int, int], ...]
    repeat: int = 1


def qkv(place: Place) -> Cut | None:
    """The cut of a fused projection into q, k and v; None if it is none, or if its order is not known (`looks_fused`).

    The order is known from the projection's name where that name means one order wherever it has been seen, from the
    class of the attention where that class has been read, and else from the attention's own source: what it reshapes to
    (..., 3, heads, ...) is all of q, all of k, all of v, and what it reshapes to (..., heads, 3 ...) is those of each
    head. It is never guessed from shapes.
    """
    order = _order(place)
    if order is None:
        return None
    whose, _, rows = zip(*order.blocks, strict=True)
    return Cut(rows, dim=place.outputs or 0, labels=whose, repeat=order.repeat)


def heads(place: Place) -> Cut | None:
    """The cut of an attention's projection by head; None if it is none, or if nothing tells the number of its heads.

    Queries, keys and values are cut by output, each kind by its own number of heads ("0", "1", ...), output projections
    by input; of a fused projection the heads are those of q, k and v ("q.0", ..., "k.0", ...). The numbers are those of
    the attention and of the config around it; they count only if with them the heads have the size that these tell.
    """
    order = _order(place)
    if order is None:
        return _separate(place)
    count: Counter[str] = Counter()
    sizes, labels = [], []
    for whose, number, rows in order.blocks * order.repeat:
        if not number:
            return None
        sizes += [rows // number] * number
        labels += [f"{whose}.{count[whose] + head}" for head in range(number)]
        count[whose] += number
    return Cut(tuple(sizes), dim=place.outputs or 0, labels=tuple(labels))


_FUSED = re.compile(r"\w*qkv\w*|\w*query_key_value|queries_keys_values|c_attn|in_proj_(weight|bias)", re.IGNORECASE)
_PROJECTION = re.compile(
    r"((to_?|w_?|lin_?|linear_|project_)?(?P<whose>[qkvo]|quer(y|ies)|keys?|values?|out|output)(_b)?"
    r"(_?(proj|lin|linear|layer|attn|head))?(_weight)?)|c_proj|(linear_)?proj|projection|proj_out|dense|attention_out",
    re.IGNORECASE,
)  # fmt: skip
_GATED = re.compile(r"\.Qwen(3Next|3_5|4Exp)\w*Attention$")  # for each head its query, then its gate


def looks_fused(place: Place) -> bool:
    """Whether a weight is called like a fused projection, whether or not its order is known."""
    return place.outputs is not None and _FUSED.fullmatch(place.called) is not None


def looks_projecting(place: Place) -> bool:
    """Whether a weight is called like a projection of an attention, whether or not its heads are known."""
    return looks_fused(place) or _projected(place) is not None


def _projected(place: Place) -> tuple[str, int] | None:
    """Whose projection a weight is ("q", "k", "v" or "o"), and the dimension that its heads lie along."""
    found = _PROJECTION.fullmatch(place.called)
    if found is None or place.layer.kind not in ("attention", "bias") or len(place.layer.shape) > 2:
        return None
    whose = (found["whose"] or "o")[0].lower()
    dim = place.inputs if whose == "o" else place.outputs
    return None if dim is None else (whose, dim)


def _separate(place: Place) -> Cut | None:
    if (projected := _projected(place)) is None:
        return None
    whose, dim = projected
    rows = place.layer.shape[dim]
    gate = 2 if whose == "q" and any(_GATED.search(kind) for kind in _classes(place)) else 1
    count = _count(place, rows // gate, keys=whose in "kv")
    return Cut(count, dim=dim) if count else None


def _count(place: Place, rows: int, *, keys: bool = False) -> int:
    """How many heads so many rows are; 0 if nothing tells.

    Without a size of heads to check it by, the number is believed of modules only: a config may be of other layers.
    """
    names = _KEY_HEADS if keys and place.told(*_KEY_HEADS) else _HEADS
    if sizes := place.told(*_SIZES):
        exact = [count for count, size in product(place.told(*names), sizes) if count * size == rows]
        # Layers may differ in their heads of k and v, as in Gemma 4: those of this one share out its heads of q.
        shared = {rows // size for size in sizes if rows % size == 0} if keys and not exact else set()
        fair = [count for count in shared if any(all_ % count == 0 for all_ in place.told(*_HEADS))]
        return exact[0] if exact else fair[0] if len(fair) == 1 else 0
    return next((count for count in place.near(*names) if rows % count == 0), 0)


def _inputs(place: Place) -> int:
    """What a projection reads; 0 if nothing tells."""
    size = place.layer.shape[place.inputs] if place.inputs is not None and not place.factor else 1
    # A bias, a magnitude and the factor of an adapter do not tell it.
    return size if size > 1 else next(iter(place.told("in_features", "nx", "embed_dim")), 0)


def _grouping(place: Place, rows: int) -> tuple[int, int, int] | None:
    """How many heads of q, how many of k and of v, and of what size, make so many rows."""
    sizes, inputs = place.told(*_SIZES), _inputs(place)
    for count in place.told(*_HEADS) if sizes else place.near(*_HEADS):
        for kept, size in product((*place.told(*_KEY_HEADS), count), sizes or (inputs // count,)):
            if (count + 2 * kept) * size == rows:
                return count, kept, size
    return None


def _blocks(place: Place, rows: int) -> _Order | None:
    """All of q, all of k, all of v; or k and v alone, as of a cross attention."""
    without_q = re.search(r"(^|_|w)kv", place.called, re.IGNORECASE) is not None
    if not without_q and (told := _grouping(place, rows)):
        count, keys, size = told
        return _Order((("q", count, count * size), ("k", keys, keys * size), ("v", keys, keys * size)))
    inputs = _inputs(place)
    if without_q or rows == 2 * inputs:
        count = _count(place, rows // 2, keys=True)
        return _Order((("k", count, rows // 2), ("v", count, rows // 2)))
    if rows == 3 * inputs or (rows % 3 == 0 and place.called != "c_attn" and not place.told(*_KEY_HEADS)):
        count = _count(place, rows // 3)
        return _Order(tuple((whose, count, rows // 3) for whose in "qkv"))
    return None


def _grouped(place: Place, rows: int) -> _Order | None:
    """For each head of k and v: the heads of q that use it, then itself; as many times as there are heads of k."""
    if (told := _grouping(place, rows)) is None or told[0] % told[1]:
        return None
    count, keys, size = told
    return _Order((("q", count // keys, count // keys * size), ("k", 1, size), ("v", 1, size)), repeat=keys)


def _chatglm(place: Place, rows: int) -> _Order | None:
    return (_blocks if getattr(place.owners[0], "multi_query_attention", False) else _grouped)(place, rows)


def _codegen(place: Place, rows: int) -> _Order | None:
    """Four times a quarter of the heads of q, of v, of k."""
    count = _count(place, rows // 3)
    return _Order(tuple((whose, count // 4, rows // 12) for whose in "qvk"), repeat=4)


def _latent(place: Place, rows: int) -> _Order | None:
    """For each head its key, as far as it takes no part in the rotation, and its value (DeepSeek)."""
    told = product(place.told(*_HEADS), place.told("qk_nope_head_dim"), place.told("v_head_dim"))
    fits = ((count, key, value) for count, key, value in told if count * (key + value) == rows)
    return next((_Order((("k", 1, key), ("v", 1, value)), repeat=count) for count, key, value in fits), None)


def _delta(place: Place, rows: int) -> _Order | None:
    """All of q, k and v; or, with a gate z, the q, k, v and z of each head of k (Qwen's linear attention)."""
    names = ("num_k_heads", "linear_num_key_heads"), ("head_k_dim", "linear_key_head_dim")
    values = ("num_v_heads", "linear_num_value_heads"), ("head_v_dim", "linear_value_head_dim")
    for count, size, more, wide in product(*(place.told(*each) for each in (*names, *values))):
        if 2 * count * size + more * wide == rows:
            return _Order((("q", count, count * size), ("k", count, count * size), ("v", more, more * wide)))
        if 2 * (count * size + more * wide) == rows:
            each = more // count
            gated = ("q", 1, size), ("k", 1, size), ("v", each, each * wide), ("z", each, each * wide)
            return _Order(gated, repeat=count)
    return None


# What a projection is called; the class of its attention, one of its bases, or that of a module beside it that splits.
_KNOWN = (
    (r"c_attn", r"\.GPTBigCodeAttention$", _grouped),
    (
        r"c_attn|in_proj_weight|in_proj_bias|to_qkv|to_kv",
        r"",
        _blocks,
    ),  # GPT-2, torch, lucidrains: one order everywhere
    (r"qkv", r"\.QKVAttentionLegacy$", _grouped),
    (r"qkv", r"\.QKVAttention$|^litgpt\.", _blocks),
    (r"qkv|qkv_linear|att_proj", r"^transformers\.", _blocks),
    (r"qkv_proj", r"\.(Phi3|Phi4Multimodal|OpenELMMultiHeadCausal)Attention$", _blocks),
    (r"Wq?kv", r"\.(Dbrx|Mpt|ModernBert|BertUnpadSelf)Attention$|^flash_attn\.", _blocks),
    (r"kv_proj", r"\.JetMoeAttention$", _blocks),
    (r"query_key_value", r"\.(Bloom|GPTNeoX|GPTNeoXJapanese|Falcon|Persimmon)Attention$", _grouped),
    (r"wqkv", r"\.InternLM2\w*Attention$", _grouped),
    (r"linear_qkv", r"^megatron\.", _grouped),
    (r"qkv_proj", r"\.MiniMaxLightningAttention$", _grouped),
    (r"in_proj", r"\.DisentangledSelfAttention$", _grouped),
    (r"query_key_value", r"modeling_chatglm\.", _chatglm),
    (r"qkv_proj", r"\.CodeGenAttention$", _codegen),
    (r"kv_b_proj", r"", _latent),
    (r"in_proj_qkvz?", r"", _delta),
)


def _classes(place: Place) -> list[str]:
    """The classes of the attention that a projection is of, and of the modules beside the projection."""
    modules = (place.owners[0], *place.owners[0].children())
    return [f"{kind.__module__}.{kind.__qualname__}" for module in modules for kind in kinds(module)]


def _order(place: Place) -> _Order | None:
    if place.outputs is None:
        return None
    rows = place.layer.shape[place.outputs]
    for called, owner, order in _KNOWN:
        if re.fullmatch(called, place.called) and any(re.search(owner, kind) for kind in _classes(place)):
            return order(place, rows)
    return _as_written(place, rows) if looks_fused(place) else None


_RESHAPED = r"(?:reshape|view)\((?:[^()]|\([^()]*\))*?"
_OUTSIDE = re.compile(_RESHAPED + r"\b3,\s*(?:self\.)?\w*(?:heads?|groups)\b")  # reshape(..., 3, self.num_heads, ...)
_INSIDE = re.compile(_RESHAPED + r"heads?,\s*3\b")  # view(..., self.num_heads, 3 * self.head_dim)


def _as_written(place: Place, rows: int) -> _Order | None:
    """The order that the attention's own source shows."""
    for kind in kinds(place.owners[0]):
        outside, inside = _reshaped(kind)
        if outside != inside:
            return _blocks(place, rows) if outside else _grouped(place, rows)
    return None


@cache
def _reshaped(kind: type) -> tuple[bool, bool]:
    """Whether the source of a class reshapes to (..., 3, heads, ...), and whether to (..., heads, 3 ...)."""
    try:
        source = re.sub(r"#.*", "", inspect.getsource(kind))
    except (OSError, TypeError):  # it has none, as a class made by a function of its library
        return False, False
    return _OUTSIDE.search(source) is not None, _INSIDE.search(source) is not None
