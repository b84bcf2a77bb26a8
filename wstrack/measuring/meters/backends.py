"""What can take raw sums, fastest first, and which of it is right for a weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from wstrack.measuring.meters import cpu, cuda, portable
from wstrack.measuring.meters.memory import Pair, dense

__all__ = ["BACKENDS", "PLAIN", "Backend", "backend_for"]


class Backend(Protocol):
    """A module that can take raw sums."""

    TAKES: frozenset[str]
    """Which of `wstrack.metrics.SUMS` it takes; layers of which others are wanted go to the portable one."""

    def unavailable(self) -> str | None:
        """Why nothing can be measured by it on this machine; None if it can."""

    def refuses(self, weight: torch.Tensor) -> str | None:
        """Why it cannot measure a weight; None if it can."""

    def plan(self, pairs: Sequence[Pair], sums: Sequence[str]) -> Callable[[], torch.Tensor]:
        """A function that takes the raw sums of layers on one device, (layers, sums), and moves their snapshots on."""


# Only these surely have the memory that their address points to: a class of its own may wrap other tensors.
PLAIN = (torch.Tensor, torch.nn.Parameter)

BACKENDS: dict[str, Backend] = {"cuda": cuda, "cpu": cpu, "portable": portable}


def backend_for(weight: torch.Tensor, sums: Sequence[str], only: str | None = None) -> tuple[str, str]:
    """The name of the fastest backend that is right for a weight, and why none faster is.

    Args:
        weight: on any device, of any dtype.
        sums: the raw sums that are wanted of it.
        only: the one backend to consider besides "portable"; None = all.

    Example:
        >>> backend_for(torch.ones(4, dtype=torch.complex64), ("abs_change",))
        ('portable', 'cpu: its dtype is torch.complex64')
    """
    why: list[str] = []
    for name, backend in BACKENDS.items():
        if only not in (None, name) and name != "portable":
            continue
        because = backend.refuses(weight)
        if because is None and name != "portable" and type(weight) not in PLAIN:
            because = f"it is a {type(weight).__name__}, which may have no memory of its own"
        if because is None and name != "portable" and not dense(weight):
            because = "it has gaps in memory"
        lacking = [wanted for wanted in sums if wanted not in backend.TAKES]
        if because is None and lacking:
            because = f"it does not take {', '.join(lacking)}"
        because = because or backend.unavailable()
        if because is None:
            return name, "; ".join(why)
        if name == weight.device.type:
            why.append(f"{name}: {because}")
    raise AssertionError("the portable meter refuses nothing")
