"""What a tracking store holds of a run, in whatever way it is read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

import numpy as np

from wstrack.errors import WstrackError
from wstrack.runs.asked import Asked
from wstrack.runs.listed import Setting, flat, typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = [
    "EVERY",
    "METRICS",
    "History",
    "Store",
    "StoredRun",
    "Table",
    "chosen_experiment",
    "settings_of",
    "since_1970",
]

METRICS = "wstrack.metrics"
"""The tag with the names of our metrics, each of which begins the keys of as many series as there are layers."""
EVERY = Asked()
"""No run is left out."""
LARGEST = 1.79e308  # MLflow stores an infinity as the largest double, 1.797...e308


@dataclass(frozen=True)
class StoredRun:
    """A run as MLflow knows it; `artifacts` is the URI of its artifacts.

    `status` ("FINISHED", ...), `started` (milliseconds since 1970), `params` and `latest` (the last value of each
    metric that is none of ours) are known of runs that were asked for with `settings=True`.
    """

    id: str
    name: str
    artifacts: str
    tags: dict[str, str]
    status: str = ""
    started: int = 0
    params: dict[str, str] = field(default_factory=dict)
    latest: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Columns side by side: numbers (float64, NaN = not logged) and logged (bool), both steps x columns."""

    steps: NDArray[np.int64]
    numbers: NDArray[np.float64]
    logged: NDArray[np.bool_]
    again: int


@dataclass(frozen=True)
class History:
    """Points of many metrics, in the order of their times (ms): for each the place of its key in `keys`, and so on."""

    keys: list[str]
    places: NDArray[np.intp]
    steps: NDArray[np.int64]
    times: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        keys: Sequence[str],
        places: Sequence[int] | NDArray[np.intp],
        steps: Sequence[int] | NDArray[np.int64],
        times: Sequence[int] | NDArray[np.int64],
        values: Sequence[float] | NDArray[np.float64],
    ) -> History:
        """The points in any order; an infinity that MLflow made a number is one again."""
        moments = np.array(times, np.int64)
        order = np.argsort(moments, kind="stable")
        numbers = np.array(values, np.float64)[order]
        numbers[np.abs(numbers) >= LARGEST] *= np.inf
        return cls(
            list(keys), np.array(places, np.intp)[order], np.array(steps, np.int64)[order], moments[order], numbers
        )

    def steps_of(self, key: str) -> NDArray[np.int64]:
        """The steps of one key, as logged."""
        return self.steps[self.places == self.keys.index(key)] if key in self.keys else np.empty(0, np.int64)

    def standing(self, resumed: Sequence[tuple[int, int]]) -> History:
        """Without what was logged before training went on from an older checkpoint, of steps after that.

        Args:
            resumed: from which step it went on, and when, in milliseconds.
        """
        kept = np.ones(len(self.steps), bool)
        for after, moment in resumed:
            kept &= (self.steps <= after) | (self.times >= moment)
        return (
            self
            if kept.all()
            else replace(
                self, places=self.places[kept], steps=self.steps[kept], times=self.times[kept], values=self.values[kept]
            )
        )

    def table(self, keys: Sequence[str], *, also: NDArray[np.int64] | None = None) -> Table:
        """The outer join of `keys` by step, with rows for the steps `also`; the last of equal steps stands."""
        columns = {key: column for column, key in enumerate(keys)}
        column = np.array([columns.get(key, -1) for key in self.keys], np.intp)[self.places]
        here = column >= 0
        count = int(here.sum())
        logged_at = self.steps[here]
        steps, rows = np.unique(logged_at if also is None else np.concatenate([logged_at, also]), return_inverse=True)
        numbers = np.full((len(steps), len(keys)), np.nan)
        logged = np.zeros(numbers.shape, np.bool_)
        numbers[rows[:count], column[here]] = self.values[here]
        logged[rows[:count], column[here]] = True
        return Table(steps, numbers, logged, count - int(logged.sum()))


def settings_of(run: StoredRun) -> dict[str, Setting]:
    """What a run was made with: its parameters, typed again, and the tags that a user set, as texts."""
    tags = {key: value for key, value in run.tags.items() if not key.startswith(("mlflow.", "wstrack."))}
    return flat({**tags, **{key: typed(value) for key, value in run.params.items()}})


def since_1970(milliseconds: int) -> str:
    """A moment in ISO 8601; "" for none."""
    if milliseconds <= 0:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def chosen_experiment(asked: str, known: Sequence[tuple[str, object, str | None]]) -> str:
    """The id of the experiment of a name, or else of that id.

    Args:
        asked: the name or the id.
        known: name, id and workspace of each experiment; no workspace where the store knows none.

    Raises:
        WstrackError: there is no such experiment, or there are several of that name.
    """
    named = [(str(number), workspace) for name, number, workspace in known if name == asked]
    if len(named) > 1:
        some = ", ".join(f"{number} (workspace {workspace})" if workspace else number for number, workspace in named)
        raise WstrackError(f"MLflow has {len(named)} experiments {asked!r}, with the ids {some}; name one by its id")
    if named:
        return named[0][0]
    if not any(str(number) == asked for _, number, _ in known):
        some = ", ".join(repr(name) for name, *_ in known[:5])
        raise WstrackError(f"MLflow has no experiment {asked!r}; it has {some}")
    return asked


class Store(Protocol):
    """A tracking store, opened for reading."""

    def runs(
        self, experiment: str | None, *, settings: bool = False, ours: bool = False, asked: Asked = EVERY
    ) -> Iterable[StoredRun]:
        """Every run that is not deleted, of an experiment by name or id, in the order of their starts.

        Args:
            experiment: the name or the id; None = of all.
            settings: with what is known of each beside its name and tags.
            ours: runs that wstrack did not log may be left out.
            asked: which are wanted; see `Asked`.
        """

    def run(self, run_id: str, *, settings: bool = False) -> StoredRun:
        """One run."""

    def keys(self, run_id: str) -> list[str]:
        """The metrics that a run has, in the order of their names."""

    def history(self, run_id: str, keys: Sequence[str] | None = None) -> History:
        """Every point of a run, or of some of its metrics."""
