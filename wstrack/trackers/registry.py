"""How trackers are found, and what `to=` of `wstrack.watch` stands for."""

from __future__ import annotations

import importlib
import re
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, cast

from wstrack.trackers.contract import Sink, Tracker

if TYPE_CHECKING:
    from wstrack.runs.run import Manifest

__all__ = ["name_in", "open_sinks", "tracker", "trackers"]

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
