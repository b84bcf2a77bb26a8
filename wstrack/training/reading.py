"""What the training thread hands over of a sample."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

import torch

from wstrack.training.rates import GroupRates

__all__ = ["Reading"]


@dataclass
class Reading:
    """What the training thread knows of a sample.

    Attributes:
        sums: raw sums, (pieces, sums), on the device; see `wstrack.measuring.rows`.
        step, since: optimizer calls counted at the sample and at the snapshot that it is compared with.
        skipped, skipped_since: how many of those calls loss scaling turned into nothing, as scalars on the device;
            None if no call can have been.
        rates: what the optimizers say of their layers, those that count last.
        products: raw sums of the weights that adapters add to, (weights, sums), on the device; they are the last of the
            layers. None if there are none.
        margins: of all weights, as `wstrack.measuring.meters.margins` takes them; None if nobody asks.
        time: seconds since the epoch.
        moment: the same by a clock that nobody sets.
    """

    sums: torch.Tensor
    step: int
    since: int
    skipped: torch.Tensor | None = None
    skipped_since: torch.Tensor | None = None
    rates: Sequence[GroupRates] = ()
    products: torch.Tensor | None = None
    margins: torch.Tensor | None = None
    time: float = field(default_factory=time.time)
    moment: float = field(default_factory=monotonic)
