"""MLflow's database, read by one query: SQLite read-only, any other through SQLAlchemy."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd

from wstrack.errors import WstrackError
from wstrack_integrations.mlflow.address import redacted
from wstrack_integrations.mlflow.history import EVERY, METRICS, History, StoredRun, chosen_experiment
from wstrack_integrations.mlflow.searching import sql

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

    from wstrack.runs.asked import Asked

__all__ = ["Database"]

MOST_RUNS = 500  # by their ids in one query
_RUNS = "select run_uuid, name, artifact_uri, status, start_time from runs where "
# Rows go straight into an array: as many tuples at once would set off Python's garbage collection again and again.
_POINT = np.dtype(
    [("key", object), ("step", np.int64), ("time", np.int64), ("value", np.float64), ("is_nan", np.bool_)]
)


class Database:
    """A tracking store in a database; see `Store`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def runs(
        self, experiment: str | None, *, settings: bool = False, ours: bool = False, asked: Asked = EVERY
    ) -> Iterator[StoredRun]:
        """Every run that is not deleted, of an experiment by name or id, in the order of their starts; see `Store`.

        Raises:
            WstrackError: there is no such experiment, there are several, or the database cannot be read.
        """
        # Since 3.9 a database may hold several workspaces, each with its own names.
        known = [(row["name"], row["experiment_id"], row.get("workspace")) for row in self._experiments()]
        conditions, values = sql(asked.comparisons, ours=ours)
        values["every"] = int(experiment is None)
        values["experiment"] = -1 if experiment is None else int(chosen_experiment(experiment, known))
        active = "lifecycle_stage = 'active' and (:every = 1 or experiment_id = :experiment)"
        which = " and ".join([active, *conditions])
        rows = self._rows(f"{_RUNS}{which} order by start_time, run_uuid", **values)
        if asked.limit is None:
            yield from self._stored(rows, which, settings=settings, **values)
            return
        if asked.newest:
            rows.sort(key=lambda row: max(0, row[-1] or 0))  # databases differ on runs without a start
            rows.reverse()
        size = asked.limit + 1
        while rows:
            some = {f"run{place}": run_id for place, (run_id, *_) in enumerate(rows[:size])}
            these = f"run_uuid in ({', '.join(f':{name}' for name in some)})"
            yield from self._stored(rows[:size], these, settings=settings, **some)
            rows, size = rows[size:], min(MOST_RUNS, 2 * size)

    def run(self, run_id: str, *, settings: bool = False) -> StoredRun:
        """One run.

        Raises:
            WstrackError: there is no such run, or the database cannot be read.
        """
        which = "run_uuid = :run"
        rows = self._rows(f"{_RUNS}{which}", run=run_id)
        if not rows:
            raise WstrackError(f"MLflow has no run {run_id!r} in {redacted(self._uri, self._uri)}")
        return self._stored(rows, which, settings=settings, run=run_id)[0]

    def keys(self, run_id: str) -> list[str]:
        """The metrics that a run has, by name."""
        rows = self._rows("select key from latest_metrics where run_uuid = :run", run=run_id)
        return sorted(key for (key,) in rows)  # here, for each database has an order of its own

    def history(self, run_id: str, keys: Sequence[str] | None = None) -> History:
        """Every point of a run; of one metric, if `keys` is one, and of all if it is more.

        Raises:
            WstrackError: the database cannot be read.
        """
        query = "select key, step, timestamp, value, is_nan from metrics where run_uuid = :run"
        if keys is not None and len(keys) == 1:
            with self._query(query + " and key = :key", run=run_id, key=keys[0]) as (_, rows):
                points = np.fromiter(rows, _POINT)
        else:
            with self._query(query, run=run_id) as (_, rows):
                points = np.fromiter(rows, _POINT)
        places, names = pd.factorize(points["key"])
        values = np.where(points["is_nan"], np.nan, points["value"])
        return History.of(list(names), places, points["step"], points["time"], values)

    def _stored(self, rows: Sequence[tuple[Any, ...]], which: str, *, settings: bool, **values: Any) -> list[StoredRun]:
        """The runs of these rows, all that a condition fits: a query for each kind of thing that is known of them."""
        those = f"run_uuid in (select run_uuid from runs where {which})"  # noqa: S608  conditions of ours
        tags: dict[str, dict[str, str]] = {run_id: {} for run_id, *_ in rows}
        params: dict[str, dict[str, str]] = {run_id: {} for run_id, *_ in rows}
        latest: dict[str, dict[str, float]] = {run_id: {} for run_id, *_ in rows}
        ours = "" if settings else "(key like 'wstrack%' or key = 'mlflow.runName') and "
        for run_id, key, value in self._rows(f"select run_uuid, key, value from tags where {ours}{those}", **values):  # noqa: S608
            tags.setdefault(run_id, {})[key] = value
        if settings:
            for run_id, key, value in self._rows(f"select run_uuid, key, value from params where {those}", **values):  # noqa: S608
                params.setdefault(run_id, {})[key] = value
            starts = {metric for of_run in tags.values() for metric in of_run.get(METRICS, "").split(",") if metric} | {
                "wstrack"
            }
            named = {f"start{place}": f"{metric}/%" for place, metric in enumerate(sorted(starts))}
            others = "".join(f" and key not like :{name}" for name in named)  # ours may be thousands in each run
            query = f"select run_uuid, key, value, is_nan from latest_metrics where {those}{others}"  # noqa: S608
            for run_id, key, value, is_nan in self._rows(query, **values, **named):
                latest.setdefault(run_id, {})[key] = float("nan") if is_nan else float(value)
        return [
            StoredRun(
                run_id, name or tags[run_id].get("mlflow.runName") or run_id, artifacts or "", tags[run_id],
                status or "", int(started or 0), params[run_id], latest[run_id],
            )
            for run_id, name, artifacts, status, started in rows
        ]  # fmt: skip

    def _experiments(self) -> list[dict[str, Any]]:
        """All of them, with whatever columns this version of MLflow has."""
        with self._query("select * from experiments order by experiment_id") as (names, rows):
            return [dict(zip(names, row, strict=True)) for row in rows]

    def _rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self._query(query, **values) as (_, rows):
            return list(rows)

    @contextmanager
    def _query(self, query: str, **values: Any) -> Iterator[tuple[list[str], Iterator[tuple[Any, ...]]]]:
        """The names of the columns of a query, and its rows, one by one."""
        if self._uri.startswith("sqlite:"):
            text = self._uri.partition(":///")[2].partition("?")[0]
            path = Path(text if Path(text).exists() else unquote(text)).absolute()
            try:
                with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as file:
                    rows = file.execute(query, values)
                    yield [name for name, *_ in rows.description], rows
            except sqlite3.Error as error:
                raise self._trouble(error) from error
            return
        import sqlalchemy

        try:
            with _engine(self._uri).connect() as connection:
                result = connection.execute(sqlalchemy.text(query), values)
                yield list(result.keys()), (tuple(row) for row in result)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise self._trouble(error) from None  # whose own message may hold the password

    def _trouble(self, error: Exception) -> WstrackError:
        return WstrackError(f"cannot read {redacted(self._uri, self._uri)}: {redacted(str(error), self._uri)}")


@cache
def _engine(uri: str) -> Engine:
    """The one of this process, which keeps a connection: to make one takes longer than to read a run.

    Raises:
        WstrackError: the database's driver is not installed.
    """
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(uri, pool_size=1, max_overflow=-1, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        kind = uri.partition(":")[0].partition("+")[0]
        raise WstrackError(
            f"the tracking URI {redacted(uri, uri)} needs the database driver {error.name!r}, which is not installed; "
            f"install it, or name another, as in {kind}+<driver>://"
        ) from None
    # A connection is one process's: what both sides of a fork said on it would be mixed up.
    if hasattr(os, "register_at_fork"):  # there is no fork on Windows
        os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
    return engine
