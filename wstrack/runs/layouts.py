"""What the columns and rows of a table are: told by their names, never guessed.

Three layouts are known. A row a layer and a column a step, as the paper's authors publish; a row a step and a column a
series, as pandas, Lightning's CSVLogger and W&B's panels write; and a row a value, as tbparse and MLflow's client do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wstrack.runs.cells import Cells, number

__all__ = ["Series", "layers_by_steps", "rows_of_steps"]

# A history of W&B has our own step beside W&B's; rows of others lack it.
_STEP = (
    "wstrack/step",
    "step",
    "_step",
    "global_step",
    "trainer/global_step",
    "iteration",
    "iter",
    "update",
    "batch",
    "epoch",
)
_TIME = re.compile(
    r"_runtime|_timestamp|timestamp|created_at|(wall|relative)[ _]?time( \(.*\))?|time|date|datetime|duration|epoch"
    r"|wstrack/(step|interval)|run(_id|_uuid|[ _]name)?|experiment_id|unnamed: \d+|", re.IGNORECASE,
)  # fmt: skip
_KEY, _VALUE = ("tag", "key", "metric", "name", "layer", "variable", "series"), ("value", "values")
_OF_A_LAYER = ("kind", "type", "shape", "numel", "depth", "block", "cluster", "parameters")
_WHOLE = re.compile(r"[-+]?\d+(\.0*)?")
_NAMED = re.compile(r"([A-Za-z][A-Za-z_. ]*?)[-_ =:.]*(\d+)(?:\.0+)?")


@dataclass(frozen=True)
class Series:
    """Numbers by step and by name.

    Attributes:
        names: of the layers, or of the series before it is known which they are.
        steps: one a sample.
        values: (samples, names), NaN where nothing was logged.
        left: names of columns that are no series, for they tell the time, or what a layer is.
    """

    names: list[str]
    steps: list[int]
    values: NDArray[np.float64]
    left: tuple[str, ...] = ()


def rows_of_steps(cells: Cells) -> Series | None:
    """The series of a table with a row a step, or a row a value; None if it is neither.

    Raises:
        ValueError: it is one of them, and something in it is not as it must be.
    """
    lower = [name.strip().lower() for name in cells.header]
    place = next((lower.index(name) for name in _STEP if name in lower), None)
    # A panel of W&B has first what its x-axis shows, which may be a key of the user's.
    panel = any(name.endswith("__MIN") for name in cells.header)
    if place is None and not panel and not (cells.header[0] == "" and _are_steps_below(cells)):
        return None
    place = place or 0
    if lower[place] == "wstrack/step":
        cells = replace(cells, rows=[row for row in cells.rows if not math.isnan(number(row[place]))])
    steps = [
        _step(f"row {row + 2}, column {cells.header[place]!r}", line[place]) for row, line in enumerate(cells.rows)
    ]
    key = next((lower.index(name) for name in _KEY if name in lower), None)
    value = next((lower.index(name) for name in _VALUE if name in lower), None)
    if value is not None and key is not None:
        names = [str(line[key]) for line in cells.rows]
        return _gathered(steps, names, [_number(cells, row, value) for row in range(len(steps))])
    left = tuple(name for at, name in enumerate(cells.header) if at != place and _is_no_series(cells, at))
    columns = [at for at, name in enumerate(cells.header) if at != place and name not in left]
    found: list[tuple[int, str, float]] = []
    for row, step in enumerate(steps):
        found += [(step, cells.header[at], _number(cells, row, at)) for at in columns]
    series = _gathered(*(list(each) for each in zip(*found, strict=True))) if found else None
    if series is None:
        raise ValueError(f"it has a row a step, and no column of numbers beside {', '.join(map(repr, left))}")
    return Series(series.names, series.steps, series.values, tuple(name for name in left if name))


def layers_by_steps(cells: Cells) -> Series:
    """The series of a table with a row a layer and a column a step.

    Raises:
        ValueError: it is no such table.
    """
    if len(cells.header) < 2 or not cells.rows:
        raise ValueError("it is not a table of layers by steps: it needs a header, a column of names and a row")
    left = tuple(name for name in cells.header[1:] if name.strip().lower() in _OF_A_LAYER)
    columns = [at for at, name in enumerate(cells.header) if at and name not in left]
    steps = _steps([cells.header[at] for at in columns])
    names: list[str] = []
    for row, line in enumerate(cells.rows):
        name = "" if line[0] is None else str(line[0])
        if not name.strip():
            raise ValueError(f"row {row + 2} has no layer name in its first column")
        names.append(name)
    if all(re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?|nan|inf", name, re.IGNORECASE) for name in names):
        raise ValueError(
            f"it has numbers in its first column, {cells.header[0]!r}, where the layers' names should be; if they are "
            "steps, call the column step"
        )
    values = np.array([[_number(cells, row, at) for at in columns] for row in range(len(names))])
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names the layer {twice!r} twice; each row must be another layer")
    return Series(names, steps, values.T, left)


def _are_steps_below(cells: Cells) -> bool:
    """Whether a first column without a name holds steps: whole numbers beside names that are none."""
    firsts = [str(line[0]) for line in cells.rows]
    return bool(firsts) and all(map(_WHOLE.fullmatch, firsts)) and not any(map(_WHOLE.fullmatch, cells.header[1:]))


def _is_no_series(cells: Cells, at: int) -> bool:
    name = cells.header[at].strip()
    # A W&B panel has the least and the largest value of each pixel beside the value.
    return bool(_TIME.fullmatch(name)) or name.endswith(("__MIN", "__MAX"))


def _gathered(steps: Sequence[int], names: Sequence[str], values: Sequence[float]) -> Series:
    """Single values as a matrix; of a step that is there twice, what was logged last for each name."""
    columns = {name: at for at, name in enumerate(dict.fromkeys(names))}
    rows = {step: at for at, step in enumerate(sorted(set(steps)))}
    matrix = np.full((len(rows), len(columns)), np.nan)
    for step, name, value in zip(steps, names, values, strict=True):
        if value == value:  # what is empty takes the place of nothing
            matrix[rows[step], columns[name]] = value
    return Series(list(columns), list(rows), matrix)


def _number(cells: Cells, row: int, at: int) -> float:
    try:
        return number(cells.rows[row][at], comma=cells.comma)
    except (TypeError, ValueError) as error:
        raise ValueError(f"row {row + 2}, column {cells.header[at]!r}: {error}") from None


def _step(where: str, cell: object) -> int:
    """A step that stands in a cell.

    Raises:
        ValueError: it is no whole number.
    """
    text = str(cell).strip()
    try:
        value = float(text.replace(",", "")) if re.fullmatch(r"\d{1,3}(,\d{3})+", text) else float(text)
    except ValueError:
        value = float("nan")
    if value != value or not value.is_integer() or "_" in text:
        raise ValueError(f"{where}: {text!r} is no step, which is a whole number")
    return _in_64_bits(int(text) if re.fullmatch(r"[-+]?\d+", text) else int(value))


def _steps(columns: Sequence[str]) -> list[int]:
    """The steps that columns are named by: numbers, or numbers behind a word that is the same for all.

    Raises:
        ValueError: some names have no such number, or two have the same.
    """
    if not any(re.search(r"\d", name) for name in columns):
        return list(range(1, len(columns) + 1))
    readers: Sequence[Callable[[str], int | None]] = (_plain, _thousands, _behind_a_word(columns))
    for reader in readers:
        steps = [reader(name.strip()) for name in columns]
        found = [step for step in steps if step is not None]
        if len(found) == len(columns):
            if len(set(found)) < len(found):
                raise ValueError(f"it has two columns for one step: {', '.join(columns)}")
            return [_in_64_bits(step) for step in found]
    strange = [name for name in columns if all(reader(name.strip()) is None for reader in readers)] or columns[:5]
    some = ", ".join(map(repr, strange))
    raise ValueError(f"its columns are no steps (100, 1e3, epoch_7, or words without any number): {some}")


def _plain(name: str) -> int | None:
    if _WHOLE.fullmatch(name):
        return int(name.partition(".")[0])
    if re.fullmatch(r"\d+(\.\d+)?[eE]\+?\d+", name) and float(name).is_integer():
        return int(float(name))
    return None


def _thousands(name: str) -> int | None:
    return int(name.replace(",", "")) if re.fullmatch(r"\d{1,3}(,\d{3})*", name) else None


def _behind_a_word(columns: Sequence[str]) -> Callable[[str], int | None]:
    """Reads a number behind the word with which all columns begin; "step_-1" is step -1, "epoch-3" the third epoch."""
    words = {found[1].rstrip("_ .").lower() for name in columns if (found := _NAMED.match(name.strip()))}

    def read(name: str) -> int | None:
        signed = re.fullmatch(r"[A-Za-z][A-Za-z_. ]*[_ =:](-\d+)", name)
        found = _NAMED.fullmatch(name)
        return int(signed[1]) if signed else int(found[2]) if found and len(words) == 1 else None

    return read


def _in_64_bits(step: int) -> int:
    if abs(step) >= 2**63:
        raise ValueError(f"it has a step beyond 64 bits: {step}")
    return step
