"""The sink and the source of W&B with the real client, against a stand-in for its server."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from torch import nn, optim
from wstrack_integrations import wandb as tracker

import wstrack
from tests.integrations.wandb_runs import manifest_of, samples_of
from tests.integrations.wandb_server import WANDB_KEY, Server
from wstrack.errors import WstrackError
from wstrack.runs.manifest import Manifest
from wstrack.runs.recording import FOLDER
from wstrack.trackers.references import references

wandb = pytest.importorskip("wandb", reason="the extra wstrack[wandb] is not installed")

if TYPE_CHECKING:
    from collections.abc import Callable

    from wstrack.runs.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_quiet")]


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
