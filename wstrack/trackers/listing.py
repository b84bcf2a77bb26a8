"""Many runs at once, by what is known of them without reading a series: listed, and chosen by a condition."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from wstrack.errors import WstrackError
from wstrack.runs.asked import Asked, asked_of
from wstrack.runs.conditions import fitting, settled
from wstrack.runs.listed import Listed, described, table_of
from wstrack.trackers.references import chooses, names, pull, split, told
from wstrack.trackers.registry import tracker, trackers

if TYPE_CHECKING:
    from wstrack.runs.run import Run
    from wstrack.trackers.contract import Source

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
    asked = asked_of(where, limit=limit, newest=newest)
    runs, whole = _all_at(given, match, asked, where)
    fits = None
    if where is not None and not whole:
        # Where a condition is about names that no run among these has, another run may have them.
        fits = settled([run.values() for run in runs] or [Listed("").values()], where)
        if fits is None:
            runs, whole = _all_at(given, match, Asked(), None)
    if where is not None:
        fits = fits if fits is not None else fitting([run.values() for run in runs], where)
        count = f"the {len(runs)} " if whole else "the "
        runs = [run for run, fit in zip(runs, fits[: len(runs)], strict=True) if fit]
        if not runs:
            raise WstrackError(f"none of {count}runs at {_shown(given)} fits where={where!r} (--where)")
    if newest:  # of one second, those come first that come last without it
        runs = sorted(runs, key=lambda run: run.started)[::-1]
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


def _all_at(
    given: Sequence[str | Path], match: str | None, asked: Asked, where: str | None
) -> tuple[list[Listed], bool]:
    """The runs at references, each once; and whether these are all: the others are not asked for."""
    found: dict[str, Listed] = {}
    whole = True
    for each in given:
        runs, are_all = _at(each, match, asked, where)
        whole &= are_all
        for run in runs:
            found.setdefault(run.reference, run)
    return list(found.values()), whole


def _at(reference: str | Path, match: str | None, asked: Asked, where: str | None) -> tuple[list[Listed], bool]:
    scheme, address = split(reference)
    is_pattern = any(mark in address for mark in "*?[") and not Path(address).exists()
    there = sorted(glob.glob(address, recursive=True)) if is_pattern else []
    if scheme:
        source = tracker(scheme).open_source(address)
        if there and not getattr(source, "expands", False):
            return _all_at([f"{scheme}:{each}" for each in there], match, asked, where)
        runs, whole = _told(source, match, asked, where)
        return runs or ([] if not whole else _named(reference, match)), whole
    if there:
        return _all_at(there, match, asked, where)
    known: dict[str, Listed] = {}
    path = Path(address)
    for one in trackers():
        if path.exists() and tracker(one).recognises(path):
            for run in told(tracker(one).open_source(str(path)), match):
                known[run.reference] = known[split(run.reference)[1]] = run
    found = names(reference, match=match)
    return [_both(one, name, known.get(one), described(Path(one))) for one, name in found.items()], True


def _named(reference: str | Path, match: str | None) -> list[Listed]:
    return [Listed(one, name) for one, name in names(reference, match=match).items()]


def _told(source: Source, match: str | None, asked: Asked, where: str | None) -> tuple[list[Listed], bool]:
    """The runs of a source in the usual order, no more of them than are needed; and whether these are all it has."""
    if asked == Asked() or not chooses(source):
        return list(told(source, match)), True
    stream = iter(told(source, match, asked))
    taken: list[Listed] = []
    some = None if asked.limit is None else asked.limit + 1
    are_enough = False
    while not are_enough and (more := list(islice(stream, some))):
        taken += more
        some = len(taken)  # as many again: each time all of them are looked through
        are_enough = _are_enough(taken, asked, where)
    if not taken and asked.comparisons:
        # That nothing fits is another matter than that nothing is there.
        return [], next(iter(told(source, match, Asked(limit=1))), None) is None
    return taken[::-1] if asked.newest else taken, not asked.comparisons and not are_enough


def _are_enough(runs: Sequence[Listed], asked: Asked, where: str | None) -> bool:
    """Whether the runs that are wanted are among these, the first that a source has told of."""
    fits = [True] * len(runs) if where is None else settled([run.values() for run in runs], where)
    wanted = [run for run, fit in zip(runs, fits or (), strict=False) if fit]
    if asked.limit is None or len(wanted) < asked.limit:
        return False
    last = wanted[asked.limit - 1]
    return not asked.newest or runs[-1].started[:19] < last.started[:19]  # to the second


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
