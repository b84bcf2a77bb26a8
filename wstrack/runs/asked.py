"""What is asked of a tracker when runs are chosen: those parts of a condition that it can look for by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone

from wstrack.runs.conditions import is_of_one_run

__all__ = ["Asked", "Comparison", "asked_of", "comparisons_in", "days_of"]

Literal = str | int | float

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\])
    |(?P<word>[^\W\d]\w*(?:\.\w+)*)
    |(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
    |(?P<sign>==|!=|<>|<=|>=|=|<|>)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_SIGNS = {"==": "=", "<>": "!="}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_NO_NAMES = {"true", "false", "null", "not", "current_date", "current_time", "current_timestamp"}


@dataclass(frozen=True)
class Comparison:
    """A name of a column beside what it is held against: one value, or several for the sign "in".

    Attributes:
        name: as the condition has it, without quotes.
        sign: "=", "!=", "<", "<=", ">", ">=" or "in".
        values: texts and numbers.
    """

    name: str
    sign: str
    values: tuple[Literal, ...]


@dataclass(frozen=True)
class Asked:
    """Which runs are wanted of all that a source has.

    A source may leave out runs that some comparison does not fit, and no others: what it tells is looked through again.

    Attributes:
        comparisons: each wanted run fits all of them, by the columns that `Listed.values` has.
        newest: the latest start first, and of those that started in one second the last in the usual order first.
        limit: how many are wanted; whoever asks takes no more of them than it must.
    """

    comparisons: tuple[Comparison, ...] = ()
    newest: bool = False
    limit: int | None = None


def asked_of(where: str | None, *, limit: int | None, newest: bool) -> Asked:
    """What may be asked of each source for a choice of runs.

    Example:
        >>> asked_of("state = 'finished' and lr * 2 > 1", limit=None, newest=True).comparisons
        (Comparison(name='state', sign='=', values=('finished',)),)
    """
    if where is None:
        return Asked((), newest and limit is not None, limit)
    if not is_of_one_run(where):
        return Asked()
    return Asked(comparisons_in(where), newest and limit is not None, limit)


def comparisons_in(where: str) -> tuple[Comparison, ...]:
    """The comparisons of a name with a text or a number which every run must fit that the condition fits.

    Anything that is not plainly one is left out: `or`, `not`, functions, arithmetic.

    Example:
        >>> [(each.name, each.sign, each.values) for each in comparisons_in("lr between 1e-4 and .1 and not (a = 1)")]
        [('lr', '>=', (0.0001,)), ('lr', '<=', (0.1,))]
        >>> comparisons_in("lr = 1 or state = 'failed'")
        ()
    """
    tokens = [(found.lastgroup or "", found[0]) for found in _TOKEN.finditer(where) if found.lastgroup != "space"]
    words = {text.lower() for kind, text in tokens if kind == "word"}
    bare = re.sub(r"'(?:[^']|'')*'", "", where)
    if "case" in words or "--" in bare or "/*" in bare:
        return ()
    depth = 0
    for _, text in tokens:
        depth += (text == "(") - (text == ")")
        if depth < 0:
            return ()
    return tuple(_in(tokens)) if depth == 0 else ()


def days_of(comparisons: Sequence[Comparison]) -> tuple[datetime | None, datetime | None]:
    """Whole days of UTC between which those started whose start, in ISO 8601, fits what is said of `started`.

    Example:
        >>> days_of(comparisons_in("started >= '2026-05-04T10:00' and lr = 1"))
        (datetime.datetime(2026, 5, 4, 0, 0, tzinfo=datetime.timezone.utc), None)
    """
    first: datetime | None = None
    last: datetime | None = None
    for one in comparisons:
        if one.name != "started" or one.sign in ("!=", "in") or not isinstance(text := one.values[0], str):
            continue
        try:
            day = datetime.combine(date.fromisoformat(text[:10]), datetime.min.time(), timezone.utc)
        except ValueError:
            continue
        if day.date().isoformat() != text[:10]:
            continue  # another way to write it, which texts are not in order with
        if one.sign in (">", ">=", "="):
            first = day if first is None else max(first, day)
        if one.sign in ("<", "<=", "=") and day.year < 9999:
            last = day + timedelta(days=1) if last is None else min(last, day + timedelta(days=1))
    return first, last


_Tokens = Sequence[tuple[str, str]]


def _in(tokens: _Tokens) -> list[Comparison]:
    pieces: list[list[tuple[str, str]]] = [[]]
    depth, between = 0, 0
    for kind, text in tokens:
        depth += (text == "(") - (text == ")")
        word = text.lower() if kind == "word" and depth == 0 else ""
        if word == "or":
            return []
        if word == "and" and not between:
            pieces.append([])
            continue
        between += (word == "between") - (word == "and")
        pieces[-1].append((kind, text))
    return [one for piece in pieces for one in _plain(piece)]


def _plain(piece: _Tokens) -> list[Comparison]:
    if len(piece) > 2 and piece[0][1] == "(" and _closes(piece) == len(piece) - 1:
        return _in(piece[1:-1])
    shape = " ".join(text.lower() if kind == "word" else "" for kind, text in piece)
    kinds = [kind for kind, _ in piece]
    name = _name(piece[0]) if piece else None
    if name is None:
        is_mirrored = len(piece) > 2 and kinds[-2] == "sign" and _name(piece[-1]) is not None
        mirrored = _plain([piece[-1], piece[-2], *piece[:-2]]) if is_mirrored else []
        return [replace(one, sign=_MIRRORED[one.sign]) for one in mirrored]
    if len(piece) > 2 and kinds[1] == "sign":
        value = _literal(piece[2:])
        return [] if value is None else [Comparison(name, _SIGNS.get(piece[1][1], piece[1][1]), (value,))]
    if len(piece) > 3 and piece[1][1].lower() == "in" and piece[2][1] == "(" and piece[-1][1] == ")":
        values = [_literal(each) for each in _split(piece[3:-1], ",")]
        known = tuple(value for value in values if value is not None)
        return [Comparison(name, "in", known)] if known and len(known) == len(values) else []
    if len(piece) > 4 and piece[1][1].lower() == "between" and " and" in shape:
        bounds = [_literal(each) for each in _split(piece[2:], "and")]
        if len(bounds) == 2 and bounds[0] is not None and bounds[1] is not None:
            return [Comparison(name, ">=", (bounds[0],)), Comparison(name, "<=", (bounds[1],))]
    return []


def _closes(piece: _Tokens) -> int:
    """Where the first parenthesis ends."""
    depth = 0
    for place, (_, text) in enumerate(piece):
        depth += (text == "(") - (text == ")")
        if depth == 0:
            return place
    return -1


def _split(tokens: _Tokens, by: str) -> list[list[tuple[str, str]]]:
    parts: list[list[tuple[str, str]]] = [[]]
    for token in tokens:
        if token[0] in ("other", "word") and token[1].lower() == by:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _name(token: tuple[str, str]) -> str | None:
    kind, text = token
    if kind == "quoted":
        return text[1:-1].replace('""', '"') if text[0] == '"' else text[1:-1]
    return text if kind == "word" and text.lower() not in _NO_NAMES else None


def _literal(tokens: _Tokens) -> Literal | None:
    if len(tokens) == 1 and tokens[0][0] == "text":
        return tokens[0][1][1:-1].replace("''", "'")
    if not tokens or tokens[-1][0] != "number" or [text for _, text in tokens[:-1]] not in ([], ["-"], ["+"]):
        return None
    text = "".join(text for _, text in tokens)
    return int(text) if tokens[-1][1].isdecimal() and len(text) < 19 else float(text)
