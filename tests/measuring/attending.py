"""What a part of a weight does in a network, found out by changing it and looking at what the attention multiplies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


class _Multiplied(TorchFunctionMode):
    """Keeps q, k and v of the first product of queries and keys and of that with the values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            self.found += [kwargs.get(name, at) for name, at in zip(("query", "key", "value"), args, strict=False)]
        elif func in PRODUCTS or (func is torch.einsum and len(args) == 3):
            whole = "baddbmm" in func.__name__
            left = kwargs.get("batch1") if whole and "batch1" in kwargs else args[whole or func is torch.einsum]
            right = kwargs.get("batch2") if whole and "batch2" in kwargs else args[-1]
            if left.ndim > 2 and right.ndim > 2:
                self.found += [left, right] if not self.found else [right]
        return func(*args, **kwargs)


@contextmanager
def _recorded(attention: nn.Module) -> Iterator[list[torch.Tensor]]:
    """q, k and v as an attention multiplies them when it is next run."""
    mode = _Multiplied()
    hooks = (
        attention.register_forward_pre_hook(lambda *_: mode.__enter__() and None),
        attention.register_forward_hook(lambda *_: mode.__exit__(None, None, None)),
    )
    yield mode.found
    for hook in hooks:
        hook.remove()


def _multiplied(run: Run, attention: nn.Module) -> list[torch.Tensor]:
    with _recorded(attention) as found, torch.no_grad():
        run()
    return [each.detach().clone() for each in found[:3]]


def moved(run: Run, attention: nn.Module, weight: nn.Parameter, dim: int, rows: list[int]) -> dict[str, set[int]]:
    """Whose heads change when rows of a weight do: q, k or v, and which of them. The batch is of one."""
    before = _multiplied(run, attention)
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.index_copy_(dim, torch.tensor(rows), torch.randn_like(weight.index_select(dim, torch.tensor(rows))))
    after = _multiplied(run, attention)
    with torch.no_grad():
        weight.copy_(kept)
    found: dict[str, set[int]] = {}
    for whose, one, other in zip("qkv", before, after, strict=True):
        heads = one.shape[0] if one.ndim == 3 else one.shape[1]
        apart = (one - other).abs().reshape(heads, -1).amax(1) > 1e-6
        if apart.any():
            found[whose] = set(apart.nonzero().flatten().tolist())
    return found
