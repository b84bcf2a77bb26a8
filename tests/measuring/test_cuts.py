"""Which layers are cut, however it is said and whatever is around them; and what is refused, in which words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations

from tests.measuring.attending import cut
from wstrack.measuring.cuts import cuts
from wstrack.measuring.layers import select
from wstrack.measuring.parts import Cut

QKV = {"q": 8, "k": 8, "v": 8}
ATTENTION, EXPERTS = "attention.in_proj_weight", {"experts.w1": "012", "experts.w2": "012"}


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.num_experts = 3
        self.w1, self.w2 = nn.Parameter(torch.randn(3, 6, 8)), nn.Parameter(torch.randn(3, 8, 6))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.experts = nn.MultiheadAttention(8, 2), Experts()


@pytest.mark.parametrize(
    ("parts", "labels"),
    [
        ("qkv", {ATTENTION: "qkv"}),
        ("experts", EXPERTS),
        (["qkv", "experts"], {ATTENTION: "qkv"} | EXPERTS),
        ({r"in_proj_weight": QKV}, {ATTENTION: "qkv"}),
        ({r"in_proj_weight": 2}, {ATTENTION: "01"}),
        ({r"in_proj_weight": [8, 16]}, {ATTENTION: "01"}),
        ({r"in_proj_weight": "qkv", r"w1": "experts"}, {ATTENTION: "qkv", "experts.w1": "012"}),
        ({r"out_proj": Cut(2, dim=-1, labels=("a", "b"))}, {"attention.out_proj.weight": "ab"}),
        (lambda name, weight: len(weight) if weight.ndim == 3 else None, EXPERTS),
        (lambda name, weight: "qkv", {ATTENTION: "qkv"}),
    ],
    ids=lambda one: "a callable" if callable(one) else str(one),
)
def test_the_ways_to_say_it(parts: Any, labels: dict[str, str]) -> None:
    found = cut(Block(), parts)
    assert {name: "".join(how.labels or ()) for name, how in found.items()} == labels
    assert list(found) == [layer.name for layer, _ in select(Block()) if layer.name in labels]


def test_a_dimension_counted_from_the_last_is_told_from_the_first() -> None:
    (how,) = cut(Block(), {"out_proj": Cut(2, dim=-1)}).values()
    assert how.dim == 1


def test_of_several_that_fit_a_layer_the_first_counts() -> None:
    assert len(cut(Block(), ["qkv", "heads"])[ATTENTION].labels or ()) == 3
    assert len(cut(Block(), ["heads", "qkv"])[ATTENTION].labels or ()) == 6
    assert cut(Block(), {"in_proj": 4, "attention": 2})[ATTENTION].into == 4


def test_one_part_is_no_cut() -> None:
    assert cut(Block(), {"in_proj": 1, "out_proj": Cut((4, 4), labels=("a", "a"))}) == {}
    assert cut(nn.MultiheadAttention(8, 1), "heads").keys() == {"in_proj_weight"}


def test_the_whole_shape_counts_and_not_what_this_process_holds() -> None:
    model = Block()
    layers = [replace(layer, shape=(2 * layer.shape[0], *layer.shape[1:])) for layer, _ in select(model)]
    assert cuts(model, {"w1": 6}, layers)["experts.w1"].runs(6)
    with pytest.raises(ValueError, match=r"experts.w1 \[6, 6, 8\] cannot be cut"):
        cuts(model, {"w1": 4}, layers)


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def checkpointed(model: nn.Module) -> nn.Module:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model.attention = checkpoint_wrapper(model.attention)
    return model


def fsdp2(model: nn.Module) -> nn.Module:
    for module in (*model.children(), model):
        fully_shard(module)
    return model


def fsdp1(model: nn.Module, orig: bool) -> nn.Module:
    model.attention = FullyShardedDataParallel(model.attention, device_id=torch.device("cpu"), use_orig_params=orig)
    return FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=orig)


WRAPPED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": lambda model: torch.compile(model),  # type: ignore[return-value]
    "DataParallel": nn.DataParallel,
    "DDP": DistributedDataParallel,
    "checkpointed": checkpointed,
    "FSDP2": fsdp2,
    "FSDP1": lambda model: fsdp1(model, True),
    "FSDP1, flat": lambda model: fsdp1(model, False),
}


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_change_nothing(wrap: Callable[[nn.Module], nn.Module]) -> None:
    words = ["experts", "heads"]
    assert cut(wrap(Block()), words) == cut(Block(), words)
    assert cut(wrap(Block()), "qkv") == cut(Block(), "qkv")


class Divided(nn.Module):
    """As tensor parallelism leaves an attention: a rank has half of the heads, config and weights have all."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.config = type("Config", (), {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4})()
        self.num_heads, self.num_key_value_heads, self.head_dim = heads, heads // 2, 4
        self.q_proj, self.k_proj, self.o_proj = nn.Linear(8, 16), nn.Linear(8, 8), nn.Linear(16, 8)


