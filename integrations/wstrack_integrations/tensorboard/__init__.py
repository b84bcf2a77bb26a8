"""TensorBoard: a sink that writes one event per sample, and a source that reads event files whoever wrote them.

A run in TensorBoard is a directory. Beside the scalars `<metric>/<layer key>` and `wstrack/interval`, the event file
of a watched run holds its manifest, a custom-scalars layout and, once closed, how many samples it should hold.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from wstrack.trackers.naming import run_home
from wstrack.trackers.pushing import lacking
from wstrack_integrations.tensorboard.attach import attach
from wstrack_integrations.tensorboard.files import event_directories, holds
from wstrack_integrations.tensorboard.sink import TensorBoardSink
from wstrack_integrations.tensorboard.source import MANIFEST, TensorBoardSource

if TYPE_CHECKING:
    from wstrack.runs.manifest import Manifest
    from wstrack.trackers.contract import Recorded

__all__ = [
    "TensorBoardSink",
    "TensorBoardSource",
    "accepts",
    "attach",
    "is_active",
    "open_sink",
    "open_source",
    "push",
    "recognises",
]


def is_active() -> bool:
    """Never: TensorBoard has no run that is active in a process."""
    return False


def accepts(target: object) -> bool:
    """Whether `target` is a SummaryWriter, of torch or of tensorboardX."""
    return any(
        kind.__name__ == "SummaryWriter" and kind.__module__.split(".")[0] in {"torch", "tensorboardX"}
        for kind in type(target).__mro__
    )


def open_sink(target: object, manifest: Manifest) -> TensorBoardSink:
    """A sink that writes a new event file into a directory, made if need be.

    `target` is the directory; None is `runs/<the run's name>`; for a SummaryWriter it is `wstrack` in its directory,
    so that the user's own files stay as they are.

    Raises:
        TypeError: `target` is none of these.
        ValueError: it is no directory on this machine.
        WstrackError: the directory cannot be made or written to.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from wstrack.runs.manifest import Layer, Manifest
        >>> from wstrack.trackers.contract import Sample
        >>> directory = tempfile.mkdtemp()
        >>> sink = open_sink(directory, Manifest("demo", (Layer("fc.weight"),), ("rwc",), every=1))
        >>> sink.write([Sample(step=1, interval=1, time=0.0, values={"rwc": np.array([0.25])})])
        >>> sink.close()
        >>> open_source(directory).read(directory).series["rwc"]
              fc.weight
        step
        1          0.25
    """
    if target is None:
        return TensorBoardSink(run_home(manifest.name), manifest)
    if isinstance(target, (str, Path)):
        return TensorBoardSink(_here(str(target), "to"), manifest)
    if accepts(target):
        directory = getattr(target, "log_dir", None) or getattr(target, "logdir", None)  # torch; tensorboardX
        return TensorBoardSink(Path(str(directory)) / "wstrack", manifest)
    raise TypeError(f"to={target!r} is neither a directory nor a SummaryWriter; pass to= a path or a writer")


def push(address: str, recorded: Recorded) -> int:
    """Write what a directory lacks of a recording into a new event file there; how many samples it lacked.

    TensorBoard takes a step back for a restart and hides what came after it. So from the first sample that is lacking,
    all are written; of those that were there already, a reader takes the later.

    Raises:
        WstrackError: the directory cannot be read or written to.
    """
    place = Path(address)
    known = any(holds(each, MANIFEST) for each in event_directories(place))
    missing = lacking(recorded, open_source(address).read(address) if known else None)
    if missing:
        sink = open_sink(place, recorded.manifest)
        sink.write([sample for sample in recorded.samples if sample.step >= missing[0].step])
        sink.close()
    return len(missing)


def recognises(path: Path) -> bool:
    """Whether `path` is an event file, or a directory with event files in it or below."""
    return "tfevents" in path.name if path.is_file() else next(event_directories(path), None) is not None


def open_source(address: str) -> TensorBoardSource:
    """The runs of a directory and of all below it, or of one event file.

    Raises:
        ValueError: the address names none of this machine.
    """
    return TensorBoardSource(str(_here(address, "reference")))


def _here(address: str, argument: str) -> Path:
    """The path that an address is; it may stand for the user's home, but not for what lies elsewhere."""
    if not address.strip():
        raise ValueError(
            f"{argument}='tensorboard:' names no directory; write tensorboard:runs/exp1, or tensorboard:. for this one"
        )
    if re.match(r"[a-z][a-z0-9+.-]+:/", address):
        raise ValueError(
            f"{argument}={address!r} is no path on this machine: event files in a store elsewhere must be copied here "
            "first, or the store mounted"
        )
    return Path(address).expanduser()
