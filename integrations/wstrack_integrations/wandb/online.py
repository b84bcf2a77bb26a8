"""Runs on a W&B server, through wandb's own client, which pages, and waits and tries again when the server says so."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wstrack.errors import WstrackError
from wstrack.runs.listed import Setting
from wstrack.runs.recording import FOLDER, read_recording
from wstrack.runs.wholer import wholer
from wstrack.trackers.progress import progress
from wstrack_integrations.wandb.about import settings_in
from wstrack_integrations.wandb.api import client
from wstrack_integrations.wandb.history import Column, History, manifest_in, run_of
from wstrack_integrations.wandb.sink import STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wstrack.runs.run import Run

__all__ = ["logged_run", "parts_of", "read", "settings_of", "split"]

FILTERS = {"name": "display_name", "group": "group", "tag": "tags", "state": "state", "sweep": "sweep"}
# What follows the project in the address of a page: of a run, by what it filters, of the whole project, or of no runs.
PAGES = {
    "runs": "runs", "sweeps": "sweep", "groups": "group", "workspace": "", "table": "", "overview": "",
    "reports": None, "artifacts": None, "settings": None, "jobs": None, "registry": None,
}  # fmt: skip
PAGE = 1_000_000  # values to ask for at a time
TRIES = 3  # of a download
Result = TypeVar("Result")


def settings_of(run: Any) -> dict[str, Setting]:
    """The config, and what a run is filed under."""
    filed = {"group": run.group, "tags": ", ".join(run.tags), "job_type": getattr(run, "job_type", None)}
    return {**{name: value for name, value in filed.items() if value}, **settings_in(run.config)}


def read(address: str, *, metrics: Sequence[str] | None, match: str | None) -> Run:
    """One run: from its recording if that is whole, else from its history, whichever of the two has more.

    Raises:
        ValueError: the address is none, or a metric is not there.
        WstrackError: the server has no such run, or refuses.
    """
    parts = parts_of(address)
    reference = f"wandb:{'/'.join(parts)}"
    with client(address) as api:
        run = api.run("/".join(parts))
        open_parts: list[str] = []
        found = wholer(
            lambda: _recording(run, metrics, open_parts) if match is None else None,
            lambda: run_of(_history(run), metrics, match, address).with_origin(source="wandb"),
            lacks=lambda recorded: _not_recorded(recorded, run, open_parts),
        )
        assert found is not None
        return found.with_origin(**_origin(run), reference=reference, settings=settings_of(run))


def logged_run(address: str) -> Run | None:
    """A run from its history alone, whatever recording it has; None if wstrack logged nothing there.

    Raises:
        ValueError: the address is none.
        WstrackError: the server has no such run, or refuses.
    """
    with client(address) as api:
        run = api.run("/".join(parts_of(address)))
        return None if manifest_in(run.config) is None else run_of(_history(run), None, None, address)


def parts_of(address: str) -> list[str]:
    """Entity, project and run.

    Raises:
        ValueError: the address is none.
        WstrackError: it names a project.
    """
    parts, _ = split(address)
    if len(parts) != 3:
        raise WstrackError(f"{address} is a project; name one of its runs, or use pull_many()")
    return parts


def split(address: str) -> tuple[list[str], dict[str, Any]]:
    """Entity, project and perhaps run, and what to filter by.

    Raises:
        ValueError: the address is none.
        WstrackError: it is one on another server.
    """
    url = urlsplit(address)
    if url.scheme in ("http", "https"):
        _check_host(url.hostname)
    elif url.scheme or url.netloc:
        raise ValueError(f"{address!r} is neither entity/project, entity/project/run nor a run's URL")
    parts = [unquote(part) for part in url.path.split("/") if part]
    if not url.scheme and parts and parts[0].lower() in ("wandb.ai", "www.wandb.ai"):  # as browsers show it
        _check_host("wandb.ai")
        parts = parts[1:]
    asked = {} if url.scheme or len(parts) > 3 else dict(parse_qsl(url.query))
    if len(parts) > 2 and (kind := parts[2]) in PAGES:
        if PAGES[kind] is None or (PAGES[kind] and len(parts) == 3):
            raise ValueError(f"{address!r} is a page of W&B that is no run, sweep, group or project; name one of those")
        if kind == "runs":
            parts = [*parts[:2], *parts[3:4]]
        else:
            asked = {str(PAGES[kind]): parts[3]} if PAGES[kind] else asked
            parts = parts[:2]
    if len(parts) not in (2, 3) or not set(asked) <= set(FILTERS):
        raise ValueError(
            f"{address!r} is neither entity/project, entity/project/run nor a run's URL; a project may be filtered by "
            f"{', '.join(FILTERS)}, as in entity/project?group=baseline&state=finished"
        )
    return parts, {FILTERS[name]: value for name, value in asked.items()}


def _check_host(host: str | None) -> None:
    """Refuse a URL of another server: the user's key must not go to wherever a link points."""
    import wandb

    own = str(wandb.setup().settings.base_url)
    if host not in (urlsplit(own).hostname, "wandb.ai" if own == "https://api.wandb.ai" else None):
        raise WstrackError(f"that run is on {host}, and wandb is set up for another server; set WANDB_BASE_URL")


