"""What a part of a weight does in a network, found by changing it and looking at what the attention multiplies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from wstrack.measuring.cuts import Parts, cuts
from wstrack.measuring.layers import select
from wstrack.measuring.parts import Cut

Run = Callable[[], Any]
PRODUCTS = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.baddbmm, torch.Tensor.baddbmm)


def cut(model: nn.Module, parts: Parts, layers: Any = None) -> dict[str, Cut]:
    return cuts(model, parts, [layer for layer, _ in select(model, layers)])


def rows_of(found: Cut, size: int) -> dict[str, list[int]]:
    """Where each part lies along the dimension that is cut."""
    rows: dict[str, list[int]] = {}
    begin = 0
    for label, count in found.runs(size):
        rows.setdefault(label, []).extend(range(begin, begin + count))
        begin += count
    assert begin == size
    return rows


def attention_of(model: nn.Module, layer: str) -> nn.Module:
    """The nearest module around a layer that is called an attention."""
    path = layer.split(".")[:-1]
    around = (model.get_submodule(".".join(path[:length])) for length in range(len(path), -1, -1))
    return next(module for module in around if re.search("Attention|MHA", type(module).__name__))


class _Multiplied(TorchFunctionMode):
    """Keeps what the first product of queries and keys has, and that with the values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            named = [kwargs[name] for name in ("query", "key", "value") if name in kwargs]
            self.found += [*args[:3], *named][:3]
        elif func in PRODUCTS or func is torch.einsum:
            left, right = [kwargs.get(name) for name in ("batch1", "batch2")] if "batch1" in kwargs else args[-2:]
            if left.ndim > 2 and right.ndim > 2:
                self.found += [left, right] if not self.found else [right]
        return func(*args, **kwargs)


@contextmanager
def _watched(attention: nn.Module) -> Iterator[list[torch.Tensor]]:
    mode = _Multiplied()
    hooks = (
        attention.register_forward_pre_hook(lambda *_: (mode.__enter__(), None)[1]),
        attention.register_forward_hook(lambda *_: mode.__exit__(None, None, None)),
    )
    yield mode.found
    for hook in hooks:
        hook.remove()


def multiplied(run: Run, attention: nn.Module) -> dict[str, torch.Tensor]:
    """q, k and v as an attention multiplies them, each (heads, ...); the batch is of one."""
    with _watched(attention) as found, torch.no_grad():
        run()
    whole = [each.detach().clone() for each in found[:3]]
    return {whose: each[0] if each.ndim == 4 else each for whose, each in zip("qkv", whole, strict=True)}


@contextmanager
def changed(weight: nn.Parameter, dim: int, rows: Iterable[int]) -> Iterator[None]:
    """Other numbers in some rows of a weight, for a while."""
    kept, here = weight.detach().clone(), torch.tensor(list(rows))
    with torch.no_grad():
        weight.index_copy_(dim, here, torch.randn_like(weight.index_select(dim, here)))
    yield
    with torch.no_grad():
        weight.copy_(kept)


def moved(run: Run, attention: nn.Module, weight: nn.Parameter, dim: int, rows: Iterable[int]) -> dict[str, set[int]]:
    """Of what heads change when rows of a weight do, by whose they are: q, k or v."""
    before = multiplied(run, attention)
    with changed(weight, dim, rows):
        after = multiplied(run, attention)
    apart = {whose: (before[whose] - after[whose]).abs().flatten(1).amax(1) > 1e-6 for whose in before}
    return {whose: set(each.nonzero().flatten().tolist()) for whose, each in apart.items() if each.any()}


def features_moved(
    run: Run, projection: nn.Module, weight: nn.Parameter, dim: int, rows: Iterable[int]
) -> set[int] | None:
    """Which inputs of a projection change when rows of a weight do; None if it is not called as a module."""
    seen: list[torch.Tensor] = []
    hook = projection.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    with torch.no_grad():
        run()
        with changed(weight, dim, rows):
            run()
    hook.remove()
    if not seen:
        return None
    apart = (seen[0] - seen[-1]).abs().flatten(0, -2).amax(0) > 1e-6
    return set(apart.nonzero().flatten().tolist())


def check_fused(run: Run, attention: nn.Module, weight: nn.Parameter, found: Cut) -> None:
    """Each part is all heads of q, of k or of v, and no other."""
    rows = rows_of(found, weight.shape[found.dim])
    used = multiplied(run, attention)
    assert set("kv") <= set(rows) <= set("qkv")
    for label in rows:
        assert moved(run, attention, weight, found.dim, rows[label]) == {label: set(range(len(used[label])))}, label


def _check_heads(run: Run, attention: nn.Module, weight: nn.Parameter, dim: int, rows: dict[str, list[int]]) -> None:
    """Each part ("q.0") is that head and no other, and they are all; a head of k and v may be used by several of q."""
    used = {name: len(each) for name, each in multiplied(run, attention).items()}
    for whose in {label[0] for label in rows}:
        heads = sorted(int(label[2:]) for label in rows if label[0] == whose)
        assert heads == list(range(len(heads)))
        group = used[whose] // len(heads)
        for head in heads:
            here = moved(run, attention, weight, dim, rows[f"{whose}.{head}"])
            assert here == {whose: set(range(head * group, (head + 1) * group))}, (whose, head)


def check_every_head(model: nn.Module, run: Run) -> list[str]:
    """What parts="heads" makes of a model of one block is right; the names of the output projections among it."""
    weights, found = dict(model.named_parameters()), cut(model, "heads")
    values: dict[str, tuple[nn.Parameter, int, list[int]]] = {}
    outputs: dict[str, dict[str, list[int]]] = {}
    for name, how in found.items():
        rows, called = rows_of(how, weights[name].shape[how.dim]), name.split(".")[-2].lower()
        if "." not in next(iter(rows)) and called.removeprefix("to_")[0] not in "qkv":
            outputs[name] = rows
            continue
        if "." not in next(iter(rows)):
            rows = {f"{called.removeprefix('to_')[0]}.{label}": each for label, each in rows.items()}
        _check_heads(run, attention_of(model, name), weights[name], how.dim, rows)
        values |= {label: (weights[name], how.dim, each) for label, each in rows.items() if label.startswith("v.")}
    for name, columns in outputs.items():
        group = len(columns) // len(values)
        for label, changing in values.items():
            heads = range(int(label[2:]) * group, (int(label[2:]) + 1) * group)
            reached = {column for head in heads for column in columns[str(head)]}
            assert features_moved(run, model.get_submodule(name.rpartition(".")[0]), *changing) == reached, name
    return list(outputs)
