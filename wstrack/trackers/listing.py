"""Many runs at once, by what is known of them without reading a series: listed, and chosen by a condition."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from wstrack.errors import WstrackError
from wstrack.runs.conditions import fitting
from wstrack.runs.listed import Listed, described, table_of
from wstrack.trackers.references import names, pull, split, told
from wstrack.trackers.registry import tracker, trackers

if TYPE_CHECKING:
    from wstrack.runs.run import Run

__all__ = ["chosen", "listed", "pull_many", "runs_table"]


def runs_table(
    reference: str | Path | Sequence[str | Path], *, where: str | None = None, limit: int | None = None,
    newest: bool = False, match: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The runs at a reference in a table, from metadata alone: no series is read.

    Args:
        reference: as `wstrack.pull_many` takes it.
        where: a condition on the columns, as behind WHERE in SQL: `"lr > 1e-4 and state == 'finished'"`.
        limit: at most so many runs, the first ones.
        newest: the latest first.
        match: see `wstrack.pull`; without it, runs that wstrack logged.

    Returns:
        A row a run, by reference. Columns: `name`, `state`, `started` (ISO 8601), `samples` (as the run says of
        itself), each setting by the user's own name (parameters and tags of MLflow, the config of W&B, hparams of
        TensorBoard, facts given to `watch`), then the last value of each metric that the user logged. What a run does
        not have is missing (NaN, None).

    Raises:
        ValueError: a condition that is none, a limit below 1, an unknown tracker.
        WstrackError: nothing is there.

    Example:
        >>> import tempfile, torch, wstrack
        >>> folder = tempfile.mkdtemp()
        >>> for lr in (0.1, 0.01):
        ...     model = torch.nn.Linear(4, 4)
        ...     wstrack.watch(model, to=f"{folder}/lr-{lr}", facts={"lr": lr}).close()
        >>> wstrack.runs_table(folder, where="lr > 0.05")["lr"].tolist()
        [0.1]
    """
    return table_of(listed(reference, where=where, limit=limit, newest=newest, match=match))


def listed(
    reference: str | Path | Sequence[str | Path], *, where: str | None = None, limit: int | None = None,
    newest: bool = False, match: str | None = None,
) -> list[Listed]:  # fmt: skip
    """What is known of each run at a reference; see `runs_table`."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} (--limit) must be at least 1; leave it out for all runs")
    given = [reference] if isinstance(reference, str | Path) else list(reference)
    found: dict[str, Listed] = {}
    for each in given:
        for run in _at(each, match):
            found.setdefault(run.reference, run)
    runs = list(found.values())
    if where is not None:
        fits = fitting([run.values() for run in runs], where)
        runs = [run for run, fit in zip(runs, fits, strict=True) if fit]
        if not runs:
            raise WstrackError(f"none of the {len(found)} runs at {_shown(given)} fits where={where!r} (--where)")
    if newest:
        runs.sort(key=lambda run: run.started, reverse=True)
    return runs[:limit]


def pull_many(
    reference: str | Path | Sequence[str | Path], *, metrics: Sequence[str] | None = None, match: str | None = None,
    where: str | None = None, limit: int | None = None, newest: bool = False,
) -> list[Run]:  # fmt: skip
    """Every run behind a reference, a list of them, a pattern (`runs/exp*`) or a whole folder or project.

    Args:
        reference, metrics, match: as of `pull`.
        where, limit, newest: which of the runs, by what is known of them before a series is read; see
            `wstrack.runs_table`.
    """
    found = chosen(reference, where=where, limit=limit, newest=newest, match=match)
    return [pull(one, metrics=metrics, match=match) for one in found]


def chosen(
    reference: str | Path | Sequence[str | Path], *, where: str | None = None, limit: int | None = None,
    newest: bool = False, match: str | None = None,
) -> list[str]:  # fmt: skip
    """A reference for each run that `runs_table` has; nothing is asked of a tracker that it need not say."""
    if where is not None or limit is not None or newest:
        return [run.reference for run in listed(reference, where=where, limit=limit, newest=newest, match=match)]
    given = [reference] if isinstance(reference, str | Path) else list(reference)
    return list(dict.fromkeys(one for each in given for one in names(each, match=match)))


def _at(reference: str | Path, match: str | None) -> list[Listed]:
    scheme, address = split(reference)
    is_pattern = any(mark in address for mark in "*?[") and not Path(address).exists()
    there = sorted(glob.glob(address, recursive=True)) if is_pattern else []
    if scheme:
        source = tracker(scheme).open_source(address)
        if there and not getattr(source, "expands", False):
            return [run for each in there for run in _at(f"{scheme}:{each}", match)]
        return told(source, match) or [Listed(one, name) for one, name in names(reference, match=match).items()]
    if there:
        return [run for each in there for run in _at(each, match)]
    known: dict[str, Listed] = {}
    path = Path(address)
    for one in trackers():
        if path.exists() and tracker(one).recognises(path):
            for run in told(tracker(one).open_source(str(path)), match):
                known[run.reference] = known[split(run.reference)[1]] = run
    found = names(reference, match=match)
    return [_both(one, name, known.get(one), described(Path(one))) for one, name in found.items()]


def _both(reference: str, name: str, tracked: Listed | None, recorded: Listed | None) -> Listed:
    """A run at a path, which may be in a tracker's files, in a recording beside them, or in both."""
    tracked = tracked or Listed(reference)
    recorded = recorded or Listed(reference)
    return Listed(
        reference,
        name or tracked.name or recorded.name,
        tracked.state or recorded.state,
        recorded.started or tracked.started,
        tracked.samples if recorded.samples is None else recorded.samples,
        {**tracked.settings, **recorded.settings},
        tracked.results,
    )


def _shown(given: Sequence[str | Path]) -> str:
    return ", ".join(map(str, given[:3])) + (", ..." if len(given) > 3 else "")
