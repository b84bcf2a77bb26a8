from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import wstrack
from wstrack.errors import WstrackError
from wstrack.runs import recorder as recorder_room
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.part import read_contents
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER, find_recordings, last_step, read_recording, recorded_name

LAYERS = tuple(Layer(f"{name}.weight", "linear", (2, 3), 6) for name in "abc")
MANIFEST = Manifest("one", LAYERS, ("rwc",), every=10, facts={"model": "Net"})
SUMS = ("abs_change", "abs_previous", "abs_current")


def batch(steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((steps, 3, 3))


def recorded(folder: Path, *batches: list[int]) -> tuple[Recorder, np.ndarray]:
    recorder = Recorder(folder, MANIFEST, SUMS)
    sums = [batch(len(steps), seed) for seed, steps in enumerate(batches)]
    for steps, values in zip(batches, sums, strict=True):
        recorder.append(steps, [10] * len(steps), [0.5] * len(steps), values)
    return recorder, np.concatenate(sums)


class FullDisk:
    """What a stream is to a disk that is full."""

    def write_batch(self, *_: object) -> None:
        raise OSError(28, "No space left on device")


def test_what_was_recorded_comes_back_bit_for_bit_open_and_closed(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    recorder, sums = recorded(folder, [10, 20], [30])
    open_run = read_recording(folder)
    recorder.close()
    closed_run = read_recording(folder)
    for run in (open_run, closed_run):
        np.testing.assert_array_equal(run.series["rwc"].to_numpy(), sums[:, :, 0] / sums[:, :, 1])
        assert run.series["rwc"].index.tolist() == [10, 20, 30]
        assert run.intervals.tolist() == [10, 10, 10]
        assert run.layers["shape"].tolist() == [(2, 3)] * 3
        assert run.facts["model"] == "Net"
    assert "not closed" in open_run.completeness.notes[0]
    assert closed_run.completeness.notes == ()
    assert [part.name for part in folder.iterdir()] == ["0001.arrow"]


def test_metrics_that_were_not_asked_for_come_from_the_same_sums(tmp_path: Path) -> None:
    _, sums = recorded(tmp_path / FOLDER, [10])
    run = read_recording(tmp_path / FOLDER, metrics=["norm"])
    np.testing.assert_array_equal(run.series["norm"].to_numpy(), sums[:, :, 2] / 6)
    with pytest.raises(ValueError, match="'cosine' was not recorded; there are rwc, norm"):
        read_recording(tmp_path / FOLDER, metrics=["cosine"])


def test_the_steps_from_which_distances_count_anew_are_told(tmp_path: Path) -> None:
    recorder, _ = recorded(tmp_path / FOLDER, [10, 20, 30])
    recorder.mark(10, "task 1", reset=False)
    assert "resets" not in read_recording(tmp_path / FOLDER).origin
    recorder.mark(20, "task 2", reset=True)
    run = read_recording(tmp_path / FOLDER)
    assert run.origin["resets"] == [20]
    assert run.marks == ((10, "task 1"), (20, "task 2"))


@pytest.mark.parametrize("cut", [1, 100, 700])
def test_a_truncated_stream_gives_every_whole_batch(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / FOLDER
    recorded(folder, [10, 20], [30], [40])
    part = folder / "0001.arrows"
    part.write_bytes(part.read_bytes()[:-cut])
    steps = read_recording(folder).steps.tolist()
    assert steps in ([10, 20, 30], [10, 20])
    assert (cut < 700) == (steps == [10, 20, 30])


def test_a_resumed_run_appends_and_the_later_of_two_steps_stands(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    recorded(folder, [10, 20, 30])  # killed: never closed
    recorder, later = recorded(folder, [30, 40])
    recorder.close()
    run = read_recording(folder)
    assert run.series["rwc"].index.tolist() == [10, 20, 30, 40]
    np.testing.assert_array_equal(run.series["rwc"].loc[30], later[0, :, 0] / later[0, :, 1])
    assert last_step(folder) == 40


def test_samples_that_were_lost_are_counted(tmp_path: Path) -> None:
    recorder, _ = recorded(tmp_path / FOLDER, [10])
    recorder._begin_part()  # as after a write that failed
    recorder.close(lost=2)
    run = read_recording(tmp_path / FOLDER)
    assert (run.completeness.expected, run.completeness.received) == (9, 3)
    assert "2 samples were lost" in run.completeness.notes[0]


def test_a_run_without_samples_has_its_layers(tmp_path: Path) -> None:
    Recorder(tmp_path / FOLDER, MANIFEST, SUMS).close()
    run = read_recording(tmp_path / FOLDER)
    assert run.series["rwc"].shape == (0, 3)
    assert last_step(tmp_path / FOLDER) == 0


def test_the_last_step_is_that_of_the_layers_that_are_named(tmp_path: Path) -> None:
    recorded(tmp_path / FOLDER, [10, 20])
    assert last_step(tmp_path / FOLDER, {"a.weight"}) == 20
    assert last_step(tmp_path / FOLDER, {"other.weight"}) == 0


def test_a_name_is_read_from_the_newest_part_that_can_be(tmp_path: Path) -> None:
    recorder, _ = recorded(tmp_path / FOLDER, [10])
    recorder.close()
    (tmp_path / FOLDER / "0002.arrow").write_bytes(b"nonsense")
    assert recorded_name(tmp_path / FOLDER) == "one"
    (tmp_path / FOLDER / "0001.arrow").write_bytes(b"nonsense")
    assert recorded_name(tmp_path / FOLDER) is None


def test_a_number_that_another_process_took_is_not_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, taken = recorder_room._name, []

    def late(begun: Path, part: Path) -> None:
        taken.append(part.name)
        if len(taken) == 1:
            raise FileExistsError(part)
        name(begun, part)

    monkeypatch.setattr(recorder_room, "_name", late)
    recorded(tmp_path / FOLDER, [10])
    assert taken == ["0001.arrows", "0002.arrows"]
    assert read_recording(tmp_path / FOLDER).steps.tolist() == [10]


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    recorder, _ = recorded(tmp_path / FOLDER, [10, 20])
    recorder.close()
    assert read_recording(tmp_path / FOLDER).steps.tolist() == [10, 20]
    assert [part.name for part in (tmp_path / FOLDER).iterdir()] == ["0001.arrow"]


def test_a_session_that_began_another_part_gave_up_nothing(tmp_path: Path) -> None:
    """After a full disk, say; that it went on after step 5 is about the sessions before it."""
    recorder = Recorder(tmp_path / FOLDER, MANIFEST, SUMS, after=5)
    recorder.append([10], [10], [0.5], batch(1))
    stream = recorder._stream
    recorder._stream = FullDisk()  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space left"):
        recorder.append([20], [10], [0.5], batch(1))
    stream.close()
    recorder.append([30], [10], [0.5], batch(1))
    recorder.close()
    run = read_recording(tmp_path / FOLDER)
    assert run.steps.tolist() == [10, 30]
    assert not any("older checkpoint" in note for note in run.completeness.notes)


def test_samples_that_stand_keep_their_numbers(tmp_path: Path) -> None:
    recorded(tmp_path / FOLDER, [10, 20, 30])
    contents = read_contents(tmp_path / FOLDER / "0001.arrows")
    kept = contents.where(contents.steps != 20)
    assert kept.steps.tolist() == [10, 30]
    assert kept.numbers.tolist() == contents.numbers[[0, 2]].tolist()


def test_a_part_that_is_no_recording_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    recorder, _ = recorded(folder, [10])
    recorder.close()
    (folder / "0002.arrow").write_bytes(b"nonsense")
    run = read_recording(folder)
    assert run.steps.tolist() == [10]
    assert "0002.arrow cannot be read" in run.completeness.notes[0]
    (folder / "0001.arrow").unlink()
    with pytest.raises(WstrackError, match=r"no recording that can be read; 0002\.arrow"):
        read_recording(folder)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: data.replace(b'"every": 10', b'"every": 11'), "its manifest is damaged"),
        (lambda data: data.replace(b'"format": 2', b'"format": 7'), "its manifest is damaged"),
        (lambda data: data.replace(b'"shape": [2, 3]', b'"shape": [2, "]'), "its manifest is damaged"),
        (lambda data: data[:500], "its manifest is damaged"),
        (lambda data: b"", "it is empty"),
        (lambda data: bytes(len(data)), "there is nothing but zeros in it"),
    ],
)
def test_a_damaged_part_spoils_no_other(
    tmp_path: Path, damage: Callable[[bytes], bytes], why: str, model: nn.Sequential
) -> None:
    folder = tmp_path / FOLDER
    for steps in ([10], [20]):
        recorder, _ = recorded(folder, steps)
        recorder.close()
    part = folder / "0002.arrow"
    part.write_bytes(damage(part.read_bytes()))
    run = read_recording(folder)
    assert run.steps.tolist() == [10]
    assert "0002.arrow cannot be read" in run.completeness.notes[0]
    assert why in run.completeness.notes[0]
    with wstrack.watch(model, to=tmp_path) as watcher:  # and training begins, where what can be read ends
        assert watcher.steps == 10


def test_two_writers_take_two_parts(tmp_path: Path) -> None:
    first, _ = recorded(tmp_path / FOLDER, [10])
    second, _ = recorded(tmp_path / FOLDER, [20])
    first.close()
    second.close()
    assert read_recording(tmp_path / FOLDER).steps.tolist() == [10, 20]


def test_after_a_failed_write_a_new_part_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, _ = recorded(tmp_path / FOLDER, [10])

    def full(batch: object) -> None:
        raise OSError(28, "No space left on device")

    class FullStream:
        write_batch = staticmethod(full)

    monkeypatch.setattr(recorder, "_stream", FullStream())
    with pytest.raises(OSError, match="No space"):
        recorder.append([20], [10], [0.0], batch(1))
    recorder.append([30], [10], [0.0], batch(1))
    recorder.close()
    assert read_recording(tmp_path / FOLDER).steps.tolist() == [10, 30]


def test_found_from_above_from_inside_and_by_a_part(tmp_path: Path) -> None:
    folder = tmp_path / "exp" / FOLDER
    recorder, _ = recorded(folder, [10])
    recorder.close()
    for path in (tmp_path, tmp_path / "exp", folder, folder / "0001.arrow"):
        assert find_recordings(path) == [folder]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WstrackError, match=r"cannot record in .*file"):
        Recorder(tmp_path / "file" / FOLDER, MANIFEST, SUMS)


