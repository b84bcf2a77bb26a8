"""What people do with W&B beside us: several models and sessions in a run, old clients, odd configs, addresses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from wstrack_integrations import wandb as tracker
from wstrack_integrations.wandb import history, offline, online
from wstrack_integrations.wandb.online import split
from wstrack_integrations.wandb.sink import WandbSink

import wstrack
from tests.integrations.wandb_framing import framed
from tests.integrations.wandb_written import written
from wstrack.runs.recording import FOLDER
from wstrack.trackers.contract import Sample
from wstrack.trackers.references import names

if TYPE_CHECKING:
    from tests.integrations.wandb_server import Server

wandb = pytest.importorskip("wandb", reason="the extra wstrack[wandb] is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_quiet")]

Train = Callable[..., None]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def without_recordings(run: Any) -> None:
    """As where the files were not kept: what is read is the history."""
    written(run.dir)
    shutil.rmtree(Path(run.dir) / FOLDER)


def changes(layers: dict[str, nn.Module], steps: int, log: Callable[[int], None]) -> dict[str, list[float]]:
    """Train layers by optimizers of their own, the first every step, the second every second, ...: each true change."""
    optimizers = [sgd(layer) for layer in layers.values()]
    found: dict[str, list[float]] = {name: [] for name in layers}
    for step in range(steps):
        for place, (name, layer) in enumerate(layers.items()):
            if step % (place + 1) == 0:
                before = layer.weight.detach().clone()
                layer.weight.grad = torch.randn_like(layer.weight)
                optimizers[place].step()
                found[name].append(wstrack.relative_weight_change(before, layer.weight))
        log(step)
    return found


def test_two_models_in_one_run_keep_their_values_apart(tmp_path: Path) -> None:
    """A generator and a critic: samples of both wait for the user's rows, and share the key of the step."""
    models = {"weight": nn.Linear(8, 8, bias=False), "Linear.weight": nn.Linear(8, 8, bias=False)}
    with wandb.init(project="p", mode="offline", dir=tmp_path) as run:
        watchers = [wstrack.watch(model, every=1) for model in models.values()]
        wanted = changes(models, 40, lambda step: run.log({"loss": 1.0}, step=step))
        for watcher in watchers:
            watcher.close()
    recorded = wstrack.pull(run.dir)
    without_recordings(run)
    for found in (recorded, wstrack.pull(f"wandb:{run.dir}")):
        for layer, values in wanted.items():
            series = found.series["rwc"][layer].dropna()
            assert series.index.tolist() == list(range(1, len(values) + 1))
            np.testing.assert_allclose(series, values, rtol=1e-6)
        assert found.completeness.missing == 0


