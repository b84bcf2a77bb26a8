"""What ends a training when a rule says so."""

from __future__ import annotations

from wstrack.runs.alerts import Alert

__all__ = ["StopTraining"]


class StopTraining(Exception):  # noqa: N818  as StopIteration: an end, which need be no error
    """Raised out of `optimizer.step()` by `wstrack.watch(act="stop")` when a rule has spoken.

    Attributes:
        alert: what it said.

    Example:
        >>> print(StopTraining(Alert("stopped", 120, "0.weight", 5, "has not changed in 5 samples")))
        step 120: 0.weight has not changed in 5 samples (rule 'stopped')
    """

    def __init__(self, alert: Alert) -> None:
        super().__init__(alert)
        self.alert = alert


StopTraining.__module__ = "wstrack.rules"
