"""What `checkpoints:DIR` reads: the runs at an address, and each of them measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wstrack.runs.run import Run

__all__ = ["CheckpointSource"]

log = logging.getLogger("wstrack")

EVERY = 2.0  # seconds between two lines of progress


class CheckpointSource:
    """The checkpoints at an address: a folder, a folder of such folders, a pattern, or a list with commas."""

    expands = True  # a pattern is read here: what it matches is of one run

    def __init__(self, address: str) -> None:
        self._address = address

    def references(self, *, match: str | None = None) -> list[str]:
        """A reference for each run at the address.

        Raises:
            ValueError: `match` is given.
            WstrackError: there is no run.
        """
        from wstrack.checkpoints.folder import runs_at

        _refuse(match)
        return [f"checkpoints:{found.address}" for found in runs_at(self._address)]

    def read(
        self,
        reference: str,
        *,
        metrics: Sequence[str] | None = None,
        match: str | None = None,
        to: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Run:
        """The run, measured now.

        Args:
            reference: one of `references`.
            metrics: which; None = `rwc` and `distance`.
            match: not for checkpoints.
            to: a folder for its recording; None = it is not kept.
            progress: is told now and then how many bytes were read, and of how many; None = the log is.

        Raises:
            ValueError, WstrackError: see `wstrack.checkpoints.measuring.measure`.
        """
        from wstrack.checkpoints.folder import runs_at
        from wstrack.checkpoints.measuring import measure

        _refuse(match)
        found = runs_at(reference.removeprefix("checkpoints:"))
        if len(found) != 1:
            from wstrack.errors import WstrackError

            some = ", ".join(one.address for one in found[:5])
            raise WstrackError(f"{reference} holds {len(found)} runs ({some}); name one, or use pull_many()")
        return measure(found[0], metrics=metrics, to=to, progress=progress or _said_now_and_then())


def _said_now_and_then() -> Callable[[int, int], None]:
    """Tells the log how far it has come, every few seconds."""
    said = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= EVERY:
            said = time.monotonic()
            log.info("measuring: %.1f of %.1f GB", done / 1e9, total / 1e9)

    return tell


def _refuse(match: str | None) -> None:
    if match is not None:
        raise ValueError(f"match={match!r} (--match) is for series that a tracker has; checkpoints hold weights")
