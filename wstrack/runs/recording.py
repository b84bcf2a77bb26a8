"""The recording: a run's raw sums, lossless, in small columnar files beside the tracker's own data.

A recording is a folder. Each time a run is watched it gets a part of its own, so that a resumed run appends and two
processes never write to one file. While training, a part is an Arrow stream (`0001.arrows`): every append is one whole
batch, and a reader gets all of them whatever happened to the writer. Closed, it is an Arrow file (`0001.arrow`), which
is read without decoding. The schema carries the manifest; a row is a sample; a column holds one raw sum
of all layers in the manifest's order.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wstrack.errors import WstrackError
from wstrack.metrics import METRICS, compute
from wstrack.runs.run import Completeness, Manifest, Run

__all__ = ["FOLDER", "Part", "Recorder", "find_recordings", "last_step", "read_parts", "read_recording"]

FOLDER = "wstrack-recording"
_MANIFEST, _LOST = b"wstrack.manifest", b"wstrack.lost"
_BATCH = 2**27  # bytes that a finished part has in one piece, and that are written at once


class Recorder:
    """Appends samples to a new part of a recording.

    Raises:
        WstrackError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, manifest: Manifest, sums: Sequence[str]) -> None:
        self.folder = folder
        self._sums = tuple(sums)
        self._schema = _schema(manifest, sums).with_metadata({_MANIFEST: manifest.to_json().encode()})
        self._parts: list[Path] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._begin_part()
        except OSError as error:
            raise WstrackError(f"cannot record in {folder}: {error.strerror or error}") from error

    def _begin_part(self) -> None:
        number = 1 + max((int(part.stem) for part in _parts(self.folder)), default=0)
        while True:
            part = self.folder / f"{number:04d}.arrows"
            try:
                self._file: io.BufferedWriter | None = part.open("xb")
                break
            except FileExistsError:  # another process took the number in between
                number += 1
        try:
            self._stream = pa.ipc.new_stream(self._file, self._schema)
            # The schema, and with it the manifest, goes out with the first batch.
            self._stream.write_batch(pa.RecordBatch.from_pylist([], schema=self._schema))
            self._file.flush()
        except OSError:
            self._file = None
            part.unlink(missing_ok=True)
            raise
        self._parts.append(part)

    def append(
        self, steps: Sequence[int], intervals: Sequence[int], times: Sequence[float], sums: NDArray[np.float64]
    ) -> None:
        """Write samples as one batch, safe from the end of this process when it returns.

        Args:
            steps, intervals, times: one number a sample.
            sums: raw sums, (samples, layers, sums) in the order given at the start.

        Raises:
            OSError: they could not be written (a full disk, say). The next append begins a new part, so that half a
                batch never stands in front of whole ones.
        """
        columns = [
            pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(sums[:, :, i]).ravel()), sums.shape[1])
            for i in range(len(self._sums))
        ]
        arrays = [pa.array(steps, pa.int64()), pa.array(intervals, pa.int64()), pa.array(times, pa.float64()), *columns]
        if self._file is None:
            self._begin_part()
        try:
            self._stream.write_batch(pa.record_batch(arrays, schema=self._schema))
            if self._file is not None:
                self._file.flush()
        except OSError:
            self._file = None
            raise

    def close(self, *, lost: int = 0) -> None:
        """Put each part that was appended to into its final form; `lost` samples never came this far."""
        if self._file is not None:
            self._stream.close()
            self._file.close()
        for part in self._parts:
            # What was lost is counted once, with the last part.
            _finish(part, lost if part is self._parts[-1] else 0)
            part.unlink()


def _schema(manifest: Manifest, sums: Sequence[str]) -> pa.Schema:
    samples = [("step", pa.int64()), ("interval", pa.int64()), ("time", pa.float64())]
    return pa.schema([*samples, *((name, pa.list_(pa.float64(), len(manifest.layers))) for name in sums)])


def _finish(part: Path, lost: int) -> None:
    """Write the file that a part becomes: few large batches instead of one an append."""
    (table, _), unfinished = _read_stream(part), part.with_suffix(".tmp")
    table = table.replace_schema_metadata({**table.schema.metadata, _LOST: str(lost).encode()})
    rows = max(1, _BATCH * len(table) // max(1, table.nbytes))
    try:
        with pa.OSFile(str(unfinished), "wb") as file, pa.ipc.new_file(file, table.schema) as stream:
            for first in range(0, len(table), rows):
                stream.write_table(table.slice(first, rows).combine_chunks())
        unfinished.replace(part.with_suffix(".arrow"))
    finally:
        unfinished.unlink(missing_ok=True)


def _parts(folder: Path) -> list[Path]:
    parts = [part for part in folder.glob("*") if part.suffix in (".arrows", ".arrow") and part.stem.isdigit()]
    # While a part is being finished both may be there for a moment; the finished one counts.
    done = {part.stem for part in parts if part.suffix == ".arrow"}
    return sorted(part for part in parts if part.suffix == ".arrow" or part.stem not in done)


def find_recordings(path: Path) -> list[Path]:
    """The recording folders at or under a path; a part of a recording stands for its folder."""
    if path.is_file():
        return [path.parent] if path in _parts(path.parent) and path.parent.name == FOLDER else []
    if path.name == FOLDER:
        return [path]
    return sorted(folder for folder in path.rglob(FOLDER) if _parts(folder))


def last_step(folder: Path) -> int:
    """The last step of the recording in a folder, 0 if there is none to read."""
    try:
        steps = read_recording(folder).steps
    except WstrackError:
        return 0
    return int(steps[-1]) if len(steps) else 0


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
    run.completeness = replace(run.completeness, notes=(*run.completeness.notes, *said))
    run.facts.update(reference=str(folder), source="recording")
    return run


def _read_parts(folder: Path, metrics: Sequence[str] | None) -> tuple[list[Part], list[str]]:
    """The parts that can be read, and what is to say of those that cannot."""
    parts: list[Part] = []
    notes: list[str] = []
    for path in _parts(folder):
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
    if _MANIFEST not in metadata:
        raise ValueError("it carries no manifest")
    manifest = Manifest.from_json(metadata[_MANIFEST].decode())
    sums = table.column_names[3:]
    if not table.schema.equals(_schema(manifest, sums)) or any(column.null_count for column in table.columns):
        raise ValueError("its columns are not those of a recording")
    there = _computable(sums)
    lacking = [metric for metric in manifest.metrics if metric not in there]
    if len(lacking) == len(manifest.metrics):
        raise ValueError(f"it lacks the sums behind {', '.join(lacking)}")
    lost = int(metadata.get(_LOST, b"0"))
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


def _read_stream(path: Path) -> tuple[pa.Table, int]:
    """Every whole batch of a part that is being written, or that nobody closed, and how many bytes are left then."""
    batches: list[pa.RecordBatch] = []
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        read = file.tell()
        with contextlib.suppress(pa.ArrowException, OSError):  # the last batch may be half written
            for batch in stream:
                batch.validate()
                batches.append(batch)
                read = file.tell()
            read = file.size()
        return pa.Table.from_batches(batches, stream.schema), file.size() - read
