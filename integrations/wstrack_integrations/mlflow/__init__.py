"""MLflow: a sink that logs to the active run or one of its own, and a source for servers, databases and files.

A run that was watched has the metrics `<metric>/<layer key>` and `wstrack/interval`, tags `wstrack.*`, and among its
artifacts the folder `wstrack` with the manifest and the recording.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from wstrack_integrations.mlflow.address import is_database, is_folder, is_page
from wstrack_integrations.mlflow.attach import attach
from wstrack_integrations.mlflow.push import push
from wstrack_integrations.mlflow.sink import MlflowSink
from wstrack_integrations.mlflow.source import MlflowSource

if TYPE_CHECKING:
    from pathlib import Path

    from wstrack.runs.manifest import Manifest

__all__ = [
    "MlflowSink",
    "MlflowSource",
    "accepts",
    "attach",
    "is_active",
    "open_sink",
    "open_source",
    "push",
    "recognises",
    "recognises_url",
]


def is_active() -> bool:
    """Whether this thread has an active run; never imports MLflow to find out."""
    return _active_run() is not None


def accepts(target: object) -> bool:
    """Whether `target` is a run of MLflow: what `mlflow.start_run()` or a client's `get_run()` returns."""
    return any(kind.__name__ == "Run" and kind.__module__.startswith("mlflow.") for kind in type(target).__mro__)


def open_sink(target: object, manifest: Manifest) -> MlflowSink:
    """A sink for a run, which goes on as the user left it.

    `target` is a run or its id; None is the active run, or else a new run, which is ended with the sink.

    Raises:
        TypeError: `target` is none of these.
        ModuleNotFoundError: MLflow is not installed.
        WstrackError: the tracking store cannot be reached, has no such run, or does not let it be written to.
    """
    if target is None:
        target = _active_run()
    elif isinstance(target, str):
        return MlflowSink(target, manifest)
    elif not accepts(target):
        raise TypeError(f"to={target!r} is neither a run of MLflow nor its id; pass to='mlflow:<run id>'")
    run_id = None if target is None else target.info.run_id  # type: ignore[attr-defined]
    return MlflowSink(run_id, manifest)


def recognises(path: Path) -> bool:
    """Whether `path` is an SQLite database of MLflow, or a folder of its file store (`mlruns/`)."""
    return is_database(path) if path.is_file() else is_folder(path)


def recognises_url(url: str) -> bool:
    """Whether a page is one of MLflow's, of a run or an experiment."""
    return is_page(url)


def open_source(address: str) -> MlflowSource:
    """The runs at `<run id>`, `experiment/<name or id>`, nothing (all of them), or a path that `recognises` knows."""
    return MlflowSource(address)


def _active_run() -> object:
    mlflow = sys.modules.get("mlflow")
    return None if mlflow is None else mlflow.active_run()
