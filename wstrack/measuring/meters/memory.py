"""What is remembered of one layer, and whether it can still be compared with the layer as it is now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from wstrack.metrics import memories_needed

__all__ = [
    "Pair", "Snapshot", "dense", "lies_as", "needs_bits", "needs_change", "needs_start", "row_major", "working_dtype",
]  # fmt: skip

_EXACT = (torch.float32, torch.float64, torch.complex64, torch.complex128)  # the others are widened before arithmetic


def needs_change(sums: Iterable[str]) -> bool:
    """Whether these sums compare a change with the one before it."""
    return "change" in memories_needed(sums)


def needs_start(sums: Iterable[str]) -> bool:
    """Whether these sums compare a layer with what it was when watching began."""
    return "start" in memories_needed(sums)


def needs_bits(sums: Iterable[str]) -> bool:
    """Whether these sums are of bits, and of the places of elements in the whole layer."""
    return not {"bits_low", "bits_high"}.isdisjoint(sums)


def row_major(shape: Sequence[int]) -> torch.Tensor:
    """Where the elements of a whole layer stand: one after another, row by row."""
    return torch.empty(tuple(shape), device="meta")


def lies_as(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one shape have the same strides, where a dimension has more than one element.

    Example:
        >>> lies_as(torch.ones(2, 3), row_major((2, 3))), lies_as(torch.ones(3, 2).t(), row_major((2, 3)))
        (True, False)
    """
    both = zip(tensor.shape, tensor.stride(), other.stride(), strict=True)
    return all(size <= 1 or ours == theirs for size, ours, theirs in both)


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which sums of a block are exact enough, and in which a change is kept."""
    if dtype in _EXACT:
        return dtype
    return torch.complex64 if dtype.is_complex else torch.float32


def dense(tensor: torch.Tensor) -> bool:
    """Whether its elements fill one stretch of memory, in whatever order.

    Example:
        >>> dense(torch.ones(2, 3).t()), dense(torch.ones(4)[::2])
        (True, False)
    """
    return tensor.is_contiguous() or torch.empty_like(tensor, device="meta").stride() == tensor.stride()


@dataclass(frozen=True)
class Pair:
    """A layer now and what it is compared with: tensors of one shape and, where dense, of the same strides.

    Attributes:
        weight, previous: now and before.
        change: the change before this one, in the working dtype; for sums that need it.
        start: likewise, what it was when watching began.
        within: whether these are views of what is remembered, which must stay where it is.
        standing: a tensor without memory (on the meta device), whose offset and strides say where each element stands
            in the whole layer, counted row by row; for sums of bits. None = the weight is a whole layer.
    """

    weight: torch.Tensor
    previous: torch.Tensor
    change: torch.Tensor | None = None
    start: torch.Tensor | None = None
    within: bool = False
    standing: torch.Tensor | None = None

    def each(self, view: Callable[[torch.Tensor], torch.Tensor]) -> Pair:
        """The same view of every tensor that is there."""
        change = None if self.change is None else view(self.change)
        start = None if self.start is None else view(self.start)
        standing = None if self.standing is None else view(self.standing)
        return Pair(view(self.weight), view(self.previous), change, start, within=True, standing=standing)

    def placed(self) -> Pair:
        """The same, with the places of its elements told."""
        return self if self.standing is not None else replace(self, standing=row_major(self.weight.shape))

    @property
    def dense(self) -> bool:
        """Whether every tensor fills one stretch of memory, in the same order of elements, which is that of places."""
        strides = self.weight.stride()
        others = (self.previous, self.change, self.start)
        return (
            dense(self.weight)
            and all(other is None or other.stride() == strides for other in others)
            and (self.standing is None or lies_as(self.weight, self.standing))
        )


@dataclass
class Snapshot:
    """The snapshot of one layer.

    Attributes:
        form: shape, dtype and device of the layer when last looked at; None if it had no values then.
        previous: the layer at the previous sample; None if there is nothing to compare with.
        change: its change before that, for the cosine.
        start: the layer when watching began, for the distance.
    """

    form: tuple[torch.Size, torch.dtype, torch.device] | None = None
    previous: torch.Tensor | None = None
    change: torch.Tensor | None = None
    start: torch.Tensor | None = None

    def look(self, weight: torch.Tensor) -> None:
        """Take note of how the layer lies in memory now; forget what can no longer be compared with it."""
        form = (weight.shape, weight.dtype, weight.device) if _has_values(weight) else None
        if form is None or form != self.form:
            self.previous = self.change = self.start = None
        self.form = form
        if self.previous is not None and self.previous.stride() != weight.stride() and dense(weight):
            if self.previous.device != weight.device:  # a copy to the host may still be under way
                self.previous = self.change = self.start = None
                return
            self.previous = torch.empty_like(weight).copy_(self.previous)
            if self.change is not None:
                self.change = torch.empty_like(weight, dtype=self.change.dtype).copy_(self.change)
            if self.start is not None:
                self.start = torch.empty_like(weight).copy_(self.start)

    def pair(self, weight: torch.Tensor) -> Pair | None:
        """The layer beside what it is compared with; None if there is nothing."""
        return None if self.previous is None else Pair(weight, self.previous, self.change, self.start)

    def remember(self, weight: torch.Tensor, sums: Sequence[str], *, on_host: bool = False) -> bool:
        """Keep the layer as it is now, if it has values; whether that took new memory."""
        if self.form is None:
            return False
        new = self.previous is None
        if self.previous is None:
            self.previous = _like(weight, weight.dtype, on_host)
        self.previous.copy_(weight, non_blocking=True)
        if needs_change(sums) and self.change is None:
            self.change = _like(weight, working_dtype(weight.dtype), on_host).zero_()
        if needs_start(sums) and self.start is None:
            self.start = _like(weight, weight.dtype, on_host).copy_(weight, non_blocking=True)
        return new


def _has_values(weight: torch.Tensor) -> bool:
    if weight.is_meta:
        return False
    if not weight.numel() or type(weight) is not torch.Tensor:
        return True
    reach = 1 + sum((size - 1) * stride for size, stride in zip(weight.shape, weight.stride(), strict=True))
    return weight.untyped_storage().nbytes() >= (weight.storage_offset() + reach) * weight.element_size()


def _like(weight: torch.Tensor, dtype: torch.dtype, on_host: bool) -> torch.Tensor:
    """Memory for a tensor laid out as the weight is, beside it or on the host."""
    if not on_host:
        return torch.empty_like(weight, dtype=dtype)
    strides = torch.empty_like(weight, device="meta").stride()
    pinned = torch.cuda.is_available()
    return torch.empty_strided(weight.shape, strides, dtype=dtype, device="cpu", pin_memory=pinned)
