"""What a run lacks of a recording, logged later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wstrack.trackers.pushing import lacking
from wstrack.trackers.shared import width_of
from wstrack_integrations.wandb.online import logged_run
from wstrack_integrations.wandb.pace import Pace
from wstrack_integrations.wandb.reopen import reopened
from wstrack_integrations.wandb.sink import WandbSink

if TYPE_CHECKING:
    from wstrack.trackers.contract import Recorded

__all__ = ["push"]


def push(address: str, recorded: Recorded) -> int:
    """Log to a run that is over what it lacks of a recording, and put the recording among its files.

    A sample that was left out of the charts to stay within W&B's guidance is not lacking.

    Returns:
        How many samples were sent.

    Raises:
        ValueError: the address is none.
        WstrackError: see `reopened`.
    """
    with reopened(address) as run:
        logged = logged_run(address)
        missing = {sample.step for sample in lacking(recorded, logged)}
        width = width_of(recorded.manifest)
        pace = Pace.of(width)
        sent = [
            sample
            for sample in recorded.samples
            if pace.takes(sample.time, anyway=sample.step not in missing) and sample.step in missing
        ]
        there = set(logged.steps.tolist() if logged else ())
        thinned = len(missing - {sample.step for sample in sent} - there)
        received = logged.completeness.received if logged else 0
        session = {
            "samples": len(there | {sample.step for sample in recorded.samples}),
            "thinned": thinned,
            "values": received + (len(sent) + thinned) * width,
        }
        sink = WandbSink(run, recorded.manifest, commit=True, thin=False, session=session)
        sink.bind(recorded.folder.parent, recorded.manifest)
        sink.write(sent)
        sink.close()
    return len(sent)
