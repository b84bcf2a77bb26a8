"""A meter in plain torch operations, right on every device and dtype.

The weights are walked in blocks small enough for a CPU's cache, so the only memory it needs beside the snapshot is a
few blocks. Sums inside a block are torch's own (pairwise on the CPU, trees on a GPU), in float32 or the weight's wider
type; blocks are added up in float64. Never a norm: `vector_norm` and `_foreach_norm` add float32 one by one on the CPU
and are 12 % wrong on 38 million elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["PortableMeter", "change_sums"]

BLOCK = 65_536
_EXACT = (torch.float32, torch.float64, torch.complex64, torch.complex128)  # the others are widened before arithmetic


def _working_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype in _EXACT:
        return dtype
    return torch.complex64 if dtype.is_complex else torch.float32


def _accumulator(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _blocks(tensors: tuple[torch.Tensor, ...]) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same blocks of several tensors of one shape, without a copy, whatever their strides."""
    first = tensors[0]
    numel = first.numel()
    if numel <= BLOCK:
        if numel:
            yield tensors
        return
    dense = torch.empty_like(first, device="meta").stride() == first.stride()  # empty_like keeps dense strides only
    if dense and all(tensor.stride() == first.stride() for tensor in tensors):
        flat = [tensor.as_strided((numel,), (1,)) for tensor in tensors]
        yield from zip(*(torch.split(tensor, BLOCK) for tensor in flat), strict=True)
        return
    row = numel // len(first)
    if row <= BLOCK:
        yield from zip(*(torch.split(tensor, BLOCK // row) for tensor in tensors), strict=True)
    else:
        for index in range(len(first)):
            yield from _blocks(tuple(tensor[index] for tensor in tensors))


class _Scratch:
    """Buffers of one block, by role, device and dtype."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.device, torch.dtype], torch.Tensor] = {}

    def like(self, role: str, block: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised contiguous tensor of the block's shape."""
        key = (role, block.device, dtype)
        if key not in self._buffers:
            self._buffers[key] = torch.empty(BLOCK, dtype=dtype, device=block.device)
        return self._buffers[key][: block.numel()].view(block.shape)

    def widened(self, role: str, block: torch.Tensor) -> torch.Tensor:
        """The block in a type in which its arithmetic is exact enough: itself, or a copy."""
        dtype = _working_dtype(block.dtype)
        return block if block.dtype == dtype else self.like(role, block, dtype).copy_(block)


@dataclass
class _Memory:
    """What is remembered of one layer."""

    previous: torch.Tensor | None = None
    change: torch.Tensor | None = None  # the change before this one, for the cosine
    start: torch.Tensor | None = None  # for the distance

    def fits(self, weight: torch.Tensor) -> bool:
        kept = self.previous
        if kept is None:
            return False
        return kept.shape == weight.shape and kept.dtype == weight.dtype and kept.device == weight.device


def _block_sums(
    scratch: _Scratch,
    sums: Sequence[str],
    weight: torch.Tensor,
    previous: torch.Tensor,
    change: torch.Tensor | None,
    start: torch.Tensor | None,
) -> list[torch.Tensor]:
    """Raw sums of one block as 0-d tensors, in the order of `sums`; `change` is replaced by the new change."""
    w = scratch.widened("weight", weight)
    p = scratch.widened("previous", previous)
    delta = torch.sub(w, p, out=scratch.like("delta", w, w.dtype))
    real = w.real.dtype
    change_size = torch.abs(delta, out=scratch.like("change size", w, real))
    taken: dict[str, torch.Tensor] = {"abs_change": change_size.sum()}

    def size(tensor: torch.Tensor) -> torch.Tensor:
        return torch.abs(tensor, out=scratch.like("size", tensor, real))

    def square(tensor: torch.Tensor) -> torch.Tensor:
        return torch.mul(tensor, tensor, out=scratch.like("square", tensor, real)).sum()

    if "sq_change" in sums:
        taken["sq_change"] = square(change_size)
    if not {"abs_previous", "sq_previous", "ratio", "nonzero"}.isdisjoint(sums):
        previous_size = size(p)
        taken["abs_previous"] = previous_size.sum()
        if "sq_previous" in sums:
            taken["sq_previous"] = square(previous_size)
        if "ratio" in sums:
            zero = previous_size == 0
            ratio = torch.div(change_size, previous_size, out=scratch.like("ratio", w, real))
            taken["ratio"] = ratio.masked_fill_(zero, 0.0).sum()
            taken["nonzero"] = w.numel() - zero.sum(dtype=real)
    if "abs_current" in sums:
        taken["abs_current"] = size(w).sum()
    if change is not None:
        taken["sq_last_change"] = square(size(change))
        product = torch.mul(delta, change.conj(), out=scratch.like("product", w, w.dtype))
        taken["dot"] = product.real.sum()
        change.copy_(delta)
    if start is not None:
        s = scratch.widened("start", start)
        taken["abs_start"] = size(s).sum()
        taken["abs_from_start"] = size(torch.sub(w, s, out=scratch.like("delta", w, w.dtype))).sum()
    return [taken[name] for name in sums]


class PortableMeter:
    """Measures any parameters on any device; see `wstrack.meters.Meter`.

    Memory: one copy of the parameters, a second for the cosine (in float32 where they are narrower), a third for the
    distance, and a few blocks of 64K elements.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], sums: Sequence[str]) -> None:
        self._parameters = list(parameters)
        self._sums = tuple(sums)
        self._memory = [_Memory() for _ in self._parameters]
        self._scratch = _Scratch()
        # Small results of several devices meet on an accelerator: copying from one to the host would wait for it.
        devices = [parameter.device for parameter in self._parameters]
        self._home = next((device for device in devices if device.type != "cpu"), torch.device("cpu"))

    @torch.no_grad()
    def snapshot(self) -> None:
        """Remember every layer as it is now."""
        for parameter, memory in zip(self._parameters, self._memory, strict=True):
            self._remember(memory, parameter.detach())

    def release(self) -> None:
        """Drop what `snapshot` makes anew; what reaches further back than one sample is kept."""
        for memory in self._memory:
            memory.previous = None

    @torch.no_grad()
    def sample(self) -> torch.Tensor:
        """Raw sums of each layer, (layers, sums), on the accelerator if there is one."""
        rows = [
            self._row(memory, parameter.detach())
            for parameter, memory in zip(self._parameters, self._memory, strict=True)
        ]
        return torch.stack([row.to(self._home, _accumulator(self._home), non_blocking=True) for row in rows])

    def _remember(self, memory: _Memory, weight: torch.Tensor) -> None:
        if memory.previous is not None and memory.fits(weight):
            memory.previous.copy_(weight)
            return
        replaced = memory.previous is not None
        memory.previous = weight.clone()
        if "dot" in self._sums and (memory.change is None or replaced):
            memory.change = torch.zeros_like(weight, dtype=_working_dtype(weight.dtype))
        if "abs_start" in self._sums and (memory.start is None or replaced):
            memory.start = weight.clone()

    def _row(self, memory: _Memory, weight: torch.Tensor) -> torch.Tensor:
        accumulator = _accumulator(weight.device)
        if memory.previous is None or not memory.fits(weight):
            self._remember(memory, weight)
            return torch.full((len(self._sums),), torch.nan, dtype=accumulator, device=weight.device)
        optional = [tensor for tensor in (memory.change, memory.start) if tensor is not None]
        partial: list[torch.Tensor] = []
        for block in _blocks((weight, memory.previous, *optional)):
            rest = list(block[2:])
            change = rest.pop(0) if memory.change is not None else None
            start = rest.pop(0) if memory.start is not None else None
            partial += _block_sums(self._scratch, self._sums, block[0], block[1], change, start)
            block[1].copy_(block[0])
        if not partial:
            return torch.zeros(len(self._sums), dtype=accumulator, device=weight.device)
        return torch.stack(partial).view(-1, len(self._sums)).sum(0, dtype=accumulator)


@torch.no_grad()
def change_sums(
    previous: torch.Tensor | ArrayLike, current: torch.Tensor | ArrayLike, sums: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Raw sums between two tensors or arrays of one shape, each as an array of shape (1,).

    Raises:
        ValueError: the shapes differ.
    """
    p, w = _floating(previous), _floating(current)
    if p.shape != w.shape:
        raise ValueError(f"previous has shape {tuple(p.shape)} and current {tuple(w.shape)}; they must be the same")
    common = torch.promote_types(p.dtype, w.dtype)
    weight = p.to(w.device, common, copy=True)
    meter = PortableMeter([weight], sums)
    meter.snapshot()
    weight.copy_(w)
    return {name: value[None] for name, value in zip(sums, meter.sample()[0].cpu().double().numpy(), strict=True)}


def _floating(values: torch.Tensor | ArrayLike) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        tensor = values.detach()
    else:
        array = np.asarray(values)
        tensor = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    return tensor if tensor.is_floating_point() or tensor.is_complex() else tensor.to(torch.float64)
