"""Writing a recording, a part at a time; what it is, and how it is read, is in recording.py."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wstrack.errors import WstrackError
from wstrack.runs.manifest import Manifest
from wstrack.runs.recording import LOST, MANIFEST, parts_in, schema, whole_batches

__all__ = ["Recorder"]

_PIECE = 2**24  # bytes that a finished part has in one piece, and that closing holds in memory at a time


class Recorder:
    """Appends samples to a new part of a recording.

    Raises:
        WstrackError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, manifest: Manifest, sums: Sequence[str]) -> None:
        self.folder = folder
        self._sums = tuple(sums)
        self._schema = schema(manifest, sums).with_metadata({MANIFEST: manifest.to_json().encode()})
        self._parts: list[Path] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._begin_part()
        except OSError as error:
            raise WstrackError(f"cannot record in {folder}: {error.strerror or error}") from error

    def _begin_part(self) -> None:
        number = 1 + max((int(part.stem) for part in parts_in(self.folder)), default=0)
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


def _finish(part: Path, lost: int) -> None:
    """Write the file that a part becomes: few large batches instead of one an append, a batch in memory at a time."""
    unfinished = part.with_suffix(".tmp")
    try:
        with pa.OSFile(str(part)) as source, pa.ipc.open_stream(source) as stream:
            finished = stream.schema.with_metadata({**stream.schema.metadata, LOST: str(lost).encode()})
            with pa.OSFile(str(unfinished), "wb") as file, pa.ipc.new_file(file, finished) as out:
                for batches in _in_pieces(whole_batches(stream)):
                    table = pa.Table.from_batches(batches).replace_schema_metadata(finished.metadata)
                    out.write_table(table.combine_chunks())
        unfinished.replace(part.with_suffix(".arrow"))
    finally:
        unfinished.unlink(missing_ok=True)


def _in_pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """The batches in groups of about the size of a finished part's pieces."""
    piece: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        if piece and size + batch.nbytes > _PIECE:
            yield piece
            piece, size = [], 0
        piece.append(batch)
        size += batch.nbytes
    if piece:
        yield piece
