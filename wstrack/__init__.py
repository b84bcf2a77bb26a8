"""See which layers of a network are learning: relative weight change, per layer, in your experiment tracker.

>>> import wstrack
>>> wstrack.watch(model)                            # while training; one line            # doctest: +SKIP
>>> run = wstrack.pull("tensorboard:runs/exp1")     # afterwards, from a run reference    # doctest: +SKIP
>>> wstrack.report(run).save("report.html")         # what the layers did                 # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wstrack.errors import WstrackError as WstrackError

# These modules share their names with the functions. Importing them here, before anyone can, is what makes
# `wstrack.watch`, `wstrack.report` and `wstrack.push` the functions for good; none imports anything heavy.
from wstrack.push import push as push
from wstrack.report import report as report
from wstrack.watch import Watcher as Watcher
from wstrack.watch import watch as watch

if TYPE_CHECKING:
    from wstrack.metrics import relative_weight_change as relative_weight_change
    from wstrack.references import pull as pull
    from wstrack.references import pull_many as pull_many
    from wstrack.report.result import Report as Report
    from wstrack.run import Run as Run

__version__ = "0.1.0.dev0"
__all__ = [
    "Report",
    "Run",
    "Watcher",
    "WstrackError",
    "pull",
    "pull_many",
    "push",
    "relative_weight_change",
    "report",
    "watch",
]

_LATER = {
    "Report": "wstrack.report.result",
    "Run": "wstrack.run",
    "pull": "wstrack.references",
    "pull_many": "wstrack.references",
    "relative_weight_change": "wstrack.metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'wstrack' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
