"""A recording read again and again while it grows: what is read is what reading it anew would give."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from tests.runs.test_part import is_right, record, sums_at
from wstrack.runs.growing import Growing, stamp
from wstrack.runs.recording import FOLDER, read_recording


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / FOLDER


def same(growing: Growing) -> int:
    """How many samples there are; they, and what is said of them, are those of a reading anew."""
    now, anew = growing.read(), read_recording(growing.folder)
    assert now.series["rwc"].equals(anew.series["rwc"])
    assert now.intervals.equals(anew.intervals)
    assert now.completeness == anew.completeness
    assert is_right(now)
    return len(now.steps)


def test_it_is_read_on_to_its_end_and_past_a_restart(folder: Path) -> None:
    recorder = record(folder, range(1, 4))
    growing = Growing(folder)
    assert same(growing) == 3
    before = growing.read()
    for step in range(4, 30):
        recorder.append([step], [1], [0.0], sums_at(step))
        assert same(growing) == step
    assert list(before.steps) == [1, 2, 3]  # what was given out stays as it was
    assert is_right(before)
    recorder.close()
    assert same(growing) == 29
    record(folder, range(30, 33), after=29)  # killed
    assert same(growing) == 32
    record(folder, range(21, 26), after=20).close()  # from an older checkpoint
    assert same(growing) == 25


def test_a_half_written_batch_is_taken_once_it_is_whole(folder: Path) -> None:
    record(folder, range(1, 6))
    part = folder / "0001.arrows"
    data = part.read_bytes()
    growing = Growing(folder)
    starts = [len(data) * share // 20 for share in range(12, 21)]
    found = []
    for end in starts:
        part.write_bytes(data[:end])
        with part.open("r+b"):
            found.append(same(growing))
    assert found == sorted(found)
    assert found[-1] == 5
    assert len(set(found)) > 2


def test_damage_is_counted_once(folder: Path) -> None:
    recorder = record(folder, range(1, 6))
    part = folder / "0001.arrows"
    growing = Growing(folder)
    data = part.read_bytes()
    part.write_bytes(data[:-100] + bytes(60))
    assert same(growing) == 4
    with part.open("ab") as file:
        file.write(bytes(40))
    assert same(growing) == 4
    recorder.append([6], [1], [0.0], sums_at(6))  # at the old end, behind the damage
    assert same(growing) == 5
    recorder.append([7], [1], [0.0], sums_at(7))
    assert same(growing) == 6


def test_a_run_that_began_anew_in_its_folder_is_not_mixed_with_the_old(folder: Path) -> None:
    record(folder, range(1, 9))
    growing = Growing(folder)
    assert same(growing) == 8
    (folder / "0001.arrows").unlink()
    record(folder, range(1, 4))
    assert same(growing) == 3
    part = folder / "0001.arrows"
    other = part.read_bytes()
    record(folder, range(5, 9), after=3)
    (folder / "0002.arrows").unlink()
    part.write_bytes(other[:-40])  # the same file, cut
    assert same(growing) == 2


def test_only_what_is_new_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record(folder, range(1, 200))
    growing = Growing(folder)
    growing.read()
    part = folder / "0001.arrows"
    size = part.stat().st_size
    recorder.append([200], [1], [0.0], sums_at(200))
    added = part.stat().st_size - size
    taken: list[int] = []
    opened = builtins.open

    class Counted:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def read(self, *size: int) -> bytes:
            data: bytes = self.file.read(*size)
            taken.append(len(data))
            return data

    monkeypatch.setattr(Path, "open", lambda path, *how, **more: Counted(opened(path, *how, **more)))
    assert len(growing.read().steps) == 200
    assert 0 < sum(taken) < added + 100


def test_a_stamp_changes_with_each_sample_and_not_without(folder: Path) -> None:
    recorder = record(folder, range(1, 3))
    first = stamp(folder)
    assert first == stamp(folder) != ()
    recorder.append([3], [1], [0.0], sums_at(3))
    second = stamp(folder)
    assert second != first
    recorder.close()
    assert stamp(folder) != second
