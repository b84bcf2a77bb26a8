"""The columns of the table of runs on the page of a sweep, each word sent once."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from wstrack.messages import printable
from wstrack.runs.listed import ABOUT
from wstrack.sweeps.summed import Summed

__all__ = ["Column", "about_runs", "command", "results_of", "same_in_all", "settings_of"]

Value = str | float | None
_OURS = ("whole", "findings", "odd", "unread")
_LONGEST = 300  # characters of a value that are shown

KINDS = {
    "alerted": "alerts", "changes": "changes", "dead": "dead parts", "decay": "only decay",
    "expected": "not as expected", "frozen": "frozen layers", "incomplete": "values missing",
    "layout": "layout changed", "not_finite": "not finite", "off_path": "checkpoints off their path",
    "rule": "far from 1e-3 a step", "same": "checkpoints alike", "still": "layers stand still",
    "stopped": "stopped learning", "swallowed": "updates swallowed",
    "unequal": "unequal parts", "unrelated": "unrelated weights",
}  # fmt: skip
"""What the findings of a run are called in a cell; those that are missing are called as they are."""


@dataclass(frozen=True)
class Column:
    """A column: a code a row, and the word of each code; or numbers, which have none.

    Attributes:
        title: for people.
        codes: a row each.
        words: by code; None = the codes are the numbers themselves.
        numeric: whether all that there is are numbers.
    """

    title: str
    codes: NDArray[Any]
    words: list[Value] | None
    numeric: bool

    @classmethod
    def of(cls, title: str, values: Sequence[object]) -> Column:
        """The column of values.

        Example:
            >>> Column.of("act", ["gelu", None, "gelu"]).words
            ['gelu', None]
        """
        shown = [_shown(value) for value in values]
        numeric = all(isinstance(value, float) or value is None for value in shown)
        numeric = numeric and any(value is not None for value in shown)
        place = {word: code for code, word in enumerate(dict.fromkeys(shown))}
        if numeric and len(place) > len(shown) / 4:
            numbers = np.array([math.nan if value is None else value for value in shown], dtype=np.float64)
            return cls(printable(title), numbers, None, numeric)
        kind = np.uint16 if len(place) < 1 << 16 else np.uint32
        return cls(printable(title), np.array([place[value] for value in shown], dtype=kind), list(place), numeric)


def _shown(value: object) -> Value:
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | float | np.integer | np.floating):
        try:
            number = float(value)
        except OverflowError:  # of thousands of digits
            return str(value)[:_LONGEST]
        return None if math.isnan(number) else number
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    text = str(value)
    return printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …")


def settings_of(sweep: Summed) -> list[str]:
    """The settings that differ, those with slopes first."""
    asked = [part.strip() for by in sweep.slopes for part in by.split(" * ")]
    return [name for name in dict.fromkeys([*asked, *sweep.differing]) if name in sweep.table]


def _alike(sweep: Summed) -> list[str]:
    """What is the same in all runs."""
    rest = [name for name in map(str, sweep.table) if name not in (*ABOUT, *_OURS, *settings_of(sweep))]
    return [name for name in rest if len({repr(_shown(value)) for value in sweep.table[name]}) == 1]


def results_of(sweep: Summed) -> list[str]:
    """What the user logged beside: the columns that are no setting, and not the same in all runs."""
    known = {name for one in sweep.runs for name in one.settings} | {*settings_of(sweep), *_alike(sweep)}
    return [name for name in map(str, sweep.table) if name not in (*ABOUT, *_OURS, *known)]


def same_in_all(sweep: Summed) -> list[tuple[str, str]]:
    """The names and values of what is the same in all runs."""
    return [(name, _words(sweep.table[name].iloc[0])) for name in _alike(sweep)]


def _words(value: object) -> str:
    shown = _shown(value)
    return "–" if shown is None else f"{shown:.6g}" if isinstance(shown, float) else shown


def command(sweep: Summed, reference: str) -> str:
    """What makes the report on one run of a sweep."""
    options = f" --match {shlex.quote(sweep.match)}" if sweep.match else ""
    options += f" --metric {shlex.quote(sweep.metric)}" if sweep.metric != "rwc" else ""
    return f"wstrack report {shlex.quote(reference)}{options}"


def about_runs(sweep: Summed, pages: Mapping[str, str]) -> dict[str, Column]:
    """The columns that each sweep has, by their field: what a run is called, where its page is, and what is odd.

    Raises:
        ValueError: a page that does not lie beside this one.
    """
    for reference, address in pages.items():
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or address.startswith(("/", "\\")):
            raise ValueError(
                f"pages[{reference!r}]={address!r} is not relative to this page; pass one as 'runs/1.html'"
            )
    references = list(map(str, sweep.table.index))
    labels = sweep.labels
    told = {one.reference: one for one in sweep.runs}
    kinds, texts = [], []
    for reference in references:
        found = told[reference].findings if reference in told else ()
        kinds.append("\n".join(dict.fromkeys(KINDS.get(kind, kind.replace("_", " ")) for kind, _ in found)))
        texts.append("\n".join(" ".join(text.split()) for _, text in found[:6]))
    whole = [
        told[one].received / told[one].expected if one in told and told[one].expected else None for one in references
    ]
    states = [""] * len(references) if "state" in sweep.differing else sweep.table.get("state", [""] * len(references))
    return {
        "name": Column.of("run", [labels[one] for one in references]),
        "reference": Column.of("reference", references),
        "address": Column.of("page", [pages.get(one, "") for one in references]),
        "command": Column.of("command", [command(sweep, one) for one in references]),
        "state": Column.of("state", list(states)),
        "odd": Column.of("odd", ["✕ not read" if one in sweep.unread else "◆ odd" if one in sweep.odd else ""
                                 for one in references]),
        "why": Column.of("why", [sweep.unread.get(one, "") or sweep.odd.get(one, "") for one in references]),
        "findings": Column.of("findings", kinds),
        "texts": Column.of("texts", texts),
        "whole": Column.of("whole", whole),
    }  # fmt: skip