def test_heads_are_those_of_the_whole_where_tensor_parallelism_divides_them() -> None:
    whole = cut(nn.ModuleDict({"self_attn": Divided(4)}), "heads")
    assert [len(how.labels or ()) for how in whole.values()] == [4, 2, 4]
    assert cut(nn.ModuleDict({"self_attn": Divided(2)}), "heads") == whole


def test_a_weight_norm_is_cut_as_the_weight_is() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16)
    parametrizations.weight_norm(model.self_attn, "in_proj_weight")
    found = cut(model, "qkv", "all")
    assert {name.rpartition(".")[2] for name in found} == {"original0", "original1", "in_proj_bias"}
    assert len({how.runs(24) for how in found.values()}) == 1


def test_adapters_are_cut_where_they_have_what_is_cut() -> None:
    """The outputs of a projection lie in one factor of its adapter, its inputs in the other."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    model = transformers.GPT2Model(transformers.GPT2Config(n_embd=24, n_head=4, n_layer=1, vocab_size=8))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True))
    attention = "base_model.model.h.0.attn"
    assert {name: (how.dim, how.runs(72)) for name, how in cut(adapted, "qkv").items()} == {
        f"{attention}.c_attn.lora_B.default.weight": (0, (("q", 24), ("k", 24), ("v", 24)))
    }
    assert {name: (how.dim, len(how.labels or ())) for name, how in cut(adapted, "heads").items()} == {
        f"{attention}.c_attn.lora_B.default.weight": (0, 12),
        f"{attention}.c_proj.lora_A.default.weight": (1, 4),
    }
    frozen = cut(adapted, "qkv", lambda name, weight: "base_layer" in name)
    assert {name: how.dim for name, how in frozen.items()} == {
        f"{attention}.c_attn.base_layer.weight": 1,
        f"{attention}.c_attn.base_layer.bias": 0,
    }


@pytest.mark.parametrize(
    ("parts", "error", "said"),
    [
        ("expert", ValueError, "parts: 'expert' is none of 'experts', 'qkv', 'heads'; for others give {"),
        ({"w1": "expert"}, ValueError, "parts: 'expert' is none of"),
        ({"w[": 2}, ValueError, "parts: 'w[' is not a regular expression (unterminated character set at position 1)"),
        ({"w9": 3}, ValueError, "parts: 'w9' cuts nothing; no layer is called like that"),
        ({"w1": "qkv"}, ValueError, "parts: 'w1' cuts nothing; no layer is called like that, or fits its cut"),
        ({"w1": 4}, ValueError, "parts: experts.w1 [3, 6, 8] cannot be cut so along dimension 0: 4 equal parts do"),
        ({"w1": (1, 1)}, ValueError, "1 + 1 do not fill 3; give sizes that do, another dim=, or an expression that"),
        ({"w1": Cut(3, dim=3)}, ValueError, "parts: experts.w1 [3, 6, 8] has no dimension 3; narrow the expression"),
        ({"w1": 0}, ValueError, "count from 1"),
        ({"w1": 1.5}, TypeError, "parts: 1.5 is no cut; give a number of equal parts, the size of each, a mapping"),
        (lambda name, weight: None, ValueError, "parts: 'the callable' cuts nothing"),
        (lambda name, weight: 1.5, TypeError, "parts: 1.5 is no cut"),
        (3, TypeError, "parts=3: pass 'experts', 'qkv' or 'heads', a list of them, a mapping"),
        ([], TypeError, "parts=[]: pass"),
        ([2], TypeError, "parts=[2]: pass"),
    ],
)  # fmt: skip
def test_what_is_refused(parts: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        cut(Block(), parts)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("experts", "parts: 'experts' cuts nothing; no layer is a stacked weight of several experts"),
        ("qkv", "parts: 'qkv' cuts nothing; no layer is a fused projection"),
        (
            "heads",
            "parts: 'heads' cuts nothing; no layer is a projection of an attention. The layers are 0.weight [2, 2]",
        ),
    ],
)
def test_a_word_that_cuts_nothing_says_what_it_looked_for_and_what_there_is(word: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        cut(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), word)
    if word == "experts":
        with pytest.raises(ValueError, match="'experts' cuts nothing"):
            cut(nn.MultiheadAttention(8, 2), ["qkv", "experts"])


def test_an_attention_that_tells_no_heads_is_said() -> None:
    attention = nn.ModuleDict({"q_proj": nn.Linear(8, 8), "k_proj": nn.Linear(8, 8)})
    model = nn.ModuleDict({"self_attn": attention})
    with pytest.raises(
        ValueError, match=re.escape("the number of heads is not known of self_attn.q_proj.weight [8, 8]")
    ):
        cut(model, "heads")
