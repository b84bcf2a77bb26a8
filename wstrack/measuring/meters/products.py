"""Takes the norms of what adapters add to weights, from Gram matrices of the factors: the products are never formed.

norm2(L R)^2 = sum((L^T L) * (R R^T)), matrices as small as the rank. A change is a product as well,

    s B A - s' B' A' = [s B - s' B', s' B'] [A; A - A'],

so that nothing cancels however small it is: each of its factors is a difference of numbers that were kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import torch

from wstrack.measuring.adapters import Product

__all__ = ["ProductMeter"]

_TOGETHER = 1 << 22  # elements of factors that are widened at a time


class Weight(Protocol):
    """A weight that adapters add to, in a model or in checkpoints."""

    square: float
    """Of its norm, without what is added."""

    def products(self) -> dict[str, Product] | None:
        """What each adapter adds now, by name; None if that cannot be told."""


class _Step(NamedTuple):
    """A product now and what it was; None where there is none."""

    now: Product | None
    before: Product | None


_Sum = tuple[_Step, ...]  # products that are added up
_Products = dict[str, Product]


class ProductMeter:
    """Takes raw sums (`wstrack.metrics.PRODUCTS`) of weights with adapters. Never synchronises with the device.

    Of a weight whose adapters are gone, or are no product any more, all is NaN, and is measured again once they are
    back. An adapter that is no longer in use, or just came into use, counts in a change with all that it adds.

    Args:
        weights: what to measure.
        sums: names.

    Example:
        >>> from types import SimpleNamespace
        >>> b, a = torch.zeros(1, 2, 1), torch.ones(1, 1, 2)  # of a weight of 2 x 2, of rank 1
        >>> weight = SimpleNamespace(square=16.0, products=lambda: {"default": Product(b, a, 8.0)})
        >>> meter = ProductMeter([weight], ("sq_adapters", "sq_adapters_change"))
        >>> meter.snapshot()
        >>> _ = b.fill_(0.5)
        >>> meter.sample().tolist(), meter.sample().tolist()
        ([[64.0, 64.0]], [[64.0, 0.0]])
    """

    def __init__(self, weights: Sequence[Weight], sums: Sequence[str]) -> None:
        self._weights = list(weights)
        self._sums = tuple(sums)
        self._kept: list[_Products | None] = [None] * len(self._weights)
        self._squares: torch.Tensor | None = None

    @torch.no_grad()
    def snapshot(self) -> None:
        """Remember what the adapters add now; the next sample measures from here."""
        self._keep([weight.products() for weight in self._weights])

    def release(self) -> None:
        """Give the memory of the snapshot back until the next one."""
        self._kept = [None] * len(self._weights)

    @torch.no_grad()
    def sample(self) -> torch.Tensor:
        """Raw sums, and of the change since the snapshot, which moves to now; on the accelerator if there is one.

        Returns:
            (weights, sums); float64, or float32 on devices that have no float64.
        """
        if not self._weights:
            return torch.empty(0, len(self._sums), device="cpu")
        now = [weight.products() for weight in self._weights]
        devices = [product.left.device for each in now for product in (each or {}).values()]
        home = next((device for device in devices if device.type != "cpu"), torch.device("cpu"))
        if self._squares is None or self._squares.device != home:
            squares = torch.tensor([weight.square for weight in self._weights], dtype=_wide(home), device="cpu")
            self._squares = (
                squares.pin_memory().to(home, non_blocking=True) if home.type == "cuda" else squares.to(home)
            )
        columns = []
        for name in self._sums:
            if name == "sq_adapted":
                columns.append(self._squares)
            elif name == "sq_adapters":
                columns.append(_squares([_from(each, {}) for each in now], home))
            else:
                columns.append(_squares([_from(*pair) for pair in zip(now, self._kept, strict=True)], home))
        self._keep(now)
        return torch.stack(columns, dim=1)

    def _keep(self, now: Sequence[_Products | None]) -> None:
        if "sq_adapters_change" not in self._sums:
            return
        for place, products in enumerate(now):
            before = self._kept[place] or {}
            self._kept[place] = None if products is None else {
                name: _copied(product, before.get(name)) for name, product in products.items()
            }  # fmt: skip


def _copied(product: Product, before: Product | None) -> Product:
    """A copy of a product, in the memory of an earlier one where that fits."""
    if before is None or _look(before) != _look(product):
        return Product(product.left.clone(), product.right.clone(), product.scale)
    return Product(before.left.copy_(product.left), before.right.copy_(product.right), product.scale)


def _from(now: _Products | None, before: _Products | None) -> _Sum | None:
    """The change of what several adapters add; None if either is not known."""
    if now is None or before is None:
        return None
    device = next((product.left.device for product in now.values()), None)
    if device is not None:  # the model may have been moved
        before = {name: Product(one.left.to(device), one.right.to(device), one.scale) for name, one in before.items()}
    steps: list[_Step] = []
    for name in dict.fromkeys((*now, *before)):
        one, other = now.get(name), before.get(name)
        fits = one is None or other is None or _look(one) == _look(other)
        steps += [_Step(one, other)] if fits else [_Step(one, None), _Step(None, other)]
    return tuple(steps)


def _look(product: Product | None) -> tuple[object, ...]:
    if product is None:
        return ()
    return product.left.shape, product.right.shape, product.left.dtype, product.right.dtype, product.left.device


def _squares(sums: Sequence[_Sum | None], home: torch.device) -> torch.Tensor:
    """The square of the norm of each of these sums of products, (sums,); NaN where there is none.

    Those of one shape are taken together: there may be hundreds, and each is small.
    """
    alike: dict[object, list[int]] = {}
    for place, steps in enumerate(sums):
        if steps:
            key = tuple(
                (_look(now), now and now.scale, _look(before), before and before.scale) for now, before in steps
            )
            alike.setdefault(key, []).append(place)
    nothing = torch.zeros((), dtype=_wide(home), device=home)
    found = [nothing if steps is not None else torch.full_like(nothing, torch.nan) for steps in sums]
    for places in alike.values():
        first = sums[places[0]] or ()
        size = sum(one.left.numel() + one.right.numel() for step in first for one in step if one is not None)
        for begin in range(0, len(places), many := max(1, _TOGETHER // max(1, size))):
            some = places[begin : begin + many]
            taken = _norms([sums[place] or () for place in some]).to(home, non_blocking=True)
            for place, square in zip(some, taken.unbind(), strict=True):
                found[place] = square
    return torch.stack(found)


def _norms(alike: Sequence[_Sum]) -> torch.Tensor:
    """The squares of the norms of sums of products that are all of the same shapes and scales, (sums,)."""
    lefts: list[torch.Tensor] = []
    rights: list[torch.Tensor] = []
    for steps in zip(*alike, strict=True):
        now = [step.now for step in steps if step.now is not None]
        before = [step.before for step in steps if step.before is not None]
        if now:
            left, right = _wide_left(now), _wide_stack(one.right for one in now)
            if before:
                left_before, right_before = _wide_left(before), _wide_stack(one.right for one in before)
                lefts += [left - left_before, left_before]
                rights += [right, right - right_before]
            else:
                lefts.append(left)
                rights.append(right)
        else:
            lefts.append(-_wide_left(before))
            rights.append(_wide_stack(one.right for one in before))
    left, right = torch.cat(lefts, dim=-1), torch.cat(rights, dim=-2)
    return ((left.mT @ left) * (right @ right.mT)).sum((-3, -2, -1)).clamp_min(0.0)


def _wide_left(products: Sequence[Product]) -> torch.Tensor:
    """The left factors of products of one scale, with it, (products, parts, rows, rank)."""
    return _wide_stack(product.left for product in products).mul_(products[0].scale)


def _wide_stack(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    stacked = torch.stack(list(tensors))
    return stacked.to(_wide(stacked.device))


def _wide(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
