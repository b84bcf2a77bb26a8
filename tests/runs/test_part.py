"""Parts that were damaged, cut, deleted, or written by others: what is whole is read, and what is not is said."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wstrack.errors import WstrackError
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.part import Header
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER, being_written, last_step, read_parts, read_recording
from wstrack.runs.run import Run

MANIFEST = Manifest("r", (Layer("a", "linear", (2, 3), 6), Layer("b", "conv", (3, 3), 9)), ("rwc",), 1)
SUMS = ("abs_change", "abs_previous")


def record(folder: Path, steps: range, **more: object) -> Recorder:
    """A recording of one sample a batch, whose values tell their step."""
    recorder = Recorder(folder, MANIFEST, SUMS, **more)  # type: ignore[arg-type]
    for step in steps:
        recorder.append([step], [1], [float(step)], sums_at(step))
    return recorder


def sums_at(step: int) -> np.ndarray:
    return np.array([[[step, 2.0], [step + 0.5, 4.0]]])


def is_right(run: Run) -> bool:
    """Whether each value that was read is the one that was recorded at its step."""
    steps = run.steps
    wanted = np.stack([steps / 2.0, (steps + 0.5) / 4.0], axis=1)
    spans = run.intervals.to_numpy()
    return np.array_equal(run.series["rwc"].to_numpy(), wanted) and bool((spans == 1).all())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / FOLDER


@pytest.fixture
def ends(folder: Path) -> list[int]:
    """Where each of 40 batches of an open part ends; the first entry is where they begin."""
    recorder = record(folder, range(0))
    found = [(folder / "0001.arrows").stat().st_size]
    for step in range(1, 41):
        recorder.append([step], [1], [float(step)], sums_at(step))
        found.append((folder / "0001.arrows").stat().st_size)
    return found


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda data, ends: data[: ends[20]] + bytes(4) + data[ends[20] + 4 :], {21}),
        (lambda data, ends: data[: ends[20]] + b"\xff\xff\xff\xff\0\0\0\0" + data[ends[20] + 8 :], {21}),
        (lambda data, ends: data[: ends[20]] + b"\xff\xff\xff\xff\0\0\0\0" + data[ends[20] :], set()),
        (lambda data, ends: data[: ends[20] - 24] + bytes(ends[21] - ends[20]) + data[ends[21] - 24 :], {20, 21}),
        (lambda data, ends: data[: ends[20]] + data[ends[21] :], {21}),
        (lambda data, ends: data[: ends[20] + 3] + data[ends[21] :], {21}),
        (lambda data, ends: data[: ends[5]] + data[ends[30] :], set(range(6, 31))),
    ],
    ids=["zeros", "an end", "an end between", "zeros across", "one cut out", "one cut short", "many cut out"],
)
def test_behind_a_damaged_place_reading_goes_on_and_the_gap_is_counted(
    folder: Path, ends: list[int], damage: Callable[[bytes, list[int]], bytes], lost: set[int]
) -> None:
    part = folder / "0001.arrows"
    part.write_bytes(damage(part.read_bytes(), ends))
    run = read_recording(folder)
    assert is_right(run)
    assert run.steps.tolist() == [step for step in range(1, 41) if step not in lost]
    assert run.completeness.missing == 2 * len(lost)
    assert any(f"{len(lost)} samples were lost" in note for note in run.completeness.notes) == bool(lost)


def test_zeros_for_a_tail_that_was_never_written_are_no_samples(folder: Path, ends: list[int]) -> None:
    part = folder / "0001.arrows"
    data = part.read_bytes()
    part.write_bytes(data[: ends[20] - 24] + bytes(len(data) - ends[20] + 24))
    run = read_recording(folder)
    assert run.steps.tolist() == list(range(1, 20))
    assert is_right(run)
    assert "bytes of it cannot be read" in run.completeness.notes[0]


@pytest.mark.parametrize("closed", [False, True])
def test_one_flipped_bit_spoils_one_batch_and_never_gives_another_number(folder: Path, closed: bool) -> None:
    recorder = record(folder, range(1, 41))
    if closed:
        recorder.close()
    part = next(folder.iterdir())
    data = part.read_bytes()
    for place in range(0, len(data), 29):
        bit = 1 << place % 8
        part.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        run = read_recording(folder)
        assert is_right(run), place
        assert run.name == "r"
        missing = 40 - len(run.steps)
        # All 40 samples of a closed part this small are one batch to Arrow, whose description may be hit.
        assert missing in ((0, 1, 40) if closed else (0, 1))
        assert not missing or run.completeness.notes
        assert run.completeness.missing == 2 * missing or not run.completeness.notes[0].endswith("batch")


@pytest.mark.parametrize("cut", [1, 7, 100, 1000, 3000])
def test_a_closed_part_that_was_cut_short_is_read_to_the_cut(folder: Path, cut: int) -> None:
    record(folder, range(1, 41)).close()
    part = folder / "0001.arrow"
    part.write_bytes(part.read_bytes()[:-cut])
    run = read_recording(folder)
    assert is_right(run)
    assert "0001.arrow is not as it was written" in run.completeness.notes[0]
    assert run.completeness.expected == 80
    assert len(run.steps) in ((40,) if cut < 1000 else (0, 40))


def test_another_recordings_batches_are_not_taken_for_its_own(folder: Path, tmp_path: Path) -> None:
    record(folder, range(1, 11))
    record(tmp_path / "other" / FOLDER, range(11, 21))
    part, other = folder / "0001.arrows", tmp_path / "other" / FOLDER / "0001.arrows"
    part.write_bytes(part.read_bytes() + other.read_bytes())
    run = read_recording(folder)
    assert run.steps.tolist() == list(range(1, 11))
    assert "10 samples in 0001.arrows are not what was written" in "".join(run.completeness.notes)


def test_what_a_watch_could_not_write_in_between_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is full for a while, also when it is full again as a part begins."""
    recorder = record(folder, range(1, 4))

    class Full:
        def write_batch(self, batch: object) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder, "_stream", Full())
    with pytest.raises(OSError, match="No space"):
        recorder.append([4], [1], [4.0], sums_at(4))
    with monkeypatch.context() as patch:
        patch.setattr(pa.ipc, "new_stream", lambda *_: Full())
        patch.setattr(Full, "write_batch", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space")))
        with pytest.raises(OSError, match="No space"):
            recorder.append([5], [1], [5.0], sums_at(5))
    assert [part.name for part in folder.iterdir()] == ["0001.arrows"]
    recorder.append([6], [1], [6.0], sums_at(6))
    for run in (read_recording(folder), (recorder.close(lost=2), read_recording(folder))[1]):
        assert run.steps.tolist() == [1, 2, 3, 6]
        assert is_right(run)
        assert (run.completeness.expected, run.completeness.received) == (12, 8)


def test_a_part_that_was_deleted_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record(folder, range(1, 4))
    monkeypatch.setattr(recorder, "_file", None)  # as after a write that failed
    recorder.append([4], [1], [4.0], sums_at(4))
    recorder.close()
    (folder / "0001.arrow").unlink()
    run = read_recording(folder)
    assert (run.completeness.expected, run.completeness.received) == (8, 2)


def test_a_file_that_is_deleted_while_training_is_noticed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = record(folder, range(1, 4))
    assert recorder.is_there()
    (folder / "0001.arrows").unlink()
    folder.rmdir()
    assert not recorder.is_there()
    recorder.append([4], [1], [4.0], sums_at(4))
    assert recorder.gone == 3
    assert not recorder.is_there()
    assert "was deleted while training, and 3 samples with it" in caplog.text
    recorder.close()
    run = read_recording(folder)
    assert run.steps.tolist() == [4]
    assert (run.completeness.expected, run.completeness.received) == (8, 2)


def test_a_branch_that_was_given_up_is_left_out_and_said(folder: Path) -> None:
    record(folder, range(1, 101)).close()
    record(folder, range(51, 71), after=50).close()
    run = read_recording(folder)
    assert run.steps.tolist() == list(range(1, 71))
    assert run.completeness.notes == (
        "training went on from an older checkpoint: 50 samples of later steps, from before that, are left out",
    )
    assert run.completeness.missing == 0
    assert last_step(folder) == 70
    assert [len(part.steps) for part in read_parts(folder)] == [50, 20]


def test_another_model_in_the_folder_gives_up_nothing(folder: Path) -> None:
    record(folder, range(1, 11)).close()
    other = Recorder(folder, replace(MANIFEST, layers=(Layer("c", numel=1),)), SUMS, after=2)
    other.append([3], [1], [0.0], np.ones((1, 1, 2)))
    other.close()
    assert read_recording(folder).series["rwc"]["a"].notna().sum() == 10


def write_format_1(path: Path, steps: range, *, closed: bool) -> None:
    """A part as wstrack wrote it before there were checksums."""
    columns = [("step", pa.int64()), ("interval", pa.int64()), ("time", pa.float64())]
    columns += [(name, pa.list_(pa.float64(), 2)) for name in SUMS]
    metadata = {b"wstrack.manifest": MANIFEST.to_json().encode()}
    schema = pa.schema(columns).with_metadata({**metadata, b"wstrack.lost": b"3"} if closed else metadata)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file, (pa.ipc.new_file if closed else pa.ipc.new_stream)(file, schema) as out:
        for step in steps:
            row = {"step": step, "interval": 1, "time": 0.0}
            row |= {name: sums_at(step)[0, :, i].tolist() for i, name in enumerate(SUMS)}
            out.write_batch(pa.RecordBatch.from_pylist([row], schema=schema))


def test_recordings_without_checksums_stay_readable(folder: Path) -> None:
    write_format_1(folder / "0001.arrow", range(1, 11), closed=True)
    write_format_1(folder / "0002.arrows", range(11, 21), closed=False)
    run = read_recording(folder)
    assert run.steps.tolist() == list(range(1, 21))
    assert is_right(run)
    assert run.completeness.missing == 6
    closed, opened = folder / "0001.arrow", folder / "0002.arrows"
    closed.write_bytes(closed.read_bytes()[:-1])
    opened.write_bytes(opened.read_bytes()[:-100])
    run = read_recording(folder)
    assert run.steps.tolist() == list(range(1, 20))
    assert len(run.completeness.notes) >= 2
    record(folder, range(20, 23)).close()  # and are gone on with
    assert read_recording(folder).steps.tolist() == list(range(1, 23))


def test_a_later_format_is_named() -> None:
    """With a checksum that is right, so that it is not taken for damage."""
    about = json.dumps({"format": 3, "session": "x", "after": None, "offered": None, "lost": 0, "sums": []})
    text = f"\n{about}\n{MANIFEST.to_json()}\n".encode()
    with pytest.raises(ValueError, match="format 3, which a later wstrack reads"):
        Header.found_in(b"%08x" % zlib.crc32(text) + text)


def test_nothing_but_damage_is_an_error_that_says_which(folder: Path) -> None:
    folder.mkdir()
    (folder / "0001.arrows").write_bytes(b"")
    (folder / "0002.arrow").write_bytes(bytes(100))
    with pytest.raises(WstrackError, match=r"0001.arrows cannot be read: it is empty; 0002.arrow .* nothing but zeros"):
        read_recording(folder)


def test_what_is_written_now_is_known_by_its_manifest(folder: Path) -> None:
    recorder = record(folder, range(1, 3))
    assert being_written(folder, "this process") == [MANIFEST]
    assert being_written(folder, "another") == []
    recorder.close()
    assert being_written(folder, "this process") == []


def test_a_file_that_is_deleted_before_the_end_is_noticed_at_the_end(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = record(folder, range(1, 4))
    (folder / "0001.arrows").unlink()
    recorder.close()
    assert "was deleted while training, and 3 samples with it" in caplog.text
    assert not list(folder.glob("*.arrow*"))


def test_marks_that_cannot_be_read_are_said(folder: Path) -> None:
    record(folder, range(1, 4)).close()
    (folder / "0001.marks").mkdir()
    run = read_recording(folder)
    assert run.marks == ()
    assert any(note.startswith("0001.marks cannot be read: ") for note in run.completeness.notes)
