"""What a run lacks of a recording, logged later."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from wstrack.trackers.pushing import lacking
from wstrack_integrations.mlflow.address import Address
from wstrack_integrations.mlflow.sink import MlflowSink
from wstrack_integrations.mlflow.source import METRICS, logged_run, open_store, the_run

if TYPE_CHECKING:
    from wstrack.trackers.contract import Recorded

__all__ = ["push"]


def push(address: str, recorded: Recorded) -> int:
    """Log to a run what it lacks of a recording, and put the recording among its artifacts; how many samples it lacked.

    Raises:
        ValueError: a malformed address.
        WstrackError: there is no such run, or MLflow cannot be reached or refuses.
    """
    place = Address.of(address)
    store = open_store(place.uri)
    run = the_run(place, store)
    logged = logged_run(store, run, place.uri) if METRICS in run.tags else None
    missing = lacking(recorded, logged)
    total = {sample.step for sample in recorded.samples} | set(logged.steps.tolist() if logged else ())
    before = len(total) - len(missing)
    sink = MlflowSink(run.id, recorded.manifest, uri=place.uri, before=before, timeout=math.inf)
    sink.bind(recorded.folder.parent, recorded.manifest)
    sink.write(missing)
    sink.close()
    return len(missing)
