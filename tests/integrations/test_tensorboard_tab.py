"""What TensorBoard's tab is served, without a browser."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import time
import types
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from torch import nn
from werkzeug.test import Client
from wstrack_integrations.tensorboard_tab.plugin import Tab, log_directories

import wstrack
from tests.growing import add, record
from tests.reporting.conftest import HOSTILE
from wstrack.runs.recording import FOLDER
from wstrack.runs.run import Run


def served(logdir: Path) -> dict[str, Client]:
    tab = Tab(types.SimpleNamespace(flags=None, logdir=str(logdir)))
    return {route: Client(app) for route, app in tab.get_plugin_apps().items()} | {"tab": tab}  # type: ignore[dict-item]


def state(apps: dict[str, Client], asked: str, version: int = 1) -> dict[str, Any]:
    """The state once a page of that version is there, or something is said."""
    while True:  # the test's own time limit ends it
        found: dict[str, Any] = apps["/state"].get(f"/state?{asked}").json
        if found["version"] >= version or found["said"]:
            return found
        time.sleep(0.05)


def test_it_is_registered_and_imports_little() -> None:
    (entry,) = entry_points(group="tensorboard_plugins", name="wstrack")  # else: pip install -e . again
    assert entry.value == "wstrack_integrations.tensorboard_tab.plugin:Tab"
    code = (
        "import sys, wstrack_integrations.tensorboard_tab.plugin; "
        "print({'torch', 'pandas', 'pyarrow', 'bokeh', 'sklearn'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_it_is_active_where_there_is_a_run(tmp_path: Path) -> None:
    apps = served(tmp_path)
    assert not apps["tab"].is_active()  # type: ignore[attr-defined]
    assert apps["/runs"].get("/runs").json == {"runs": [], "latest": None, "said": ""}
    record(tmp_path / "a" / "b", 1)
    assert served(tmp_path)["tab"].is_active()  # type: ignore[attr-defined]
    assert served(tmp_path)["/runs"].get("/runs").json["runs"] == ["a/b"]
    assert served(tmp_path / "a" / "b")["/runs"].get("/runs").json["runs"] == ["."]


def test_each_inline_script_is_allowed_by_its_hash_and_nothing_else(tmp_path: Path) -> None:
    record(tmp_path / "exp1", 12, HOSTILE)
    apps = served(tmp_path)
    assert state(apps, "run=exp1")["version"] == 1
    answer = apps["/page"].get("/page?run=exp1")
    policy = answer.headers["Content-Security-Policy"]
    inline = re.findall(rb"<script(?: type=[^>]*)?>(.*?)</script>", answer.data, re.DOTALL)
    hashes = {base64.b64encode(hashlib.sha256(code).digest()).decode() for code in inline}
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert len(hashes) == 1
    assert "script-src 'self' 'unsafe-eval' 'sha256-" in policy
    assert b'<script src="bokeh.js">' in answer.data


def test_runs_that_are_not_there_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "exp1", 12)
    (tmp_path / "elsewhere").mkdir()
    record(tmp_path / "elsewhere" / "secret", 12)
    apps = served(tmp_path / "exp1")
    for asked in ("run=../elsewhere/secret", "run=/etc", "run=", ""):
        assert state(apps, asked)["said"] == "There is no such run in the log directory."
        assert apps["/page"].get(f"/page?{asked}").status_code == 404


def test_a_run_that_cannot_be_reported_on_yet_is_said_and_comes(tmp_path: Path) -> None:
    (tmp_path / "exp1" / FOLDER).mkdir(parents=True)
    (tmp_path / "exp1" / FOLDER / "0001.arrows").touch()  # half-written
    apps = served(tmp_path)
    assert "no recording that can be read" in state(apps, "run=exp1")["said"]
    (tmp_path / "exp1" / FOLDER / "0001.arrows").unlink()
    record(tmp_path / "exp1", 12)
    while not apps["/state"].get("/state?run=exp1").json["version"]:
        time.sleep(0.05)


def test_what_came_since_the_report_is_there_at_once(tmp_path: Path) -> None:
    recorder = record(tmp_path / "exp1", 12)
    apps = served(tmp_path)
    assert state(apps, "run=exp1")["tail"] is None
    add(recorder, 9, range(13, 15))
    tail = apps["/state"].get("/state?run=exp1").json["tail"]
    assert (tail["after"], tail["step"], tail["shape"]) == (12, 14, [9, 3])
    assert apps["/state"].get("/state?run=exp1&shown=1/14").json["tail"] is None  # the page has it


def test_series_of_others_by_a_pattern(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path / "theirs") as writer:
        for step in range(12):
            for layer in range(4):
                writer.add_scalar(f"grad_norm/l{layer}", 10.0**-layer / (1 + step), step)
    apps = served(tmp_path)
    assert apps["/runs"].get("/runs").json["runs"] == []
    assert apps["/runs"].get("/runs", query_string={"match": "grad_norm/(?P<layer>.+)"}).json["runs"] == ["theirs"]
    assert "no regular expression" in apps["/runs"].get("/runs", query_string={"match": "("}).json["said"]
    assert state(apps, "run=theirs&match=grad_norm/(?P<layer>.%2B)")["metrics"] == ["grad_norm"]


def test_log_directories_by_name_and_none_of_a_store_elsewhere() -> None:
    assert log_directories("runs") == {"": Path("runs")}
    assert log_directories("gs://bucket/runs") == log_directories("") == {}
    assert log_directories("", "a:runs/1,runs/2") == {"a": Path("runs/1"), "runs/2": Path("runs/2")}


def test_a_real_training_is_followed(tmp_path: Path, train: Callable[..., None]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(6)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    apps = served(tmp_path)
    with wstrack.watch(model, every=1, to=tmp_path / "exp1") as watcher:
        train(model, optimizer, 12)
        watcher.flush()
        while not apps["/runs"].get("/runs").json["runs"]:
            pass
        assert state(apps, "run=exp1")["goes_on"]
        train(model, optimizer, 12)
    assert not state(apps, "run=exp1", version=2)["goes_on"]
    run: Run = wstrack.pull(tmp_path / "exp1")
    assert f"{run.series['rwc'].size:,} values".encode() in apps["/page"].get("/page?run=exp1").data
