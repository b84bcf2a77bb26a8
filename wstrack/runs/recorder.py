"""Writing a recording, a part at a time; what it is, and how it is read, is in recording.py and part.py."""

from __future__ import annotations

import io
import logging
import mmap
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wstrack.errors import WstrackError
from wstrack.runs.locks import hold, holder
from wstrack.runs.manifest import Manifest
from wstrack.runs.marks import SUFFIX, append_mark
from wstrack.runs.part import Header, Walk, check, schema
from wstrack.runs.recording import number_of, parts_in

__all__ = ["Recorder"]

log = logging.getLogger("wstrack")

_PIECE = 2**17  # bytes that a finished part has in one batch: what a damaged place costs at most


class Recorder:
    """Appends samples to a new part of a recording.

    Args:
        folder: of the recording, made if need be.
        manifest: of the samples.
        sums: names of the raw sums of a sample.
        after: the step that the watch goes on after, see `wstrack.runs.part.Header`.
        label: is added to the names of the files, for a folder that meets its like from other machines.

    Attributes:
        gone: how many samples were recorded, and their file then deleted.

    Raises:
        WstrackError: the folder cannot be made or written to.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, sums: Sequence[str], *, after: int | None = None, label: str = ""
    ) -> None:
        self.folder = folder
        self.gone = 0
        self._header = Header(manifest, tuple(sums), secrets.token_hex(6), after)
        self._label = label and f"-{label}"
        self._schema = schema(self._header)
        self._parts: dict[Path, int] = {}  # and how many samples were written to each
        self._offered = self._failed = 0
        self._file: io.BufferedWriter | None = None
        try:
            self._begin_part()
        except OSError as error:
            raise WstrackError(f"cannot record in {folder}: {error.strerror or error}") from error
        self._marks = next(iter(self._parts)).with_suffix(SUFFIX)

    def _begin_part(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((number_of(part) for part in parts_in(self.folder)), default=0)
        begun = self.folder / f".{self._header.session}.tmp"
        try:
            file = begun.open("xb")
            hold(file)
            self._stream = pa.ipc.new_stream(file, self._schema)
            # The schema goes out with the first batch, which has no samples but the header once more.
            nothing = pa.RecordBatch.from_pylist([], schema=self._schema)
            self._stream.write_batch(nothing, custom_metadata=self._header.to_metadata())
            file.flush()
            # Only now it is a part: nobody ever sees one without its header, or that is not held.
            while True:
                part = self.folder / f"{number:04d}{self._label}.arrows"
                try:
                    _name(begun, part)
                    break
                except FileExistsError:  # another process took the number in between
                    number += 1
        finally:
            begun.unlink(missing_ok=True)
        self._file, self._parts[part] = file, 0

    def came_second(self) -> bool:
        """Whether another process records in the folder, and began before."""
        (mine,) = self._parts
        return any(
            number_of(part) < number_of(mine) and holder(part) == "another"
            for part in parts_in(self.folder)
            if part.suffix == ".arrows"
        )

    def is_there(self) -> bool:
        """Whether all that was recorded is still there; its files may have been deleted."""
        return not self.gone and (self._file is None or os.fstat(self._file.fileno()).st_nlink > 0)

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
        numbers = np.arange(self._offered, self._offered + len(steps))
        about = [numbers, np.array(steps, np.int64), np.array(intervals, np.int64), np.array(times, np.float64)]
        columns = [np.ascontiguousarray(sums[:, :, i]).ravel() for i in range(len(self._header.sums))]
        checks = np.full(len(steps), check(self._header.session, [*about, *columns]), np.uint32)
        arrays = [pa.array(column) for column in (about[0], checks, *about[1:])]
        arrays += [pa.FixedSizeListArray.from_arrays(pa.array(column), sums.shape[1]) for column in columns]
        self._offered += len(steps)
        try:
            if self._file is not None and os.fstat(self._file.fileno()).st_nlink == 0:
                self._deleted()
            if self._file is None:
                self._begin_part()
            assert self._file is not None
            self._stream.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._file.flush()
        except OSError:
            self._file = None
            self._failed += len(steps)
            raise
        self._parts[next(reversed(self._parts))] += len(steps)

    def mark(self, step: int, name: str, *, reset: bool) -> None:
        """Write down a named step, safe from the end of this process when it returns.

        Raises:
            OSError: it cannot be written.
        """
        append_mark(self._marks, step, name, reset=reset)

    def _deleted(self) -> None:
        """Note that the file of the last part is gone."""
        part, samples = self._parts.popitem()
        self._file = None
        self.gone += samples
        log.warning("recording: %s was deleted while training, and %d samples with it; a new one begins", part, samples)

    def discard(self) -> None:
        """Leave nothing of a recording that was only begun."""
        if self._file is not None:
            self._file.close()
        self._file = None
        for part in self._parts:
            part.unlink(missing_ok=True)
        self._parts.clear()

    def close(self, *, lost: int = 0) -> None:
        """Put each part that was appended to into its final form; `lost` samples never came this far, or failed."""
        if self._file is not None and os.fstat(self._file.fileno()).st_nlink == 0:
            self._deleted()
        if self._file is not None:
            self._stream.close()
            self._file.close()
        finished = replace(self._header, offered=self._offered, lost=max(0, lost - self._failed))
        for part in self._parts:
            _finish(part, finished)
            part.unlink()


def _name(begun: Path, part: Path) -> None:
    """Give a file its name, unless there is one of that name.

    Raises:
        FileExistsError: there is one.
    """
    try:
        os.link(begun, part)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        part.open("xb").close()
        begun.replace(part)


def _finish(part: Path, header: Header) -> None:
    """Write the file that a part becomes: large batches instead of one an append, a batch in memory at a time."""
    unfinished = part.with_suffix(".tmp")
    columns = schema(header)
    try:
        with part.open("rb") as source, unfinished.open("wb") as file:
            data = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
            with pa.ipc.new_file(file, columns) as out:
                for batches in _in_pieces(Walk(data, header).batches()):
                    table = pa.Table.from_batches(batches).replace_schema_metadata(columns.metadata)
                    out.write_table(table.combine_chunks())
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave neither this file nor the part
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
