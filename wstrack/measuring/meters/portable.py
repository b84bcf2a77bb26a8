"""Raw sums in plain torch operations, right on every device and dtype.

The weights are walked in blocks small enough for a CPU's cache, so the only memory it needs beside the snapshot is a
few blocks; on a CPU, layers much smaller than a block are packed together. Sums inside a block are torch's own
(pairwise on the CPU, trees on a GPU), in float32 or the weight's wider type; blocks are added up in float64. Never a
norm: `vector_norm` and `_foreach_norm` add float32 one by one on the CPU and are 12 % wrong on 38 million elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from wstrack.measuring.meters.bits import hashes
from wstrack.measuring.meters.memory import Pair, needs_bits, needs_change, needs_start, working_dtype
from wstrack.metrics import SUMS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["BLOCK", "TAKES", "change_sums", "fails_on", "plan", "refuses", "unavailable"]

TAKES = frozenset(SUMS)  # all there are: nothing stands behind this one
BLOCK = 65_536
DEVICE_BLOCK = 1 << 22  # elements; a block is some ten kernel launches on an accelerator
SMALL = BLOCK // 4

Total = Callable[[torch.Tensor], torch.Tensor]


def unavailable() -> str | None:
    """Why nothing can be measured by it: it can, everywhere."""
    return None


def refuses(weight: torch.Tensor) -> str | None:
    """Why this meter cannot measure a weight: it can."""
    return None


def plan(pairs: Sequence[Pair], sums: Sequence[str]) -> Callable[[], torch.Tensor]:
    """A function that takes the raw sums of these layers, (layers, sums), and moves their snapshots on.

    Example:
        >>> w = torch.tensor([1.0, -2.0])
        >>> sample = plan([Pair(w, w.clone())], ("abs_change", "abs_previous"))
        >>> _ = w.add_(0.5)
        >>> sample().tolist(), sample().tolist()
        ([[1.0, 3.0]], [[0.0, 3.0]])
    """
    names = tuple(sums)
    if needs_bits(names):
        pairs = [pair.placed() for pair in pairs]
    scratch = _Scratch()
    packs: dict[tuple[torch.dtype, int], list[int]] = {}
    single: list[int] = []
    filled = 0
    for index, pair in enumerate(pairs):
        numel = pair.weight.numel()
        if pair.weight.device.type != "cpu" or not 0 < numel <= SMALL or pair.within or not pair.dense:
            single.append(index)
            continue
        packs.setdefault((pair.weight.dtype, (filled + numel) // BLOCK), []).append(index)
        filled += numel
    ready = [_Pack([pairs[index] for index in members], scratch, names) for members in packs.values()]
    blocks = [list(_blocks(pairs[index])) for index in single]
    order = [*(index for members in packs.values() for index in members), *single]
    in_order = order == sorted(order)
    places = torch.tensor(order, device="cpu")

    def sample() -> torch.Tensor:
        rows = [pack.sums() for pack in ready]
        rows += [
            _layer_sums(pairs[index].weight, own, scratch, names) for index, own in zip(single, blocks, strict=True)
        ]
        taken = torch.cat(rows)
        return taken if in_order else torch.empty_like(taken).index_copy_(0, places.to(taken.device), taken)

    return sample


def fails_on(weight: torch.Tensor) -> str | None:
    """Why a tensor of a class of its own cannot be measured, by trying; None if it can. Reads the weight once."""
    try:
        with torch.no_grad():
            sums = plan([Pair(weight, torch.empty_like(weight).copy_(weight))], ("abs_change", "abs_current"))()
    except Exception as error:  # noqa: BLE001  anybody's class: whatever it raises, it does not do what tensors do
        said = next(iter(str(error).splitlines()), "")
        return f"{type(error).__name__}: {said[:120]}" if said else type(error).__name__
    return None if type(sums) is torch.Tensor else f"its sums are of the class {type(sums).__name__}"


def _accumulator(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_strided((tensor.numel(),), (1,))


def _blocks(pair: Pair) -> Iterator[Pair]:
    """The same blocks of a layer and its snapshot, without a copy, whatever their strides."""
    size = BLOCK if pair.weight.device.type == "cpu" else DEVICE_BLOCK
    numel = pair.weight.numel()
    if numel <= size:
        if numel:
            yield pair
    elif pair.dense:
        flat = pair.each(_flat)
        for start in range(0, numel, size):
            yield flat.each(lambda tensor, start=start: tensor[start : start + size])  # type: ignore[misc]
    else:
        rows = max(1, size * len(pair.weight) // numel)
        for start in range(0, len(pair.weight), rows):
            part = pair.each(lambda tensor, start=start: tensor[start : start + rows])  # type: ignore[misc]
            yield from _blocks(part if rows > 1 else part.each(lambda tensor: tensor[0]))


class _Scratch:
    """Buffers of one block, by role, device and dtype."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.device, torch.dtype], torch.Tensor] = {}

    def like(self, role: str, block: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised contiguous tensor of the block's shape."""
        key = (role, block.device, dtype)
        if key not in self._buffers or self._buffers[key].numel() < block.numel():
            size = max(BLOCK, block.numel())
            self._buffers[key] = torch.empty(size, dtype=dtype, device=block.device)
        return self._buffers[key][: block.numel()].view(block.shape)

    def widened(self, role: str, block: torch.Tensor) -> torch.Tensor:
        """The block in a type in which its arithmetic is exact enough: itself, or a copy."""
        dtype = working_dtype(block.dtype)
        return block if block.dtype == dtype else self.like(role, block, dtype).copy_(block)


def _block_sums(scratch: _Scratch, sums: Sequence[str], block: Pair, total: Total) -> list[torch.Tensor]:
    """Raw sums of one block, each as `total` takes them, in the order of `sums`; the snapshot moves on."""
    w = scratch.widened("weight", block.weight)
    p = scratch.widened("previous", block.previous)
    delta = torch.sub(w, p, out=scratch.like("delta", w, w.dtype))
    real = w.real.dtype if w.is_complex() else w.dtype
    change_size = torch.abs(delta, out=scratch.like("change size", w, real))
    taken: dict[str, torch.Tensor] = {"abs_change": total(change_size)}

    def size(tensor: torch.Tensor) -> torch.Tensor:
        return torch.abs(tensor, out=scratch.like("size", tensor, real))

    def square(tensor: torch.Tensor) -> torch.Tensor:
        return total(torch.mul(tensor, tensor, out=scratch.like("square", tensor, real)))

    if "sq_change" in sums:
        taken["sq_change"] = square(change_size)
    if not {"abs_previous", "sq_previous", "ratio", "nonzero"}.isdisjoint(sums):
        previous_size = size(p)
        taken["abs_previous"] = total(previous_size)
        if "sq_previous" in sums:
            taken["sq_previous"] = square(previous_size)
        if "ratio" in sums or "nonzero" in sums:
            zero = previous_size == 0
            ratio = torch.div(change_size, previous_size, out=scratch.like("ratio", w, real))
            taken["ratio"] = total(ratio.masked_fill_(zero, 0.0))
            taken["nonzero"] = total((~zero).to(real))
    if "abs_current" in sums:
        taken["abs_current"] = total(size(w))
    if "changed" in sums:
        taken["changed"] = total(_differ(w, p).to(real))
    if "changed_bf16" in sums:
        taken["changed_bf16"] = total(_differ(_bfloat16(w), _bfloat16(p)).to(real))
    if block.standing is not None and needs_bits(sums):
        for name, each in zip(("bits_low", "bits_high"), hashes(block.weight, block.standing), strict=True):
            whole = (total(each) % 2**32).to(_accumulator(w.device))
            taken[name] = whole if whole.dtype == torch.float64 else whole.fill_(torch.nan)  # it has too few digits
    if block.change is not None and needs_change(sums):
        taken["sq_last_change"] = square(size(block.change))
        product = torch.mul(delta, block.change.conj(), out=scratch.like("product", w, w.dtype))
        taken["dot"] = total(product.real)
        block.change.copy_(delta)
    if block.start is not None and needs_start(sums):
        s = scratch.widened("start", block.start)
        taken["abs_start"] = total(size(s))
        taken["abs_from_start"] = total(size(torch.sub(w, s, out=scratch.like("delta", w, w.dtype))))
    block.previous.copy_(block.weight)
    return [taken[name] for name in sums]


def _differ(w: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Where two tensors hold another number; NaN is NaN."""
    return torch.ne(w, p).logical_and_(torch.isnan(w).logical_and_(torch.isnan(p)).logical_not_())


def _bfloat16(tensor: torch.Tensor) -> torch.Tensor:
    """Its values as bfloat16 holds them; of a complex tensor, both parts."""
    if not tensor.is_complex():
        return tensor.to(torch.bfloat16)
    parts = torch.view_as_real(tensor.resolve_conj())
    return torch.view_as_complex(parts.to(torch.bfloat16).to(parts.dtype))


def _layer_sums(weight: torch.Tensor, blocks: Sequence[Pair], scratch: _Scratch, sums: Sequence[str]) -> torch.Tensor:
    """Raw sums of one layer, (1, sums)."""
    accumulator = _accumulator(weight.device)
    partial = [value for block in blocks for value in _block_sums(scratch, sums, block, torch.sum)]
    if not partial:
        return torch.zeros(1, len(sums), dtype=accumulator, device=weight.device)
    return torch.stack(partial).view(-1, len(sums)).sum(0, keepdim=True, dtype=accumulator)


class _Pack:
    """Small dense layers of one dtype on the CPU, measured as one block; their snapshots move into one tensor."""

    def __init__(self, pairs: Sequence[Pair], scratch: _Scratch, sums: Sequence[str]) -> None:
        self._names = sums
        self._scratch = scratch
        self._weights = [_flat(pair.weight) for pair in pairs]
        counts = [weight.numel() for weight in self._weights]
        self._begins = np.cumsum([0, *counts[:-1]])
        self._room = self._weights[0].new_empty(()).expand(sum(counts))
        previous = self._together([pair.previous for pair in pairs])
        assert previous is not None
        self._previous = previous
        self._change = self._together([pair.change for pair in pairs if pair.change is not None])
        self._start = self._together([pair.start for pair in pairs if pair.start is not None])
        self._standings = [_flat(pair.standing) for pair in pairs if pair.standing is not None]

    def sums(self) -> torch.Tensor:
        """Raw sums of each layer, (layers, sums)."""
        weight = torch.cat(self._weights, out=self._scratch.like("joined", self._room, self._room.dtype))
        block = Pair(weight, self._previous, self._change, self._start)
        names = [name for name in self._names if not needs_bits([name])]
        taken = dict(zip(names, _block_sums(self._scratch, names, block, self._per_layer), strict=True))
        if self._standings:  # places do not run on from layer to layer
            each = [hashes(one, standing) for one, standing in zip(self._weights, self._standings, strict=True)]
            for name, own in zip(("bits_low", "bits_high"), zip(*each, strict=True), strict=True):
                taken[name] = torch.stack([values.sum() % 2**32 for values in own]).double()
        return torch.stack([taken[name] for name in self._names], dim=1)

    def _per_layer(self, values: torch.Tensor) -> torch.Tensor:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is inf in its layer, and no warning
            return torch.from_numpy(np.add.reduceat(values.numpy(), self._begins).astype(np.float64))

    def _together(self, kept: list[torch.Tensor]) -> torch.Tensor | None:
        if not kept:
            return None
        joined = torch.cat([_flat(tensor) for tensor in kept])
        for tensor, begin in zip(kept, self._begins.tolist(), strict=True):
            tensor.set_(joined.untyped_storage(), begin, tensor.shape, tensor.stride())
        return joined


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
    pair = Pair(w.to(w.device, common), p.to(w.device, common, copy=True))
    found = plan([pair], sums)()[0]
    return {name: value[None] for name, value in zip(sums, found.cpu().double().numpy(), strict=True)}


def _floating(values: torch.Tensor | ArrayLike) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        tensor = values.detach()
    else:
        array = np.asarray(values)
        tensor = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    return tensor if tensor.is_floating_point() or tensor.is_complex() else tensor.to(torch.float64)
