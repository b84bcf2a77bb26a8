"""Weights & Biases: a sink whose samples ride in the user's own rows, and a source for runs on disk and on a server.

A watched run holds a row of history per sample (`<metric>/<layer key>`, `wstrack/step`, `wstrack/interval`), its
manifest in its config and its files, and the recording among its files. Nothing here imports wandb before it is used;
runs on this machine are read without it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from wstrack.errors import WstrackError
from wstrack_integrations.wandb.attach import attach
from wstrack_integrations.wandb.places import local_runs
from wstrack_integrations.wandb.push import push
from wstrack_integrations.wandb.sink import WandbSink
from wstrack_integrations.wandb.source import WandbSource

if TYPE_CHECKING:
    from pathlib import Path

    from wstrack.runs.manifest import Manifest

__all__ = [
    "WandbSink",
    "WandbSource",
    "WandbTarget",
    "accepts",
    "attach",
    "is_active",
    "open_sink",
    "open_source",
    "push",
    "recognises",
    "recognises_url",
]


@dataclass(frozen=True)
class WandbTarget:
    """A run and how to write to it, as `to=` of `wstrack.watch`.

    Attributes:
        run: the run; None = the active one.
        commit: give each sample a row of its own at once, where otherwise it waits for one of the user's. For those who
            never pass `step=` or `commit=False` to `run.log`: rows of ours move W&B's step on, and W&B silently drops
            rows with a lower one.

    Example:
        >>> WandbTarget(commit=True)
        WandbTarget(run=None, commit=True)
    """

    run: Any = None
    commit: bool = False


def is_active() -> bool:
    """Whether a run is open in this process, and not a disabled one."""
    run = _active()
    return run is not None and not run.disabled


def accepts(target: object) -> bool:
    """Whether `target` is a wandb run, or a `WandbTarget`."""
    return isinstance(target, WandbTarget) or any(
        kind.__name__ == "Run" and kind.__module__ == "wandb.sdk.wandb_run" for kind in type(target).__mro__
    )


def open_sink(target: object, manifest: Manifest) -> WandbSink:
    """A sink for the active run (None), a run object or a `WandbTarget`.

    Raises:
        ModuleNotFoundError: wandb is not installed.
        TypeError: `target` is none of these; a reference, say, which does not name a run that is open.
        WstrackError: no run is active, or it is finished or disabled.
    """
    _need_wandb()
    if target is not None and not accepts(target):
        raise TypeError(
            f"to='wandb:{target}' cannot be written to; call wandb.init(...) and pass to='wandb' or to=<the run>"
        )
    chosen = target if isinstance(target, WandbTarget) else WandbTarget(target)
    run = _active() if chosen.run is None else chosen.run
    if run is None:
        raise WstrackError("no W&B run is active; call wandb.init() before wstrack.watch(), or pass to=<the run>")
    if run.disabled:
        raise WstrackError("this W&B run is disabled and keeps nothing; pass another to=")
    return WandbSink(run, manifest, commit=chosen.commit)


def recognises(path: Path) -> bool:
    """Whether `path` is a `.wandb` file, a run's folder, or a folder with such (`wandb/`, or the one that it is in)."""
    return bool(local_runs(path))


def recognises_url(url: str) -> bool:
    """Whether a page is one of W&B's: at wandb.ai, or of runs on a server of one's own."""
    host, path = urlsplit(url if "://" in url else f"https://{url}")[1:3]
    return host.lower().endswith("wandb.ai") or path.split("/")[3:4] in (["runs"], ["sweeps"], ["groups"])


def open_source(address: str) -> WandbSource:
    """The runs at `entity/project/run`, `entity/project`, a run's URL, or a path on this machine."""
    return WandbSource(address)


def _active() -> Any:
    """The active run, without importing wandb."""
    return getattr(sys.modules.get("wandb"), "run", None)


def _need_wandb() -> None:
    try:
        import wandb  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("W&B needs wandb: pip install 'wstrack[wandb]'") from error
