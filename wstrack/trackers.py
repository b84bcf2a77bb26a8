"""What a tracker must offer, how trackers are found, and what `to=` of `wstrack.watch` stands for.

A tracker is a module named by an entry point of the group `wstrack.trackers`; the name of the entry point is the
scheme of its run references. The built-in ones register exactly as a third party's would.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from wstrack.push import Recorded
    from wstrack.run import Manifest, Run

__all__ = [
    "Attachment",
    "Sample",
    "Sink",
    "Source",
    "Tracker",
    "layer_keys",
    "name_in",
    "open_sinks",
    "run_folder",
    "tracker",
    "trackers",
]

DEFAULT = "tensorboard"  # writes and reads plain files, so it is there when no other tracker is
GROUP = "wstrack.trackers"
LONGEST_KEY = 250  # MLflow refuses longer metric names
_UNSAFE = re.compile(r"[^\w\- :/]")  # what MLflow refuses in a name, and the dots that W&B's globs do not match


@dataclass(frozen=True)
class Sample:
    """One measurement of every layer at one step.

    Attributes:
        step: the optimizer step after which it was taken.
        interval: how many optimizer steps the change spans.
        time: seconds since the epoch.
        values: by metric, float64 of shape (layers,) in the manifest's order.
    """

    step: int
    interval: int
    time: float
    values: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Attachment:
    """A report, in the forms that trackers show.

    Attributes:
        page: the report as one HTML file.
        summary: what was found, as Markdown.
        table: a row a layer (the index), in model order; `cluster` is its label.
        pictures: PNG files by name, without an ending.
    """

    page: str
    summary: str
    table: pd.DataFrame
    pictures: Mapping[str, bytes]

    def files(self) -> dict[str, bytes]:
        """All of it as files, by name."""
        pictures = {f"{name}.png": picture for name, picture in self.pictures.items()}
        texts = {"report.html": self.page, "report.md": self.summary, "layers.csv": self.table.to_csv()}
        # A name may hold half a surrogate pair, which UTF-8 cannot.
        return {**{name: text.encode(errors="backslashreplace") for name, text in texts.items()}, **pictures}


@runtime_checkable
class Sink(Protocol):
    """The write half of a tracker. Called from one background thread of its own, never from the training thread."""

    name: str
    """What people call it, in messages."""

    reference: str | None
    """When opened: how the run is named in a run reference; None if it cannot be read back."""

    recording_directory: Path | None
    """When opened: where this tracker's run keeps local files, for the recording to lie beside them; None if nowhere.
    `watch` then sets it to the folder in which the recording (`wstrack.recording.FOLDER`) really lies, for a sink that
    uploads it; at `close()` the recording is finished."""

    def write(self, samples: Sequence[Sample]) -> None:
        """Take over these samples, in the order of their steps, and make them durable before returning."""

    def close(self) -> None:
        """Release what was opened here; what belongs to the user stays open."""


class Source(Protocol):
    """The read half of a tracker, opened at one address."""

    def references(self, *, match: str | None = None) -> list[str]:
        """A full reference for every run of wstrack at the address, or that has what `match` fits; in stable order."""

    def read(self, reference: str, *, metrics: Sequence[str] | None = None, match: str | None = None) -> Run:
        """The whole run, each point that the tracker has; `completeness` says what is missing."""


class Tracker(Protocol):
    """What the module named by an entry point must offer. Importing it must not import the tracker itself."""

    def is_active(self) -> bool:
        """Whether the user has a run of this tracker open in this process."""

    def accepts(self, target: object) -> bool:
        """Whether `target` is one of this tracker's own run or writer objects."""

    def open_sink(self, target: object, manifest: Manifest) -> Sink:
        """A sink for `target`: None (the active run, or a new one), an address, or an object that it accepts."""

    def recognises(self, path: Path) -> bool:
        """Whether the file or folder holds runs of this tracker."""

    def open_source(self, address: str) -> Source:
        """The source at an address: what follows the scheme in a run reference."""

    def push(self, address: str, recorded: Recorded) -> int:
        """Send to the run at an address what it lacks of a recording, nothing twice; how many samples were sent."""

    def attach(self, address: str, attachment: Attachment) -> str:
        """Put a report on the run at an address, in place of one put there before; where to look at it, for people."""


