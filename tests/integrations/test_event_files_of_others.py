"""Event files as others leave them: purged, cut, damaged, of another kind, or with holes."""

from __future__ import annotations

import gzip
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from wstrack_integrations import tensorboard
from wstrack_integrations.tensorboard import records

import wstrack
from wstrack.errors import WstrackError
from wstrack.runs.manifest import Layer, Manifest
from wstrack.trackers.contract import Sample


def manifest_of(*names: str) -> Manifest:
    return Manifest("demo", tuple(Layer(name, numel=1) for name in names), ("rwc",), every=1)


def write(directory: Path, manifest: Manifest, samples: list[Sample]) -> None:
    sink = tensorboard.open_sink(directory, manifest)
    sink.write(samples)
    sink.close()


def event_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*tfevents*"))


def test_what_was_purged_is_left_out_as_tensorboard_does(tmp_path: Path) -> None:
    """A run that went on from an older checkpoint, as `purge_step` says it."""
    for number, (steps, purge) in enumerate(((range(10), None), (range(5, 8), 5))):
        with SummaryWriter(str(tmp_path), purge_step=purge, filename_suffix=f".{number}") as out:
            for step in steps:
                out.add_scalar("norm/a", 100.0 * number + step, step)
    run = wstrack.pull(f"tensorboard:{tmp_path}", match="norm/(?P<layer>.+)")
    assert run.series["norm"]["a"].to_dict() == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 105, 6: 106, 7: 107}
    assert "5 values are left out: logging began anew at an earlier step (purge_step)" in run.completeness.notes
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    accumulator.Reload()
    assert [(event.step, event.value) for event in accumulator.Scalars("norm/a")] == list(
        run.series["norm"]["a"].to_dict().items()
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 12345\n", "it is a pointer of Git LFS"),
        (gzip.compress(b"x" * 100, mtime=0), "it is compressed (gzip)"),
        (b"<!DOCTYPE html><html><body>Not found", "it is a web page"),
        (b"", "it is empty"),
        (bytes(9999), "there is nothing but zeros in it"),
        (b"something else entirely, of some length", "no whole one comes after it"),
    ],
)
@pytest.mark.parametrize("match", [None, "rwc/(?P<layer>.+)"])
def test_a_file_that_cannot_be_read_is_said_to_be(tmp_path: Path, content: bytes, said: str, match: str | None) -> None:
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    with pytest.raises(WstrackError, match=re.escape(said)):
        wstrack.pull(f"tensorboard:{tmp_path}", match=match)


def test_a_key_that_holds_a_histogram_is_said_to_fit(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as out:
        out.add_histogram("grad/fc", np.arange(10), 1)
        out.add_scalar("loss", 1.0, 1)
    with pytest.raises(WstrackError, match=r"'grad/fc' fits, but holds no numbers \(a histogram"):
        wstrack.pull(f"tensorboard:{tmp_path}", match="grad/(?P<layer>.+)")


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_manifest_that_is_damaged_is_said(tmp_path: Path, damage: str) -> None:
    manifest = manifest_of(*(f"layer{number}.weight" for number in range(50)))
    write(tmp_path, manifest, [Sample(1, 1, 0.0, {"rwc": np.ones(50)})])
    (file,) = event_files(tmp_path)
    data = bytearray(file.read_bytes())
    data[500] ^= 1
    file.write_bytes(data[:2000] if damage == "cut" else data)
    with pytest.raises(WstrackError, match=r"which layers were watched cannot be read; .*pass match="):
        wstrack.pull(f"tensorboard:{tmp_path}")
    if damage == "flip":
        assert len(wstrack.pull(f"tensorboard:{tmp_path}", match="rwc/(?P<layer>.+)").layers) == 50


def test_samples_between_those_that_are_there_are_missing(tmp_path: Path) -> None:
    """As after a disk that was full for a while, also where nobody closed the file."""
    manifest = replace(manifest_of("a.weight"), every=10)
    made = [Sample(step, 10, float(step), {"rwc": np.array([float(step)])}) for step in range(10, 110, 10)]
    sink = tensorboard.open_sink(tmp_path, manifest)
    sink.write([*made[:3], *made[6:]])
    run = wstrack.pull(f"tensorboard:{tmp_path}")
    assert (run.completeness.expected, run.completeness.received) == (10, 7)
    assert "3 of the 10 samples written are not there" in "".join(run.completeness.notes)


@pytest.mark.parametrize("text", [b"{}", b'{"samples": null}', b"[", b'{"samples": 1e999}', b'"x"'])
def test_what_others_wrote_in_the_place_of_a_count_stops_nothing(tmp_path: Path, text: bytes) -> None:
    write(tmp_path, manifest_of("a.weight"), [Sample(1, 1, 0.0, {"rwc": np.ones(1)})])
    with SummaryWriter(str(tmp_path)) as out:
        out.add_text("wstrack/closed", text.decode(), 2)
        out.add_scalar("wstrack/interval", float("nan"), 3)
    assert wstrack.pull(f"tensorboard:{tmp_path}").steps.tolist() == [1]


def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    """A limit on the size of files does what a full disk does; what the sink was offered is what there should be."""
    code = f"""
import resource, signal, torch, wstrack
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
model = torch.nn.Linear(16, 16, bias=False)
optimizer = torch.optim.SGD(model.parameters(), lr=.01)
def train(steps):
    for _ in range(steps):
        model.weight.grad = torch.randn(16, 16)
        optimizer.step()
        watcher.flush()
watcher = wstrack.watch(model, optimizer, every=1, to={str(tmp_path / "run")!r})
train(20)
(events,) = watcher.recording.parent.glob("events*")
resource.setrlimit(resource.RLIMIT_FSIZE, (events.stat().st_size + 100, resource.RLIM_INFINITY))
train(400)
assert not watcher.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
train(20)
watcher.close()
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    for run in (wstrack.pull(f"tensorboard:{tmp_path / 'run'}"), wstrack.pull(tmp_path / "run")):
        assert run.completeness.expected == 440
        assert run.completeness.received == len(run.steps)
        assert len(run.steps) == 440 or run.completeness.notes
    assert 40 <= len(wstrack.pull(f"tensorboard:{tmp_path / 'run'}").steps) < 440


def test_looking_for_the_next_record_takes_no_look_at_each_byte_of_a_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of zeros between two records: what a file system leaves of pages that were never written."""
    looks: list[int] = []
    length = records._length
    monkeypatch.setattr(records, "_length", lambda head: (looks.append(1), length(head))[1])
    head = struct.pack("<Q", 3)
    record = head + struct.pack("<I", records._masked_crc32c(head)) + b"abc"
    record += struct.pack("<I", records._masked_crc32c(b"abc"))
    data = record + bytes(1_000_000) + record
    notes: list[str] = []
    assert [data[start:end] for start, end in records.records(data, notes)] == [b"abc", b"abc"]
    assert len(notes) == 1
    assert len(looks) < 100


def test_what_should_be_there_is_counted_over_all_metrics(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(3):
            writer.add_scalar("grad/a", step + 1.0, step)
            writer.add_scalar("grad/b", step + 2.0, step)
            if step:
                writer.add_scalar("size/a", step + 3.0, step)
    run = wstrack.pull(f"tensorboard:{tmp_path}", match="(?P<metric>grad|size)/(?P<layer>.+)")
    assert {metric: frame.shape for metric, frame in run.series.items()} == {"grad": (3, 2), "size": (2, 1)}
    assert (run.completeness.expected, run.completeness.received) == (8, 8)
