"""What a checkpoint holds, whatever its format: tensors by name, known without their values, and how these are read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wstrack.errors import WstrackError
from wstrack.measuring.meters.memory import dense

__all__ = [
    "Checkpoint", "InBlocks", "InFile", "InMemory", "InPieces", "Permuted", "Stored", "age_of", "bytes_of", "stored_at",
]  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """A tensor in a checkpoint, dense and in the order of its indices.

    Attributes:
        name: in the checkpoint.
        shape, dtype: of the tensor.
        identity: equal for tensors of one checkpoint that are the same memory (tied weights).
        content: equal for tensors of the same values, by a checksum in the file, where memory is not told.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    identity: object = field(default=None, kw_only=True)
    content: object = field(default=None, kw_only=True)

    @property
    def numel(self) -> int:
        """Its elements."""
        return torch.Size(self.shape).numel()

    @property
    def saved_as(self) -> torch.dtype:
        """The dtype to which its values were rounded."""
        return self.dtype

    @property
    def in_stretches(self) -> bool:
        """Whether any stretch of its elements can be read at the cost of that stretch."""
        return True

    def read(self, into: torch.Tensor, start: int) -> None:
        """Fill `into`, flat, contiguous and of this dtype, with the elements from `start` on.

        Raises:
            WstrackError: they are not there any more.
        """
        raise NotImplementedError

    def matrix(self) -> torch.Tensor:
        """All of it, a row for each of its first dimension."""
        values = torch.empty(self.numel, dtype=self.dtype)
        self.read(values, 0)
        return values.view(self.shape[0], -1)


@dataclass(frozen=True)
class InFile(Stored):
    """A tensor whose elements lie in one stretch of a file.

    Attributes:
        file, offset: where: from this byte on.
        age: of the file when this was told, as `age_of` has it; None = it may change meanwhile.
    """

    file: Path
    offset: int
    age: tuple[int, ...] | None = None

    def read(self, into: torch.Tensor, start: int) -> None:
        """As of any."""
        room = bytes_of(into)
        at = self.offset + start * self.dtype.itemsize
        with self.opened() as handle:
            done = os.preadv(handle, [room], at)
            while done < len(room):
                got = os.preadv(handle, [room[done:]], at + done)
                if not got:
                    raise self.unreadable(None)
                done += got

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """A handle of the file, to read from.

        Opened anew each time, which takes a microsecond: a series has more files than a process may hold open.

        Raises:
            WstrackError: the file cannot be opened or read, or was changed before it was closed.
        """
        try:
            handle = os.open(self.file, os.O_RDONLY)
            try:
                yield handle
                # Asked afterwards, so that what has been read is of that age.
                if self.age not in (None, age_of(os.fstat(handle))):
                    raise WstrackError(f"{self.file} has been changed while it was read; begin anew when it is whole")
            finally:
                os.close(handle)
        except OSError as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: OSError | None) -> WstrackError:
        """What to raise when the file cannot be read, or ends too early."""
        if error is None:
            return WstrackError(f"{self.file} ends within {self.name}; it has been cut since it was opened")
        return WstrackError(f"{self.name} in {self.file} cannot be read: {error.strerror or error}")


@dataclass(frozen=True)
class InPieces(Stored):
    """A tensor cut along its first dimension: (first element, piece) in order, without gaps."""

    pieces: tuple[tuple[int, Stored], ...]

    @property
    def in_stretches(self) -> bool:
        """If its pieces can."""
        return all(piece.in_stretches for _, piece in self.pieces)

    def read(self, into: torch.Tensor, start: int) -> None:
        """As of any, from the pieces that have a part of it."""
        end = start + into.numel()
        for first, piece in self.pieces:
            begin, stop = max(start, first), min(end, first + piece.numel)
            if begin < stop:
                piece.read(into[begin - start : stop - start], begin - first)


