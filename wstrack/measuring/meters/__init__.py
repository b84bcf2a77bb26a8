"""How raw sums are taken from the weights: one file a backend, and the choice between them.

A `Meter` keeps a snapshot of the layers and has each measured by the backend that is right for it: `cuda` and `cpu`
read each weight once in a fused kernel, `portable` is plain torch and measures whatever they refuse. All give the same
numbers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from wstrack.measuring.meters.meter import Meter
    from wstrack.measuring.parts import Piece

__all__ = ["VARIABLE", "choose", "named"]

VARIABLE = "WSTRACK_METER"


def choose(
    parameters: Sequence[torch.Tensor],
    sums: Sequence[str],
    *,
    pieces: Mapping[int, Sequence[Piece]] | None = None,
    standings: Sequence[torch.Tensor] | None = None,
    meter: str | None = None,
    snapshot: str = "device",
) -> Meter:
    """The meter for these parameters; its first snapshot is not taken yet.

    Args:
        parameters: what to measure.
        sums: names of raw sums, see `wstrack.metrics`.
        pieces, standings: as in `Meter`.
        meter: "auto" = the fastest for each parameter; "cuda", "cpu" or "portable" = this one, and the portable one for
            what it cannot measure; None = what the environment variable WSTRACK_METER says, or else "auto".
        snapshot: "device" or "cpu", where the snapshots of parameters on accelerators are kept.

    Raises:
        ValueError: no such meter or place, or a meter that cannot measure any of these parameters here; or pieces with
            gaps, or bits that do not lie row by row, whose snapshots would be on the host.

    Example:
        >>> import torch
        >>> meter = choose([torch.ones(3)], ("abs_change", "abs_previous"), meter="portable")
        >>> meter.snapshot()
        >>> meter.sample().tolist()
        [[0.0, 3.0]]
    """
    from wstrack.measuring.meters.backends import BACKENDS
    from wstrack.measuring.meters.memory import dense, lies_as
    from wstrack.measuring.meters.meter import Meter

    if snapshot not in ("device", "cpu"):
        raise ValueError(f"snapshot={snapshot!r} must be 'device' or 'cpu'")
    only = named(meter)
    if only is not None:
        backend = BACKENDS[only]
        refused = [backend.refuses(parameter) for parameter in parameters]
        lacking = ", ".join(name for name in sums if name not in backend.TAKES)
        because = backend.unavailable() or (refused[0] if all(refused) else None)
        because = because or (f"it does not take {lacking}" if lacking else None)
        if because:
            said = f"meter={meter!r}" if meter is not None else f"{VARIABLE}={only}"
            raise ValueError(f"{said} cannot measure these layers: {because}; leave it 'auto', or see `wstrack doctor`")
    for index, some in (pieces or {}).items() if snapshot == "cpu" else ():
        weight = parameters[index].detach()
        if weight.device.type != "cpu" and not all(dense(piece.of(weight)) for piece in some):
            raise ValueError(
                f"parts: a weight of shape {tuple(weight.shape)} is cut into parts whose elements do not lie side by "
                "side, which cannot be measured with snapshot='cpu'; pass snapshot='device', or leave its parts out"
            )
    on_host = zip(parameters, standings, strict=True) if snapshot == "cpu" and standings is not None else ()
    for parameter, standing in on_host:
        if parameter.device.type != "cpu" and not lies_as(parameter.detach(), standing):
            raise ValueError(
                f"metrics: 'fingerprint' cannot be taken with snapshot='cpu' of a weight of shape "
                f"{tuple(parameter.shape)} that does not lie row by row as the whole layer does (channels last, or "
                "sharded along another dimension than the first); pass snapshot='device', or leave it out"
            )
    return Meter(parameters, sums, pieces=pieces, standings=standings, only=only, on_host=snapshot == "cpu")


def named(meter: str | None) -> str | None:
    """The one meter that the argument, or else the environment, asks for; None if it may be any.

    Raises:
        ValueError: no such meter.
    """
    from wstrack.measuring.meters.backends import BACKENDS

    name = (os.environ.get(VARIABLE) or "auto") if meter is None else meter
    if name != "auto" and name not in BACKENDS:
        said = f"meter={meter!r}" if meter is not None else f"{VARIABLE}={name}"
        raise ValueError(f"{said} must be one of auto, {', '.join(BACKENDS)}")
    return None if name == "auto" else name
