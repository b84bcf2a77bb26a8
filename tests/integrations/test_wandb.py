"""The sink and the source of W&B with the real client, offline and against a stand-in for its server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from torch import nn, optim
from wstrack_integrations import wandb as tracker
from wstrack_integrations.wandb.framing import records
from wstrack_integrations.wandb.pace import Pace

import wstrack
from tests.integrations.wandb_framing import framed
from tests.integrations.wandb_server import WANDB_KEY, Server
from tests.integrations.wandb_written import written
from wstrack.errors import WstrackError
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recording import FOLDER
from wstrack.trackers.contract import Sample, Sink
from wstrack.trackers.references import references

wandb = pytest.importorskip("wandb", reason="the extra wstrack[wandb] is not installed")

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wstrack.runs.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_quiet")]

NAMES = ("layer1.0.conv1.weight", "fc.weight", "w[0]", "größe.权重")


@pytest.fixture
def offline(tmp_path: Path) -> Callable[..., Any]:
    def start(**settings: Any) -> Any:
        return wandb.init(project="p", mode="offline", dir=tmp_path, **settings)

    return start


def manifest_of(*names: str, metrics: Sequence[str] = ("rwc",)) -> Manifest:
    layers = tuple(Layer(layer, "linear", (2, place + 1), 2 * place + 2) for place, layer in enumerate(names or NAMES))
    return Manifest("demo", layers, tuple(metrics), every=10, facts={"seed": 3})


def samples_of(manifest: Manifest, steps: Sequence[int]) -> list[Sample]:
    random = np.random.default_rng(0)
    return [
        Sample(step, 10, 1e9 + step, {metric: random.random(len(manifest.layers)) for metric in manifest.metrics})
        for step in steps
    ]


def history_of(run: Any) -> list[dict[str, Any]]:
    """What the client wrote, as its protobuf classes tell it."""
    rows = []
    for record in written(run.dir):
        if record.WhichOneof("record_type") == "history":
            row = {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            rows.append(row)
    return rows


def read(place: Path | str, **options: Any) -> Run:
    return tracker.open_source(str(place)).read(f"wandb:{place}", **options)


def values(samples: Sequence[Sample], metric: str = "rwc") -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([sample.values[metric] for sample in samples])


# ---- rows of the user and of ours -----------------------------------------------------------------------------------


def every_step(run: Any, step: int) -> None:
    run.log({"loss": step})


def every_step_with_step(run: Any, step: int) -> None:
    run.log({"loss": step}, step=step)


def rarely(run: Any, step: int) -> None:
    if step % 25 == 24:
        run.log({"loss": step})


def rarely_with_step(run: Any, step: int) -> None:
    if step % 25 == 24:
        run.log({"loss": step}, step=step // 5)


def epochs_with_step(run: Any, step: int) -> None:
    if step % 10 == 9:
        run.log({"loss": step}, step=step // 10)


def in_two_parts(run: Any, step: int) -> None:
    run.log({"loss": step}, commit=False)
    run.log({"accuracy": step})


def in_two_parts_with_step(run: Any, step: int) -> None:
    run.log({"loss": step}, step=step)
    run.log({"accuracy": step}, step=step)


def never(run: Any, step: int) -> None:
    pass


HABITS = [
    every_step,
    every_step_with_step,
    rarely,
    rarely_with_step,
    epochs_with_step,
    in_two_parts,
    in_two_parts_with_step,
    never,
]
STEPS = 50


def training(run: Any, habit: Callable[[Any, int], None], sink: Sink | None = None) -> list[dict[str, Any]]:
    """The rows after a training with a sample at every step, and what the user logs when it is over."""
    for step, sample in enumerate(samples_of(manifest_of(), range(1, STEPS + 1))):
        if sink is not None:
            sink.write([sample])
        habit(run, step)
    if sink is not None:
        sink.close()
    run.log({"test": 1}, step={every_step_with_step: STEPS, never: 10}.get(habit))
    run.finish()
    return history_of(run)


def of_the_user(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    mine = [{key: row[key] for key in ("_step", "loss", "accuracy", "test") if key in row} for row in rows]
    return [row for row in mine if len(row) > 1]


@pytest.mark.parametrize("habit", HABITS)
def test_every_row_of_the_users_and_every_sample_is_there(
    habit: Callable[[Any, int], None], offline: Callable[..., Any]
) -> None:
    alone = training(offline(), habit)
    run = offline()
    rows = training(run, habit, tracker.open_sink(run, manifest_of()))
    assert of_the_user(rows) == of_the_user(alone)
    found = [row for row in rows if "wstrack/step" in row]
    keys = ("layer1/0/conv1/weight", "fc/weight", "w/0", "größe/权重")
    samples = samples_of(manifest_of(), range(1, STEPS + 1))
    assert [row["wstrack/step"] for row in found] == [sample.step for sample in samples]
    assert [[row[f"rwc/{key}"] for key in keys] for row in found] == values(samples).tolist()


class _Plain:
    """What a sink would do that does not know of rows."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            self._run.log({"wstrack/step": sample.step})

    def close(self) -> None:
        pass


