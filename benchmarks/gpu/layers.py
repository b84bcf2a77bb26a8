"""Layers that a kernel may get wrong: of every size around its blocks, begun anywhere, with gaps, cut into parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from wstrack.measuring.meters import kernels
from wstrack.measuring.meters.memory import row_major
from wstrack.measuring.parts import Piece

__all__ = ["Case", "cases", "of_kernel"]

Make = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A layer to measure.

    Attributes:
        name: for people.
        weight: on the device.
        standing: where its elements stand in the whole layer, on the meta device.
        pieces: what of it is measured, each by itself; none = all of it.
    """

    name: str
    weight: torch.Tensor
    standing: torch.Tensor
    pieces: tuple[Piece, ...] = field(default=())


BEYOND = (-1, 0, 1)  # of a block, which has 1024 elements or 2048, and of a chunk
VIEWS: dict[str, Callable[[Make], torch.Tensor]] = {
    "0-d": lambda make: make(),
    "empty": lambda make: make(0, 3),
    "matrix": lambda make: make(150, 181),
    "transposed": lambda make: make(181, 150).t(),
    "channels last": lambda make: make(8, 6, 30, 12).contiguous(memory_format=torch.channels_last),
    "every other row": lambda make: make(60, 301)[::2],
    "every other element": lambda make: make(3, 2, 4_011)[:, :, ::2],
    "middle rows of another": lambda make: make(100, 200)[7:31],
    "middle columns of another": lambda make: make(70, 200)[:, 7:131],
    **{
        f"begins {skip} elements behind": lambda make, skip=skip: make(kernels.CHUNK + 50 + skip)[skip:]  # type: ignore[misc]
        for skip in (1, 2, 3, 7, 8)
    },
}
CUTS: dict[str, tuple[Callable[[Make], torch.Tensor], tuple[Piece, ...]]] = {
    "parts of rows": (lambda make: make(96, 67), (Piece(0, 0, 32), Piece(0, 32, 32), Piece(0, 64, 32))),
    "parts of columns": (lambda make: make(67, 96), (Piece(1, 0, 33), Piece(1, 33, 31), Piece(1, 64, 32))),
    "parts that come again": (lambda make: make(96, 65), (Piece(0, 0, 8, 24, 4), Piece(0, 8, 16, 24, 4))),
    "parts of wide rows": (
        lambda make: make(2, 3 * kernels.CHUNK),
        (Piece(1, 0, kernels.CHUNK + 9), Piece(1, kernels.CHUNK + 9, kernels.CHUNK)),
    ),
}


def cases(make: Make, *, dry: bool) -> list[Case]:
    """Everything, of what `make(*shape)` gives; dry, without what takes an interpreter minutes."""
    sizes = {1, 2, 15, 16, *(size + more for size in (1024, 2048, kernels.CHUNK) for more in BEYOND)}
    sizes |= {3 * kernels.CHUNK + 5} | (set() if dry else {kernels.AT_ONCE * kernels.CHUNK + 3})
    found = [Case(f"{size} elements", made := make(size), row_major(made.shape)) for size in sorted(sizes)]
    found += [Case(name, made := view(make), row_major(made.shape)) for name, view in VIEWS.items()]
    found += [Case(name, made := of(make), row_major(made.shape), pieces) for name, (of, pieces) in CUTS.items()]
    # As a shard holds them: rows, or columns, of a whole layer.
    found.append(Case("rows of a layer", make(11, 130), row_major((40, 130))[20:31]))
    found.append(Case("columns of a layer", make(40, 13), row_major((40, 130))[:, 70:83]))
    found.append(
        Case("columns that were copied out of a layer, transposed", make(13, 40).t(), row_major((40, 130))[:, :13])
    )
    return found


def of_kernel(make: Make) -> list[Case]:
    """A few, of the least size at which every path of the kernel is walked."""
    names = {"0-d", "transposed", "begins 1 elements behind", "begins 8 elements behind"}
    found = [
        Case(f"{size} elements", made := make(size), row_major(made.shape)) for size in (1, 2049, kernels.CHUNK + 1)
    ]
    found += [Case(name, made := VIEWS[name](make), row_major(made.shape)) for name in VIEWS if name in names]
    return found + [
        Case(name, made := of(make), row_major(made.shape), pieces)
        for name, (of, pieces) in CUTS.items()
        if name in ("parts of columns", "parts that come again")
    ]
