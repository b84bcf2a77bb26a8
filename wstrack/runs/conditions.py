"""Conditions on what is known of runs: the WHERE of SQL, which SQLite reads, in a database that holds nothing else."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

__all__ = ["fitting", "is_of_one_run", "settled"]

_MOST_STEPS = 20_000_000  # of SQLite's machine, a second or so: a condition is no program
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]""")
_WORD = re.compile(r"[^\W\d]\w*(?:\.\w+)*")
# By these a condition sees other rows, their number, or their order, or it is another one each time.
_BESIDE = re.compile(
    r"\b(?:select|runs|main|temp|rowid|oid|_rowid_|random|randomblob|changes|total_changes|last_insert_rowid)\b"
    r"|[\"`\[](?:true|false)\b",
    re.IGNORECASE,
)
_TRUTH = re.compile(r"[\"`\[](?:true|false)\b", re.IGNORECASE)  # a setting called so, which has to be quoted


def fitting(rows: Sequence[Mapping[str, Any]], where: str) -> list[bool]:
    """Which rows a condition fits; one on a name that a row does not have fits it not.

    The condition is what SQL has behind WHERE, as SQLite reads it: `=`, `==`, `!=`, `<`, `between`, `in (...)`, `like`,
    `glob`, `is null`, `and`, `or`, `not`, arithmetic. A name with other signs than letters, digits, `_` and dots is in
    double quotes; a text is in single ones. Truth values are 1 and 0, `true` and `false`.

    Args:
        rows: by name, texts, numbers and truth values.
        where: the condition.

    Raises:
        ValueError: it is none, or asks for a name that no row has.

    Example:
        >>> rows = [{"lr": 0.1, "model.name": "vit"}, {"lr": 0.01, "model.name": "vit"}, {"model.name": "mlp"}]
        >>> fitting(rows, "lr > 1e-4 and model.name == 'vit'")
        [True, True, False]
    """
    return _read(rows, where)[0]


def settled(rows: Sequence[Mapping[str, Any]], where: str) -> list[bool] | None:
    """Which rows a condition fits, whatever rows there are beside these; None where that depends on those.

    It does where no row here has a name that the condition has, letter for letter: another may, or one much like it.

    Example:
        >>> settled([{"lr": 0.1}], "lr > 0"), settled([{"lr": 0.1}], "LR > 0"), settled([{"lr": 0.1}], "rate > 0")
        ([True], None, None)
    """
    if not is_of_one_run(where):
        return None
    try:
        fits, columns = _read(rows, where)
    except ValueError:
        return None
    written = _written(where)
    alike = [{name for name in written if name.lower() == column.lower()} == {column} for column in columns]
    return fits if all(alike) else None


def is_of_one_run(where: str) -> bool:
    """Whether a condition looks at nothing but the row itself.

    Example:
        >>> is_of_one_run("lr > 1"), is_of_one_run("lr = (select max(lr) from runs)")
        (True, False)
    """
    return _BESIDE.search(re.sub(r"'(?:[^']|'')*'", "", where)) is None


def _read(rows: Sequence[Mapping[str, Any]], where: str) -> tuple[list[bool], set[str]]:
    """Which rows a condition fits, and the columns that it is about."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    condition = _quoted(where, names, shown)
    columns = _columns(names, where)
    about: set[str] = set()
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(f"create table runs ({', '.join(map(_column, columns)) or '[]'})")
        values = [[_value(row, name) for name in columns] or [None] for row in rows]
        marks = ", ".join("?" * max(len(columns), 1))
        database.executemany(f"insert into runs values ({marks})", values)  # noqa: S608  question marks of ours
        database.set_authorizer(lambda *told: _only_these(about, *told))
        left = [_MOST_STEPS // 10_000]

        def count() -> int:
            left[0] -= 1
            return int(left[0] < 0)

        database.set_progress_handler(count, 10_000)
        try:
            found = {place for (place,) in database.execute(f"select rowid from runs where ({condition}\n)")}  # noqa: S608  it may only read this table
        except (sqlite3.Error, sqlite3.Warning) as error:
            said = re.sub(r"no such column: (\S+)", r"there is no setting \1", str(error))
            raise ValueError(
                f"where={where!r} (--where) cannot be read: {said}. It is as behind WHERE in SQL, as in lr > 1e-4 and "
                f"model == 'vit'; there are {shown}"
            ) from error
    return [place in found for place in range(1, len(rows) + 1)], about.intersection(columns)


def _only_these(about: set[str], action: int, one: str | None, other: str | None, *_: object) -> int:
    """What a condition may do: read the one table, and compute, but for what could reach a file.

    What it reads is added to `about`.
    """
    if action == sqlite3.SQLITE_READ and other:
        about.add(other)
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if other in ("load_extension", "readfile", "writefile") else sqlite3.SQLITE_OK
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY


def _columns(names: Sequence[str], where: str) -> list[str]:
    """Those that a condition may mean, for a table has few columns.

    Of two that SQLite takes for one, the one that is written so, or else the first.
    """
    asked = where.lower().replace('""', '"')
    found = {name.lower(): name for name in reversed(names) if name.lower() in asked}
    written = _written(where)
    found |= {name.lower(): name for name in reversed(names) if name in written}
    return [name for word, name in found.items() if word not in ("true", "false") or _TRUTH.search(where)]


def _written(where: str) -> set[str]:
    """The names in a condition, and its other words, as they are written."""
    quoted = [found[0] for found in _QUOTED.finditer(where) if found[0][0] != "'"]
    unquoted = {text[1:-1].replace('""', '"') if text[0] == '"' else text[1:-1] for text in quoted}
    return unquoted | set(_WORD.findall(_QUOTED.sub(" ", where)))


def _column(name: str) -> str:
    return '"' + name.replace('"', '""').replace("\0", "") + '"'


def _value(row: Mapping[str, Any], name: str) -> str | float | int | None:
    value = row.get(name)
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    if isinstance(value, int | float):
        return value
    return str(value).encode(errors="backslashreplace").decode()


def _quoted(where: str, names: Sequence[str], shown: str) -> str:
    """The condition with names that have dots in quotes. What is quoted must be a name: SQLite takes it for a text."""
    known = {name.lower() for name in names}
    parts, at = [], 0
    for found in _QUOTED.finditer(where):
        parts += [_dotted(where[at : found.start()], known), found[0]]
        at = found.end()
        if found[0][0] == '"' and found[0][1:-1].replace('""', '"').lower() not in known:
            raise ValueError(
                f"where={where!r} (--where): there is no setting {found[0]}; there are {shown}. Texts stand in single "
                "quotes"
            )
    return "".join([*parts, _dotted(where[at:], known)])


def _dotted(text: str, known: set[str]) -> str:
    return _WORD.sub(lambda word: _column(word[0]) if "." in word[0] and word[0].lower() in known else word[0], text)