@pytest.mark.parametrize("habit", HABITS)
def test_a_plain_log_would_harm(habit: Callable[[Any, int], None], offline: Callable[..., Any]) -> None:
    alone = training(offline(), habit)
    run = offline()
    assert of_the_user(training(run, habit, _Plain(run))) != of_the_user(alone)  # type: ignore[arg-type]


def test_a_row_each_at_once_on_demand(offline: Callable[..., Any]) -> None:
    run = offline()
    sink = tracker.open_sink(tracker.WandbTarget(commit=True), manifest_of())
    sink.write(samples_of(manifest_of(), range(1, 6)))
    run.log({"loss": 1})
    sink.close()
    run.finish()
    rows = history_of(run)
    assert [row.get("wstrack/step") for row in rows] == [1, 2, 3, 4, 5, None]


def test_what_waits_rides_as_rows_come_though_nothing_more_is_put(offline: Callable[..., Any]) -> None:
    run = offline()
    sink = tracker.open_sink(run, manifest_of())
    sink.write(samples_of(manifest_of(), range(1, 4)))
    (waiting,) = [thread for thread in threading.enumerate() if thread.name == "wstrack W&B rows"]
    logged = 0
    while waiting.is_alive() and logged < 600:
        run.log({"loss": logged})
        logged += 1
        waiting.join(0.1)
    run.log({"loss": logged})
    sink.close()
    run.finish()
    found = [row for row in history_of(run) if "wstrack/step" in row]
    assert [row["wstrack/step"] for row in found] == [1, 2, 3]
    assert all("loss" in row for row in found)


