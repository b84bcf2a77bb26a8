"""A sweep summed up: what its settings do to which layers, and which of its runs are unlike all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wstrack.analysis.findings import Finding
from wstrack.analysis.findings.runs import trends, unlike_others
from wstrack.analysis.odd import odd_runs
from wstrack.analysis.slopes import FEWEST, Slopes, interaction, is_logarithmic, slopes
from wstrack.errors import WstrackError
from wstrack.runs.listed import Listed, differing, encodable_text, table_of
from wstrack.sweeps.summary import Summary

__all__ = ["Summed", "numbers_for", "parts_of_by", "summed_up"]

Array = NDArray[np.float64]

MOST_SETTINGS = 6  # that are looked at unasked
_NO_SETTING = ("seed", "random_seed", "random_state", "manual_seed", "data_seed")  # numbers that are names


@dataclass(frozen=True, repr=False)
class Summed:
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

    @property
    def noun(self) -> str:
        """What a number of the metric is called."""
        return "change" if self.metric.startswith("rwc") else "value"

    @property
    def findings(self) -> list[Finding]:
        """What the settings do to which layers, and which runs are unlike all others, in sentences."""
        found = [finding for one in self.slopes.values() for finding in trends(one, self.noun)]
        odd = {self.labels[reference]: why for reference, why in self.odd.items()}
        return [*found, *([unlike_others(odd)] if odd else [])]

    @cached_property
    def labels(self) -> dict[str, str]:
        """By reference, what a run is called: its name, with the reference where others have that too."""
        read = {one.reference: one.name for one in self.runs}
        named = self.table["name"].fillna("").astype(str) if "name" in self.table else pd.Series(dtype=str)
        names = {
            str(reference): str(named.get(reference, "")) if "name" not in self.differing else read.get(reference, "")
            for reference in self.table.index
        }
        count = Counter(names.values())
        return {
            reference: reference if not name else name if count[name] == 1 else f"{name} ({reference})"
            for reference, name in names.items()
        }

    def __repr__(self) -> str:
        by = f"by {', '.join(self.slopes)}; " if self.slopes else ""
        return f"<Sweep of {len(self.table):,} runs: {self.metric}, {len(self.layers)} layers; {by}{len(self.odd)} odd>"


def summed_up(
    summaries: Sequence[Summary],
    runs: Sequence[Listed],
    *,
    by: Sequence[str] | None = None,
    title: str = "",
    match: str | None = None,
) -> Summed:
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
    # Paths that are no UTF-8 come with halves of surrogate pairs, which no frame takes.
    summaries = [replace(one, reference=encodable_text(one.reference)) for one in summaries]
    runs = [replace(one, reference=encodable_text(one.reference)) for one in runs]
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
    differ = differing(names)
    chosen, passed = (by, {}) if by is not None else _worth_a_look(differ, [settings[one.reference] for one in kept])
    told = {
        name: numbers_for(name, [settings[one.reference] for one in kept])
        for each in chosen
        for name in parts_of_by(each)
    }
    found = {each: _slopes_by(each, told, levels, layers) for each in chosen}
    x = [np.log10(values) if is_logarithmic(values[np.isfinite(values)]) else values for values in told.values()]
    whole = [bool(np.isfinite(np.column_stack(x)[place]).all()) if x else True for place in range(len(kept))]
    comparable = levels.loc[whole]
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
    return Summed(
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
        differing=tuple(differ),
    )


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


def parts_of_by(by: str) -> list[str]:
    """The settings that are meant: one, or the two of "lr * width"."""
    return [part.strip() for part in by.split(" * ")]


def numbers_for(name: str, settings: Sequence[Mapping[str, Any]]) -> Array:
    """Of each run, by its settings, the number that it has for one; NaN for none.

    Raises:
        ValueError: there are no numbers, or they are all the same.
    """
    values = np.array([_number(one.get(name)) for one in settings])
    there = values[np.isfinite(values)]
    if not len(there):
        raise ValueError(
            f"by={name!r} (--by) has no numbers in these runs; hold names against each other with compare={name!r} "
            "(wstrack report --compare)"
        )
    if len(np.unique(there)) < 2:
        raise ValueError(f"by={name!r} (--by) is {there[0]:g} in all runs; pass a setting that differs between them")
    return values


def _slopes_by(by: str, told: Mapping[str, Array], levels: pd.DataFrame, layers: pd.DataFrame) -> Slopes:
    """The slopes, over the runs that have the settings."""
    of = [told[name] for name in parts_of_by(by)]
    there = np.flatnonzero(np.isfinite(np.column_stack(of)).all(axis=1))
    about = {"kinds": layers["kind"].tolist(), "blocks": layers["block"].tolist()}
    if len(of) == 2:
        return interaction(levels.iloc[there], of[0][there], of[1][there], by=by, **about)
    return slopes(levels.iloc[there], of[0][there], by=by, **about)