def test_what_follows_the_last_whole_batch_is_seen_whatever_it_is(tmp_path: Path) -> None:
    """Zeros end an Arrow stream for its reader: what a file system leaves of a page that was never written."""
    recorder, _ = recorded(tmp_path / FOLDER, [10], [20])
    part = tmp_path / FOLDER / "0001.arrows"
    whole = part.read_bytes()
    for rest in (b"\0" * 4096, b"\0" * 8, whole[-100:], b"x"):
        part.write_bytes(whole + rest)
        found = read_recording(tmp_path / FOLDER)
        assert found.steps.tolist() == [10, 20]
        assert f"{len(rest):,} bytes of it cannot be read" in found.completeness.notes[0]
    part.write_bytes(whole)
    assert "it ends with a whole batch" in read_recording(tmp_path / FOLDER).completeness.notes[0]
    recorder.close()


def test_closing_a_long_recording_takes_the_memory_of_a_piece(tmp_path: Path) -> None:
    """Measured in a process of its own: what Arrow held at most, against what was recorded."""
    code = f"""
import numpy as np, pyarrow as pa
from pathlib import Path
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder, _PIECE
manifest = Manifest("long", tuple(Layer(f"l{{i}}", numel=1) for i in range(1000)), ("rwc",), 1)
recorder = Recorder(Path({str(tmp_path / FOLDER)!r}), manifest, ("abs_change", "abs_previous"))
sums = np.ones((100, 1000, 2))
for first in range(0, 8000, 100):
    recorder.append(range(first, first + 100), [1] * 100, [0.0] * 100, sums)
recorder.close()
print(pa.default_memory_pool().max_memory(), 5 * _PIECE)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    most, allowed = map(int, done.stdout.split())
    assert (tmp_path / FOLDER / "0001.arrow").stat().st_size > 120e6
    assert most < allowed
    assert len(read_recording(tmp_path / FOLDER).steps) == 8000