def test_many_that_wait_are_told_of_once(offline: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    run = offline()
    sink = tracker.open_sink(run, manifest_of())
    for sample in samples_of(manifest_of(), range(1, 201)):
        sink.write([sample])
    assert [record.message for record in caplog.records if "wait" in record.message] != []
    assert sum("commit=True" in record.message for record in caplog.records) == 1


def test_a_wandb_that_tells_nobody_of_its_end_gets_all_rows_before_it(
    offline: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = offline()
    with monkeypatch.context() as older:
        older.delattr("wandb.sdk.wandb_run.TeardownHook")
        sink = tracker.open_sink(run, manifest_of())
        sink.write(samples_of(manifest_of(), range(1, 4)))
    sink.close()
    run.finish()
    assert [row["wstrack/step"] for row in history_of(run) if "wstrack/step" in row] == [1, 2, 3]


def test_a_finished_run_takes_no_more_and_says_so(offline: Callable[..., Any]) -> None:
    run = offline()
    sink = tracker.open_sink(run, manifest_of())
    sink.write(samples_of(manifest_of(), [1, 2]))
    run.finish()
    with pytest.raises(WstrackError, match=r"watcher\.close\(\)"):
        sink.write(samples_of(manifest_of(), [3]))
    sink.close()
    written(run.dir)
    assert read(Path(run.dir).parent).steps.tolist() == [1, 2]
    with pytest.raises(WstrackError, match="finished"):
        tracker.open_sink(run, manifest_of())


def test_which_runs_are_taken(offline: Callable[..., Any]) -> None:
    assert not tracker.is_active()
    with pytest.raises(WstrackError, match=r"wandb\.init\(\)"):
        tracker.open_sink(None, manifest_of())
    with pytest.raises(TypeError, match="team/p"):
        tracker.open_sink("team/p", manifest_of())
    run = offline()
    assert tracker.is_active()
    assert tracker.accepts(run)
    assert not tracker.accepts(object())
    assert isinstance(tracker.open_sink(None, manifest_of()), Sink)


def test_a_disabled_run_is_not_active() -> None:
    wandb.init(mode="disabled")
    assert not tracker.is_active()


def test_importing_does_not_import_wandb() -> None:
    code = "import sys, wstrack_integrations.wandb as t; t.is_active(); assert 'wandb' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- files on this machine ------------------------------------------------------------------------------------------


def logged(offline: Callable[..., Any], manifest: Manifest, samples: Sequence[Sample]) -> Path:
    run = offline()
    sink = tracker.open_sink(run, manifest)
    for sample in samples:
        sink.write([sample])
        run.log({"loss": sample.step, "grad/fc.weight": 0.5, "note": "text", "lr": True})
    sink.close()
    run.finish()
    written(run.dir)
    return Path(run.dir).parent


def test_round_trip_through_the_file(offline: Callable[..., Any]) -> None:
    manifest = manifest_of(*NAMES, "a.b", "a/b", "x" * 300, metrics=("rwc", "norm"))
    samples = samples_of(manifest, range(10, 210, 10))
    samples[3].values["rwc"][:3] = np.nan, np.inf, -np.inf
    samples[4].values["norm"][:2] = 0.0, 5e-324
    folder = logged(offline, manifest, samples)
    run = read(folder)
    for metric in ("rwc", "norm"):
        assert run.series[metric].columns.tolist() == [layer.name for layer in manifest.layers]
        assert run.series[metric].index.tolist() == [sample.step for sample in samples]
        np.testing.assert_array_equal(run.series[metric].to_numpy(), values(samples, metric))
    assert run.completeness.expected == run.completeness.received == 2 * 20 * len(manifest.layers)
    assert run.completeness.notes == ()
    assert run.intervals.to_dict() == {sample.step: 10 for sample in samples}
    assert run.layers.loc["fc.weight", "shape"] == (2, 2)
    assert (run.name, run.facts["seed"], run.origin["source"]) == ("demo", 3, "wandb")
    assert tracker.recognises(folder)
    assert tracker.recognises(folder.parent)
    assert tracker.recognises(folder.parent.parent)
    assert tracker.open_source(str(folder.parent)).references() == [f"wandb:{folder / 'files'}"]
    assert read(folder, metrics=["norm"]).metrics == ["norm"]
    with pytest.raises(ValueError, match="rwc, norm"):
        read(folder, metrics=["cosine"])


def test_series_that_others_logged(offline: Callable[..., Any]) -> None:
    folder = logged(offline, manifest_of(), samples_of(manifest_of(), [1, 2, 3]))
    run = read(folder, match=r"(?P<metric>grad)/(?P<layer>.+)")
    assert run.series["grad"].to_dict() == {"fc.weight": {0: 0.5, 1: 0.5, 2: 0.5}}
    assert read(folder, match=r"^(?P<layer>lr)$").series["value"]["lr"].tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(WstrackError, match="fits none"):
        read(folder, match=r"^(?P<layer>note)$")
    with pytest.raises(ValueError, match="group"):
        read(folder, match="loss")


def test_a_file_that_lost_its_end(offline: Callable[..., Any], tmp_path: Path) -> None:
    samples = samples_of(manifest_of(), range(1, 301))
    folder = logged(offline, manifest_of(), samples)
    (file,) = folder.glob("*.wandb")
    whole = file.read_bytes()
    cut = tmp_path / "run-cut.wandb"
    for share in (0.3, 0.6, 0.9):
        cut.write_bytes(whole[: int(len(whole) * share)])
        os.utime(cut, (0, 0))
        run = read(cut)
        kept = len(run.steps)
        assert 0 < kept < 300
        np.testing.assert_array_equal(run.series["rwc"].to_numpy(), values(samples[:kept]))
        assert any("end" in note for note in run.completeness.notes)


def test_a_damaged_place_costs_its_block_alone(offline: Callable[..., Any], tmp_path: Path) -> None:
    samples = samples_of(manifest_of(), range(1, 301))
    folder = logged(offline, manifest_of(), samples)
    (file,) = folder.glob("*.wandb")
    data = bytearray(file.read_bytes())
    assert len(data) > 3 * 32_768
    data[40_000] ^= 0xFF
    damaged = tmp_path / "run-damaged.wandb"
    damaged.write_bytes(data)
    run = read(damaged)
    assert run.completeness.missing == 4 * (300 - len(run.steps)) > 0
    assert any("damaged" in note for note in run.completeness.notes)
    expected = values([sample for sample in samples if sample.step in run.steps])
    np.testing.assert_array_equal(run.series["rwc"].to_numpy(), expected)


def test_a_run_that_was_killed(tmp_path: Path) -> None:
    script = """
import os, signal, sys, torch, wandb, wstrack
from torch import nn
run = wandb.init(project="p", mode="offline", dir=sys.argv[1])
model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(40)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watcher = wstrack.watch(model, every=1)
for step in range(100):
    model(torch.randn(2, 4)).square().mean().backward()
    optimizer.step()
    watcher.flush()
    run.log({"loss": step})
run.step  # answered when all before it has come
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    recorded = wstrack.pull(folder)
    assert recorded.steps.tolist() == list(range(1, 101))
    shutil.rmtree(folder / "files" / FOLDER)
    logged = wstrack.pull(folder)
    kept = len(logged.steps)
    assert kept > 50  # wandb writes its file by blocks of 32 KiB: what had not filled one is gone
    assert logged.series["rwc"].equals(recorded.series["rwc"].iloc[:kept])
    assert any("killed" in note for note in logged.completeness.notes)


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "run-x.wandb").write_bytes(b"something else")
    with pytest.raises(WstrackError, match=r"run-x\.wandb"):
        read(tmp_path / "run-x.wandb")
    (tmp_path / "empty").mkdir()
    assert not tracker.recognises(tmp_path / "empty")
    with pytest.raises(WstrackError, match=r"no \.wandb file"):
        read(tmp_path / "empty")


@pytest.mark.parametrize("length", [0, 1, 32_747, 32_754, 32_755, 32_761, 70_000])
def test_framing(length: int) -> None:
    """Records around the block's size, framed as LevelDB's log does it."""
    payloads = [bytes(length), b"second" * 10, b"third"]
    notes: list[str] = []
    assert list(records(framed(payloads), notes)) == payloads
    assert notes == []


# ---- W&B's guidance -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "rate"), [(5, 100), (1_000, 100), (1_000, 1), (30_000, 2), (400_000, 1)])
def test_no_minute_gets_more_than_it_should(values: int, rate: int) -> None:
    pace = Pace(max(1 / 1_000, values / 100_000))
    times = [count / rate for count in range(rate * 600)]
    taken = np.array([time for time in times if pace.takes(time)])
    window = max(60.0, 60.0 * values / 100_000)
    busiest = max(int(((taken >= start) & (taken < start + window)).sum()) for start in taken)
    assert busiest <= max(1, min(1_000, 100_000 // values))
    if values * rate * 60 > 100_000:
        assert len(taken) >= 0.7 * 10 * min(1_000, 100_000 / values)
    gaps = np.diff(taken[taken > 120])
    assert len(gaps) == 0 or gaps.max() <= 1.5 * gaps.min() + 1 / rate


# ---- a server -------------------------------------------------------------------------------------------------------


def trained(model: nn.Module, train: Callable[..., None], **options: Any) -> Run:
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with wstrack.watch(model, every=1, metrics=("rwc", "norm"), **options) as watcher:
        for step in range(30):
            train(model, optimizer, 1)
            if step % 4 == 0:
                wandb.log({"loss": step})
    return watcher.run()


def test_the_same_run_whichever_way_it_comes(server: Server, model: nn.Module, train: Callable[..., None]) -> None:
    run = wandb.init(project="p", group="g", tags=["t"])
    local = trained(model, train)
    run.finish()
    stored = server.runs[run.id]
    assert stored.state == "finished"
    reference = f"wandb:team/p/{run.id}"

    def same(source: str) -> None:
        pulled = wstrack.pull(reference)
        assert pulled.origin["source"] == source
        assert pulled.metrics == ["rwc", "norm"]
        for metric in pulled.metrics:
            assert pulled.series[metric].equals(local.series[metric])
        assert pulled.intervals.equals(local.intervals)
        assert (pulled.name, pulled.completeness.missing, pulled.completeness.notes) == (local.name, 0, ())

    same("recording")
    stored.files = {name: data for name, data in stored.files.items() if not name.startswith(FOLDER)}
    same("wandb")  # live rows
    stored.exported = len(stored.rows) // 2
    same("wandb")  # a file and the rest
    stored.exported = len(stored.rows)
    same("wandb")
    server.refuse = 4
    same("wandb")
    assert server.refuse == 0

    for address in ("team/p", "team/p?group=g", f"team/p?tag=t&state=finished&name={stored.display_name}"):
        assert references(f"wandb:{address}") == [reference]
    assert references("wandb:team/p", match="(?P<layer>loss)") == [reference]
    with pytest.raises(WstrackError, match="no run"):
        references("wandb:team/p?group=other")
    assert wstrack.pull(f"wandb:{server.url}/team/p/runs/{run.id}?nw=1").name == local.name
    assert wstrack.pull(reference, match="(?P<layer>loss)").series["value"]["loss"].tolist() == list(range(0, 30, 4))


def test_downloads_that_end_half_way_are_begun_again(
    server: Server, model: nn.Module, train: Callable[..., None]
) -> None:
    run = wandb.init(project="p")
    local = trained(model, train)
    run.finish()
    stored = server.runs[run.id]
    server.interrupt = 2
    pulled = wstrack.pull(f"wandb:team/p/{run.id}")
    assert (server.interrupt, pulled.origin["source"]) == (0, "recording")
    assert pulled.series["rwc"].equals(local.series["rwc"])
    stored.files.clear()
    stored.exported = len(stored.rows)
    for server.interrupt in (1, 3):  # the second time the exported file cannot be had in any try
        pulled = wstrack.pull(f"wandb:team/p/{run.id}")
        assert server.interrupt == 0
        assert pulled.series["rwc"].equals(local.series["rwc"])
        assert pulled.completeness.notes == ()


def test_the_recording_comes_while_the_run_goes_on(
    server: Server, model: nn.Module, train: Callable[..., None]
) -> None:
    run = wandb.init(project="p", settings=wandb.Settings(x_live_policy_wait_time=1, x_live_policy_rate_limit=1))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    watcher = wstrack.watch(model, every=1)
    stored = server.runs[run.id]
    deadline = time.monotonic() + 60
    while not any(name.startswith(FOLDER) for name in stored.files) and time.monotonic() < deadline:
        train(model, optimizer, 1)
        watcher.flush()
    pulled = wstrack.pull(f"wandb:team/p/{run.id}")
    assert pulled.origin["source"] == "recording"
    assert len(pulled.steps) > 0
    watcher.close()


def test_a_recording_that_was_not_closed_is_held_against_the_rows(
    server: Server, model: nn.Module, train: Callable[..., None]
) -> None:
    run = wandb.init(project="p")
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with wstrack.watch(model, every=1) as watcher:
        train(model, optimizer, 20)
        watcher.flush()
        (part,) = Path(run.dir).rglob("*.arrows")
        unclosed = part.read_bytes()
        train(model, optimizer, 10)
    run.finish()
    stored = server.runs[run.id]
    before = len(server.pages)
    assert wstrack.pull(f"wandb:team/p/{run.id}").origin["source"] == "recording"
    assert len(server.pages) == before  # what was closed is whole by itself
    del stored.files[f"{FOLDER}/{part.stem}.arrow"]
    stored.files[f"{FOLDER}/{part.name}"] = unclosed
    pulled = wstrack.pull(f"wandb:team/p/{run.id}")
    assert len(server.pages) > before
    assert pulled.series["rwc"].equals(watcher.run().series["rwc"])
    assert f"({part.name} was not closed when it was uploaded)" in pulled.completeness.notes[-1]


@pytest.mark.parametrize(("state", "notes"), [("running", ("the run is going on",)), ("finished", ())])
def test_of_a_run_that_goes_on_it_is_said(state: str, notes: tuple[str, ...], server: Server) -> None:
    server.store("busy", [{"_step": step, "grad/a": float(step)} for step in range(5)], state=state)
    assert wstrack.pull("wandb:team/p/busy", match="grad/(?P<layer>.+)").completeness.notes == notes


def test_a_resumed_run_goes_on(server: Server, model: nn.Module, train: Callable[..., None]) -> None:
    for _ in range(2):
        run = wandb.init(project="p", id="again", resume="allow")
        trained(model, train)
        run.finish()
    stored = server.runs["again"]
    assert sorted(name for name in stored.files if name.endswith(".arrow")) == [
        f"{FOLDER}/0001.arrow",
        f"{FOLDER}/0002.arrow",
    ]
    recorded = wstrack.pull("wandb:team/p/again")
    assert recorded.steps.tolist() == list(range(1, 61))
    stored.files = {}
    logged = wstrack.pull("wandb:team/p/again")
    assert logged.origin["source"] == "wandb"
    assert logged.series["rwc"].equals(recorded.series["rwc"])
    assert logged.completeness.missing == 0


def test_charts_are_thinned_and_it_is_said(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    run = wandb.init(project="p")
    sink = tracker.open_sink(tracker.WandbTarget(run, commit=True), manifest_of(*(f"l{n}.weight" for n in range(998))))
    samples = [replace(sample, time=1e9) for sample in samples_of(sink_manifest(998), range(1, 151))]
    sink.write(samples[:120])
    sink.write(samples[120:])
    sink.close()
    run.finish()
    pulled = wstrack.pull(f"wandb:team/p/{run.id}")
    assert pulled.steps.tolist() == list(range(1, 101))
    assert pulled.completeness.missing == 50 * 998
    assert any("50 of 150" in note for note in pulled.completeness.notes)
    assert sum("100000 values" in record.message for record in caplog.records) == 1


def sink_manifest(count: int) -> Manifest:
    return manifest_of(*(f"l{n}.weight" for n in range(count)))


def test_sparse_rows_take_few_requests(server: Server) -> None:
    rows = [{"_step": step * 1_000, "grad/a": float(step)} for step in range(500)]
    server.store("sparse", rows, state="finished")
    run = wstrack.pull("wandb:team/p/sparse", match="grad/(?P<layer>.+)")
    assert run.series["grad"]["a"].tolist() == list(range(500))
    assert len(server.pages) <= 2


@pytest.mark.parametrize("exported", [0, 5, 12])
def test_rows_that_lack_a_key_are_kept(server: Server, exported: int) -> None:
    rows = [
        {
            "_step": step,
            "grad/a": "NaN" if step == 4 else step + 0.5,
            **({"grad/b": "Infinity"} if step % 3 == 0 else {}),
        }
        for step in range(12)
    ]
    server.store("sparse", rows, state="finished", exported=exported)
    run = wstrack.pull("wandb:team/p/sparse", match="grad/(?P<layer>.+)")
    frame = run.series["grad"]
    assert frame["a"].tolist()[:4] == [0.5, 1.5, 2.5, 3.5]
    assert np.isnan(frame["a"][4])
    assert frame["b"].dropna().to_dict() == dict.fromkeys((0, 3, 6, 9), np.inf)
    assert (run.completeness.expected, run.completeness.received) == (24, 16)


def test_nobody_learns_the_key(
    server: Server, model: nn.Module, train: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    run = wandb.init(project="p")
    trained(model, train)
    run.finish()
    pulled = wstrack.pull(f"wandb:team/p/{run.id}")
    with pytest.raises(WstrackError) as missing:
        wstrack.pull("wandb:team/p/none")
    stored = server.runs[run.id]
    said = [json.dumps(stored.config), repr(pulled.origin), str(missing.value), caplog.text, *server.heard]
    assert not any(WANDB_KEY in text for text in said)
    assert not any(WANDB_KEY.encode() in data for data in stored.files.values())


def test_no_key_is_sent_to_where_a_link_points(server: Server) -> None:
    with Server() as other, pytest.raises(WstrackError, match="WANDB_BASE_URL"):
        wstrack.pull(f"wandb:{other.url.replace('127.0.0.1', 'localhost')}/team/p/runs/x")


@pytest.mark.parametrize("address", ["team", "team/p/x/y", "team/p?colour=red", "ftp://host/team/p"])
def test_what_is_no_address(server: Server, address: str) -> None:
    with pytest.raises(ValueError, match="entity/project"):
        references(f"wandb:{address}")


def test_a_dead_server_holds_up_nobody(
    server: Server, model: nn.Module, train: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = wandb.init(project="p", settings=wandb.Settings(finish_timeout=1, finish_timeout_raises=False))
    monkeypatch.setattr(server, "refuse", 10**9)
    local = trained(model, train)
    assert local.completeness.missing == 0
    run.finish()
    monkeypatch.setattr(server, "refuse", 0)
    assert wstrack.pull(run.dir).series["rwc"].equals(local.series["rwc"])
