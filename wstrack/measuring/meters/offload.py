"""Snapshots in the host's memory, for training that leaves no room for them on the device.

A sample brings the snapshot to the device in batches, has them measured there, and takes the new snapshot back. Two
batches are under way at a time, each on a stream of its own, so that copies in both directions and sums overlap; the
device holds two batches and nothing else. The training thread and the host wait for nothing, the current stream only
until the weights have been read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch

from wstrack.measuring.meters.memory import Pair

if TYPE_CHECKING:
    from wstrack.measuring.meters.backends import Backend

__all__ = ["BATCH", "plan"]

BATCH = 1 << 26  # bytes of each snapshot that are on the device at a time, twice
ALIGNMENT = 64  # bytes

Copies = list[tuple[torch.Tensor, torch.Tensor]]  # on the host, on the device


def plan(
    backend: Backend, pairs: Sequence[Pair], sums: Sequence[str], *, batch: int = BATCH
) -> Callable[[], torch.Tensor]:
    """A function that takes the raw sums of layers whose snapshots are on the host, (layers, sums); moves them on.

    Args:
        backend: measures on the device.
        pairs: dense weights on one device; what they are compared with is on the host, pinned if the device is CUDA.
        sums: names of raw sums.
        batch: bytes of each snapshot on the device at a time, twice.

    Example:
        >>> from wstrack.measuring.meters import portable
        >>> w = torch.arange(100.0)
        >>> sample = plan(portable, [Pair(w, w.clone())], ("abs_change",), batch=64)
        >>> _ = w.add_(1)
        >>> sample().tolist()
        [[100.0]]
    """
    device = pairs[0].weight.device
    batches = list(_batches(pairs, batch))
    room = max((sum(map(_bytes, (pair for _, pair in members))) for members in batches), default=0)
    slots = [_Slot(device, room) for _ in range(min(2, len(batches)))]
    jobs: list[tuple[_Slot, Copies, Callable[[], torch.Tensor]]] = []
    for number, members in enumerate(batches):
        slot = slots[number % 2]
        near, copies = slot.near([pair for _, pair in members])
        jobs.append((slot, copies, backend.plan(near, sums)))
    layer = np.array([index for members in batches for index, _ in members], dtype=np.int64)
    pieces = np.bincount(layer, minlength=len(pairs)).tolist()

    def sample() -> torch.Tensor:
        for slot in slots:
            slot.begin()
        rows = []
        for slot, copies, measure in jobs:
            with slot.stream():
                for far, near in copies:
                    near.copy_(far, non_blocking=True)
                rows.append(measure())
                slot.read()
                for far, near in copies:
                    far.copy_(near, non_blocking=True)
        for slot in slots:
            slot.end(rows)
        return torch.stack([part.sum(0) for part in torch.split(torch.cat(rows), pieces)])

    return sample


def _bytes(pair: Pair) -> int:
    """What a piece takes of a slot's buffer; the changes of narrow weights are wider than the weights."""
    widest = max(pair.previous.element_size(), 0 if pair.change is None else pair.change.element_size())
    return -(-pair.weight.numel() * widest // ALIGNMENT) * ALIGNMENT


def _batches(pairs: Sequence[Pair], batch: int) -> Iterator[list[tuple[int, Pair]]]:
    """Pieces of layers, flat, with the index of their layer, in the order of the layers."""
    most = max(1, batch // 8)  # elements; none is wider than 8 bytes
    members: list[tuple[int, Pair]] = []
    filled = 0
    for index, pair in enumerate(pairs):
        flat = pair.each(lambda tensor: tensor.as_strided((tensor.numel(),), (1,)))
        for begin in range(0, max(1, pair.weight.numel()), most):
            piece = flat.each(lambda tensor, begin=begin: tensor[begin : begin + most])  # type: ignore[misc]
            if members and filled + _bytes(piece) > batch:
                yield members
                members, filled = [], 0
            members.append((index, piece))
            filled += _bytes(piece)
    yield members


class _Slot:
    """Memory for one batch on the device, and the stream that works on it; without CUDA, no stream."""

    def __init__(self, device: torch.device, room: int) -> None:
        self._device = device
        self._room = room
        self._buffers: dict[str, torch.Tensor] = {}
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._weights_read = torch.cuda.Event() if self._stream is not None else None  # type: ignore[no-untyped-call]

    def near(self, pairs: Sequence[Pair]) -> tuple[list[Pair], Copies]:
        """The pairs with room on the device in the place of what is on the host, and what must be copied there."""
        ready: list[Pair] = []
        copies: Copies = []
        begin = 0

        def room(role: str, far: torch.Tensor | None) -> torch.Tensor | None:
            if far is None:
                return None
            if role not in self._buffers:
                with self.stream():  # so that freed memory goes back to this stream, behind the copies out of it
                    self._buffers[role] = torch.empty(self._room, dtype=torch.uint8, device=self._device)
            near = self._buffers[role][begin : begin + far.numel() * far.element_size()].view(far.dtype)
            copies.append((far, near))
            return near

        for pair in pairs:
            previous = room("previous", pair.previous)
            assert previous is not None
            ready.append(Pair(pair.weight, previous, room("change", pair.change), room("start", pair.start)))
            begin += _bytes(pair)
        return ready, copies

    def begin(self) -> None:
        """Let this slot's work follow what is on the current stream."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def stream(self) -> AbstractContextManager[object]:
        """Work on this slot's stream."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def read(self) -> None:
        """The weights of this batch have been read: what follows may go on while training changes them."""
        if self._weights_read is not None:
            self._weights_read.record()

    def end(self, rows: Sequence[torch.Tensor]) -> None:
        """Let the current stream go on once the weights have been read, and use the rows."""
        if self._weights_read is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(self._weights_read)
            for row in rows:
                row.record_stream(current)
