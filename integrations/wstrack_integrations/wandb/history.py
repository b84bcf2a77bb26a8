"""A run's rows of history as columns, and the `Run` that they hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from wstrack.errors import WstrackError
from wstrack.runs.gaps import left_out
from wstrack.runs.manifest import Layer, Manifest, layer_table
from wstrack.runs.run import Completeness, Run
from wstrack.trackers.matching import assigned, compiled, wanted
from wstrack.trackers.naming import layer_keys
from wstrack.trackers.shared import by_layer, left_to_recording, width_of
from wstrack_integrations.wandb.about import Session, about_in, sessions_in
from wstrack_integrations.wandb.sink import INTERVAL, STEP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Column", "History", "manifest_in", "run_of"]


MISSING = (
    "nothing that wstrack logged; to read other series pass match= (--match), a regular expression with a group for "
    "the layer, such as 'grad_norm/(?P<layer>.+)'"
)


@dataclass
class Column:
    """One key's numbers: in which rows (ascending), and what."""

    rows: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass
class History:
    """Rows of history by column, with what else is known of their run.

    Attributes:
        steps: W&B's own step of each row, (rows,).
        columns: by key, what was logged as a number.
        config: the run's config.
        origin: the run's name, id, project, ...
        finished: whether the run came to its end.
        notes: what could not be read.
    """

    steps: NDArray[np.int64]
    columns: dict[str, Column]
    config: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = True
    notes: Sequence[str] = ()

    def by_step(
        self, keys: Sequence[str], rows: NDArray[np.int64], steps: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], int, int]:
        """The numbers under `keys` by step, (distinct steps, keys), the last where a step was logged again.

        Args:
            keys: which.
            rows, steps: where there are samples, and at which steps.

        Returns:
            The numbers, NaN where there are none; how many there are; and how many of others they took the place of.
        """
        found, where = np.unique(steps, return_inverse=True)
        place = np.full(len(self.steps), -1, dtype=np.int64)
        place[rows] = where
        matrix = np.full((len(found), len(keys)), np.nan, order="F")  # written by columns
        received = there = 0
        for number, key in enumerate(keys):
            if key in self.columns:
                at = place[self.columns[key].rows]
                ours, at = at >= 0, at[at >= 0]
                matrix[at, number] = self.columns[key].values[ours]
                received += int(np.count_nonzero(np.bincount(at)))  # distinct: np.unique takes ten times as long
                there += len(at)
        return matrix, received, there - received


def manifest_in(config: Mapping[str, Any]) -> Manifest | None:
    """The manifest that a sink left in a run's config."""
    about = about_in(config)
    try:
        return None if about is None else Manifest.from_json(about["manifest"])
    except ValueError:
        return None


def run_of(history: History, metrics: Sequence[str] | None, match: str | None, place: object) -> Run:
    """The `Run` in a history: what wstrack logged, or what fits."""
    if match is not None:
        return _matched_run(history, match, metrics)
    manifest = manifest_in(history.config)
    if manifest is None:
        raise WstrackError(f"{place} holds {MISSING}")
    return _watched_run(history, manifest, metrics)


def _watched_run(history: History, manifest: Manifest, metrics: Sequence[str] | None) -> Run:
    """The run that sinks wrote, whatever rows of others lie in between."""
    logged = by_layer(manifest.metrics)
    chosen = wanted(metrics, logged)
    keys = layer_keys([layer.name for layer in manifest.layers])
    notes = [*history.notes, *left_to_recording(manifest.metrics, parts=manifest.origin.get("parts"))]
    try:
        sessions = sessions_in(about_in(history.config) or {})
    except ValueError as error:
        sessions = [Session()]
        notes.append(str(error))
    samples = history.columns.get(STEP, Column(np.empty(0, np.int64), np.empty(0)))
    rows, steps = samples.rows, samples.values.astype(np.int64)
    stands = _stands(history.steps[rows], steps, sessions)
    notes += left_out(int((~stands).sum()))
    rows, steps = rows[stands], steps[stands]
    values, received, again = {}, 0, 0
    for metric in chosen:
        values[metric], count, twice = history.by_step([f"{metric}/{key}" for key in keys], rows, steps)
        received, again = received + count, again + twice
    notes += _logged_again(again)
    width = sum(int(manifest.has(metric).sum()) for metric in chosen)
    expected, said = _expected(sessions, len(samples.rows), width, width / max(1, width_of(manifest)))
    expected -= again + width * int((~stands).sum())
    intervals, *_ = history.by_step([INTERVAL], rows, steps)
    index = pd.Index(np.unique(steps), name="step")
    return Run.from_values(
        replace(manifest, metrics=tuple(chosen)),
        index.to_numpy(),
        values,
        completeness=Completeness(max(expected, received), received, (*notes, *said)),
        intervals=pd.Series(intervals.ravel(), index=index).dropna().astype("int64"),
        origin={**history.origin, "closed": all(session.samples is not None for session in sessions)},
    )


def _logged_again(values: int) -> list[str]:
    return (
        [f"{values} values were logged at a step that was logged again later; the later ones stand"] if values else []
    )


def _stands(rows: NDArray[np.int64], steps: NDArray[np.int64], sessions: Sequence[Session]) -> NDArray[np.bool_]:
    """Which samples, by W&B's own step and their own, are not of a branch that was given up."""
    stands = np.ones(len(steps), dtype=bool)
    for session in sessions:
        if session.after is not None and session.row is not None:
            stands &= (rows >= session.row) | (steps <= session.after)
    return stands


def _expected(sessions: Sequence[Session], rows: int, width: int, share: float) -> tuple[int, list[str]]:
    """How many values there should be, by what the sinks counted, and why fewer are there."""
    notes = []
    thinned = sum(session.thinned for session in sessions)
    written = sum(session.samples or 0 for session in sessions)
    expected = round(share * sum(session.values for session in sessions))
    if thinned:
        notes.append(
            f"{thinned} of {written} samples are not in the charts, which W&B wants thin; the recording has them"
        )
    if any(session.samples is None for session in sessions):
        notes.append("the watcher was not closed (the run is going on, or was killed)")
        expected += max(0, rows - (written - thinned)) * width
    elif (lost := written - thinned - rows) > 0:
        notes.append(f"{lost} of the {written} samples written are not there")
    return expected, notes


def _matched_run(history: History, match: str, metrics: Sequence[str] | None) -> Run:
    """The run of all numbers under keys that fit, by W&B's own step."""
    found = assigned(compiled(match), (key for key in history.columns if not key.startswith("_")))
    series, received, expected, again = {}, 0, 0, 0
    for metric in wanted(metrics, found):
        columns = [history.columns[key] for key in found[metric].values()]
        rows = np.unique(np.concatenate([column.rows for column in columns]))
        matrix, count, twice = history.by_step(list(found[metric].values()), rows, history.steps[rows])
        again += twice
        index = pd.Index(np.unique(history.steps[rows]), name="step")
        series[metric] = pd.DataFrame(matrix, index=index, columns=list(found[metric]))
        received += count
        expected += matrix.size
    layers = dict.fromkeys(layer for frame in series.values() for layer in frame.columns)
    return Run(
        series=series,
        layers=layer_table([Layer(layer) for layer in layers]),
        facts={},
        origin={"name": history.origin.get("display_name", "run"), **history.origin, "match": match},
        completeness=Completeness(expected, received, (*history.notes, *_logged_again(again))),
    )
