"""See which layers of a network are learning: relative weight change, per layer, in your experiment tracker.

>>> import wstrack
>>> wstrack.watch(model)                            # while training; one line            # doctest: +SKIP
>>> run = wstrack.pull("tensorboard:runs/exp1")     # afterwards, from a run reference    # doctest: +SKIP
>>> wstrack.report(run).save("report.html")         # what the layers did                 # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wstrack import messages as messages  # sees to what the log of this package may hold
from wstrack._version import __version__ as __version__
from wstrack.collecting import importing
from wstrack.errors import WstrackError as WstrackError

if TYPE_CHECKING:
    from wstrack.checkpoints.diff import diff as diff
    from wstrack.measuring.change import relative_weight_change as relative_weight_change
    from wstrack.measuring.parts import Cut as Cut
    from wstrack.reporting.report import Report as Report
    from wstrack.reporting.report import report as report
    from wstrack.runs.run import Run as Run
    from wstrack.sweeps.sweep import sweep as sweep
    from wstrack.trackers.listing import pull_many as pull_many
    from wstrack.trackers.listing import runs_table as runs_table
    from wstrack.trackers.pushing import push as push
    from wstrack.trackers.references import pull as pull
    from wstrack.training.watcher import Watcher as Watcher
    from wstrack.training.watching import watch as watch

__all__ = [
    "Cut",
    "Report",
    "Run",
    "Watcher",
    "WstrackError",
    "diff",
    "pull",
    "pull_many",
    "push",
    "relative_weight_change",
    "report",
    "runs_table",
    "sweep",
    "watch",
]

# Loaded when first asked for: `import wstrack` brings in neither torch nor a tracker.
_LATER = {
    "Cut": "wstrack.measuring.parts",
    "Report": "wstrack.reporting.report",
    "Run": "wstrack.runs.run",
    "Watcher": "wstrack.training.watcher",
    "diff": "wstrack.checkpoints.diff",
    "pull": "wstrack.trackers.references",
    "pull_many": "wstrack.trackers.listing",
    "push": "wstrack.trackers.pushing",
    "relative_weight_change": "wstrack.measuring.change",
    "report": "wstrack.reporting.report",
    "runs_table": "wstrack.trackers.listing",
    "sweep": "wstrack.sweeps.sweep",
    "watch": "wstrack.training.watching",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'wstrack' has no attribute {name!r}")
    with importing():
        value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