def _origin(run: Any) -> dict[str, Any]:
    return {
        "display_name": run.name,
        "id": run.id,
        "entity": run.entity,
        "project": run.project,
        "group": run.group,
        "tags": list(run.tags),
        "state": run.state,
    }


def _recording(run: Any, metrics: Sequence[str] | None, open_parts: list[str]) -> Run | None:
    """The recording among a run's files; the parts of it that nobody closed are added to `open_parts`."""
    files = {Path(file.name): file for file in run.files() if Path(file.name).parent == Path(FOLDER)}
    parts = [name for name in files if name.suffix != ".arrows" or name.with_suffix(".arrow") not in files]
    with tempfile.TemporaryDirectory() as folder:
        for name in progress(parts, f"files of the recording of {run.id}", len(parts)):
            _download(files[name], Path(folder))
        open_parts += [name.name for name in parts if name.suffix == ".arrows"]
        return read_recording(Path(folder) / FOLDER, metrics=metrics) if parts else None


def _not_recorded(recorded: Run, run: Any, open_parts: Sequence[str]) -> str | None:
    """What W&B knows of samples that a recording lacks: of one that was not closed, or by its count of rows."""
    if open_parts:
        return f"{', '.join(open_parts)} was not closed when it was uploaded"
    counts = run.history_keys.get("keys", {}).get(STEP, {}).get("typeCounts", [])
    rows = sum(int(each.get("count", 0)) for each in counts)
    return f"{rows - len(recorded.steps)} samples are not in it" if rows > len(recorded.steps) else None


def _download(file: Any, folder: Path) -> None:
    """A file, whole: a connection that ends early may look like its end."""

    def whole() -> None:
        file.download(root=str(folder), replace=True).close()
        if (folder / file.name).stat().st_size != file.size:
            raise OSError(f"{file.name} came in part")

    _tried(whole)


def _tried(work: Callable[[], Result]) -> Result:
    """Do it, again if a connection ends half way; the client itself waits only where the server asks for it."""
    from requests import RequestException
    from wandb.errors import Error

    for _ in range(TRIES - 1):
        with suppress(Error, RequestException, OSError):
            return work()
    return work()


def _history(run: Any) -> History:
    """Every row: what was exported as Parquet, which is fast, and the rest by a scan."""
    tables: list[_Part] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(TRIES):
            exported = _tried(lambda: run.download_history_exports(folder, require_complete_history=False))
            if not exported.errors:
                break
        # A file that cannot be had may be in the middle: then all rows are asked for, one by one.
        tables = [] if exported.errors else [_exported(path) for path in exported.paths]
    after = max((int(steps[-1]) + 1 for steps, _ in tables if len(steps)), default=0)
    if exported.contains_live_data or not tables:
        rows = run.scan_history(page_size=_page_size(run), min_step=after, use_cache=False)
        count = int(run.historyLineCount or 0) - sum(len(steps) for steps, _ in tables)
        tables.append(_scanned(progress(rows, f"rows of {run.id}", max(0, count))))
    steps = np.concatenate([np.empty(0, np.int64), *(steps for steps, _ in tables)])
    columns: dict[str, list[Column]] = {}
    first = 0
    for rows, parts in tables:
        for key, column in parts.items():
            columns.setdefault(key, []).append(Column(column.rows + first, column.values))
        first += len(rows)
    notes = ["the run is going on"] if run.state == "running" else []
    return History(steps, {key: _joined(parts) for key, parts in columns.items()}, run.config, notes=notes)


_Part = tuple[np.ndarray[Any, np.dtype[np.int64]], dict[str, Column]]


def _joined(parts: Sequence[Column]) -> Column:
    if len(parts) == 1:
        return parts[0]
    return Column(np.concatenate([part.rows for part in parts]), np.concatenate([part.values for part in parts]))


def _exported(path: str | Path) -> _Part:
    """The numbers in an exported file, a row a step. A cell without a value is not one with NaN."""
    table = pq.read_table(path)
    columns: dict[str, Column] = {}
    for key, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
            there = np.flatnonzero(column.is_valid().to_numpy())
            values = column.drop_null().to_numpy().astype(np.float64)
            if len(there):
                columns[key] = Column(there, values)
    return table.column("_step").to_numpy().astype(np.int64), columns


def _scanned(rows: Iterable[Mapping[str, Any]]) -> _Part:
    """The numbers in rows of history as wandb's client hands them out; NaN and inf may come as words."""
    steps: list[int] = []
    columns: dict[str, tuple[list[int], list[float]]] = {}
    for number, row in enumerate(rows):
        steps.append(int(row["_step"]))
        for key, value in row.items():
            if isinstance(value, (int, float)) or value in ("NaN", "Infinity", "-Infinity"):
                places, values = columns.setdefault(key, ([], []))
                places.append(number)
                values.append(float(value))
    found = {key: Column(np.array(places, np.int64), np.array(values)) for key, (places, values) in columns.items()}
    return np.array(steps, np.int64), found


def _page_size(run: Any) -> int:
    """How many of W&B's steps to ask for at a time: they count whether or not there are rows at them."""
    last = max(1, int(run.lastHistoryStep) + 1)
    rows = max(1, int(getattr(run, "historyLineCount", None) or last))
    width = max(1, len(run.history_keys.get("keys", {})))
    return max(1000, PAGE // width) * max(1, last // rows)
