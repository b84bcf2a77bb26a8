"""One file of a recording, a part: what stands in it, and how all that is whole in it is found, however damaged it is.

A part is Arrow, a stream while it is written (`.arrows`) and a file once closed (`.arrow`), which is the same stream
between two marks. A row is a sample. Two things in it are wstrack's own. The header, in the schema's metadata, stands
in a part twice and carries its checksum. Each row carries the checksum of the samples that were appended with it, taken
when they were appended: so whatever became of the bytes since, a sample that is read is the one that was measured. Rows
are numbered, so a gap is seen for what it is.

Reading does not trust what Arrow says of where things are: after a damaged place it looks for the next whole batch.
Parts of format 1 have no checksums; of those the batches before the first damaged place are read.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wstrack.runs.files import looks_like
from wstrack.runs.manifest import Manifest

__all__ = ["ABOUT", "Contents", "Header", "Walk", "check", "gathered", "read_contents", "read_header", "schema"]

ABOUT = ("number", "check", "step", "interval", "time")
"""The columns before those of the sums."""

_KEY = b"wstrack.recording"
_MARK = b'\n{"format": '
_MESSAGE = b"\xff\xff\xff\xff"  # what each message begins with
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # what a stream that was closed ends with
_MAGIC = b"ARROW1\x00\x00"  # what a file begins with


@dataclass(frozen=True)
class Header:
    """What is known of a part beside its samples.

    Attributes:
        manifest: of the samples.
        sums: names of the raw sums, in the order of their columns.
        session: names the watch that wrote it, which may have begun several parts.
        after: the step that this watch goes on after: samples of an earlier watch beyond it are of a branch that was
            given up. None = it takes the place of nothing.
        offered: how many samples the watch had for the recording, known once it is closed.
        lost: how many more never came as far as being numbered.
    """

    manifest: Manifest
    sums: tuple[str, ...]
    session: str = ""
    after: int | None = None
    offered: int | None = None
    lost: int = 0

    def to_metadata(self) -> dict[bytes, bytes]:
        """As metadata of an Arrow schema: its checksum, itself, and the manifest, a line each, in ASCII."""
        about = {"format": 2, "session": self.session, "after": self.after, "offered": self.offered, "lost": self.lost}
        text = f"\n{json.dumps({**about, 'sums': self.sums})}\n{self.manifest.to_json()}\n".encode()
        return {_KEY: b"%08x" % zlib.crc32(text) + text}

    @classmethod
    def found_in(cls, data: bytes | mmap.mmap) -> Header | None:
        """The first header in the bytes of a part that is as it was written; None if it is of format 1.

        Raises:
            ValueError: there are only damaged ones.
        """
        at = data.find(_MARK)
        if at < 0:
            return None
        while at >= 0:
            end = data.find(b"\n", data.find(b"\n", at + 1) + 1) + 1
            text, found = data[at:end], data[at - 8 : at]
            if found == b"%08x" % zlib.crc32(text):
                about, manifest = text.decode().split("\n")[1:3]
                said = json.loads(about)
                if said["format"] != 2:
                    raise ValueError(f"it is of format {said['format']}, which a later wstrack reads: upgrade it")
                return cls(
                    Manifest.from_json(manifest), tuple(said["sums"]), said["session"], said["after"], said["offered"],
                    said["lost"],
                )  # fmt: skip
            at = data.find(_MARK, at + 1)
        raise ValueError("its manifest is damaged")


def schema(header: Header) -> pa.Schema:
    """The columns of a part, with the header."""
    return _columns(header).with_metadata(header.to_metadata())


def _columns(header: Header) -> pa.Schema:
    """What is known of each sample, then a raw sum of all layers each."""
    kinds = (pa.int64(), pa.uint32(), pa.int64(), pa.int64(), pa.float64())
    width = len(header.manifest.layers)
    sums = ((name, pa.list_(pa.float64(), width)) for name in header.sums)
    return pa.schema([*zip(ABOUT, kinds, strict=True), *sums])


def check(session: str, columns: Sequence[NDArray[Any]]) -> int:
    """The checksum (CRC-32) of samples that are appended together: their numbers, steps, intervals, times and sums."""
    sum_ = zlib.crc32(session.encode())
    for column in columns:
        sum_ = zlib.crc32(np.ascontiguousarray(column).data, sum_)
    return sum_


@dataclass(frozen=True)
class Contents:
    """What is whole in a part.

    Attributes:
        header: of the part.
        numbers, steps, intervals, times: one a sample.
        sums: by name, float64 of shape (samples, layers).
        left: bytes in which nothing whole was found.
        spoiled: samples with another checksum than they were written with, which are left out.
        ended: whether it was closed, and is there to its last byte.
    """

    header: Header
    numbers: NDArray[np.int64]
    steps: NDArray[np.int64]
    intervals: NDArray[np.int64]
    times: NDArray[np.float64]
    sums: dict[str, NDArray[np.float64]]
    left: int
    spoiled: int
    ended: bool

    def where(self, stands: NDArray[np.bool_]) -> Contents:
        """The samples for which `stands`, (samples,), is true."""
        if stands.all():
            return self
        return replace(
            self,
            numbers=self.numbers[stands],
            steps=self.steps[stands],
            intervals=self.intervals[stands],
            times=self.times[stands],
            sums={name: rows[stands] for name, rows in self.sums.items()},
        )


def read_contents(path: Path) -> Contents:
    """Every whole sample of a part.

    Raises:
        OSError, pa.ArrowException, ValueError: it is no part of a recording, or nothing in it can be made out.
    """
    data = path.read_bytes()
    if said := looks_like(data):
        raise ValueError(said)
    header = Header.found_in(data)
    if header is None:
        return _read_format_1(data)
    walk = Walk(data, header)
    return gathered(header, list(walk.batches()), walk.left, walk.spoiled, ended=walk.ended)


def read_header(path: Path) -> Header:
    """The header of a part, without its samples.

    Raises:
        OSError, pa.ArrowException, ValueError: it is no part of a recording, or its header is damaged.
    """
    if not path.stat().st_size:
        raise ValueError("it is empty")
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return Header.found_in(data) or _read_format_1(path.read_bytes()).header


class Walk:
    """A way through a part of today's format, however damaged.

    Args:
        data: the part's bytes.
        header: of the part.

    Attributes:
        left: bytes in which nothing whole was found, known at the end of the way.
        spoiled: samples with another checksum than they were written with; likewise.
        ended: whether the part was closed, and is there to its last byte; likewise.
        done: where the last that is whole ends, from which a part that grows is read on; likewise.
    """

    def __init__(self, data: bytes | mmap.mmap, header: Header) -> None:
        self.left = self.spoiled = self.done = 0
        self.ended = False
        self._data = data
        self._header = header
        self._schema = _columns(header)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The samples that are as they were appended, batch by batch."""
        data = self._data
        reader = pa.BufferReader(pa.py_buffer(data))
        in_file = data[: len(_MAGIC)] == _MAGIC
        at = done = len(_MAGIC) if in_file else 0
        while (at := data.find(_MESSAGE, at)) >= 0:
            if at == done and data[at : at + len(_END)] == _END:
                done = at + len(_END)
                self.ended = in_file and _is_footer(data, done)
                done = len(data) if self.ended else done
            elif (found := self._batch_at(reader, at)) is not None:
                batch, end = found
                self.left += max(0, at - done)
                done = end
                # One that says it is longer than it is would hide those behind it.
                at = end if data[end : end + 4] in (_MESSAGE, b"") else at + 8
                yield from [batch] if batch.num_rows else []
                continue
            at += 1
        self.left += len(data) - done
        self.done = done

    def _batch_at(self, reader: pa.BufferReader, at: int) -> tuple[pa.RecordBatch, int] | None:
        """The right samples of the message at an offset (the schema has none), and where it ends; None = no message."""
        length = int.from_bytes(self._data[at + 4 : at + 8], "little", signed=True)
        if not 0 < length <= len(self._data) - at - 8:
            return None
        reader.seek(at)
        try:
            message = pa.ipc.read_message(reader)
            if message.type == "schema":
                return pa.RecordBatch.from_pylist([], schema=self._schema), at + 8 + length
            batch = pa.ipc.read_record_batch(message, self._schema)
            batch.validate()  # what a file says of its numbers may point outside it
        except (pa.ArrowException, OSError, EOFError):
            return None
        if any(column.null_count for column in batch.columns):
            return None
        end = at + (pa.ipc.get_record_batch_size(batch) if batch.num_rows else 8 + length)
        return self._right(batch), min(end, reader.tell())

    def _right(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The samples of which the checksum is right."""
        said = batch.column("check").to_numpy()
        sums = [batch.column(name).flatten().to_numpy() for name in self._header.sums]
        about = [batch.column(name).to_numpy() for name in ABOUT if name != "check"]
        width = len(self._header.manifest.layers)
        right = np.zeros(len(said), dtype=bool)
        edges = [0, *(np.flatnonzero(np.diff(said)) + 1).tolist(), len(said)]
        for start, end in pairwise(edges) if len(said) else ():
            together = [*(column[start:end] for column in about), *(s[start * width : end * width] for s in sums)]
            right[start:end] = check(self._header.session, together) == said[start]
        self.spoiled += int((~right).sum())
        return batch if right.all() else batch.filter(pa.array(right))


def _is_footer(data: bytes | mmap.mmap, at: int) -> bool:
    """Whether what follows is the end of an Arrow file: a table of its batches, how long that is, and a mark."""
    return data[-6:] == b"ARROW1" and at + int.from_bytes(data[-10:-6], "little") + 10 == len(data)


def gathered(header: Header, batches: Sequence[pa.RecordBatch], left: int, spoiled: int, *, ended: bool) -> Contents:
    """What a walk found, as arrays."""

    def whole(name: str, dtype: type) -> NDArray[Any]:
        # A copy: a run keeps it, and lets go of the file's bytes.
        return np.concatenate([np.empty(0, dtype), *(batch.column(name).to_numpy() for batch in batches)])

    def rows(name: str) -> NDArray[np.float64]:
        pieces = [batch.column(name).flatten().to_numpy() for batch in batches]
        return np.concatenate([np.empty(0), *pieces]).reshape(-1, len(header.manifest.layers))

    return Contents(
        header=header,
        numbers=whole("number", np.int64),
        steps=whole("step", np.int64),
        intervals=whole("interval", np.int64),
        times=whole("time", np.float64),
        sums={name: rows(name) for name in header.sums},
        left=left,
        spoiled=spoiled,
        ended=ended,
    )


def _read_format_1(data: bytes) -> Contents:
    """A part without checksums, of which the batches before the first that is not whole are taken.

    Raises:
        pa.ArrowException, ValueError: it is none.
    """
    start = len(_MAGIC) if data.startswith(_MAGIC) else 0
    reader = pa.BufferReader(pa.py_buffer(data).slice(start))
    batches: list[pa.RecordBatch] = []
    with pa.ipc.open_stream(reader) as stream:
        about = stream.schema.metadata or {}
        if b"wstrack.manifest" not in about:
            raise ValueError("it carries no manifest")
        manifest = Manifest.from_json(about[b"wstrack.manifest"].decode())
        header = Header(manifest, tuple(stream.schema.names[3:]), lost=int(about.get(b"wstrack.lost", b"0")))
        wanted = schema(header)
        if not stream.schema.equals(pa.schema([wanted.field(name) for name in (*ABOUT[2:], *header.sums)])):
            raise ValueError("its columns are not those of a recording")
        read, count = reader.tell(), 0
        with contextlib.suppress(pa.ArrowException, OSError):
            for batch in stream:
                batch.validate()
                if any(column.null_count for column in batch.columns):
                    break
                numbers = pa.array(np.arange(count, count + batch.num_rows))
                named = [*batch.schema.names, "number"]
                batches.append(pa.RecordBatch.from_arrays([*batch.columns, numbers], names=named))
                read, count = reader.tell(), count + batch.num_rows
    read += start
    at_end = data[read : read + len(_END)] == _END
    ended = at_end and bool(start) and _is_footer(data, read + len(_END))
    left = 0 if ended else len(data) - read - at_end * len(_END)
    if ended:
        header = replace(header, offered=count)
    return gathered(header, batches, left, 0, ended=ended)
