"""How raw sums are taken from the weights: one file per way, and the choice between them.

A meter keeps one snapshot of the layers that it measures. `sample()` compares the layers with the snapshot, moves the
snapshot on, and returns raw sums on the device without waiting for it: shape (layers, sums), in the order of the
parameters and of the names it was made with, float64 (float32 on devices that have no float64). A layer that cannot be
compared, because it was replaced by one of another shape, dtype or device, is NaN once and measured again from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

__all__ = ["Meter", "choose"]


class Meter(Protocol):
    """Takes raw sums (see `wstrack.metrics`) of a list of parameters. Never synchronises with the device."""

    def snapshot(self) -> None:
        """Remember the layers as they are now; the next sample measures from here."""

    def sample(self) -> torch.Tensor:
        """Raw sums of the change since the snapshot, (layers, sums); the snapshot moves to now."""

    def release(self) -> None:
        """Give the snapshot's memory back until the next `snapshot()`."""


def choose(parameters: Sequence[torch.Tensor], sums: Sequence[str]) -> Meter:
    """The meter for these parameters; its first snapshot is not taken yet."""
    from wstrack.meters.portable import PortableMeter

    return PortableMeter(parameters, sums)