@cache
def trackers() -> dict[str, str]:
    """The installed trackers: name -> module, in the order of their names."""
    return {entry.name: entry.value for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def tracker(name: str) -> Tracker:
    """The tracker of that name.

    Raises:
        ValueError: there is no such tracker.
    """
    if name not in trackers():
        raise ValueError(f"unknown tracker {name!r}; installed: {', '.join(trackers()) or 'none'}")
    return cast(Tracker, importlib.import_module(trackers()[name]))


def layer_keys(layers: Sequence[str]) -> list[str]:
    """A name for each layer that every tracker accepts, distinct and in the same order.

    Dots become slashes; what any tracker refuses becomes an underscore; names that collide or are too long get a
    short hash of the true name. The manifest carries the true names.

    Example:
        >>> layer_keys(["layer1.0.conv1.weight", "w[0]", "w(0)"])
        ['layer1/0/conv1/weight', 'w_0_', 'w_0_-47f335']
    """
    keys: list[str] = []
    taken: set[str] = set()
    for layer in layers:
        key = re.sub("/+", "/", _UNSAFE.sub("_", layer.replace(".", "/"))).strip("/ ") or "_"
        room = LONGEST_KEY - 24  # for "<metric>/" before the key
        short, digest = key[: room - 7], hashlib.sha256(layer.encode(errors="surrogatepass")).hexdigest()
        length = 6
        while key in taken or len(key) > room:
            key, length = f"{short[: room - 1 - length]}-{digest[:length]}", length + 1
        taken.add(key)
        keys.append(key)
    return keys


def open_sinks(to: object, manifest: Manifest) -> list[Sink]:
    """The sinks that `to` stands for, opened; see `wstrack.watch`.

    Raises:
        ValueError: an unknown tracker.
        TypeError: an object that no tracker knows.
        WstrackError: a tracker cannot be opened; those opened before it are closed again.
    """
    if to is None:
        to = [name for name in trackers() if tracker(name).is_active()] or [DEFAULT]
    sinks: list[Sink] = []
    try:
        for target in to if isinstance(to, list | tuple) else [to]:
            sinks.append(_open_sink(target, manifest))  # noqa: PERF401  what is open already must be closed on error
    except BaseException:
        for sink in sinks:
            sink.close()
        raise
    if not sinks:
        raise ValueError("to is an empty list; leave it out to use the trackers that are active")
    return sinks


def run_folder(name: str) -> Path:
    """A relative folder for a run's name, which is any text and must not lead anywhere else.

    Example:
        >>> run_folder("vision/resnet: 3").as_posix(), run_folder("../../etc").as_posix()
        ('vision/resnet_ 3', 'etc')
    """
    parts = [re.sub(r"[^\w\-. ]", "_", part)[:120] for part in name.split("/")]
    return Path(*([part for part in parts if part.strip(". ")] or ["run"]))


def name_in(to: object) -> str | None:
    """The run's name in a folder or a reference given as `to`: its last part."""
    if isinstance(to, Path) or (isinstance(to, str) and to not in trackers()):
        return re.split(r"[:/\\]", str(to).rstrip("/\\"))[-1] or None
    return None


def _open_sink(target: object, manifest: Manifest) -> Sink:
    if isinstance(target, str):
        scheme, colon, address = target.partition(":")
        if not target.strip():
            raise ValueError("to is empty; leave it out, or name a tracker or a folder")
        if target in trackers():
            return tracker(target).open_sink(None, manifest)
        if colon and scheme in trackers():
            return tracker(scheme).open_sink(address, manifest)
        if not _looks_like_path(target) or address.startswith("//"):
            there = ", ".join(trackers())
            raise ValueError(
                f"to={target!r} is no tracker (installed: {there}) and no folder; for a new one write to='./{target}'"
            )
        target = Path(target)
    if isinstance(target, Path):
        return tracker(DEFAULT).open_sink(target.expanduser(), manifest)
    for name in trackers():
        if tracker(name).accepts(target):
            return tracker(name).open_sink(target, manifest)
    if isinstance(target, Sink):
        return target
    raise TypeError(
        f"to: no installed tracker ({', '.join(trackers())}) knows an object of type {type(target).__name__}; "
        "pass a tracker's name, a folder, its run or writer object, or a Sink"
    )


def _looks_like_path(text: str) -> bool:
    return any(mark in text for mark in ("/", "\\")) or text.startswith(".") or Path(text).exists()
