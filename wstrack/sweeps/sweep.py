"""A sweep: what its runs have in common, what their settings do to which layers, and which are unlike all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wstrack.analysis.odd import odd_runs
from wstrack.analysis.slopes import FEWEST, Slopes, interaction, is_logarithmic, slopes
from wstrack.errors import WstrackError
from wstrack.runs.listed import Listed, table_of
from wstrack.sweeps.kept import Kept
from wstrack.sweeps.summary import Ask, Summary, at_home, summarise
from wstrack.sweeps.work import Client, Lost, answers
from wstrack.trackers.listing import listed
from wstrack.trackers.references import split
from wstrack.trackers.registry import tracker

__all__ = ["Sweep", "sweep"]

MOST_SETTINGS = 6  # that are looked at unasked
_NO_SETTING = ("seed", "random_seed", "random_state", "manual_seed", "data_seed")  # numbers that are names


@dataclass(frozen=True, repr=False)
class Sweep:
    """Many runs, summed up.

    Attributes:
        runs: those that were read, in the order of the list.
        metric: of all levels.
        table: a row a run, by reference, with those that could not be read: as of `wstrack.runs_table`, then `whole`
            (the share of its values that came), `findings` (their kinds), `odd` and `unread` (why).
        layers: by name, in model order: `kind`, `block`, `runs` (how many have it).
        levels: by reference and layer: the mean log10 of its values; NaN where a run has none.
        slopes: by setting, how the layers go with it.
        passed_over: by setting that was looked at unasked, why it has no slopes.
        odd: runs that are unlike all others, by reference: what is odd about each.
        unread: runs that could not be read, by reference: why.
        differing: the settings that not all runs have alike.
        match: how the runs were read (`wstrack.pull`).
        title: for people; perhaps "".
    """

    runs: tuple[Summary, ...]
    metric: str
    table: pd.DataFrame
    layers: pd.DataFrame
    levels: pd.DataFrame
    slopes: Mapping[str, Slopes]
    odd: Mapping[str, str]
    unread: Mapping[str, str]
    passed_over: Mapping[str, str] = field(default_factory=dict)
    differing: tuple[str, ...] = ()
    match: str | None = None
    title: str = ""

    def __repr__(self) -> str:
        by = f"by {', '.join(self.slopes)}; " if self.slopes else ""
        return f"<Sweep of {len(self.table):,} runs: {self.metric}, {len(self.layers)} layers; {by}{len(self.odd)} odd>"


def sweep(
    reference: str | Path | Sequence[str | Path],
    *,
    by: str | Sequence[str] | None = None,
    metric: str | None = None,
    match: str | None = None,
    where: str | None = None,
    limit: int | None = None,
    newest: bool = False,
    to: str | Path | None = None,
    client: Client | None = None,
    title: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """What many runs have in common: each is read, summed up and let go.

    Args:
        reference, match, where, limit, newest: which runs; see `wstrack.pull_many`.
        by: a setting that has numbers, or several; "lr * width" is how the slope with the one goes with the other. By
            default every setting with numbers that differs between the runs, but for seeds; six at most.
        metric: what is summed up; by default `rwc`, or the first metric of a run where there is no `rwc`.
        to: a folder in which summaries are kept: of runs that have not changed since, they are not made again. There
            `Sweep.save` writes pages.
        client: of a Dask cluster (`dask.distributed.Client`) whose workers read the runs; by default each processor
            of this machine does.
        title: for people.
        progress: called with how many runs are done, and of how many.

    Raises:
        ValueError: an argument that cannot be; the message names the remedy.
        WstrackError: there is no run, or none could be read.

    Example:
        >>> import tempfile, torch, wstrack
        >>> folder = tempfile.mkdtemp()
        >>> for lr in (0.1, 0.2, 0.4, 0.8, 1.6):
        ...     model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
        ...     optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        ...     with wstrack.watch(model, every=1, to=f"{folder}/{lr}", facts={"lr": lr}):
        ...         for step in range(4):
        ...             for parameter in model.parameters():
        ...                 parameter.grad = 0.01 * parameter.detach()
        ...             optimizer.step()
        >>> found = sweep(folder, by="lr")
        >>> found.slopes["lr"].layers["slope"].round(2).tolist()
        [1.0, 1.0]
    """
    asked_by = [by] if isinstance(by, str) else list(by or ())
    runs = listed(reference, where=where, limit=limit, newest=newest, match=match)
    folder = None if to is None else Path(to)
    told = {one.reference: one for one in runs}
    for name in asked_by:  # before anything is read, which may take minutes
        _check_by(name, runs)
    home = {at_home(one.reference): one.reference for one in runs}
    with Kept(folder, (metric, match)) as kept:
        asks = [
            Ask(there, metric, match, told[here].stamp if match is None else "", _known(kept, here))
            for there, here in home.items()
        ]
        found: dict[str, Summary] = {}
        for count, (ask, answer) in enumerate(answers(summarise, asks, client=client, at_once=_at_once(asks)), 1):
            here = home[ask.reference]
            if answer is None:
                found[here] = kept.found[here]
            elif isinstance(answer, Lost):
                found[here] = Summary(here, error="the process that read it died, as where memory runs out")
            else:
                found[here] = replace(answer, reference=here)
                kept.add(found[here])
            if progress is not None:
                progress(count, len(asks))
        ordered = [found[one.reference] for one in runs]
        kept.write(ordered)
    return summed_up(ordered, runs, by=asked_by if by is not None else None, title=title, match=match)


def summed_up(
    summaries: Sequence[Summary],
    runs: Sequence[Listed],
    *,
    by: Sequence[str] | None = None,
    title: str = "",
    match: str | None = None,
) -> Sweep:
    """The sweep that summaries make up.

    Args:
        summaries: of each run, in order.
        runs: what lists tell of them.
        by: settings with numbers; None = all that differ.
        title, match: of the sweep.

    Raises:
        ValueError: a setting that is not asked for rightly.
        WstrackError: no run could be read.
    """
    read = [one for one in summaries if not one.error]
    if not read:
        first = summaries[0]
        raise WstrackError(f"none of the {len(summaries)} runs could be read; {first.reference}: {first.error}")
    metric = Counter(one.metric for one in read).most_common(1)[0][0]
    unread = {one.reference: one.error for one in summaries if one.error}
    for one in read:
        if one.metric != metric:
            unread[one.reference] = f"it has {one.metric}, and most runs have {metric}; pass metric= (--metric)"
    kept = [one for one in read if one.metric == metric]
    settings = {
        listed_one.reference: {**listed_one.settings, **one.settings}
        for one, listed_one in zip(summaries, runs, strict=True)
    }
    levels, layers = _levels(kept)
    names = [replace(one, settings=settings[one.reference], name=one.name or "") for one in runs]
    differing = _differing([settings[one.reference] for one in runs])
    chosen, passed = (by, {}) if by is not None else _worth_a_look(differing, [settings[one.reference] for one in kept])
    told = {name: _values(name, kept, settings) for each in chosen for name in _parts(each)}
    found = {each: _slopes_by(each, told, levels, layers) for each in chosen}
    x = [np.log10(values) if is_logarithmic(values[np.isfinite(values)]) else values for values in told.values()]
    whole = [bool(np.isfinite(np.column_stack(x)[place]).all()) if x else True for place in range(len(kept))]
    comparable = levels[whole]
    odd = odd_runs(comparable, [each[whole] for each in x]) if len(comparable) >= FEWEST else {}
    summary_of = {one.reference: one for one in kept}
    table = table_of(names)
    known = [summary_of.get(reference) for reference in table.index]
    ours: dict[str, list[Any]] = {
        "whole": [one.received / one.expected if one and one.expected else None for one in known],
        "findings": [", ".join(dict.fromkeys(kind for kind, _ in one.findings)) if one else "" for one in known],
        "odd": [odd.get(reference, "") for reference in table.index],
        "unread": [unread.get(reference, "") for reference in table.index],
    }
    for name, column in ours.items():
        if name not in table:  # a setting of that name stands
            table[name] = column
    return Sweep(
        runs=tuple(kept),
        metric=metric,
        table=table,
        layers=layers,
        levels=levels,
        slopes=found,
        odd=odd,
        unread=unread,
        passed_over=passed,
        title=title.strip(),
        match=match,
        differing=tuple(differing),
    )


def _known(kept: Kept, reference: str) -> str:
    return kept.found[reference].stamp if reference in kept.found and not kept.found[reference].error else ""


def _at_once(asks: Sequence[Ask]) -> int | None:
    """How many runs their trackers want to be read at a time."""
    first = {split(ask.reference)[0]: split(ask.reference)[1] for ask in asks}
    limits = [getattr(tracker(scheme).open_source(at), "at_once", None) for scheme, at in first.items() if scheme]
    return min((limit for limit in limits if limit is not None), default=None)


def _levels(runs: Sequence[Summary]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The levels of all layers of all runs, and the layers, in the order of the model as far as runs agree."""
    layers: dict[str, tuple[str, str]] = {}
    count: Counter[str] = Counter()
    for names, kinds, blocks in dict.fromkeys((one.layers, one.kinds, one.blocks) for one in runs):
        for place, name in enumerate(names):
            layers.setdefault(name, (kinds[place], blocks[place]))
    place_of = {name: place for place, name in enumerate(layers)}
    table = np.full((len(runs), len(layers)), np.nan)
    for row, one in enumerate(runs):
        count.update(one.layers)
        table[row, [place_of[name] for name in one.layers]] = [np.nan if v is None else v for v in one.levels]
    about = pd.DataFrame.from_dict(layers, orient="index", columns=["kind", "block"])
    about["runs"] = [count[name] for name in layers]
    index = pd.Index([one.reference for one in runs], name="reference", dtype=object)
    columns = pd.Index(list(layers), name="layer", dtype=object)
    return pd.DataFrame(table, index=index, columns=columns), about.set_axis(columns, axis="index")


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len({repr(one.get(name)) for one in settings}) > 1]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan


def _worth_a_look(names: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> tuple[list[str], dict[str, str]]:
    """The settings with numbers that differ, and why others that differ are passed over."""
    chosen: list[str] = []
    passed: dict[str, str] = {}
    for name in names:
        values = np.array([_number(one.get(name)) for one in settings])
        there = values[np.isfinite(values)]
        if not len(there):
            continue  # names: compare= is for those
        if name.lower().rsplit(".", 1)[-1] in _NO_SETTING:
            passed[name] = "a seed is a name"
        elif len(there) < FEWEST or len(np.unique(there)) < 2:
            passed[name] = f"{len(there)} runs have a number there" if len(there) < FEWEST else "the numbers are alike"
        elif len(chosen) == MOST_SETTINGS:
            passed[name] = f"{MOST_SETTINGS} others come before it; ask for it with by= (--by)"
        else:
            chosen.append(name)
    return chosen, passed


def _parts(by: str) -> list[str]:
    """The settings that are meant: one, or the two of "lr * width"."""
    return [part.strip() for part in by.split(" * ")]


def _check_by(by: str, runs: Sequence[Listed]) -> None:
    known = list(dict.fromkeys(name for run in runs for name in run.settings))
    for name in _parts(by):
        if name not in known:
            raise ValueError(f"by={by!r} (--by): {name!r} is no setting of these runs; they have {', '.join(known)}")
    if len(_parts(by)) > 2:
        raise ValueError(
            f"by={by!r} (--by) is of {len(_parts(by))} settings; an interaction is of two, as 'lr * width'"
        )


def _values(name: str, runs: Sequence[Summary], settings: Mapping[str, Mapping[str, Any]]) -> np.ndarray[Any, Any]:
    """Of each run, the number that it has for a setting; NaN for none."""
    values = np.array([_number(settings[one.reference].get(name)) for one in runs])
    there = values[np.isfinite(values)]
    if not len(there):
        raise ValueError(
            f"by={name!r} (--by) has no numbers in these runs; hold names against each other with compare={name!r} "
            "(wstrack report --compare)"
        )
    if len(np.unique(there)) < 2:
        raise ValueError(f"by={name!r} (--by) is {there[0]:g} in all runs; pass a setting that differs between them")
    return values


def _slopes_by(by: str, told: Mapping[str, np.ndarray[Any, Any]], levels: pd.DataFrame, layers: pd.DataFrame) -> Slopes:
    """The slopes, over the runs that have the settings."""
    of = [told[name] for name in _parts(by)]
    there = np.isfinite(np.column_stack(of)).all(axis=1)
    about = {"kinds": layers["kind"].tolist(), "blocks": layers["block"].tolist()}
    if len(of) == 2:
        return interaction(levels[there], of[0][there], of[1][there], by=by, **about)
    return slopes(levels[there], of[0][there], by=by, **about)
