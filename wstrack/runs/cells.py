"""The cells of a table file, however it was written: by Excel, R, pandas or a tracker's export."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wstrack.errors import WstrackError
from wstrack.runs.files import looks_like

__all__ = ["ABOUT", "Cells", "number", "read_cells"]

ABOUT = b"wstrack.about"
"""Where a Parquet file of ours says more than its cells do."""

_EMPTY = {"", "na", "n/a", "#n/a", "#nv", "nan", "null", "none", "<na>", "-nan"}
_SEPARATORS = ",;\t|"
# Compiled here, for a table may have millions of cells.
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*(e[-+]?\d+)?|\.\d+(e[-+]?\d+)?|inf(inity)?)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Cells:
    """A table: a name for each column, rows of as many cells, and what our own files say beside them.

    Attributes:
        header, rows: as they stand in the file; without columns that have neither a name nor a value.
        comma: whether the numbers have decimal commas, as where a semicolon stands between the columns.
        about: see `wstrack.runs.tables`.
    """

    header: list[str]
    rows: list[list[Any]]
    comma: bool = False
    about: dict[str, Any] = field(default_factory=dict)


def read_cells(path: Path) -> Cells:
    """The cells of a file.

    Raises:
        WstrackError: it is no table; the message says what it is, or in which line it ends to be one.
    """
    try:
        data = path.read_bytes()
        if said := looks_like(data):
            raise WstrackError(f"{path} cannot be read as a table: {said}")
        return _parquet(path) if data.startswith(b"PAR1") else _text(path, data)
    except (OSError, UnicodeError, csv.Error, pa.ArrowException) as error:
        raise WstrackError(f"{path} cannot be read as a table: {error}") from error


def number(cell: Any, *, comma: bool = False) -> float:
    """A cell's number; NaN where nothing was logged.

    Raises:
        ValueError: it is no number.
    """
    if cell is None:
        return math.nan
    if isinstance(cell, (bool, bytes)):
        raise ValueError(f"{cell!r} is not a number")
    if not isinstance(cell, str):
        return float(cell)
    text = cell.strip()
    if text.lower() in _EMPTY:
        return math.nan
    if comma and re.fullmatch(r"[-+]?\d+,\d+(e[-+]?\d+)?", text, re.IGNORECASE):
        return float(text.replace(",", "."))
    # Python takes 1_000 and digits of other scripts, which nobody means here.
    if not _NUMBER.fullmatch(text):
        hint = "; a decimal comma? then put a semicolon between the columns" if re.fullmatch(r"-?\d+,\d+", text) else ""
        raise ValueError(f"{cell!r} is not a number{hint}")
    return float(text)


def _text(path: Path, data: bytes) -> Cells:
    text = _decoded(path, data)
    first, _, rest = text.partition("\n")
    separator = None
    if asked := re.fullmatch(r"sep=(.)\s*", first):  # what Excel is told
        separator, text = asked[1], rest
    separator = separator or max(_SEPARATORS, key=lambda each: len(next(csv.reader([first], delimiter=each), [])))
    lines = list(csv.reader(text.splitlines(keepends=True), delimiter=separator))
    numbered = [(count, line) for count, line in enumerate(lines, 1) if any(cell.strip() for cell in line)]
    if not numbered:
        return Cells([], [])
    header = [cell.strip() for cell in numbered[0][1]]
    rows = []
    for count, line in numbered[1:]:
        while len(line) > len(header) and not line[-1].strip():
            line.pop()
        rows.append((count, line))
    # R gives the column of names no name of its own.
    if rows and re.search(r"\d", header[0]) and all(len(line) == len(header) + 1 for _, line in rows):
        header = ["", *header]
    for count, line in rows:
        if len(line) != len(header):
            raise WstrackError(f"{path}, row {count} has {len(line)} cells and the header has {len(header)}")
    return _without_nothing(header, [line for _, line in rows], comma=separator in ";\t")


def _decoded(path: Path, data: bytes) -> str:
    """The text of a file; Excel writes UTF-16 and marks of byte order."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WstrackError(
            f"{path} cannot be read as a table: it is neither UTF-8 nor UTF-16 ({error.reason} at byte {error.start}); "
            "save it as UTF-8 (Excel: CSV UTF-8)"
        ) from error
    if "\0" in text:
        raise WstrackError(f"{path} cannot be read as a table: it has zero bytes, as no text has")
    return text.replace("\r\n", "\n")


def _without_nothing(header: list[str], rows: list[list[Any]], *, comma: bool) -> Cells:
    """Without columns that have neither a name nor a value: what a separator at the end of each line makes."""
    kept = [
        place
        for place, name in enumerate(header)
        if place == 0 or name or any(str(row[place] or "").strip() for row in rows)
    ]
    return Cells([header[place] for place in kept], [[row[place] for place in kept] for row in rows], comma)


def _parquet(path: Path) -> Cells:
    table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    names = list(table.column_names)
    index = [name for name in _index_of(metadata) if name in names]
    index += [name for name in names if re.fullmatch(r"__index_level_\d+__", name) and name not in index]
    if len(index) > 1:
        raise WstrackError(f"{path} cannot be read as a table: its rows have several names each: {', '.join(index)}")
    names = [*index, *(name for name in names if name not in index)]
    columns = [table.column(name).to_pylist() for name in names]
    header = ["" if re.fullmatch(r"__index_level_\d+__", name) else name for name in names]
    return Cells(header, [list(row) for row in zip(*columns, strict=True)], about=_about(metadata))


def _index_of(metadata: dict[bytes, bytes]) -> Sequence[str]:
    """Which columns pandas has for names of the rows."""
    try:
        return [name for name in json.loads(metadata[b"pandas"])["index_columns"] if isinstance(name, str)]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []


def _about(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    try:
        about = json.loads(metadata[ABOUT])
    except (KeyError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}
