"""A run from the `.wandb` file that wandb writes on the training machine, online and offline; without wandb."""

from __future__ import annotations

import contextlib
import json
import math
import struct
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from wstrack.errors import WstrackError
from wstrack_integrations.wandb.framing import MAGIC, fields, records, varint
from wstrack_integrations.wandb.history import Column, History

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["read_about", "read_history"]

# Keys of fields (number << 3 | wire type), as in wandb's wandb_internal.proto.
_HISTORY, _CONFIG, _RUN, _EXIT = 18, 42, 138, 146  # of a record
_ITEM, _STEP = 10, 18  # of a history record
_KEY, _NESTED, _BOOLEAN, _INTEGER, _NUMBER, _JSON = 10, 18, 32, 40, 49, 130  # of an item of history or config
_RUN_CONFIG, _UPDATE = 34, 10
_RUN_STARTED, _SECONDS = 138, 8
_RUN_ORIGIN = {10: "id", 18: "entity", 26: "project", 50: "group", 66: "display_name"}

SETTLING = 2.0  # seconds: run.finish() may return while the last records are still on their way to the file


def read_history(path: Path) -> History:
    """Every row of the file's history.

    The file may still be written to, or have lost its end. What was written within the last seconds is waited for.

    Raises:
        WstrackError: the file cannot be read, or is none of wandb's.
    """
    return _settled(path, rows=True)


def read_about(path: Path) -> History:
    """All but the rows, in a fraction of the time.

    Raises:
        WstrackError: as for `read_history`.
    """
    return _settled(path, rows=False)


def _settled(path: Path, *, rows: bool) -> History:
    history = _parse(_content(path), path, rows=rows)
    while not history.finished and time.time() < path.stat().st_mtime + SETTLING:
        time.sleep(0.1)
        history = _parse(_content(path), path, rows=rows)
    return history


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WstrackError(f"cannot read {path}: {error.strerror or error}") from error
    if not data.startswith(MAGIC):
        raise WstrackError(f"{path} is no .wandb file of a version that is known here")
    return data


def _parse(data: bytes, path: Path, *, rows: bool) -> History:
    steps: list[int] = []
    columns = _Columns()
    config: dict[str, Any] = {}
    origin: dict[str, Any] = {}
    finished = False
    notes: list[str] = []
    for record in records(data, notes):
        try:
            for key, at, stop in fields(record, 0, len(record)):
                if key == _HISTORY and rows:
                    step = columns.add_row(record, at, stop, len(steps))
                    # Clients before 0.18 say it in an item of the row.
                    steps.append(columns.last(b"_step", len(steps)) if step is None else step)
                elif key == _CONFIG:
                    _update(record, at, stop, config)
                elif key == _RUN:
                    _run(record, at, stop, config, origin)
                elif key == _EXIT:
                    finished = True
        except (ValueError, IndexError, struct.error) as error:
            raise WstrackError(f"{path}: a record is not as wandb writes them: {error}") from error
    if not finished:
        notes.append(f"{path.name} has no end: the run is going on, or was killed")
    return History(
        steps=np.array(steps, dtype=np.int64),
        columns={
            key.decode(errors="replace"): Column(np.array(places, dtype=np.int64), np.array(values))
            for key, (places, values) in columns.numbers.items()
            if values
        },
        config=config,
        origin=origin,
        finished=finished,
        notes=notes,
    )


class _Columns:
    """Columns that grow row by row."""

    def __init__(self) -> None:
        self.numbers: dict[bytes, tuple[list[int], list[float]]] = {}
        self._known: dict[bytes, tuple[list[int], list[float]]] = {}

    def last(self, name: bytes, row: int) -> int:
        """The number under a name in the last row; the row's own number where there is none."""
        places, values = self.numbers.get(name, ([], []))
        return int(values[-1]) if places and places[-1] == row and math.isfinite(values[-1]) else row

    def add_row(self, data: bytes, at: int, end: int, row: int) -> int | None:
        """Add the numbers of a history record; its step, if it says one.

        The loop is written out for items as wandb writes them, a name of one part and a value as JSON, and knows the
        bytes before a value once it has seen them: that is where the time goes. Others go through `_item`.
        """
        step = None
        known = self._known
        while at < end:
            if data[at] != _ITEM:
                key, start = varint(data, at)
                length, start = varint(data, start)
                if key == _STEP:
                    step = next((varint(data, where)[0] for _, where, _ in fields(data, start, start + length)), 0)
                at = start + length
                continue
            length = data[at + 1]
            at += 2
            if length > 127:
                length, at = varint(data, at - 1)
            stop = at + length
            split = at + 4 + data[at + 1]  # a key and a length around the name, then two bytes of the value's key
            column = known.get(data[at:split])
            if column is not None and split + 1 + data[split] == stop:
                try:
                    value = float(data[split + 1 : stop])
                except ValueError:
                    pass
                else:
                    column[0].append(row)
                    column[1].append(value)
                    at = stop
                    continue
            name, said = _item(data, at, stop)
            for inner, number in _numbers(name, said):
                column = self.numbers.setdefault(inner, ([], []))
                column[0].append(row)
                column[1].append(number)
                if inner == name == data[at + 2 : split - 2] and data[split - 2 : split] == b"\x82\x01":
                    known[data[at:split]] = column
            at = stop
        return step


def _numbers(name: bytes, said: object) -> Iterator[tuple[bytes, float]]:
    """The numbers in a value under a name; those inside a dictionary under the names that W&B gives them."""
    if isinstance(said, (int, float)):
        yield name, float(said)
    elif said in ("NaN", "Infinity", "-Infinity"):
        yield name, float(str(said))
    elif isinstance(said, dict) and "_type" not in said:  # or else it is a picture, a histogram, ...
        for key, value in said.items():
            yield from _numbers(name + b"." + str(key).encode(errors="replace"), value)


def _item(data: bytes, at: int, end: int) -> tuple[bytes, object]:
    """The key and the value of any item."""
    names: list[bytes] = []
    value: object = None
    for key, start, stop in fields(data, at, end):
        if key in (_KEY, _NESTED) and stop > start:
            names.append(data[start:stop])
        elif key == _JSON:
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(data[start:stop])
        elif key == _NUMBER:
            (value,) = struct.unpack_from("<d", data, start)
        elif key in (_BOOLEAN, _INTEGER):
            number = varint(data, start)[0]
            value = float(number - (1 << 64) if number >> 63 else number)
    return b".".join(names), value


def _update(data: bytes, at: int, end: int, config: dict[str, Any]) -> None:
    """Bring a config up to date with a config record."""
    for key, start, stop in fields(data, at, end):
        if key != _UPDATE:
            continue
        names: list[str] = []
        value = None
        for part, first, last in fields(data, start, stop):
            if part in (_KEY, _NESTED) and last > first:
                names.append(data[first:last].decode(errors="replace"))
            elif part == _JSON:
                value = json.loads(data[first:last])
        place = config
        for name in names[:-1]:
            inner = place.setdefault(name, {})
            place = inner if isinstance(inner, dict) else place
        if names:
            place[names[-1]] = value


def _run(data: bytes, at: int, end: int, config: dict[str, Any], origin: dict[str, Any]) -> None:
    for key, start, stop in fields(data, at, end):
        if key in _RUN_ORIGIN:
            origin[_RUN_ORIGIN[key]] = data[start:stop].decode(errors="replace")
        elif key == _RUN_STARTED:
            seconds = next((varint(data, at)[0] for part, at, _ in fields(data, start, stop) if part == _SECONDS), 0)
            origin["created"] = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        elif key == _RUN_CONFIG:
            _update(data, start, stop, config)
