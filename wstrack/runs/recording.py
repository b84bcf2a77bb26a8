"""The recording: a run's raw sums, lossless, in small columnar files beside the tracker's own data.

A recording is a folder. Each time a run is watched it gets a part of its own, so that a resumed run appends and two
processes never write to one file. While training, a part is an Arrow stream (`0001.arrows`): every append is one whole
batch, and a reader gets all of them whatever happened to the writer. Closed, it is an Arrow file (`0001.arrow`), which
is read without decoding. The schema carries the manifest; a row is a sample; a column holds one raw sum
of all layers in the manifest's order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wstrack.errors import WstrackError
from wstrack.metrics import METRICS, compute
from wstrack.runs.manifest import Manifest
from wstrack.runs.run import Completeness, Run

__all__ = [
    "FOLDER",
    "Part",
    "find_recordings",
    "last_step",
    "parts_in",
    "read_parts",
    "read_recording",
    "schema",
    "whole_batches",
]

FOLDER = "wstrack-recording"
MANIFEST, LOST = b"wstrack.manifest", b"wstrack.lost"
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # what an Arrow stream that was closed ends with


def schema(manifest: Manifest, sums: Sequence[str]) -> pa.Schema:
    """The columns of a part: what is known of each sample, then a raw sum of all layers each."""
    samples = [("step", pa.int64()), ("interval", pa.int64()), ("time", pa.float64())]
    return pa.schema([*samples, *((name, pa.list_(pa.float64(), len(manifest.layers))) for name in sums)])


def parts_in(folder: Path) -> list[Path]:
    """The files of a recording, in the order in which they were begun."""
    parts = [part for part in folder.glob("*") if part.suffix in (".arrows", ".arrow") and part.stem.isdigit()]
    # While a part is being finished both may be there for a moment; the finished one counts.
    done = {part.stem for part in parts if part.suffix == ".arrow"}
    return sorted(part for part in parts if part.suffix == ".arrow" or part.stem not in done)


def find_recordings(path: Path) -> list[Path]:
    """The recording folders at or under a path; a part of a recording stands for its folder."""
    if path.is_file():
        return [path.parent] if path in parts_in(path.parent) and path.parent.name == FOLDER else []
    if path.name == FOLDER:
        return [path]
    return sorted(folder for folder in path.rglob(FOLDER) if parts_in(folder))


def last_step(folder: Path) -> int:
    """The last step of the recording in a folder, 0 if there is none to read."""
    last = 0
    for path in parts_in(folder):
        # One that cannot be read is told of where it is read for its values.
        with contextlib.suppress(OSError, pa.ArrowException, ValueError):
            _, table, _, _ = _read_part(path)
            last = max(last, pc.max(table.column("step")).as_py() or 0)
    return last


@dataclass(frozen=True)
class Part:
    """What was recorded between one start of a watch and its end.

    Attributes:
        manifest: of the samples; its metrics are those of `values`.
        steps, intervals, times: one a sample.
        values, sums: by metric and by raw sum, float64 of shape (samples, layers).
        lost: how many samples never came this far.
        notes: what the file is not.
    """

    manifest: Manifest
    steps: list[int]
    intervals: list[int]
    times: list[float]
    values: dict[str, NDArray[np.float64]]
    sums: dict[str, NDArray[np.float64]]
    lost: int
    notes: tuple[str, ...]


def read_parts(folder: Path, *, metrics: Sequence[str] | None = None) -> list[Part]:
    """The parts of a recording that can be read, every whole batch of each; see `read_recording`."""
    return _read_parts(folder, metrics)[0]


def read_recording(folder: Path, *, metrics: Sequence[str] | None = None) -> Run:
    """The run that a recording holds, every whole batch of it.

    Args:
        folder: the recording's folder.
        metrics: which; None = those that were watched. Any that the recorded sums suffice for can be had.

    Raises:
        WstrackError: there is no part that can be read.
        ValueError: a metric that cannot be computed from the sums that were recorded.
    """
    parts, notes = _read_parts(folder, metrics)
    runs = [_part_run(part) for part in parts]
    run = Run.joined(runs) if len(runs) > 1 else runs[0]
    said = (*notes, *(note for part in parts for note in part.notes))
    return run.with_notes(*said).with_origin(reference=str(folder), source="recording")


def _read_parts(folder: Path, metrics: Sequence[str] | None) -> tuple[list[Part], list[str]]:
    """The parts that can be read, and what is to say of those that cannot."""
    parts: list[Part] = []
    notes: list[str] = []
    for path in parts_in(folder):
        try:
            manifest, table, lost, said = _read_part(path)
        except (OSError, pa.ArrowException, ValueError) as error:
            notes.append(f"{path.name} cannot be read: {error}")
            continue
        parts.append(_part(manifest, table, lost, metrics, said))
    if not parts:
        raise WstrackError(f"{folder} holds no recording that can be read" + "".join(f"; {note}" for note in notes))
    return parts, notes


def _part(
    manifest: Manifest, table: pa.Table, lost: int, metrics: Sequence[str] | None, notes: tuple[str, ...]
) -> Part:
    there = _computable(table.column_names[3:])
    for metric in metrics or ():
        if metric not in there:
            raise ValueError(f"metrics: {metric!r} was not recorded; there are {', '.join(there)}")
    wanted = tuple(metrics or manifest.metrics)
    sums = {name: _rows(table.column(name), len(manifest.layers)) for name in table.column_names[3:]}
    numel = np.array([layer.numel for layer in manifest.layers], dtype=np.float64)
    return Part(
        manifest=replace(manifest, metrics=wanted),
        steps=table.column("step").to_pylist(),
        intervals=table.column("interval").to_pylist(),
        times=table.column("time").to_pylist(),
        values=compute(wanted, sums, numel),
        sums=sums,
        lost=lost,
        notes=notes,
    )


def _part_run(part: Part) -> Run:
    received = sum(array.size for array in part.values.values())
    width = len(part.manifest.layers) * len(part.manifest.metrics)
    return Run.from_values(
        part.manifest,
        part.steps,
        part.values,
        intervals=part.intervals,
        sums=part.sums,
        completeness=Completeness(received + part.lost * width, received),
    )


def _computable(sums: Sequence[str]) -> list[str]:
    return [name for name, metric in METRICS.items() if set(metric.sums) <= set(sums)]


def _rows(column: pa.ChunkedArray, width: int) -> NDArray[np.float64]:
    """(samples, width), a copy: a run keeps them, and would crash if somebody cut a mapped file meanwhile."""
    return np.concatenate([np.empty(0), *(part.flatten().to_numpy() for part in column.chunks)]).reshape(-1, width)


def _read_part(path: Path) -> tuple[Manifest, pa.Table, int, tuple[str, ...]]:
    """The manifest, the samples and the number of lost samples of one part, and what is to say of it.

    Raises:
        OSError, pa.ArrowException, ValueError: it is no part of a recording, or was damaged.
    """
    table, left = (_read_file(path), 0) if path.suffix == ".arrow" else _read_stream(path)
    metadata = table.schema.metadata or {}
    if MANIFEST not in metadata:
        raise ValueError("it carries no manifest")
    manifest = Manifest.from_json(metadata[MANIFEST].decode())
    sums = table.column_names[3:]
    if not table.schema.equals(schema(manifest, sums)) or any(column.null_count for column in table.columns):
        raise ValueError("its columns are not those of a recording")
    there = _computable(sums)
    lacking = [metric for metric in manifest.metrics if metric not in there]
    if len(lacking) == len(manifest.metrics):
        raise ValueError(f"it lacks the sums behind {', '.join(lacking)}")
    lost = int(metadata.get(LOST, b"0"))
    said = []
    if path.suffix == ".arrows":
        ending = f"{left:,} bytes after its last whole batch cannot be read" if left else "it ends with a whole batch"
        said.append(f"{path.name} was not closed (the run is going on, or was killed): {ending}")
    if lost:
        said.append(f"{lost} samples were lost before they were recorded")
    if lacking:
        said.append(f"{path.name} lacks the sums behind {', '.join(lacking)}")
    kept = tuple(metric for metric in manifest.metrics if metric in there)
    return replace(manifest, metrics=kept), table, lost, tuple(said)


def _read_file(path: Path) -> pa.Table:
    """A finished part, which stays in the file until it is looked at."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as batches:
        table = batches.read_all()
    table.validate()  # what a file says of its numbers may point outside it
    return table


def whole_batches(stream: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches of a part that is being written, or that nobody closed, up to the first that is not whole."""
    with contextlib.suppress(pa.ArrowException, OSError):
        for batch in stream:
            batch.validate()
            yield batch


def _read_stream(path: Path) -> tuple[pa.Table, int]:
    """Every whole batch of such a part, and how many bytes are left then."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        read, batches = file.tell(), []
        for batch in whole_batches(stream):
            batches.append(batch)
            read = file.tell()
        file.seek(read)
        left = 0 if file.read(len(_END) + 1) in (b"", _END) else file.size() - read
        return pa.Table.from_batches(batches, stream.schema), left
