"""The recording: a run's raw sums, lossless, in small columnar files beside the tracker's own data.

A recording is a folder. Each time a run is watched it gets a part of its own (`part.py` says what stands in one), so
that a resumed run appends and two processes never write to one file. While training, every append to a part is one
whole batch, and a reader gets all of them whatever happened to the writer.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wstrack.errors import WstrackError
from wstrack.metrics import METRICS, compute
from wstrack.runs.gaps import last_standing, left_out
from wstrack.runs.locks import holder
from wstrack.runs.manifest import Manifest
from wstrack.runs.marks import SUFFIX, read_marks
from wstrack.runs.part import Contents, read_contents, read_header
from wstrack.runs.run import Completeness, Run

__all__ = [
    "FOLDER",
    "NOT_CLOSED",
    "Part",
    "being_written",
    "find_recordings",
    "last_step",
    "number_of",
    "parts_in",
    "read_parts",
    "read_recording",
    "recorded_name",
]

FOLDER = "wstrack-recording"
NOT_CLOSED = "was not closed (the run is going on, or was killed)"
_NAME = re.compile(r"(\d+)(?:-\w+)?")  # of a part: its number, and a label where several machines write to one run


def parts_in(folder: Path) -> list[Path]:
    """The files of a recording, in the order in which they were begun."""
    parts = [part for part in folder.glob("*") if part.suffix in (".arrows", ".arrow") and _NAME.fullmatch(part.stem)]
    # While a part is being finished both may be there for a moment; the finished one counts.
    done = {part.stem for part in parts if part.suffix == ".arrow"}
    there = (part for part in parts if part.suffix == ".arrow" or part.stem not in done)
    return sorted(there, key=lambda part: (number_of(part), part.name))


def number_of(part: Path) -> int:
    """The how-manieth of its recording a part is."""
    match = _NAME.fullmatch(part.stem)
    return int(match[1]) if match else 0


def find_recordings(path: Path) -> list[Path]:
    """The recording folders at or under a path; a part of a recording stands for its folder."""
    if path.is_file():
        return [path.parent] if path in parts_in(path.parent) and path.parent.name == FOLDER else []
    if path.name == FOLDER:
        return [path]
    return sorted(folder for folder in path.rglob(FOLDER) if parts_in(folder))


def last_step(folder: Path, layers: Set[str] | None = None) -> int:
    """The last step of the recording in a folder, of these layers if they are named; 0 if there is none to read."""
    stands, _ = _without_given_up([found for _, found in _whole(folder, read_contents)[0]])
    of_these = [
        part for part in stands if layers is None or any(layer.name in layers for layer in part.header.manifest.layers)
    ]
    return max((int(part.steps.max()) for part in of_these if len(part.steps)), default=0)


def recorded_name(folder: Path) -> str | None:
    """The name of the run whose recording is in a folder; None if there is none to read."""
    for part in reversed(parts_in(folder)):
        with contextlib.suppress(OSError, pa.ArrowException, ValueError):
            return read_header(part).manifest.name
    return None


def being_written(folder: Path, by: Literal["this process", "another"]) -> list[Manifest]:
    """The manifests of what is being recorded in a folder now."""
    found = []
    for part in parts_in(folder):
        if part.suffix == ".arrows" and holder(part) == by:
            with contextlib.suppress(OSError, pa.ArrowException, ValueError):
                found.append(read_header(part).manifest)
    return found


@dataclass(frozen=True)
class Part:
    """What was recorded between one start of a watch and its end.

    Attributes:
        manifest: of the samples; its metrics are those of `values`.
        steps, intervals, times: one a sample.
        values, sums: by metric and by raw sum, float64 of shape (samples, layers).
        lacking: how many samples should be here and are not: lost, damaged, or deleted.
        notes: what the file is not.
    """

    manifest: Manifest
    steps: list[int]
    intervals: list[int]
    times: list[float]
    values: dict[str, NDArray[np.float64]]
    sums: dict[str, NDArray[np.float64]]
    lacking: int
    notes: tuple[str, ...]


def read_parts(folder: Path, *, metrics: Sequence[str] | None = None) -> list[Part]:
    """The parts of a recording that can be read, every whole batch of each; see `read_recording`."""
    return _read_parts(folder, metrics, read_contents)[0]


def read_recording(
    folder: Path, *, metrics: Sequence[str] | None = None, read: Callable[[Path], Contents] = read_contents
) -> Run:
    """The run that a recording holds, every whole batch of it.

    Args:
        folder: the recording's folder.
        metrics: which; None = those that were watched. Any that the recorded sums suffice for can be had.
        read: how a part is read; see `wstrack.runs.growing` for one that is read again and again.

    Raises:
        WstrackError: there is no part that can be read.
        ValueError: a metric that cannot be computed from the sums that were recorded.
    """
    parts, notes = _read_parts(folder, metrics, read)
    runs = [_part_run(part) for part in parts]
    run = Run.joined(runs) if len(runs) > 1 else runs[0]
    marks, unread = _marks(folder)
    said = (*notes, *(note for part in parts for note in part.notes), *unread, *run.origin.get("notes", ()))
    resets = {"resets": sorted({step for step, _, reset in marks if reset})} if any(mark[2] for mark in marks) else {}
    run = replace(run, marks=tuple(sorted({(step, name) for step, name, _ in marks})))
    return run.with_notes(*said).with_origin(reference=str(folder), source="recording", **resets)


def _read_parts(
    folder: Path, metrics: Sequence[str] | None, read: Callable[[Path], Contents]
) -> tuple[list[Part], list[str]]:
    """The parts that can be read, and what is to say of those that cannot."""
    found, notes = _whole(folder, read)
    if not found:
        raise WstrackError(f"{folder} holds no recording that can be read" + "".join(f"; {note}" for note in notes))
    lacking = _lacking([contents for _, contents in found])
    kept, given_up = _without_given_up([contents for _, contents in found])
    parts = [
        _part(path, contents, lack, metrics) for (path, _), contents, lack in zip(found, kept, lacking, strict=True)
    ]
    return parts, [*notes, *given_up]


def _marks(folder: Path) -> tuple[list[tuple[int, str, bool]], list[str]]:
    """The marks of a recording that stand: those after the step at which a later watch of these layers began do not."""
    files = sorted(folder.glob(f"*{SUFFIX}"))
    headers = {}
    for part in parts_in(folder) if files else ():
        with contextlib.suppress(OSError, pa.ArrowException, ValueError):
            headers[part.stem] = read_header(part)
    found: list[tuple[int, str, bool]] = []
    notes = []
    for path in files:
        try:
            marks, damaged = read_marks(path)
        except OSError as error:
            notes.append(f"{path.name} cannot be read: {error}")
            continue
        notes += [f"{damaged} marks in {path.name} are not what was written"] if damaged else []
        until = 2**63 - 1
        if path.stem in headers:
            mine = headers[path.stem]
            later = (
                (other.after, {layer.name for layer in other.manifest.layers})
                for stem, other in headers.items()
                if stem > path.stem and other.session != mine.session
            )
            until = last_standing({layer.name for layer in mine.manifest.layers}, later)
        found += [mark for mark in marks if mark[0] <= until]
    return found, notes


def _whole(folder: Path, read: Callable[[Path], Contents]) -> tuple[list[tuple[Path, Contents]], list[str]]:
    """What is whole in each file of a recording, and what is to say of those that cannot be read."""
    found: list[tuple[Path, Contents]] = []
    notes: list[str] = []
    for path in parts_in(folder):
        try:
            contents = read(path)
            there = _computable(contents.header.sums)
            if not set(there) & set(contents.header.manifest.metrics):
                raise ValueError(f"it lacks the sums behind {', '.join(contents.header.manifest.metrics)}")
        except (OSError, pa.ArrowException, ValueError) as error:
            notes.append(f"{path.name} cannot be read: {error}")
        else:
            found.append((path, contents))
    return found, notes


def _lacking(contents: Sequence[Contents]) -> list[int]:
    """For each part, how many samples are missing up to its end, by how they are numbered and what was counted.

    One watch may have begun several parts, which are numbered through: what is missing in all is told of its last.
    """
    lacking = [0] * len(contents)
    watches: dict[object, list[int]] = {}
    for place, part in enumerate(contents):
        watches.setdefault(part.header.session or place, []).append(place)
    for places in watches.values():
        numbers = np.unique(np.concatenate([contents[place].numbers for place in places]))
        headers = [contents[place].header for place in places]
        offered = max((header.offered for header in headers if header.offered is not None), default=0)
        numbered = max(offered, int(numbers[-1]) + 1 if len(numbers) else 0)
        spoiled = sum(contents[place].spoiled for place in places)  # the last may be among them
        lacking[places[-1]] = max(numbered - len(numbers), spoiled) + max(header.lost for header in headers)
    return lacking


def _without_given_up(contents: Sequence[Contents]) -> tuple[list[Contents], list[str]]:
    """The parts without samples of a branch that was given up: training went on from an older checkpoint."""
    layers = [{layer.name for layer in part.header.manifest.layers} for part in contents]
    kept = []
    for place, part in enumerate(contents):
        session = part.header.session
        later = (
            (other.header.after, others)
            for other, others in zip(contents[place + 1 :], layers[place + 1 :], strict=True)
            if other.header.session != session
        )
        kept.append(part.where(part.steps <= last_standing(layers[place], later)))
    gone = sum(len(part.steps) for part in contents) - sum(len(part.steps) for part in kept)
    return kept, left_out(gone)


def _part(path: Path, found: Contents, lacking: int, metrics: Sequence[str] | None) -> Part:
    manifest, there = found.header.manifest, _computable(found.header.sums)
    for metric in metrics or ():
        if metric not in there:
            raise ValueError(f"metrics: {metric!r} was not recorded; there are {', '.join(there)}")
    wanted = tuple(metrics or (metric for metric in manifest.metrics if metric in there))
    numel = np.array([layer.numel for layer in manifest.layers], dtype=np.float64)
    return Part(
        manifest=replace(manifest, metrics=wanted),
        steps=found.steps.tolist(),
        intervals=found.intervals.tolist(),
        times=found.times.tolist(),
        values=compute(wanted, found.sums, numel),
        sums=found.sums,
        lacking=lacking,
        notes=tuple(_said(path, found, lacking)),
    )


def _said(path: Path, found: Contents, lacking: int) -> list[str]:
    said = []
    damage = f"{found.left:,} bytes of it cannot be read" if found.left else "it ends with a whole batch"
    if path.suffix == ".arrows":
        said.append(f"{path.name} {NOT_CLOSED}: {damage}")
    elif found.left or not found.ended:
        said.append(f"{path.name} is not as it was written: {damage}")
    if found.spoiled:
        said.append(f"{found.spoiled} samples in {path.name} are not what was written, by their checksum")
    if lacking:
        said.append(f"{lacking} samples were lost, before they were recorded or since")
    lacks = [metric for metric in found.header.manifest.metrics if metric not in _computable(found.header.sums)]
    if lacks:
        said.append(f"{path.name} lacks the sums behind {', '.join(lacks)}")
    return said


def _part_run(part: Part) -> Run:
    width = part.manifest.width
    held = len(part.steps) * width
    received = held - part.manifest.lacking
    return Run.from_values(
        part.manifest,
        part.steps,
        part.values,
        intervals=part.intervals,
        sums=part.sums,
        completeness=Completeness(held + part.lacking * width, received),
    )


def _computable(sums: Sequence[str]) -> list[str]:
    return [name for name, metric in METRICS.items() if set(metric.sums) <= set(sums)]
