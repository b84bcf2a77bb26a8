"""Tables of anyone's numbers, in and out: a row a layer, a column a step (.csv, .parquet), and JSON."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wstrack.errors import WstrackError
from wstrack.runs.cells import ABOUT, read_cells
from wstrack.runs.files import write_whole
from wstrack.runs.layouts import Series, layers_by_steps, rows_of_steps
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Completeness, Run

__all__ = ["read_table", "run_dict", "save_run"]

Kind = TypeVar("Kind")


# What is logged of a whole model, and is no curve of a layer.
_OF_THE_MODEL = re.compile(
    r"(^|[^a-z])(loss|acc|accuracy|lr|learning[_ ]rate|precision|recall|f1|auc|mse|mae|map|reward)([^a-z]|$)",
    re.IGNORECASE,
)

Pick = Callable[[Sequence[str]], Mapping[str, Mapping[str, str]]]
"""Which series are which layers: by metric and layer, the name of the series, see `wstrack.trackers.matching`."""


def read_table(path: Path, *, metrics: Sequence[str] | None = None, pick: Pick | None = None) -> Run:
    """The run in a table.

    A row a layer and a column a step: the first column names the layers, in model order; a step is a whole number, or
    one behind a word that all columns begin with (`epoch_7` is 7); where no name has a digit, columns count from 1. Or
    a row a step, told by a column `step` (`global_step`, `epoch`, ...): each other column is a series, as pandas,
    Lightning and W&B write them. Or a row a value, with columns for its step, its name and itself, as tbparse does.

    An empty cell was not logged. The metric is called `rwc`, or what `metrics` names, unless the file says it.

    Args:
        path: of the file, .csv, .tsv or .parquet.
        metrics: which; of a table that holds one, its name.
        pick: picks among the series of a table with a row a step; None = all, which then must be of one kind.

    Raises:
        WstrackError: the file is not such a table; the message says which line.
        ValueError: a metric that is not there, or `pick` for a table with a row a layer.
    """
    cells = read_cells(path)
    try:
        logged = rows_of_steps(cells) if len(cells.header) > 1 else None
        if logged is not None:
            return _logged_run(path, logged, metrics, pick)
        if pick is not None:
            raise _AskedError(
                f"match= (--match) is for trackers and tables with a row a step; {path} has a row a layer"
            )
        return _layers_run(path, layers_by_steps(cells), cells.about, metrics)
    except _AskedError:
        raise
    except ValueError as error:
        raise WstrackError(f"{path}: {error}") from None


class _AskedError(ValueError):
    """What was asked for is wrong, not the file."""


def _layers_run(path: Path, series: Series, about: Mapping[str, Any], metrics: Sequence[str] | None) -> Run:
    metric = _said(about, "metric", str) or (metrics[0] if metrics else "rwc")
    if metrics and list(metrics) != [metric]:
        raise _AskedError(f"metrics={list(metrics)}: {path} holds one metric, {metric!r}")
    known: dict[str, Layer] = {}
    for layer in _said(about, "layers", list) or []:
        with contextlib.suppress(KeyError, TypeError, ValueError):  # one that somebody else wrote is as good as none
            known[layer["name"]] = Layer.from_dict({"aliases": (), **layer})
    origin = _said(about, "origin", dict) or {}
    name, window = str(origin.get("name", path.stem)), str(origin.get("window", "interval"))
    layers = tuple(known.get(layer, Layer(layer)) for layer in series.names)
    manifest = Manifest(name, layers, (metric,), 1, window, _said(about, "facts", dict) or {})
    run = _run(manifest, series, {metric: series.values})
    return run.with_origin(**{**origin, "reference": str(path), "source": "table", "every": origin.get("every")})


def _logged_run(path: Path, logged: Series, metrics: Sequence[str] | None, pick: Pick | None) -> Run:
    """The run in series that somebody logged: those that fit, or all if they are of one kind."""
    keys = [name.rpartition(" - ")[2] for name in logged.names]  # W&B puts the run's name before it
    runs = {name[: len(name) - len(key)] for name, key in zip(logged.names, keys, strict=True)}
    if len(runs) > 1:
        some = ", ".join(repr(run.removesuffix(" - ")) for run in sorted(runs)[:5])
        raise ValueError(f"it holds series of {len(runs)} runs ({some}); export them one by one")
    found = dict(_of_one_kind(keys, metrics) if pick is None else pick(keys))
    chosen = list(metrics or found)
    for metric in chosen:
        if metric not in found:
            raise _AskedError(f"metrics: {metric!r} is not in {path}; there are {', '.join(found)}")
    names = dict.fromkeys(layer for metric in chosen for layer in found[metric])
    place = {key: at for at, key in enumerate(keys)}
    values = {}
    for metric in chosen:
        values[metric] = np.full((len(logged.steps), len(names)), np.nan)
        for at, layer in enumerate(names):
            if layer in found[metric]:
                values[metric][:, at] = logged.values[:, place[found[metric][layer]]]
    # Rows of what was not picked are no samples: Lightning alternates training and validation.
    there = np.any([~np.isnan(array).all(axis=1) for array in values.values()], axis=0) | (pick is None)
    steps = [step for step, stands in zip(logged.steps, there, strict=True) if stands]
    logged, values = replace(logged, steps=steps), {metric: array[there] for metric, array in values.items()}
    manifest = Manifest(path.stem, tuple(Layer(name) for name in names), tuple(chosen), 1)
    return _run(manifest, logged, values).with_origin(reference=str(path), source="table", every=None)


def _of_one_kind(keys: Sequence[str], metrics: Sequence[str] | None) -> dict[str, dict[str, str]]:
    """All series, as the layers of the metric with which their names begin."""
    kinds = {key.partition("/")[0] if "/" in key else "" for key in keys}
    if len(kinds) > 1 or any(map(_OF_THE_MODEL.search, keys)):
        raise ValueError(
            f"its columns are of several kinds: {', '.join(map(repr, keys[:6]))}; pass match= (--match) with the ones "
            "to read, such as 'grad_norm/(?P<layer>.+)'"
        )
    (kind,) = kinds
    return {kind or (metrics[0] if metrics else "rwc"): {key.removeprefix(f"{kind}/"): key for key in keys}}


def _run(manifest: Manifest, series: Series, values: Mapping[str, NDArray[np.float64]]) -> Run:
    size = sum(array.size for array in values.values())
    missing = sum(int(np.isnan(array).sum()) for array in values.values())
    notes = (f"columns that are no curves are left out: {', '.join(series.left)}",) if series.left else ()
    return Run.from_values(manifest, series.steps, values, completeness=Completeness(size, size - missing, notes))


def _said(about: Mapping[str, Any], key: str, kind: type[Kind]) -> Kind | None:
    """What a file of ours says beside its cells; None where somebody put something else there."""
    value = about.get(key)
    return value if isinstance(value, kind) else None


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
        whole = any("\r" in layer for layer in table.index)  # which would end a line elsewhere
        write_whole(
            path, table.to_csv(lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC if whole else csv.QUOTE_MINIMAL)
        )
        return
    arrow = pa.Table.from_pandas(table.reset_index(), preserve_index=False)
    about = {"metric": metric, "layers": _layer_dicts(run), "facts": run.facts, "origin": run.origin}
    buffer = io.BytesIO()
    pq.write_table(arrow.replace_schema_metadata({ABOUT: json.dumps(about, default=str).encode()}), buffer)
    write_whole(path, buffer.getvalue())
