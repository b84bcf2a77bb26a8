"""MLflow's database, read by one query: SQLite read-only, any other through SQLAlchemy."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd

from wstrack.errors import WstrackError
from wstrack_integrations.mlflow.address import redacted
from wstrack_integrations.mlflow.history import History, StoredRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

__all__ = ["Database"]

_RUNS = "select run_uuid, name, artifact_uri from runs where "
# Rows go straight into an array: as many tuples at once would set off Python's garbage collection again and again.
_POINT = np.dtype(
    [("key", object), ("step", np.int64), ("time", np.int64), ("value", np.float64), ("is_nan", np.bool_)]
)


class Database:
    """A tracking store in a database; see `Store`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def runs(self, experiment: str | None) -> list[StoredRun]:
        """Every run that is not deleted, of an experiment by name or id, in the order of their starts.

        Raises:
            WstrackError: there is no such experiment, or the database cannot be read.
        """
        known = self._rows("select name, experiment_id from experiments order by experiment_id")
        ids = {str(number): number for _, number in known} | dict(known)  # a name first
        if experiment is not None and experiment not in ids:
            some = ", ".join(repr(name) for name, _ in known[:5])
            raise WstrackError(f"MLflow has no experiment {experiment!r}; it has {some}")
        rows = self._rows(
            _RUNS + "lifecycle_stage = 'active' and (:every = 1 or experiment_id = :experiment) "
            "order by start_time, run_uuid",
            every=int(experiment is None),
            experiment=ids.get(experiment or "", -1),
        )
        return [self._stored(*row) for row in rows]

    def run(self, run_id: str) -> StoredRun:
        """One run.

        Raises:
            WstrackError: there is no such run, or the database cannot be read.
        """
        rows = self._rows(_RUNS + "run_uuid = :run", run=run_id)
        if not rows:
            raise WstrackError(f"MLflow has no run {run_id!r} in {redacted(self._uri, self._uri)}")
        return self._stored(*rows[0])

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
            with self._query(query + " and key = :key", run=run_id, key=keys[0]) as rows:
                points = np.fromiter(rows, _POINT)
        else:
            with self._query(query, run=run_id) as rows:
                points = np.fromiter(rows, _POINT)
        places, names = pd.factorize(points["key"])
        values = np.where(points["is_nan"], np.nan, points["value"])
        return History.of(list(names), places, points["step"], points["time"], values)

    def _stored(self, run_id: str, name: str | None, artifacts: str | None) -> StoredRun:
        tags = dict(self._rows("select key, value from tags where run_uuid = :run", run=run_id))
        return StoredRun(run_id, name or tags.get("mlflow.runName") or run_id, artifacts or "", tags)

    def _rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self._query(query, **values) as rows:
            return list(rows)

    @contextmanager
    def _query(self, query: str, **values: Any) -> Iterator[Iterator[tuple[Any, ...]]]:
        """The rows of a query, one by one."""
        if self._uri.startswith("sqlite:"):
            text = self._uri.partition(":///")[2].partition("?")[0]
            path = Path(text if Path(text).exists() else unquote(text)).absolute()
            try:
                with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as file:
                    yield file.execute(query, values)
            except sqlite3.Error as error:
                raise self._trouble(error) from error
            return
        import sqlalchemy

        try:
            with self._engine.connect() as connection:
                yield (tuple(row) for row in connection.execute(sqlalchemy.text(query), values))
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise self._trouble(error) from None  # whose own message may hold the password

    @cached_property
    def _engine(self) -> Engine:
        import sqlalchemy

        try:
            return sqlalchemy.create_engine(self._uri, poolclass=sqlalchemy.NullPool)
        except ModuleNotFoundError as error:
            kind = self._uri.partition(":")[0].partition("+")[0]
            raise WstrackError(
                f"the tracking URI {redacted(self._uri, self._uri)} needs the database driver {error.name!r}, which is "
                f"not installed; install it, or name another, as in {kind}+<driver>://"
            ) from None
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise self._trouble(error) from None

    def _trouble(self, error: Exception) -> WstrackError:
        return WstrackError(f"cannot read {redacted(self._uri, self._uri)}: {redacted(str(error), self._uri)}")
