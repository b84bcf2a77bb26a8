"""Where the event files of a run lie, and what is in them together."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wstrack.errors import WstrackError
from wstrack.runs.files import looks_like
from wstrack_integrations.tensorboard.events import EventFile, parse_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["SCHEME", "EventFiles", "event_directories", "files_at", "holds", "load", "only", "places_at"]

SCHEME = "tensorboard:"
"""How a run reference of TensorBoard starts."""


def event_directories(top: Path) -> Iterator[Path]:
    """Each directory, `top` or below it, with event files: by TensorBoard's rule, with "tfevents" in the name."""
    seen = set()
    for root, folders, names in os.walk(top, followlinks=True):
        real = Path(root).resolve()
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        if any("tfevents" in name for name in names):
            yield Path(root)


def places_at(address: str) -> list[Path]:
    """The event file `address`, or each directory with event files, `address` or below it, by name.

    Raises:
        WstrackError: there are none.
    """
    top = Path(address)
    if top.is_file():
        return [top]
    if not top.is_dir():
        raise WstrackError(f"there is no directory or event file {address!r}")
    places = sorted(event_directories(top))
    if not places:
        raise WstrackError(f"no event files (with 'tfevents' in the name) in {address!r} or below")
    return places


def only(address: str, places: list[Path]) -> Path | None:
    """The one of `places` that `address` means; None if there is none to choose from.

    Raises:
        WstrackError: it may mean several.
    """
    if len(places) > 1 and Path(address) not in places:
        some = ", ".join(f"{SCHEME}{place}" for place in places[:5]) + (", ..." if len(places) > 5 else "")
        raise WstrackError(f"{address} holds {len(places)} runs ({some}); name one of them, or use pull_many for all")
    return places[0] if places else None  # they are sorted: `address` itself comes before what is below it


def files_at(place: Path) -> list[Path]:
    """The event file at a place, or those right in it, by name."""
    return [place] if place.is_file() else sorted(path for path in place.iterdir() if "tfevents" in path.name)


def holds(place: Path, text: str) -> bool:
    """Whether one of the event files at `place` has `text` in its first bytes; the rest is not read."""
    for path in files_at(place):
        try:
            with path.open("rb") as file:
                if text.encode() in file.read(4096):
                    return True
        except OSError:
            continue  # load() says so
    return False


@dataclass
class EventFiles:
    """The event files of one run, in the order of their first events, by name; and what could not be read."""

    contents: dict[str, EventFile]
    notes: list[str]

    def tags(self) -> Iterable[str]:
        """Every tag with numbers, in order of first appearance."""
        return dict.fromkeys(tag for content in self.contents.values() for tag in content.scalars)

    def others(self) -> set[str]:
        """Every tag with something else."""
        return {tag for content in self.contents.values() for tag in content.others}

    def unreadable(self) -> str:
        """What could not be read, for a message."""
        return "".join(f"; {note}" for note in self.notes[:5]) + ("; ..." if len(self.notes) > 5 else "")

    def purged(self) -> EventFiles:
        """Without what counts no more since logging began anew in a later file; see `EventFile.starts`."""
        contents = dict(self.contents)
        count = sum(content.purged for content in contents.values())
        names = list(contents)
        for place, name in enumerate(names):
            for step in contents[name].starts:
                for earlier in names[:place]:
                    scalars = {}
                    for tag, points in contents[earlier].scalars.items():
                        stand = points.steps < step
                        count += int((~stand).sum())
                        scalars[tag] = points.where(stand)
                    contents[earlier] = replace(contents[earlier], scalars=scalars)
        if not count:
            return self
        note = f"{count} values are left out: logging began anew at an earlier step (purge_step)"
        return EventFiles(contents, [*self.notes, note])


def load(place: Path) -> EventFiles:
    """All event files at `place`."""
    contents, notes = {}, []
    for path in files_at(place):
        try:
            data = path.read_bytes()
        except OSError as error:
            notes.append(f"{path.name}: cannot be read ({error.strerror})")
            continue
        if said := looks_like(data):
            notes.append(f"{path.name}: cannot be read: {said}")
        else:
            contents[path.name] = parse_events(data)
    for name, content in contents.items():
        notes.extend(f"{name}: {note}" for note in content.notes)
    return EventFiles(dict(sorted(contents.items(), key=lambda item: (item[1].time, item[0]))), notes)
