"""What wstrack says of itself in a run's config: the manifest, and for each session how much there should be."""

from __future__ import annotations

import contextlib
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wstrack.runs.listed import Setting, flat
from wstrack.runs.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PLACES", "About", "Session", "about_in", "samples_in", "sessions_in", "settings_in"]

PLACES = ("wstrack", "wstrack-run")
"""Where it may stand: a config may have a key of the user's that is called `wstrack`."""


@dataclass(frozen=True)
class Session:
    """What a sink said of its samples.

    Attributes:
        samples, thinned, values: how many it took, how many of those were thinned out of the charts, and how many
            values all of them had; None while it was not closed.
        after, row: the step from which training went on, and W&B's own step then: rows before that of later steps are
            of a branch that was given up. None where that did not happen.
    """

    samples: int | None = None
    thinned: int = 0
    values: int = 0
    after: int | None = None
    row: int | None = None


def about_in(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What sinks left in a run's config; None if that is nothing."""
    for place in PLACES:
        about = config.get(place)
        if isinstance(about, dict) and isinstance(about.get("manifest"), str):
            return about
    return None


def sessions_in(about: Mapping[str, Any]) -> list[Session]:
    """What each session said.

    Raises:
        ValueError: it is not what a sink writes.
    """
    try:
        return [Session(**{key: int(count) for key, count in each.items()}) for each in about["sessions"]]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"what it says of its sessions cannot be read ({error!r})") from error


def settings_in(config: Mapping[str, Any]) -> dict[str, Setting]:
    """What a user put into a run's config, and the facts given to `watch`."""
    about = about_in(config)
    own = {key: value for key, value in config.items() if key != "_wandb" and value is not about}
    facts: Mapping[str, Any] = {}
    with contextlib.suppress(ValueError):
        facts = {} if about is None else Manifest.from_json(about["manifest"]).facts
    return {**flat(own), **flat(facts)}


def samples_in(config: Mapping[str, Any]) -> int | None:
    """How many samples all sessions together have; None if one was not closed, or that cannot be read."""
    about = about_in(config)
    try:
        counts = [] if about is None else [session.samples for session in sessions_in(about)]
    except ValueError:
        return None
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


_of_run: weakref.WeakKeyDictionary[Any, About] = weakref.WeakKeyDictionary()


class About:
    """The same for all sinks of a run, which may watch several models.

    Use `of`; it finds the one of the run.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        found = about_in(config) or {}
        taken = [place for place in PLACES if place in config and config[place] is not found]
        self._place = next((place for place in PLACES if place not in taken), PLACES[-1])
        try:
            self._manifest: Manifest | None = Manifest.from_json(found["manifest"]) if found else None
        except ValueError:
            self._manifest = None
        before = found.get("sessions")
        self._sessions: list[Any] = list(before) if isinstance(before, list) else []

    @classmethod
    def of(cls, run: Any) -> About:
        """The one of a run."""
        if run not in _of_run:
            _of_run[run] = cls(dict(run.config))
        return _of_run[run]

    def begin(self, run: Any, manifest: Manifest, *, alone: bool) -> tuple[Manifest, int]:
        """Say that a session of these layers begins; the manifest of all sessions so far, and the number of this one.

        `alone` makes it the only one, which stands for all there is.
        """
        after = manifest.origin.get("after")
        begun = {} if after is None or alone or run.offline else {"after": after, "row": run.step}
        old = self._manifest or manifest
        layers = {layer.name: layer for layer in (*old.layers, *manifest.layers)}
        metrics = dict.fromkeys((*old.metrics, *manifest.metrics))
        self._manifest = replace(manifest, layers=tuple(layers.values()), metrics=tuple(metrics))
        self._sessions = [begun] if alone else [*self._sessions, begun]
        self._tell(run)
        return self._manifest, len(self._sessions) - 1

    def complete(self, run: Any, number: int, counted: Mapping[str, int]) -> None:
        """Say what a session came to."""
        self._sessions[number] = {**self._sessions[number], **counted}
        self._tell(run)

    def _tell(self, run: Any) -> None:
        assert self._manifest is not None
        about = {"manifest": self._manifest.to_json(), "sessions": list(self._sessions)}
        run.config.update({self._place: about}, allow_val_change=True)
