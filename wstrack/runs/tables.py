"""Tables of anyone's numbers, in and out: a row a layer, a column a step (.csv, .parquet), and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from wstrack.errors import WstrackError
from wstrack.runs.files import write_whole
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Completeness, Run

__all__ = ["read_table", "run_dict", "save_run"]

_ABOUT = b"wstrack.about"


def read_table(path: Path, *, metrics: Sequence[str] | None = None) -> Run:
    """The run in a table: the first column names the layers, in model order; each other column is a step.

    A step is the whole number at the end of its column's name (`epoch_7` is 7); if a name has none, columns count from
    1. An empty cell was not logged. The metric is called `rwc`, or what `metrics` names, unless the file says it.

    Raises:
        WstrackError: the file is not such a table; the message says which line.
    """
    about: dict[str, Any] = {}
    rows: Sequence[Sequence[Any]]
    try:
        if path.suffix.lower() == ".parquet":
            table = pq.read_table(path)
            about = json.loads((table.schema.metadata or {}).get(_ABOUT, b"{}"))
            frame = table.to_pandas()
            if not isinstance(frame.index, pd.RangeIndex):  # a frame written with its layers as the index
                frame = frame.reset_index()
            header, rows = [str(column) for column in frame.columns], list(frame.itertuples(index=False, name=None))
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                lines = [line for line in csv.reader(file) if line]
            header, rows = (lines[0], lines[1:]) if lines else ([], [])
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException, json.JSONDecodeError) as error:
        raise WstrackError(f"{path} cannot be read as a table: {error}") from error

    names, values = _numbers(path, header, rows)
    metric = about.get("metric") or (metrics[0] if metrics else "rwc")
    if metrics and list(metrics) != [metric]:
        raise ValueError(f"metrics={list(metrics)}: {path} holds one metric, {metric!r}")
    known = {layer["name"]: layer for layer in about.get("layers", [])}
    layers = tuple(
        Layer(name, kind=layer.get("kind", ""), shape=tuple(layer.get("shape", ())), numel=layer.get("numel", 0))
        for name, layer in ((name, known.get(name, {})) for name in names)
    )
    steps = _steps(path, list(header[1:]))
    facts, origin = about.get("facts", {}), about.get("origin", {})
    missing = int(np.isnan(values).sum())
    return Run.from_values(
        Manifest(
            str(origin.get("name", path.stem)), layers, (metric,), 1, str(origin.get("window", "interval")), facts
        ),
        steps,
        {metric: values.T},
        completeness=Completeness(values.size, values.size - missing),
        origin={**origin, "reference": str(path), "source": "table", "every": origin.get("every")},
    )


def _numbers(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]
) -> tuple[list[str], np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    if len(header) < 2 or not rows:
        raise WstrackError(f"{path} is not a table of layers by steps: it needs a header, a column of names and a row")
    names: list[str] = []
    values = np.empty((len(rows), len(header) - 1))
    for index, row in enumerate(rows):
        line = f"{path}, row {index + 2}"
        if len(row) != len(header):
            raise WstrackError(f"{line} has {len(row)} cells and the header has {len(header)}")
        name = "" if row[0] is None else str(row[0])
        if not name.strip():
            raise WstrackError(f"{line} has no layer name in its first column")
        names.append(name)
        for column, cell in enumerate(row[1:]):
            try:
                values[index, column] = np.nan if cell is None or cell == "" else float(cell)
            except (TypeError, ValueError):
                raise WstrackError(f"{line}, column {header[column + 1]!r}: {cell!r} is not a number") from None
    if all(re.fullmatch(r"[-+]?\d*\.\d+(e[-+]?\d+)?|nan|inf", name) for name in names):
        raise WstrackError(f"{path} has numbers in its first column, {header[0]!r}, where the layers' names should be")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise WstrackError(f"{path} names the layer {twice!r} twice; each row must be another layer")
    return names, values


def _steps(path: Path, columns: list[str]) -> list[int]:
    # A minus is a sign only where a number may begin: epoch-3 is the third epoch.
    numbers = [re.search(r"(?:(?:^|[_\s])(-\d+)|(\d+))(?:\.0+)?$", str(column).strip()) for column in columns]
    if not all(numbers):
        return list(range(1, len(columns) + 1))
    steps = [int(number.group(1) or number.group(2)) for number in numbers if number]
    if max(map(abs, steps)) >= 2**63:
        raise WstrackError(f"{path} has a step beyond 64 bits among its columns")
    if len(set(steps)) < len(steps):
        raise WstrackError(f"{path} has two columns for one step: {columns}")
    return steps


def run_dict(run: Run) -> dict[str, Any]:
    """The run as plain data for JSON; what was not logged is null, and so is what JSON has no number for."""
    return {
        "name": run.name,
        "facts": run.facts,
        "origin": run.origin,
        "completeness": {
            "expected": run.completeness.expected,
            "received": run.completeness.received,
            "missing": run.completeness.missing,
            "notes": list(run.completeness.notes),
        },
        "layers": _layer_dicts(run),
        "series": {
            metric: {
                "steps": frame.index.tolist(),
                "values": {
                    layer: [value if np.isfinite(value) else None for value in frame[layer].tolist()]
                    for layer in frame.columns
                },
            }
            for metric, frame in run.series.items()
        },
    }


def _layer_dicts(run: Run) -> list[dict[str, Any]]:
    table = run.layers.reset_index(names="name")
    rows = table.drop(columns="aliases").to_dict("records")
    return [{str(key): list(cell) if key == "shape" else cell for key, cell in row.items()} for row in rows]


def save_run(run: Run, path: str | Path, *, metric: str | None = None) -> None:
    """Write a run: `.csv` and `.parquet` hold one metric, a row a layer and a column a step; `.json` everything.

    A Parquet table also carries the layers' kinds and shapes and the run's facts and origin, and reads back with them.

    Raises:
        ValueError: the ending is none of these, or the run has no such metric.
        WstrackError: the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind == ".json":
        write_whole(path, json.dumps(run_dict(run), indent=1, default=str, allow_nan=False, ensure_ascii=False))
        return
    if kind not in (".csv", ".parquet"):
        raise ValueError(f"{path}: a run is written as .csv, .parquet or .json")
    metric = metric or ("rwc" if "rwc" in run.series else run.metrics[0])
    if metric not in run.series:
        raise ValueError(f"metric={metric!r} (--metric) is not in the run; there are {', '.join(run.metrics)}")
    table = run.series[metric].T
    table.columns = pd.Index([f"step_{step}" for step in table.columns])
    table.index.name = "layer"
    if kind == ".csv":
        write_whole(path, table.to_csv(float_format=None, lineterminator="\n"))
        return
    arrow = pa.Table.from_pandas(table.reset_index(), preserve_index=False)
    about = {"metric": metric, "layers": _layer_dicts(run), "facts": run.facts, "origin": run.origin}
    buffer = io.BytesIO()
    pq.write_table(arrow.replace_schema_metadata({_ABOUT: json.dumps(about, default=str).encode()}), buffer)
    write_whole(path, buffer.getvalue())
