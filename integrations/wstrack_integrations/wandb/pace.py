"""Which samples go into W&B's charts, so that no minute gets more than W&B wants."""

from __future__ import annotations

from collections import deque

__all__ = ["ROWS_PER_MINUTE", "VALUES_PER_MINUTE", "Pace"]

# W&B's guidance for one run: docs.wandb.ai/models/track/limits
ROWS_PER_MINUTE, VALUES_PER_MINUTE = 1_000, 100_000


class Pace:
    """Thins samples to W&B's guidance.

    Args:
        share: what one sample takes of a minute's allowance.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._minute: deque[float] = deque()
        self._steady = False

    @classmethod
    def of(cls, width: int) -> Pace:
        """The pace for samples of so many values, which become a row with two more."""
        return cls(max(1 / ROWS_PER_MINUTE, (width + 2) / VALUES_PER_MINUTE))

    def takes(self, time: float, *, anyway: bool = False) -> bool:
        """Whether the sample taken at this time, in seconds, is one of them; one that is there already is `anyway`."""
        while self._minute and self._minute[0] <= time - max(60.0, 60.0 * self._share):
            self._minute.popleft()
        # Once the allowance was used up, samples are spread evenly.
        early = self._steady and bool(self._minute) and time - self._minute[-1] < 60.0 * self._share
        if not anyway and (early or (self._minute and (len(self._minute) + 1) * self._share > 1.0)):
            self._steady = True
            return False
        self._minute.append(time)
        return True
