"""From the event files of a directory to a `Run`: one that wstrack logged, or series that anyone logged."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from itertools import compress, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wstrack.errors import WstrackError
from wstrack.runs.gaps import last_standing, left_out, lost_between
from wstrack.runs.listed import Listed
from wstrack.runs.manifest import Layer, Manifest, layer_table
from wstrack.runs.run import Completeness, Run
from wstrack.trackers.matching import assigned, compiled, layer_of, wanted
from wstrack.trackers.naming import layer_keys
from wstrack.trackers.shared import by_layer, left_to_recording
from wstrack_integrations.tensorboard.files import SCHEME, EventFiles, files_at, holds, load, only, places_at
from wstrack_integrations.tensorboard.points import Points, Table, joined
from wstrack_integrations.tensorboard.settings import settings_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from wstrack_integrations.tensorboard.events import EventFile

__all__ = ["CLOSED", "INTERVAL", "MANIFEST", "TensorBoardSource"]

INTERVAL = "wstrack/interval"
MANIFEST = "wstrack/manifest"
CLOSED = "wstrack/closed"
MOST = 2**53  # steps that a number may tell apart


class TensorBoardSource:
    """The runs in a directory and all below it, or in one event file; see `wstrack.trackers.Source`."""

    def __init__(self, address: str) -> None:
        self.address = address

    def references(self, *, match: str | None = None) -> list[str]:
        """A reference for each directory with a run that wstrack logged, or with tags that `match` fits, by name.

        Raises:
            ValueError: a `match` that is no regular expression with a group for the layer.
            WstrackError: there are no event files at all.
        """
        places = places_at(self.address)
        if match is None:
            return [f"{SCHEME}{place}" for place in places if holds(place, MANIFEST)]
        pattern = compiled(match)
        return [f"{SCHEME}{place}" for place in places if any(layer_of(pattern, tag) for tag in load(place).tags())]

    def listed(self, *, match: str | None = None) -> list[Listed]:
        """What is known of each of these runs: hparams, arguments, and the manifest; no series is read.

        Raises:
            ValueError, WstrackError: as `references`.
        """
        found = []
        for reference in self.references(match=match):
            place = Path(reference.removeprefix(SCHEME))
            found.append(Listed(reference, place.name, settings=settings_at(place)))
        return found

    def files(self) -> list[Path]:
        """Every event file at the address."""
        return [file for place in places_at(self.address) for file in files_at(place)]

    def read(self, reference: str, *, metrics: Sequence[str] | None = None, match: str | None = None) -> Run:
        """Every point of every event file of a run.

        The run is what `reference` itself holds, or else what the one directory below it with such series holds.
        Files are taken in the order of their first events; of points with the same tag and step the last one stands.

        With `match`, any scalars will do: the regular expression is searched in each tag; its group `layer` is the
        layer, and the metric is its group `metric` or else the tag around the layer ("value" if that is nothing).

        Raises:
            ValueError: a metric that the run does not have; a `match` that is no such expression.
            WstrackError: nothing there, no such series, or several runs.
        """
        address = reference.removeprefix(SCHEME)
        pattern = None if match is None else compiled(match)
        places = places_at(address)
        if pattern is None:
            place = only(address, [place for place in places if holds(place, MANIFEST)])
            if place is None:
                unread = "".join(load(place).unreadable() for place in places[:5])
                raise WstrackError(
                    f"{address} holds event files, but nothing that wstrack logged; to read other series pass match= "
                    f"(--match), a regular expression with a group for the layer, such as "
                    f"'grad_norm/(?P<layer>.+)'{unread}"
                )
            return _watched_run(place, load(place), metrics).with_origin(settings=settings_at(place))
        loaded: dict[Path, EventFiles] = {}
        tags: set[str] = set()
        others: set[str] = set()
        unread = ""
        for place in places:
            files = load(place).purged()
            tags.update(files.tags())
            others.update(files.others())
            unread = unread or files.unreadable()
            if any(layer_of(pattern, tag) for tag in files.tags()):
                loaded[place] = files
                if place == Path(address):
                    break
        place = only(address, list(loaded))
        if place is None:
            some = ", ".join(map(repr, sorted(tags)[:5])) or "none"
            fitting = [tag for tag in sorted(others) if layer_of(pattern, tag)]
            only_others = f"; {fitting[0]!r} fits, but holds no numbers (a histogram, an image)" if fitting else ""
            raise WstrackError(
                f"match={match!r} (--match) fits none of the {len(tags)} scalar tags in {address}: {some}{only_others}"
                f"{unread}"
            )
        run = _matched_run(place, loaded[place], pattern, metrics)
        return run.with_origin(settings=settings_at(place))


@dataclass
class _Session:
    """One event file that a sink wrote, with the manifest that holds for it."""

    file: str
    manifest: Manifest
    content: EventFile

    def layers_with(self, metric: str) -> list[str]:
        """The names of the layers that have a metric."""
        return [layer.name for layer in compress(self.manifest.layers, self.manifest.has(metric))]

    @property
    def layers(self) -> set[str]:
        """The names of its layers."""
        return {layer.name for layer in self.manifest.layers}

    @property
    def samples(self) -> Points:
        """The interval of each sample in the file."""
        found = self.content.scalars.get(INTERVAL, joined([]))
        return found.where(np.abs(found.numbers) < MOST)  # another program may log under any tag

    @property
    def written(self) -> int | None:
        """How many samples the sink wrote; None if it was not closed."""
        try:
            return int(json.loads(self.content.texts[CLOSED][-1])["samples"])
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            return None

    def lost(self, elsewhere: Sequence[NDArray[np.int64]]) -> int:
        """How many samples are not in the file, by what the sink counted and by the intervals of those that are.

        Those that stand in the gaps by now, for they were pushed, are not lost.
        """
        samples, about = self.samples, self.manifest
        gaps, left = (
            lost_between(
                samples.steps,
                samples.numbers.astype(np.int64),
                every=about.every,
                window=about.window,
                elsewhere=np.concatenate([np.empty(0, np.int64), *filling]),
            )
            for filling in ([], elsewhere)
        )
        return max((self.written or 0) - len(samples.steps), gaps) - (gaps - left)


def _sessions(files: EventFiles) -> list[_Session]:
    """The files that a sink wrote; one that lost its manifest goes by that of the file before."""
    manifest = None
    sessions = []
    for name, content in files.contents.items():
        for text in content.texts.get(MANIFEST, []):
            try:
                manifest = Manifest.from_json(text.decode())
            except ValueError as error:
                files.notes.append(f"{name}: {error}")
        if manifest is not None and (MANIFEST in content.texts or INTERVAL in content.scalars):
            sessions.append(_Session(name, manifest, content))
    return sessions


def _watched_run(place: Path, files: EventFiles, metrics: Sequence[str] | None) -> Run:
    """The run that sinks wrote: the outer join of its sessions, layers and metrics in order of first appearance."""
    sessions = _sessions(files)
    if not sessions:
        raise WstrackError(
            f"{place}: what says which layers were watched cannot be read; to read the series by their tags pass "
            f"match= (--match), such as 'rwc/(?P<layer>.+)'{files.unreadable()}"
        )
    layers: dict[str, Layer] = {}
    for session in reversed(sessions):
        layers = {layer.name: layer for layer in session.manifest.layers} | layers
    logged = dict.fromkeys(metric for session in sessions for metric in session.manifest.metrics)
    chosen = wanted(metrics, by_layer(logged))
    columns = {column: number for number, column in enumerate(product(chosen, layers))}
    pieces: list[list[Points]] = [[] for _ in columns]
    due: list[tuple[NDArray[np.int64], NDArray[np.intp]]] = []
    kept: list[Points] = []
    parts = sessions[-1].manifest.origin.get("parts")
    notes = [*files.notes, *left_to_recording(logged, parts=parts)]
    lost = 0
    given_up = 0
    for number, session in enumerate(sessions):
        names = [layer.name for layer in session.manifest.layers]
        later = ((_after(other.manifest), other.layers) for other in sessions[number + 1 :])
        samples, until = session.samples, last_standing(session.layers, later)
        stand = samples.steps <= until
        given_up += int((~stand).sum())
        keys = dict(zip(names, layer_keys(names), strict=True))
        has = [(metric, name) for metric in session.manifest.metrics for name in session.layers_with(metric)]
        here = [column for column in has if column in columns]
        for metric, name in here:
            points = session.content.scalars.get(f"{metric}/{keys[name]}")
            if points is not None:
                pieces[columns[metric, name]].append(points.where(points.steps <= until))
        kept.append(samples.where(stand))
        due.append((kept[-1].steps, np.array([columns[column] for column in here], np.intp)))
        missing = session.lost([other.samples.steps for other in sessions if other is not session])
        if session.written is None:
            notes.append(f"{session.file} was not closed (the run is going on, or was killed)")
        if missing > 0:
            lost += missing * len(here)
            total = session.written or len(samples.steps) + missing
            notes.append(f"{session.file}: {missing} of the {total} samples written are not there")
    notes += left_out(given_up)
    intervals = joined(kept)
    table = Table.of([joined(found) for found in pieces], also=intervals.steps)
    expected = table.logged.copy()
    for steps, numbers in due:
        expected[np.ix_(np.searchsorted(table.steps, steps), numbers)] = True
    width = len(layers)
    index = pd.Index(intervals.steps, name="step")
    return Run.from_values(
        replace(sessions[-1].manifest, layers=tuple(layers.values()), metrics=tuple(chosen)),
        table.steps,
        {metric: table.numbers[:, first * width : (first + 1) * width] for first, metric in enumerate(chosen)},
        completeness=Completeness(int(expected.sum()) + lost, int(table.logged.sum()), (*notes, *table.notes)),
        intervals=pd.Series(intervals.numbers, index=index, dtype="int64"),
        origin=_origin(place, files) | {"closed": sessions[-1].written is not None},
    )


def _after(manifest: Manifest) -> int | None:
    """The step that a session went on after, if it did."""
    after = manifest.origin.get("after")
    return after if isinstance(after, int) else None


def _matched_run(place: Path, files: EventFiles, pattern: re.Pattern[str], metrics: Sequence[str] | None) -> Run:
    """The run of all scalars in `files` whose tags fit."""
    tags = assigned(pattern, files.tags(), f"scalar tags in {place}")
    chosen = wanted(metrics, tags)
    series, notes, expected, received = {}, files.notes, 0, 0
    for metric in chosen:
        table = Table.of(
            [
                joined([content.scalars[tag] for content in files.contents.values() if tag in content.scalars])
                for tag in tags[metric].values()
            ]
        )
        index = pd.Index(table.steps, name="step")
        series[metric] = pd.DataFrame(table.numbers, index=index, columns=list(tags[metric]))
        expected += table.logged.size
        received += int(table.logged.sum())
        notes = [*notes, *table.notes]
    names = dict.fromkeys(layer for metric in chosen for layer in tags[metric])
    return Run(
        series=series,
        layers=layer_table([Layer(name) for name in names]),
        facts={},
        origin={"name": place.resolve().name} | _origin(place, files) | {"match": pattern.pattern},
        completeness=Completeness(expected, received, tuple(notes)),
    )


def _origin(place: Path, files: EventFiles) -> dict[str, object]:
    return {"reference": f"{SCHEME}{place}", "source": "tensorboard", "files": len(files.contents)}
