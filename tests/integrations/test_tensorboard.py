"""Sink and source of TensorBoard against each other, TensorBoard itself, and what users do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from torch.utils.tensorboard import SummaryWriter
from wstrack_integrations import tensorboard

from wstrack.errors import WstrackError
from wstrack.runs.manifest import Layer, Manifest
from wstrack.trackers.contract import Sample, Sink
from wstrack.trackers.naming import layer_keys
from wstrack.trackers.shared import left_to_recording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wstrack.runs.run import Run

ODD_NAMES = [
    "layer1.0.conv1.weight",
    "layer1.0.conv2.weight",
    "layer1.10.conv1.weight",
    "fc.weight",
    "w[0]",
    "w(0)",
    "w{0}",
    "a//b",
    "a.b",
    "a/b",
    "größe.权重",
    "two\nlines",
    "x" * 300,
    "x" * 300 + "y",
    "<script>alert(1)</script>",
    "(?P<layer>.*)",
    ".",
]


def manifest_of(*names: str, metrics: Sequence[str] = ("rwc",), name: str = "demo", **facts: object) -> Manifest:
    layers = tuple(Layer(layer, "linear", (2, place + 1), 2 * place + 2) for place, layer in enumerate(names))
    return Manifest(name, layers, tuple(metrics), every=10, facts=facts)


def samples_of(manifest: Manifest, steps: Sequence[int], *, seed: int = 0) -> list[Sample]:
    random = np.random.default_rng(seed)
    return [
        Sample(
            step,
            interval=10,
            time=1e9 + step,
            values={metric: 10 ** random.uniform(-6, 0, len(manifest.layers)) for metric in manifest.metrics},
        )
        for step in steps
    ]


def write(directory: Path, manifest: Manifest, samples: Sequence[Sample], *, close: bool = True) -> None:
    sink = tensorboard.open_sink(directory, manifest)
    sink.write(samples)
    if close:
        sink.close()


def read(place: Path, **options: Any) -> Run:
    return tensorboard.open_source(str(place)).read(f"tensorboard:{place}", **options)


def float32(samples: Sequence[Sample], metric: str = "rwc") -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([sample.values[metric] for sample in samples]).astype(np.float32).astype(np.float64)


def event_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if "tfevents" in path.name)


def test_round_trip_of_odd_names(tmp_path: Path) -> None:
    manifest = manifest_of(*ODD_NAMES, metrics=("rwc", "norm"), seed=3, note="größe")
    samples = samples_of(manifest, range(10, 210, 10))
    samples[3].values["rwc"][:3] = np.nan, np.inf, -np.inf
    write(tmp_path / "run", manifest, samples[:7], close=False)
    sink = tensorboard.open_sink(tmp_path / "other", manifest)
    for sample in samples:
        sink.write([sample])
    sink.close()
    run = read(tmp_path / "other")
    assert run.metrics == ["rwc", "norm"]
    for metric in run.metrics:
        frame = run.series[metric]
        assert list(frame.columns) == ODD_NAMES
        assert frame.index.tolist() == [sample.step for sample in samples]
        np.testing.assert_array_equal(frame.to_numpy(), float32(samples, metric))
    assert run.completeness.expected == run.completeness.received == 2 * 20 * len(ODD_NAMES)
    assert run.completeness.notes == ()
    assert run.intervals.to_dict() == {sample.step: 10 for sample in samples}
    assert run.layers.loc["fc.weight", "shape"] == (2, 4)
    assert (run.name, run.origin["every"], run.facts["note"]) == ("demo", 10, "größe")
    assert run.origin["reference"] == f"tensorboard:{tmp_path / 'other'}"
    assert (run.origin["source"], run.origin["files"], run.origin["closed"]) == ("tensorboard", 1, True)
    unfinished = read(tmp_path / "run")
    assert unfinished.origin["closed"] is False
    np.testing.assert_array_equal(unfinished.series["norm"].to_numpy(), float32(samples[:7], "norm"))


def test_the_manifest_travels_whole(tmp_path: Path) -> None:
    manifest = manifest_of(*ODD_NAMES, "half \udc80 surrogate", facts=[1, "two"])
    write(tmp_path, manifest, samples_of(manifest, [1]))
    tensors = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload().Tensors("wstrack/manifest")
    (text,) = [tensor.tensor_proto.string_val[0].decode() for tensor in tensors]
    assert Manifest.from_json(text) == manifest


def test_event_accumulator_reads_what_the_sink_wrote(tmp_path: Path) -> None:
    manifest = manifest_of(*ODD_NAMES)
    samples = samples_of(manifest, range(30))
    write(tmp_path, manifest, samples)
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    keys = [f"rwc/{key}" for key in layer_keys(ODD_NAMES)]
    assert set(accumulator.Tags()["scalars"]) == {*keys, "wstrack/interval"}
    for tag, column in zip(keys, float32(samples).T, strict=True):
        assert [event.value for event in accumulator.Scalars(tag)] == column.tolist()
        assert [event.wall_time for event in accumulator.Scalars(tag)] == [sample.time for sample in samples]


def test_one_event_per_sample(tmp_path: Path) -> None:
    manifest = manifest_of("a.weight", "b.weight", metrics=("rwc", "norm"))
    write(tmp_path, manifest, samples_of(manifest, range(5)))
    (path,) = event_files(tmp_path)
    events = []
    data = path.read_bytes()
    while data:
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    assert [len(event.summary.value) for event in events] == [0, 2, 5, 5, 5, 5, 5, 1]  # version, about, samples, closed
    assert events[0].file_version == "brain.Event:2"  # as every writer of TensorBoard's begins


def test_written_samples_can_be_read_before_close(tmp_path: Path) -> None:
    manifest = manifest_of("a.weight")
    sink = tensorboard.open_sink(tmp_path, manifest)
    samples = samples_of(manifest, [1, 2, 3])
    for count, sample in enumerate(samples, 1):
        sink.write([sample])
        assert len(read(tmp_path).steps) == count
    sink.close()


def test_metrics_picks(tmp_path: Path) -> None:
    manifest = manifest_of("a.weight", "b.weight", metrics=("rwc", "norm", "cosine"))
    write(tmp_path, manifest, samples_of(manifest, [1, 2]))
    run = read(tmp_path, metrics=["cosine", "rwc"])
    assert run.metrics == ["rwc", "cosine"]
    assert run.completeness.expected == run.completeness.received == 2 * 2 * 2
    with pytest.raises(ValueError, match=r"metrics=\['nope'\] \(--metric\).* it has rwc, norm, cosine"):
        read(tmp_path, metrics=["rwc", "nope"])


def test_a_resumed_run_with_other_layers_is_joined(tmp_path: Path) -> None:
    first, second = manifest_of("a.weight", "b.weight"), manifest_of("b.weight", "c.weight", metrics=("rwc", "norm"))
    before, after = samples_of(first, [1, 2, 3]), samples_of(second, [3, 4], seed=1)
    write(tmp_path, first, before, close=False)
    write(tmp_path, second, after)
    run = read(tmp_path)
    frame = run.series["rwc"]
    assert list(frame.columns) == ["a.weight", "b.weight", "c.weight"]
    assert frame.index.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(frame.loc[[1, 2, 3], "a.weight"], float32(before)[:, 0])
    np.testing.assert_array_equal(frame.loc[[3, 4], "b.weight"], float32(after)[:, 0])
    assert frame.loc[[1, 2], "c.weight"].isna().all()
    assert run.completeness.missing == 0
    assert run.completeness.received == 3 + 4 + 2 + 2 * 2
    assert [note.partition(" ")[2] for note in run.completeness.notes] == [
        "was not closed (the run is going on, or was killed)",
        "values were logged again at a step already there (a resumed run); the later ones stand",
    ]
    assert (run.origin["files"], run.origin["closed"]) == (2, True)


def test_what_the_last_session_said_of_parts_holds(tmp_path: Path) -> None:
    first = manifest_of("a.weight")
    second = replace(first, origin={"parts": "summarised"})
    write(tmp_path, first, samples_of(first, [1, 2]))
    write(tmp_path, second, samples_of(second, [3, 4]))
    assert list(read(tmp_path).completeness.notes) == left_to_recording(("rwc",), parts="summarised") != []
    write(tmp_path, first, samples_of(first, [5, 6]))
    assert read(tmp_path).completeness.notes == ()


def test_files_are_ordered_by_their_first_event(tmp_path: Path) -> None:
    manifest = manifest_of("a.weight")
    for number in (1.0, 2.0, 3.0):
        write(tmp_path, manifest, [Sample(5, 1, 1.0, {"rwc": np.array([number])})])
    for name, path in zip("zya", event_files(tmp_path), strict=True):
        path.rename(tmp_path / f"{name}.tfevents")
    assert read(tmp_path).series["rwc"].to_numpy().tolist() == [[3.0]]


def test_lost_samples_are_counted(tmp_path: Path) -> None:
    manifest = manifest_of("a.weight", "b.weight", metrics=("rwc", "norm"))
    write(tmp_path, manifest, samples_of(manifest, range(1, 11)))
    (path,) = event_files(tmp_path)
    data = bytearray(path.read_bytes())
    third = [found.start() for found in re.finditer(re.escape(b"wstrack/interval"), bytes(data))][2]
    data[third] ^= 1
    path.write_bytes(data)
    run = read(tmp_path)
    assert run.steps.tolist() == [1, 2, *range(4, 11)]
    assert (run.completeness.expected, run.completeness.received) == (40, 36)
    corrupt, missing = run.completeness.notes
    assert re.fullmatch(rf"{re.escape(path.name)}: the record at byte \d+ is corrupt and was left out", corrupt)
    assert missing == f"{path.name}: 1 of the 10 samples written are not there"


def test_a_run_that_was_killed_reads_up_to_its_last_whole_sample(tmp_path: Path) -> None:
    manifest = manifest_of("a.weight", "b.weight")
    samples = samples_of(manifest, range(1, 6))
    write(tmp_path, manifest, samples, close=False)
    (path,) = event_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    run = read(tmp_path)
    np.testing.assert_array_equal(run.series["rwc"].to_numpy(), float32(samples[:4]))
    assert "cut short" in run.completeness.notes[0]


def test_beside_a_summary_writer(tmp_path: Path) -> None:
    manifest = manifest_of("a.weight")
    samples = samples_of(manifest, [0, 1, 2])
    with SummaryWriter(str(tmp_path / "exp1")) as writer:
        assert tensorboard.accepts(writer)
        sink = tensorboard.open_sink(writer, manifest)
        assert sink.recording_directory == tmp_path / "exp1" / "wstrack"
        for sample in samples:
            writer.add_scalar("loss", 0.5, sample.step, walltime=sample.time)
            sink.write([sample])
        writer.flush()
        before = [path.read_bytes() for path in event_files(tmp_path / "exp1")]
        sink.close()
        assert [path.read_bytes() for path in event_files(tmp_path / "exp1")] == before
        writer.add_scalar("loss", 0.25, 3, walltime=1e9)
    (own,) = event_files(tmp_path / "exp1")
    assert own.read_bytes().startswith(before[0])
    assert b"wstrack" not in own.read_bytes()
    source = tensorboard.open_source(str(tmp_path))
    (reference,) = source.references()
    assert reference == f"tensorboard:{tmp_path / 'exp1' / 'wstrack'}"
    for address in (reference, f"tensorboard:{tmp_path / 'exp1'}"):
        run = source.read(address)
        assert run.origin["reference"] == reference
        np.testing.assert_array_equal(run.series["rwc"].to_numpy(), float32(samples))
    (beside,) = source.references(match="^(?P<layer>loss)$")
    assert beside == f"tensorboard:{tmp_path / 'exp1'}"
    losses = source.read(beside, match="^(?P<layer>loss)$").series["value"]["loss"]
    assert losses.to_dict() == {0: 0.5, 1: 0.5, 2: 0.5, 3: 0.25}


def test_references_and_which_run_one_means(tmp_path: Path) -> None:
    manifest = manifest_of("a.weight")
    for name in ("b/run", "a", "a/sub"):
        write(tmp_path / name, manifest, samples_of(manifest, [len(name)]))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("no events here")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    source = tensorboard.open_source(str(tmp_path))
    assert source.references() == [f"tensorboard:{tmp_path / name}" for name in ("a", "a/sub", "b/run")]
    for reference in source.references():
        assert source.read(reference).origin["reference"] == reference
    assert read(tmp_path / "b").origin["reference"] == f"tensorboard:{tmp_path / 'b' / 'run'}"
    with pytest.raises(WstrackError, match=r"holds 3 runs \(tensorboard:.*/a, .*; name one of them, or use pull_many"):
        read(tmp_path)
    (path,) = event_files(tmp_path / "a" / "sub")
    assert tensorboard.open_source(str(path)).references() == [f"tensorboard:{path}"]
    assert read(path).steps.tolist() == [5]


def test_recognises(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "exp", manifest_of("a.weight"), [])
    (tmp_path / "table.csv").write_text("a,b")
    (tmp_path / "empty").mkdir()
    (path,) = event_files(tmp_path / "runs" / "exp")
    assert tensorboard.recognises(tmp_path / "runs")
    assert tensorboard.recognises(path)
    assert not tensorboard.recognises(tmp_path / "empty")
    assert not tensorboard.recognises(tmp_path / "table.csv")
    assert not tensorboard.recognises(tmp_path / "missing")


def log(directory: Path, tag: str, points: dict[int, float]) -> None:
    writer = EventFileWriter(str(directory), filename_suffix=f".{re.sub(r'[^a-z]', '', tag)}")
    for step, number in points.items():
        values = [Summary.Value(tag=tag, simple_value=number)]
        writer.add_event(Event(wall_time=1e9 + step, step=step, summary=Summary(value=values)))
    writer.close()


def test_match_reads_what_users_logged(tmp_path: Path) -> None:
    log(tmp_path, "grads/z.weight/norm", {1: 1.0, 2: 2.0})
    log(tmp_path, "grads/a.weight/norm", {2: 4.0, 3: 8.0, 2_000: 0.5})
    log(tmp_path, "loss", {1: 1.0})
    run = read(tmp_path, match=r"grads/(?P<layer>.+)/norm")
    frame = run.series["grads/norm"]
    assert frame.columns.tolist() == ["z.weight", "a.weight"] == run.layers.index.tolist()
    assert frame.index.tolist() == [1, 2, 3, 2_000]
    assert (frame.index.dtype, frame.index.name) == (np.dtype(np.int64), "step")
    np.testing.assert_array_equal(frame.to_numpy(), [[1, np.nan], [2, 4], [np.nan, 8], [np.nan, 0.5]])
    assert (run.completeness.expected, run.completeness.received) == (8, 5)
    assert (run.name, run.origin["files"]) == (tmp_path.name, 3)


@pytest.mark.parametrize(
    ("match", "metrics"),
    [
        ("(?P<metric>[a-z]+)/(?P<layer>.+)", ["grad", "update"]),
        ("grad/(?P<layer>.+)", ["grad"]),
        ("^(?P<layer>.+)$", ["value"]),
        (r"/(?P<layer>\w+)\.weight", ["grad/weight", "update/weight"]),
    ],
)
def test_how_match_names_the_metric(tmp_path: Path, match: str, metrics: list[str]) -> None:
    for tag in ("grad/a.weight", "update/a.weight"):
        log(tmp_path, tag, {1: 1.0})
    assert read(tmp_path, match=match).metrics == metrics


def test_a_nan_that_was_logged_was_received(tmp_path: Path) -> None:
    log(tmp_path, "grad/a", {1: np.nan, 2: 1.0})
    run = read(tmp_path, match="grad/(?P<layer>.+)")
    assert run.completeness.missing == 0
    assert run.series["grad"]["a"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ("grad/.*", r"match='grad/\.\*' has no group for the layer; pass match= \(--match\)"),
        ("(?P<layer>[", r"match='\(\?P<layer>\[' \(--match\) is no regular expression"),
        (
            "(?P<metric>grad)/(?P<layer>.)",
            r"takes both 'grad/a1' and 'grad/a2' .* make match= \(--match\) tell them apart",
        ),
    ],
)
def test_match_that_cannot_be_used(tmp_path: Path, match: str, message: str) -> None:
    for tag in ("grad/a1", "grad/a2"):
        log(tmp_path, tag, {1: 1.0})
    with pytest.raises(ValueError, match=message):
        read(tmp_path, match=match)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(WstrackError, match="there is no directory or event file"):
        read(tmp_path / "missing")
    with pytest.raises(WstrackError, match=r"no event files \(with 'tfevents' in the name\)"):
        read(tmp_path)
    log(tmp_path, "loss", {1: 1.0})
    with pytest.raises(
        WstrackError, match=r"nothing that wstrack logged; to read other series pass match= \(--match\)"
    ):
        read(tmp_path)
    assert read(tmp_path, match="(?P<layer>loss)").completeness.received == 1
    with pytest.raises(WstrackError, match=r"\(--match\) fits none of the 1 scalar tags in .*: 'loss'"):
        read(tmp_path, match="grad/(?P<layer>.+)")
    write(tmp_path / "empty", manifest_of("a.weight"), [])
    assert read(tmp_path / "empty").series["rwc"].shape == (0, 1)


def test_a_file_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    manifest = manifest_of("a.weight")
    write(tmp_path, manifest, samples_of(manifest, [1]))
    (tmp_path / "gone.tfevents").symlink_to(tmp_path / "nowhere")
    run = read(tmp_path)
    assert run.steps.tolist() == [1]
    assert run.completeness.notes == ("gone.tfevents: cannot be read (No such file or directory)",)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file" / "runs", tmp_path / "file"):
        with pytest.raises(WstrackError, match=r"^cannot write to '.*file.*': \w"):
            tensorboard.open_sink(place, manifest_of("a.weight"))
    with pytest.raises(TypeError, match=r"to=3 is neither a directory nor a SummaryWriter"):
        tensorboard.open_sink(3, manifest_of("a.weight"))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("demo", "demo"),
        ("a/b", "a/b"),
        ("../../etc", "etc-74ccf3"),
        ("/abs", "abs-e802dc"),
        ("..", "run-5ec1f7"),
        ("", "run-e3b0c4"),
        ("a\0b:", "a_b_-e1a163"),
    ],
)
def test_the_default_directory_stays_in_runs(
    tmp_path: Path, name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sink = tensorboard.open_sink(None, manifest_of("a.weight", name=name))
    sink.write([Sample(1, 1, 0.0, {"rwc": np.array([0.5])})])
    sink.close()
    assert sink.recording_directory == tmp_path / "runs" / place
    assert event_files(tmp_path / "runs" / place)


def test_is_active_and_accepts(tmp_path: Path) -> None:
    class Mine(SummaryWriter):
        pass

    with Mine(str(tmp_path)) as writer:
        assert tensorboard.accepts(writer)
        assert not tensorboard.is_active()
    for other in (tmp_path, "runs", None, EventFileWriter, object()):
        assert not tensorboard.accepts(other)
    sink = tensorboard.open_sink(tmp_path, manifest_of("a.weight"))
    assert isinstance(sink, Sink)
    sink.close()


def test_importing_it_imports_neither_torch_nor_tensorboard() -> None:
    code = "import sys, wstrack_integrations.tensorboard; print({'torch', 'tensorboard'} & set(sys.modules))"
    path = os.pathsep.join(filter(None, sys.path))
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert shown.stdout.strip() == "set()"


def wait_for(url: str, ready: Any, deadline: float) -> Any:
    """The JSON at `url` as soon as `ready` says so of it."""
    last: Any = None
    while time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=10) as answer:
                last = json.load(answer)
            if ready(last):
                return last
        except URLError as error:
            last = error
    raise AssertionError(f"{url} did not answer as it should: {last!r}")


def test_a_real_tensorboard_lists_tags_and_layout(tmp_path: Path) -> None:
    names = [
        "layer1.0.conv1.weight",
        "layer1.0.conv2.weight",
        "layer1.10.conv1.weight",
        "fc.weight",
        "w[0]",
        "größe.0.x",
    ]
    names += [f"many.{number}.weight" for number in range(250)]
    manifest = manifest_of(*names, metrics=("rwc", "norm"))
    samples = samples_of(manifest, range(1, 4))
    write(tmp_path / "exp", manifest, samples)
    fast = "true" if find_spec("tensorboard_data_server") else "false"
    options = ["--logdir", str(tmp_path), "--port", "0", "--host", "127.0.0.1", f"--load_fast={fast}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stderr is not None
        addresses = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in server.stderr)
        address = next(found[0] for found in addresses if found)
        deadline = time.monotonic() + 60
        keys = layer_keys(names)
        tags = {f"{metric}/{key}" for metric in manifest.metrics for key in keys} | {"wstrack/interval"}
        listed = wait_for(f"{address}/data/plugin/scalars/tags", lambda found: "exp" in found, deadline)
        assert set(listed["exp"]) == tags
        layout = wait_for(f"{address}/data/plugin/custom_scalars/layout", bool, deadline)
        assert [category["title"] for category in layout["category"]] == ["rwc", "norm"]
        charts = {chart["title"]: chart["multiline"]["tag"] for chart in layout["category"][0]["chart"]}
        assert list(charts) == ["layer1.0", "layer1.10", "top", "größe", "many"]
        blocks = {"layer1.0": keys[:2], "layer1.10": keys[2:3], "top": keys[3:5], "größe": keys[5:6], "many": keys[6:]}
        for title, patterns in charts.items():
            shown = set()
            for pattern in patterns:
                url = f"{address}/data/plugin/custom_scalars/scalars?run=exp&tag={quote(pattern, safe='')}"
                answer = wait_for(url, bool, deadline)
                assert answer["regex_valid"]
                shown |= set(answer["tag_to_events"])
            assert shown == {f"rwc/{key}" for key in blocks[title]}
        url = f"{address}/data/plugin/scalars/scalars?run=exp&tag=rwc/fc/weight"
        points = wait_for(url, bool, deadline)
        assert [(step, number) for _, step, number in points] == list(
            zip((1, 2, 3), float32(samples)[:, 3], strict=True)
        )
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
