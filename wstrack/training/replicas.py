"""Whether processes that each hold the whole model hold the same bits, and who says so when they do not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wstrack.metrics import METRICS
from wstrack.runs.manifest import Layer

__all__ = ["Adder", "Replicas"]

log = logging.getLogger("wstrack")


class Adder(Protocol):
    """Adds up the sums of several ranks; `wstrack.training.ranks.Ranks` does."""

    rank: int
    """This one's."""

    def total(
        self,
        step: int,
        interval: int,
        moment: float,
        sums: NDArray[np.float64],
        *,
        of_all: int = 0,
        also: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """The sums of all layers at a sample, (layers, sums), of what each rank has of them."""

    def apart(self, step: int, bits: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 for each layer that does not hold the bits that it holds in the first rank; NaN where nobody knows."""

    def close(self) -> None:
        """Let go of the connections."""


class Replicas:
    """Compares the layers of this process with those of the first one, and says once that they are no longer alike.

    Args:
        name: of the run.
        sums: names of the columns of a sample.
    """

    def __init__(self, name: str, sums: Sequence[str]) -> None:
        self._name = name
        self._bits = [sums.index(bits) for bits in METRICS["fingerprint"].sums]
        self._said = False

    def compared(
        self, step: int, sums: NDArray[np.float64], layers: Sequence[Layer], ranks: Adder
    ) -> NDArray[np.float64]:
        """The sums of the layers here with one more: 1 for each that does not hold the bits of the first process.

        Raises:
            WstrackError: a rank came no more.
        """
        apart = ranks.apart(step, sums[:, self._bits])
        if (apart > 0).any() and not self._said:
            self._said = True
            names = _names(layers, apart > 0)
            log.error(
                "%s: at step %d this process (rank %d) does not hold the bits that the first one holds of %d of its %d "
                "layers: %s (said once)",
                self._name, step, ranks.rank, len(names), len(apart), ", ".join(names[:8]),
            )  # fmt: skip
        return np.hstack([sums, apart[:, None]])

    def say(self, step: int, processes: NDArray[np.float64], layers: Sequence[Layer]) -> None:
        """Say once, where the run is recorded, in how many processes a layer is not that of the first, if in any."""
        if self._said or not (processes > 0).any():
            return
        self._said = True
        names = _names(layers, processes > 0)
        log.error(
            "%s: at step %d not all processes hold the same bits: at least %d not those of the first, of %d layers: %s "
            "(which ones, they say themselves; said once)",
            self._name, step, int(np.nanmax(processes)), len(names), ", ".join(names[:8]),
        )  # fmt: skip


def _names(layers: Sequence[Layer], those: NDArray[np.bool_]) -> list[str]:
    return [layer.name for layer, strayed in zip(layers, those, strict=False) if strayed]