@dataclass(frozen=True)
class InBlocks(Stored):
    """A tensor cut along any dimensions: (first index in each, block), which cover it exactly."""

    blocks: tuple[tuple[tuple[int, ...], Stored], ...]

    @property
    def in_stretches(self) -> bool:
        """It cannot: a stretch of it lies in as many places as it has rows."""
        return False

    def read(self, into: torch.Tensor, start: int) -> None:
        """As of any, at the cost of the whole."""
        whole = torch.empty(self.shape, dtype=self.dtype)
        for offsets, block in self.blocks:
            values = torch.empty(block.numel, dtype=self.dtype)
            block.read(values, 0)
            place = tuple(slice(first, first + size) for first, size in zip(offsets, block.shape, strict=True))
            whole[place] = values.view(block.shape)
        into.copy_(whole.view(-1)[start : start + into.numel()])


@dataclass(frozen=True)
class Permuted(Stored):
    """A tensor without gaps whose dimensions lie in another order, as those of images do in channels_last.

    Attributes:
        flat: its elements in the order in which they lie.
        stride: as of a torch tensor.
    """

    flat: Stored
    stride: tuple[int, ...]

    @property
    def in_stretches(self) -> bool:
        """It cannot: a stretch of it is strewn over the whole."""
        return False

    def read(self, into: torch.Tensor, start: int) -> None:
        """As of any, at the cost of the whole."""
        values = torch.empty(self.numel, dtype=self.dtype)
        self.flat.read(values, 0)
        into.copy_(values.as_strided(self.shape, self.stride).reshape(-1)[start : start + into.numel()])


@dataclass(frozen=True)
class InMemory(Stored):
    """A tensor that is had whole or not at all, by calling `load`."""

    load: Callable[[], torch.Tensor] = field(repr=False)

    @property
    def in_stretches(self) -> bool:
        """It cannot."""
        return False

    def read(self, into: torch.Tensor, start: int) -> None:
        """As of any, at the cost of the whole."""
        into.copy_(self.load().reshape(-1)[start : start + into.numel()])


@dataclass(frozen=True)
class Checkpoint:
    """One set of saved weights.

    Attributes:
        path: what people call it by.
        tensors: by name, in the order of the file.
        ordered: whether that is the order of the model; where not, it has to be told from the names.
        said: what it says itself of its step: "global_step", "epoch", by these names.
        config: of the model, as Hugging Face's config.json has it; empty if it has none.
        adapter: the config of an adapter of peft; empty if it is a model.
        tied: names that the file left out, and the name under which their tensor is kept.
        notes: what people should know of how it was read.
        others: names of tensors in it that are no weights: whole numbers, sparse, quantised.
    """

    path: Path
    tensors: Mapping[str, Stored]
    ordered: bool = False
    said: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    adapter: Mapping[str, Any] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    others: frozenset[str] = frozenset()


def age_of(about: os.stat_result) -> tuple[int, ...]:
    """What of a file changes when it is written to, or another takes its place."""
    return about.st_ino, about.st_size, about.st_mtime_ns


def stored_at(
    like: Stored, file: Path, offset: int, stride: tuple[int, ...], age: tuple[int, ...] | None = None
) -> Stored | None:
    """A tensor in a file whose elements lie from the byte `offset` on, by these strides; None if they leave gaps.

    Args:
        like: its name, shape, dtype, and what else is known of it.
        file, offset, stride: where it lies.
        age: of the file.
    """
    about = {"identity": like.identity, "content": like.content}
    laid = torch.empty_strided(like.shape, stride, device="meta")
    if laid.is_contiguous():
        return InFile(like.name, like.shape, like.dtype, file, offset, age, **about)
    if not dense(laid):
        return None
    flat = InFile(like.name, (like.numel,), like.dtype, file, offset, age)
    return Permuted(like.name, like.shape, like.dtype, flat, stride, **about)


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    view: memoryview = tensor.view(torch.uint8).numpy().data
    return view
