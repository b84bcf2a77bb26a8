"""MLflow's server, over its REST API, with waits that end: the client's own would retry for minutes."""

from __future__ import annotations

import json
import posixpath
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from wstrack.errors import WstrackError
from wstrack.trackers.progress import progress
from wstrack_integrations.mlflow.address import redacted, required
from wstrack_integrations.mlflow.history import EVERY, METRICS, History, StoredRun, chosen_experiment
from wstrack_integrations.mlflow.searching import OURS, filters

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wstrack.runs.asked import Asked

__all__ = ["Server"]

TIMEOUT, RETRIES = 10, 2  # seconds, and how often a request is sent again
PAGE = 25_000  # points; the most that a server gives at once
MOST_RUNS = 1000  # a page; each comes with all of its metrics
PARALLEL = 8  # requests; the client keeps up to ten connections open


class _NotUnderstoodError(WstrackError):
    """The server does not understand."""


class Server:
    """A tracking server at an http(s) URI; see `Store`. Who one is comes from where MLflow's client takes it."""

    def __init__(self, uri: str) -> None:
        required()
        from mlflow.utils.credentials import get_default_host_creds

        self._uri = uri
        self._credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]

    def call(self, method: str, endpoint: str, content: dict[str, Any], *, keep: bool = False) -> dict[str, Any]:
        """One request: `content` is the query of a GET and the JSON body of a POST.

        A connection is kept for the next request only if there are many at once: servers with several workers answer
        on a kept one 40 ms late (Nagle's algorithm waits for the client's delayed acknowledgement).

        Raises:
            WstrackError: the server cannot be reached or refuses; without any secret in its message.
        """
        try:
            answer: dict[str, Any] = json.loads(self._request(method, f"mlflow/{endpoint}", content, keep=keep))
        except ValueError:
            raise WstrackError(
                f"{redacted(self._uri, self._uri)} is no MLflow server: its answer is not JSON"
            ) from None
        return answer

    def files(self, place: str, name: str) -> list[str]:
        """The files in the folder `name` in a place among the server's own artifacts, `<name>/<file>`."""
        query = {"path": f"{place}/{name}"}
        found = json.loads(self._request("GET", "mlflow-artifacts/artifacts", query)).get("files", [])
        return [f"{name}/{posixpath.basename(each['path'])}" for each in found if not each.get("is_dir")]

    def file(self, path: str) -> bytes:
        """The content of one of the server's own artifacts."""
        return self._request("GET", f"mlflow-artifacts/artifacts/{quote(path)}", {})

    def _request(self, method: str, endpoint: str, content: dict[str, Any], *, keep: bool = False) -> bytes:
        from mlflow.exceptions import MlflowException
        from mlflow.utils.rest_utils import http_request

        try:
            response = http_request(  # type: ignore[no-untyped-call]
                self._credentials,
                f"/api/2.0/{endpoint}",
                method,
                max_retries=RETRIES,
                backoff_factor=1,
                timeout=TIMEOUT,
                raise_on_status=False,
                extra_headers=None if keep else {"Connection": "close"},
                **{"params" if method == "GET" else "json": content},
            )
        except MlflowException as error:
            raise WstrackError(
                f"no answer from {redacted(self._uri, self._uri)}: {redacted(str(error), self._uri)}"
            ) from None
        if response.status_code != 200:
            said = redacted(response.text[:500], self._uri) or response.reason
            kind = _NotUnderstoodError if response.status_code == 400 else WstrackError
            raise kind(f"{redacted(self._uri, self._uri)} refuses {endpoint}: status {response.status_code}, {said}")
        return bytes(response.content)

    def runs(
        self, experiment: str | None, *, settings: bool = False, ours: bool = False, asked: Asked = EVERY
    ) -> Iterator[StoredRun]:
        """Every run that is not deleted, of an experiment by name or id, in the order of their starts; see `Store`.

        Raises:
            WstrackError: there is no such experiment, or the server does not answer.
        """
        known = self._pages("experiments/search", "experiments", {"max_results": 1000})
        ids = [each["experiment_id"] for each in known]
        if experiment is not None:
            names = [(each["name"], each["experiment_id"], each.get("workspace")) for each in known]
            ids = [chosen_experiment(experiment, names)]
        order = f"attributes.start_time {'DESC' if asked.newest else 'ASC'}"
        query: dict[str, Any] = {"experiment_ids": ids, "order_by": [order]}
        first = [OURS] if ours else []

        def is_there(condition: str) -> bool:
            looked = {**query, "filter": " AND ".join([*first, condition]), "max_results": 1}
            return bool(self.call("POST", "runs/search", looked).get("runs"))

        try:
            conditions = [*first, *filters(asked.comparisons, is_there)]
            found = self._found(query | ({"filter": " AND ".join(conditions)} if conditions else {}), asked.limit)
            started = next(found, None)
        except _NotUnderstoodError:  # of an older server, which has not all of the filter
            found = self._found(query, asked.limit)
            started = next(found, None)
        stream = (_stored(run) for run in chain([] if started is None else [started], found))
        if not asked.newest:
            yield from stream
            return
        for _, together in groupby(stream, key=lambda run: run.started):
            yield from list(together)[::-1]  # those of one moment come by their ids, whatever the order of moments

    def _found(self, query: dict[str, Any], limit: int | None) -> Iterator[dict[str, Any]]:
        """The runs of a search, page by page as they are taken."""
        size = MOST_RUNS if limit is None else min(MOST_RUNS, limit + 1)
        token = None
        while True:
            page = query | {"max_results": size} | ({"page_token": token} if token else {})
            answer = self.call("POST", "runs/search", page)
            yield from answer.get("runs", [])
            token = answer.get("next_page_token")
            if not token:
                return
            size = min(MOST_RUNS, 2 * size)

    def run(self, run_id: str, *, settings: bool = False) -> StoredRun:
        """One run.

        Raises:
            WstrackError: there is no such run, or the server does not answer.
        """
        return _stored(self._run(run_id))

    def keys(self, run_id: str) -> list[str]:
        """The metrics that a run has, by name."""
        return sorted(metric["key"] for metric in self._run(run_id)["data"].get("metrics", []))

    def history(self, run_id: str, keys: Sequence[str] | None = None) -> History:
        """Every point of a run, or of some of its metrics: the server gives one metric a request.

        Raises:
            WstrackError: the server does not answer.
        """
        names = self.keys(run_id) if keys is None else list(keys)
        with ThreadPoolExecutor(PARALLEL) as pool:
            points_of = pool.map(lambda key: self._points(run_id, key), names)
            found = list(progress(points_of, f"metrics of {run_id}", len(names)))
        points = [(place, point) for place, each in enumerate(found) for point in each]
        return History.of(
            names,
            [place for place, _ in points],
            [int(point.get("step", 0)) for _, point in points],
            [int(point["timestamp"]) for _, point in points],
            [float(point["value"]) for _, point in points],  # "NaN" is a string in it
        )

    def _points(self, run_id: str, key: str) -> list[dict[str, Any]]:
        query = {"run_id": run_id, "metric_key": key, "max_results": PAGE}
        return self._pages("metrics/get-history", "metrics", query, method="GET", keep=True)

    def _run(self, run_id: str) -> dict[str, Any]:
        run: dict[str, Any] = self.call("GET", "runs/get", {"run_id": run_id})["run"]
        return run

    def _pages(
        self, endpoint: str, field: str, query: dict[str, Any], *, method: str = "POST", keep: bool = False
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token = None
        while True:
            answer = self.call(method, endpoint, query | ({"page_token": token} if token else {}), keep=keep)
            found += answer.get(field, [])
            token = answer.get("next_page_token")
            if not token:
                return found


def _stored(run: dict[str, Any]) -> StoredRun:
    info, data = run["info"], run.get("data", {})
    tags = {tag["key"]: tag.get("value", "") for tag in data.get("tags", [])}
    name = info.get("run_name") or tags.get("mlflow.runName") or info["run_id"]
    ours = ("wstrack/", *(f"{metric}/" for metric in tags.get(METRICS, "").split(",") if metric))
    latest = {
        each["key"]: float(each["value"])  # "NaN" is a string in it
        for each in data.get("metrics", [])
        if not each["key"].startswith(ours)
    }
    params = {each["key"]: each.get("value", "") for each in data.get("params", [])}
    return StoredRun(
        info["run_id"], name, info.get("artifact_uri", ""), tags, info.get("status", ""),
        int(info.get("start_time") or 0), params, latest,
    )  # fmt: skip
