"""How trackers are found, and what `to=` of `wstrack.watch` stands for."""

from __future__ import annotations

import importlib
import re
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, cast

from wstrack.trackers.contract import Sink, Tracker, WritingTracker

if TYPE_CHECKING:
    from wstrack.runs.manifest import Manifest

__all__ = ["active", "is_folder", "name_in", "open_sinks", "tracker", "trackers", "writer", "writers"]

DEFAULT = "tensorboard"  # writes and reads plain files, so it is there when no other tracker is
GROUP = "wstrack.trackers"


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


def writer(name: str) -> WritingTracker:
    """The tracker of that name, to log to.

    Raises:
        ValueError: there is no such tracker, or it only reads.
    """
    module = tracker(name)
    if not hasattr(module, "open_sink"):
        raise ValueError(
            f"{name!r} only reads: nothing can be logged, pushed or attached to it; name one of: {', '.join(writers())}"
        )
    return cast(WritingTracker, module)


def writers() -> list[str]:
    """The installed trackers that can be logged to."""
    return [name for name in trackers() if hasattr(tracker(name), "open_sink")]


def active() -> list[str]:
    """The trackers of which a run is open in this process."""
    return [name for name in writers() if writer(name).is_active()]


def open_sinks(to: object, manifest: Manifest) -> list[Sink]:
    """The sinks that `to` stands for, opened; see `wstrack.watch`.

    Raises:
        ValueError: an unknown tracker.
        TypeError: an object that no tracker knows.
        WstrackError: a tracker cannot be opened; those opened before it are closed again.
    """
    if to is None:
        to = active() or [DEFAULT]
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


def is_folder(to: object) -> bool:
    """Whether `to` of `wstrack.watch` names a folder."""
    if not isinstance(to, str) or to in trackers():
        return isinstance(to, Path)
    scheme, colon, _ = to.partition(":")
    return not colon or scheme == DEFAULT or scheme not in trackers()


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
            return writer(target).open_sink(None, manifest)
        if colon and scheme in trackers():
            return writer(scheme).open_sink(address, manifest)
        if not _looks_like_path(target) or address.startswith("//"):
            there = ", ".join(trackers())
            raise ValueError(
                f"to={target!r} is no tracker (installed: {there}) and no folder; for a new one write to='./{target}'"
            )
        target = Path(target)
    if isinstance(target, Path):
        return writer(DEFAULT).open_sink(target.expanduser(), manifest)
    for name in writers():
        if writer(name).accepts(target):
            return writer(name).open_sink(target, manifest)
    if isinstance(target, Sink):
        return target
    raise TypeError(
        f"to: no installed tracker ({', '.join(trackers())}) knows an object of type {type(target).__name__}; "
        "pass a tracker's name, a folder, its run or writer object, or a Sink"
    )


def _looks_like_path(text: str) -> bool:
    return any(mark in text for mark in ("/", "\\")) or text.startswith(".") or Path(text).exists()
