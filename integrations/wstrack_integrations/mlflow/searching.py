"""What MLflow can look for by itself when runs are chosen: comparisons as its filter, and as conditions of SQL.

A column of a run may come from several places: a parameter stands over a tag, both stand over what MLflow says of the
run (its state, its start), and that over a metric. MLflow keeps parameters and tags as texts, so numbers among them are
not looked for: 0.1 may be written 1e-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wstrack.runs.asked import days_of
from wstrack.runs.listed import ABOUT, flat
from wstrack_integrations.mlflow.history import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wstrack.runs.asked import Comparison

__all__ = ["OURS", "filters", "sql"]

OURS = f"tags.`{METRICS}` LIKE '%'"
"""The filter for runs that wstrack logged."""

STATES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")  # all that MLflow has
_PLAIN = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _.:/-"
)  # MLflow's own filter has no escape


def filters(comparisons: Sequence[Comparison], is_there: Callable[[str], bool]) -> Iterator[str]:
    """Filters of MLflow's search, all of which each run fits that the comparisons fit. It has no `or`.

    Args:
        comparisons: what is wanted.
        is_there: whether any of the runs fits a filter.
    """
    known: dict[str, list[str]] = {}

    def kept_as(name: str) -> list[str]:
        """Where runs have a text of that name."""
        if name not in known:
            known[name] = [kind for kind in ("params", "tags") if is_there(f"{kind}.`{name}` LIKE '%'")]
        return known[name]

    if (others := _other_states(comparisons)) and not kept_as("state"):
        yield from (f"attributes.status != '{state}'" for state in others)
    first, _ = days_of(comparisons)
    if first is not None and not kept_as("started"):
        # No filter has runs without a start, which come before all days.
        yield f"attributes.start_time >= {_milliseconds(first)}"
    for one in comparisons:
        if not _PLAIN.issuperset(one.name):
            continue
        # Of several values the filter has no `in`, but for ids.
        if (texts := _texts(one)) and len(texts) == 1 and _PLAIN.issuperset(texts[0]):
            if len(kinds := kept_as(one.name)) == 1:
                yield f"{kinds[0]}.`{one.name}` = '{texts[0]}'"
        elif (number := _number(one)) is not None and not kept_as(one.name):
            yield f"metrics.`{one.name}` {one.sign} {number!r}"


def sql(comparisons: Sequence[Comparison], *, ours: bool) -> tuple[list[str], dict[str, Any]]:
    """Conditions on rows of the table `runs`, all of which each run fits that the comparisons fit, and their values.

    Args:
        comparisons: what is wanted.
        ours: only runs that wstrack logged.
    """
    values: dict[str, Any] = {}

    def bound(value: object) -> str:
        values[f"asked{len(values)}"] = value
        return f":asked{len(values) - 1}"

    def among(kind: str, name: str, of_value: str = "") -> str:
        there = f"{kind}.run_uuid = runs.run_uuid and {kind}.key = {bound(name)}"
        return f"exists (select 1 from {kind} where {there}{of_value})"  # noqa: S608  values are bound

    def unless_told(name: str, condition: str) -> str:
        return f"({condition} or {among('params', name)} or {among('tags', name)})"

    found = [among("tags", METRICS)] if ours else []
    if others := _other_states(comparisons):
        states = ", ".join(map(bound, others))
        found.append(unless_told("state", f"coalesce(status, '') not in ({states})"))
    first, last = days_of(comparisons)
    if first is not None:
        found.append(unless_told("started", f"start_time >= {bound(_milliseconds(first))}"))
    if last is not None:
        found.append(unless_told("started", f"coalesce(start_time, 0) < {bound(_milliseconds(last))}"))
    for one in comparisons:
        if one.name == "name" and one.sign in ("=", "in") and (texts := _only_texts(one)):
            # A run that has no name there has it in a tag, or is called by its id.
            found.append(unless_told("name", f"coalesce(name, '') = '' or name in ({', '.join(map(bound, texts))})"))
        elif texts := _texts(one):
            of_value = f"value in ({', '.join(map(bound, texts))})"
            kinds = [among(kind, one.name, f" and {kind}.{of_value}") for kind in ("params", "tags")]
            found.append(f"({' or '.join(kinds)})")
        elif (number := _number(one)) is not None:
            sign = one.sign.replace("!=", "<>")
            value = f" and latest_metrics.value {sign} {bound(number)}"
            found.append(unless_told(one.name, among("latest_metrics", one.name, value)))
    return found, values


def _other_states(comparisons: Sequence[Comparison]) -> list[str]:
    """The states that no wanted run is in."""
    others: dict[str, None] = {}
    for one in comparisons:
        if one.name == "state" and one.sign in ("=", "!=", "in"):
            fitting = {state for state in STATES if state.lower() in one.values}
            others |= dict.fromkeys(state for state in STATES if (state in fitting) == (one.sign == "!="))
    return list(others)


def _milliseconds(moment: Any) -> int:
    return int(moment.timestamp() * 1000)


def _only_texts(one: Comparison) -> list[str]:
    texts = [value for value in one.values if isinstance(value, str) and "\0" not in value]
    return texts if len(texts) == len(one.values) else []


def _texts(one: Comparison) -> list[str]:
    """The texts, one of which a parameter or tag has that fits."""
    is_hidden = flat({one.name: "told"})[one.name] != "told"  # a password, say
    if one.sign not in ("=", "in") or one.name in ("reference", *ABOUT) or is_hidden:
        return []
    return _only_texts(one)


def _number(one: Comparison) -> float | None:
    """The number that a metric is held against."""
    value = one.values[0]
    if one.sign == "in" or one.name in ("reference", *ABOUT) or isinstance(value, str):
        return None
    return float(value) if abs(value) < 2**53 else None
