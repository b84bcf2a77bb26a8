"""Recordings that earlier versions wrote are read for good, and a flipped bit is never a wrong value without a note."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import wstrack
from wstrack.errors import WstrackError
from wstrack.runs.recording import FOLDER, read_recording
from wstrack.runs.run import Run

WRITTEN = Path(__file__).parent / "written"
VERSIONS = sorted(folder.name for folder in WRITTEN.iterdir() if (folder / FOLDER).is_dir())
FLIPS = 10_000


def expected(version: str) -> dict[str, np.ndarray]:
    """By metric, what NumPy made of the weights when the recording was written, (steps 1 to 10, layers)."""
    return {
        metric: np.array(rows) for metric, rows in json.loads((WRITTEN / version / "expected.json").read_text()).items()
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_earlier_version_wrote_is_read_whole(version: str) -> None:
    run = wstrack.pull(WRITTEN / version)
    assert list(run.layers.index) == ["0.weight", "2.weight"]
    assert run.steps.tolist() == list(range(1, 11))
    assert run.facts == {"seed": 0}
    assert str(run.completeness).startswith("all 60 values")
    for metric, rows in expected(version).items():
        np.testing.assert_allclose(run.series[metric].to_numpy(), rows, rtol=1e-14)


def test_the_marks_of_0_1_0_are_read() -> None:
    assert wstrack.pull(WRITTEN / "0.1.0").marks == ((0, "begin"), (5, "begin"))


def test_this_version_has_left_a_recording_to_be_read() -> None:
    released = wstrack.__version__.partition(".dev")[0]
    assert released in VERSIONS, f"run tests/runs/written/make.py as it says, into {released}/"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", ["0001.arrow", "0002.arrows"])
def test_a_flipped_bit_is_noticed_or_changes_nothing(part: str, tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    shutil.copytree(WRITTEN / "0.1.0" / FOLDER, folder)
    whole, right = read_recording(folder), expected("0.1.0")
    (folder / ("0002.arrows" if part == "0001.arrow" else "0001.arrow")).unlink()
    alone = read_recording(folder)
    data = bytearray((folder / part).read_bytes())
    bits = np.random.default_rng(0).choice(8 * len(data), FLIPS, replace=False)
    came = {"whole": 0, "in part": 0, "refused": 0}
    for bit in bits.tolist():
        data[bit // 8] ^= 1 << bit % 8
        (folder / part).write_bytes(data)
        try:
            run = read_recording(folder)
        except (WstrackError, ValueError):
            came["refused"] += 1
        else:
            holds(run, right)
            assert run.layers.equals(whole.layers)
            assert run.facts == whole.facts
            lacks = len(alone.steps) - len(run.steps)
            # Of a part that goes on nobody can tell how many samples its last bytes were.
            unread = any("bytes of it cannot be read" in note for note in run.completeness.notes)
            assert not lacks or run.completeness.missing or unread, bit
            came["in part" if lacks else "whole"] += 1
        data[bit // 8] ^= 1 << bit % 8
    assert came["in part"] > FLIPS / 10, came  # the bits of the samples are a good part of the file
    assert came["refused"] < FLIPS / 100, came


def holds(run: Run, right: dict[str, np.ndarray]) -> None:
    """Each value that is there is the one that was measured at its step."""
    for metric, rows in right.items():
        np.testing.assert_allclose(run.series[metric].to_numpy(), rows[run.steps - 1], rtol=1e-14)
    assert (run.intervals == 1).all()