def test_a_run_that_ends_before_the_watch_takes_what_is_on_its_way(
    server: Server, model: nn.Sequential, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends, write, drain = threading.Event(), WandbSink.write, WandbSink.drain

    def late(sink: WandbSink, samples: Sequence[Sample]) -> None:
        ends.wait(5)
        write(sink, samples)

    def drained(sink: WandbSink) -> None:
        ends.set()
        drain(sink)

    monkeypatch.setattr(WandbSink, "write", late)
    monkeypatch.setattr(WandbSink, "drain", drained)
    run = wandb.init(project="p")
    watcher = wstrack.watch(model, every=1)
    train(model, sgd(model), 60)
    run.finish()
    watcher.close()
    server.runs[run.id].files.clear()
    found = wstrack.pull(f"wandb:team/p/{run.id}")
    assert found.steps.tolist() == list(range(1, 61))
    assert found.completeness.missing == 0


def test_a_pattern_of_the_users_takes_no_chart_of_ours(tmp_path: Path, model: nn.Sequential, train: Train) -> None:
    with wandb.init(project="p", mode="offline", dir=tmp_path) as run:
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
        with wstrack.watch(model, every=1):
            train(model, sgd(model), 5)
    steps, keys = {}, set()
    for record in written(run.dir):
        steps[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        keys |= {"/".join(item.nested_key) or item.key for item in record.history.item}
    ours = {key for key in keys if key.startswith(("rwc/", "wstrack/"))} - {"wstrack/step"}
    assert len(ours) > 1
    assert {steps.get(key) for key in ours} == {"wstrack/step"}


def test_of_very_many_keys_the_metric_is_defined(
    tmp_path: Path, model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wstrack_integrations.wandb.sink.DEFINED", 1)
    with wandb.init(project="p", mode="offline", dir=tmp_path) as run:
        wstrack.watch(model, metrics=["rwc", "norm"]).close()
    steps = {record.metric.name or record.metric.glob_name: record.metric.step_metric for record in written(run.dir)}
    assert {"rwc/*": "wstrack/step", "norm/*": "wstrack/step"}.items() <= steps.items()
    assert not any(name.startswith("rwc/") for name in steps.keys() - {"rwc/*"})


@pytest.mark.parametrize("value", [True, "0.3.0", 50, ["rwc"], {"every": 50}])
def test_a_key_of_the_users_that_is_called_as_we_are_stays(
    tmp_path: Path, model: nn.Sequential, train: Train, value: object
) -> None:
    with wandb.init(project="p", mode="offline", dir=tmp_path, config={"lr": 0.1, "wstrack": value}) as run:
        with wstrack.watch(model, every=1):
            train(model, sgd(model), 5)
        assert run.config["wstrack"] == value
    without_recordings(run)
    assert wstrack.pull(f"wandb:{run.dir}").steps.tolist() == [1, 2, 3, 4, 5]


def test_runs_are_listed_by_name(server: Server, model: nn.Sequential, train: Train) -> None:
    ids = []
    for name in ("first try", "second try"):
        with wandb.init(project="p", name=name) as run, wstrack.watch(model, every=1):
            train(model, sgd(model), 2)
        ids.append(run.id)
    assert names("wandb:team/p") == {
        f"wandb:team/p/{ids[0]}": "first try",
        f"wandb:team/p/{ids[1]}": "second try",
    }


@pytest.mark.parametrize(
    "sessions", [3, ["x"], None, {"samples": 1}, [{"samples": "six"}], [{"samples": 6, "later": 1}], [[1]]]
)
def test_one_odd_run_hides_no_other(server: Server, model: nn.Sequential, train: Train, sessions: object) -> None:
    with wandb.init(project="p", id="good") as run, wstrack.watch(model, every=1):
        train(model, sgd(model), 6)
    stored = server.runs[run.id]
    about = {**stored.config["wstrack"]["value"], "sessions": sessions}
    server.store("odd", [dict(row) for row in stored.rows], config={"wstrack": {"value": about}}, state="finished")
    for manifest in ("[]", "[" * 100_000, '{"layers": 3}', 7, '{"wstrack": 2, "facts": [1]}'):
        config = {"wstrack": {"value": {**about, "manifest": manifest}}}
        server.store(f"odder{str(manifest)[:3]}", [], config=config, state="finished")
    found = {one.origin["id"]: one for one in wstrack.pull_many("wandb:team/p")}
    assert set(found) == {"good", "odd"}
    assert found["odd"].steps.tolist() == found["good"].steps.tolist()
    assert "what it says of its sessions cannot be read" in "".join(found["odd"].completeness.notes)


def test_sessions_of_one_id_that_were_offline(server: Server, model: nn.Sequential, train: Train) -> None:
    """github.com/wandb/wandb/issues/2423: both send a recording, and neither takes the other's place."""
    folders = []
    for start in (None, 20):
        with wandb.init(project="p", mode="offline", id="off", resume="allow") as run:
            folders.append(Path(run.dir).parent)
            with wstrack.watch(model, every=1, start=start):
                train(model, sgd(model), 20)
    for folder in folders:
        subprocess.run(["wandb", "sync", str(folder)], check=True, capture_output=True)
    stored = server.runs["off"]
    assert len([name for name in stored.files if name.endswith(".arrow")]) == 2
    assert wstrack.pull("wandb:team/p/off").steps.tolist() == list(range(1, 41))
    first = next(name for name in sorted(stored.files) if name.endswith(".arrow"))
    del stored.files[first]  # as if only one had come: the history has more
    assert wstrack.pull("wandb:team/p/off").steps.tolist() == list(range(1, 41))


# ---- files of clients before 0.18 -----------------------------------------------------------------------------------


def old_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    """As clients of 0.12 to 0.17 wrote it, by wandb's own protobuf: the step is an item, `history.step` is not set."""
    from wandb.proto.wandb_internal_pb2 import Record

    written = []
    for number, row in enumerate([*rows, None], 1):
        record = Record(num=number)
        if row is None:
            record.exit.exit_code = 0
        else:
            for key, value in row.items():
                item = record.history.item.add()
                item.key, item.value_json = key, json.dumps(value)
        written.append(record.SerializeToString())
    path.write_bytes(framed(written))
    return path


def test_the_step_stands_in_an_item_of_the_row(tmp_path: Path) -> None:
    rows = [{"grad_norm/fc": step * 0.5, "_step": step * 2, "_runtime": 1.5} for step in range(20)]
    run = wstrack.pull(f"wandb:{old_file(tmp_path / 'run-old.wandb', rows)}", match="grad_norm/(?P<layer>.+)")
    assert run.series["grad_norm"]["fc"].to_dict() == {step * 2: step * 0.5 for step in range(20)}


def test_numbers_inside_dictionaries_have_the_names_that_wandb_gives_them(tmp_path: Path) -> None:
    rows = [
        {
            "grad": {"fc": {"norm": step + 0.5}, "conv": "NaN"},
            "image": {"_type": "image-file", "size": 3},
            "_step": step,
        }
        for step in range(4)
    ]
    run = wstrack.pull(f"wandb:{old_file(tmp_path / 'run-old.wandb', rows)}", match=r"grad\.(?P<layer>.+)")
    (metric,) = run.metrics
    assert run.series[metric]["fc.norm"].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert np.isnan(run.series[metric]["conv"]).all()
    with pytest.raises(wstrack.WstrackError, match="fits none"):
        wstrack.pull(f"wandb:{tmp_path / 'run-old.wandb'}", match=r"image\.(?P<layer>.+)")


def test_a_hole_in_a_file_is_no_end(tmp_path: Path) -> None:
    path = old_file(tmp_path / "run-old.wandb", [{"n/a": 1.0, "_step": step} for step in range(600)])
    data = path.read_bytes()
    path.write_bytes(data[:8000] + bytes(200) + data[8200:])
    run = wstrack.pull(f"wandb:{path}", match="n/(?P<layer>.+)")
    assert 100 < len(run.steps) < 600
    assert "damaged" in "".join(run.completeness.notes)


# ---- adding to a run later leaves it as it was ----------------------------------------------------------------------


OF_NEW_RUNS = ("NAME", "TAGS", "RUN_GROUP", "NOTES", "JOB_TYPE", "SWEEP_ID", "RUN_ID")


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_what_the_environment_says_of_new_runs_does_not_count(
    server: Server, model: nn.Sequential, train: Train, mode: str
) -> None:
    """All variables at once, for each is seen in a thing of its own."""
    with (
        wandb.init(project="p", name="mine", group="g", tags=["t"], notes="n") as run,
        wstrack.watch(model, every=1) as w,
    ):
        train(model, sgd(model), 10)
    stored = server.runs[run.id]
    for row in stored.rows:
        for key in [key for key in row if key.startswith(("rwc", "wstrack"))]:
            del row[key]
    stored.files.clear()
    heard = len(server.heard)
    environment = {
        **os.environ,
        **{f"WANDB_{name}": "x" for name in OF_NEW_RUNS},
        "WANDB_MODE": mode,
        "WANDB_RESUME": "never",
    }
    for command in (["push", str(w.recording), f"wandb:team/p/{run.id}"], ["report", str(w.recording), "--attach"]):
        subprocess.run(["wstrack", *command], env=environment, check=True, capture_output=True)
    assert sum("rwc/0/weight" in row for row in stored.rows) == 10
    assert any(name.endswith(".arrow") for name in stored.files)
    assert server.artifacts
    assert (stored.display_name, stored.group, stored.tags) == ("mine", "g", ["t"])
    asked = [
        json.loads(text[text.index("{") :])["variables"] for text in server.heard[heard:] if "UpsertBucket" in text
    ]
    assert not {"x"} & {
        each.get(key) for each in asked for key in ("displayName", "groupName", "notes", "jobType", "sweep")
    }


# ---- addresses as people paste them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "parts", "filters"),
    [
        ("https://wandb.ai/e/p/runs/id", ["e", "p", "id"], {}),
        ("https://wandb.ai/e/p/runs/id/overview?nw=nwuser", ["e", "p", "id"], {}),
        ("wandb.ai/e/p/runs/id", ["e", "p", "id"], {}),
        ("e/p/runs/id", ["e", "p", "id"], {}),
        ("https://wandb.ai/e/p/sweeps/s1", ["e", "p"], {"sweep": "s1"}),
        ("e/p/sweeps/s1", ["e", "p"], {"sweep": "s1"}),
        ("https://wandb.ai/e/p/groups/my%20group/workspace", ["e", "p"], {"group": "my group"}),
        ("https://wandb.ai/e/p/workspace?nw=x", ["e", "p"], {}),
        ("https://wandb.ai/e/p/table", ["e", "p"], {}),
        ("https://wandb.ai/e/p", ["e", "p"], {}),
        ("e/p?group=a", ["e", "p"], {"group": "a"}),
    ],
)
def test_an_address_means_what_it_says(
    address: str, parts: list[str], filters: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "_check_host", lambda host: None)
    assert split(address) == (parts, filters)
    if not address.startswith("e/"):
        assert tracker.recognises_url(address)


@pytest.mark.parametrize("address", ["https://wandb.ai/e/p/reports/Title--Vmlld", "e/p/artifacts/model/x", "e/p/runs"])
def test_a_page_of_something_else_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "_check_host", lambda host: None)
    with pytest.raises(ValueError, match=r"is a page of W&B that is no run|is neither"):
        split(address)


CLIENTS = sorted((Path(__file__).parent / "wandb_files").glob("*.wandb"))


@pytest.mark.parametrize("path", CLIENTS, ids=lambda path: path.stem)
def test_files_that_real_clients_wrote(path: Path) -> None:
    """Of 0.12 to today's, made by `wandb_files/make.py`."""
    run = wstrack.pull(f"wandb:{path}", match="grad_norm/(?P<layer>.+)")
    steps = [3 * step for step in range(12)]
    assert run.series["grad_norm"]["conv"].to_dict() == {step: step / 6 for step in steps}
    assert run.series["grad_norm"]["fc"].drop(15).to_dict() == {
        step: 1 / (step / 3 + 1) for step in steps if step != 15
    }
    assert np.isnan(run.series["grad_norm"]["fc"][15])
    assert run.completeness.notes == ()
    nested = wstrack.pull(f"wandb:{path}", match=r"nested\.norm\.(?P<layer>.+)(?P<metric>)$")
    assert next(iter(nested.series.values()))["fc"].to_dict() == {step: step / 3 + 0.25 for step in steps}


def test_the_files_of_five_clients_are_there() -> None:
    assert [path.stem.rpartition(".")[0] for path in CLIENTS] == ["0.12", "0.15", "0.17", "0.18", "0.31"]


@pytest.mark.parametrize(
    ("tag", "value"),
    [(offline._INTEGER, 5.0), (offline._INTEGER, -3.0), (offline._BOOLEAN, 1.0), (offline._INTEGER, -(2.0**63))],
)
def test_whole_numbers_in_an_item_have_their_sign(tag: int, value: float) -> None:
    number, varint = int(value) % (1 << 64), bytearray()
    while number > 127:
        varint.append(number & 127 | 128)
        number >>= 7
    varint.append(number)
    item = bytes([offline._KEY, 1]) + b"k" + bytes([tag]) + bytes(varint)
    assert offline._item(item, 0, len(item)) == (b"k", value)


def test_what_a_run_is_filed_under_are_settings() -> None:
    run = SimpleNamespace(group="g", tags=["a", "b"], job_type="train", config={"lr": 0.1})
    assert online.settings_of(run) == {"group": "g", "tags": "a, b", "job_type": "train", "lr": 0.1}
    assert online.settings_of(SimpleNamespace(group=None, tags=[], config={})) == {}


def test_values_that_were_logged_again_are_counted_over_all_metrics() -> None:
    """By W&B's own step: the last of two rows of one step stands, and what stands is counted."""
    rows = np.arange(4)
    columns = {
        "rwc/a": history.Column(rows, np.array([1.0, 2.0, 3.0, 4.0])),
        "rwc/b": history.Column(rows[:3], np.array([5.0, 6.0, 7.0])),
        "norm/a": history.Column(rows[1:], np.array([8.0, 9.0, 10.0])),
    }
    logged = history.History(np.array([0, 1, 1, 2]), columns, origin={"display_name": "mine", "project": "p"})
    run = history.run_of(logged, metrics=["rwc", "norm"], place=None, match=r"(?P<metric>rwc|norm)/(?P<layer>.+)")
    np.testing.assert_array_equal(run.series["rwc"].to_numpy(), [[1, 5], [3, 7], [4, np.nan]])
    np.testing.assert_array_equal(run.series["norm"]["a"].to_numpy(), [9, 10])
    assert (run.completeness.expected, run.completeness.received) == (6 + 2, 5 + 2)
    assert any(
        note.startswith("3 values were logged at a step that was logged again") for note in run.completeness.notes
    )
    assert (run.name, run.origin["project"]) == ("mine", "p")
