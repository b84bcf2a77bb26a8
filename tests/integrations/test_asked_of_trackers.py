"""Choosing runs asks the tracker for as few as can be, and the answer is the one from reading all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from wstrack_integrations.mlflow.database import Database
from wstrack_integrations.mlflow.server import Server as MlflowServer
from wstrack_integrations.wandb.searching import filtered

import wstrack
from wstrack.errors import WstrackError
from wstrack.runs.asked import Asked, comparisons_in
from wstrack.runs.listed import Listed
from wstrack.runs.manifest import Layer, Manifest
from wstrack.trackers import listing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .wandb_server import Server

pytestmark = pytest.mark.slow

CONDITIONS = [
    "state = 'finished'",
    "state == 'FINISHED'",
    "'failed' != state and state <> 'running'",
    "state in ('killed', 'failed', 'crashed')",
    "STATE = 'finished'",
    "state = 'nonsense'",
    "not state = 'finished'",
    "state = 'finished' or lr > 0.05",
    "started >= '2026-05-02'",
    "started > '2026-05-02T00:00:00Z' and started < '2026-05-04' and state = 'finished'",
    "started between '2026-05-01' and '2026-05-03T12:00:00Z'",
    "started = '2026-05-02T00:00:00Z'",
    "name = 'run 3'",
    "name in ('run 3', 'run 4', 'RUN 5') and state != 'failed'",
    "name = 'told'",
    "lr = 0.1",
    "LR = 0.1",
    "lr = '0.1'",
    "lr > 0.05 and state = 'finished'",
    "lr < 'a'",
    "model = 'vit'",
    "MODEL = 'vit' and state = 'finished'",
    "model in ('vit', 'mlp')",
    "model != 'vit'",
    "model is null",
    "\"model.name\" = 'big one'",
    "model.name = 'big one' and state = 'finished'",
    "[model.name] like 'big%'",
    '"val/loss" < 0.5',
    "\"val/loss\" between -2 and 0.5 and model = 'vit'",
    '"val/loss" != 0.25',
    '"val/loss" > 1e-5',
    "api_key = '***'",
    "api_key = '5ecret'",
    "note = 'it''s'",
    "team = 'vision' and state = 'running'",
    "seed = '007'",
    "amp = true",
    "samples >= 5 and state = 'finished'",
    "reference like '%e%' and state = 'failed'",
    "state = 'finished' and lr = (select max(lr) from runs where state = 'finished')",
    "state = 'finished' and (rowid > 3)",
    "rate > 1 and state = 'finished'",
    "\"rate\" = 1 and name = 'run 3'",
    "state = 'finished' and lr >",
    "only = 'here' and state = 'failed'",
    "only like 'h%' and state = 'failed'",  # which have `Only`
    "only like 'h%' and state = 'running'",
]
CHOICES: list[dict[str, Any]] = [{}, {"limit": 3}, {"limit": 2, "newest": True}, {"newest": True}]


def asked(reference: str | list[str], where: str | None, **choice: Any) -> list[str]:
    """The runs, or the error in place of them, without the number of runs in it, which need not be known."""
    try:
        return [run.reference for run in listing.listed(reference, where=where, **choice)]
    except (ValueError, WstrackError) as error:
        said = str(error)
        return [
            type(error).__name__,
            *(word for word in said.replace("none of the ", "").split() if not word.isdigit()),
        ]


def check_all(reference: str | list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every choice by asking, and by reading all."""
    answers = {(where, place): asked(reference, where, **CHOICES[place]) for where in CONDITIONS for place in range(4)}
    alone = {place: asked(reference, None, **CHOICES[place]) for place in range(4)}
    told: dict[str, list[Listed]] = {}

    def all_told(source: Any, match: str | None) -> list[Listed]:
        if source.address not in told:
            told[source.address] = list(source.listed(match=match))
        return told[source.address]

    with monkeypatch.context() as patch:
        patch.setattr(listing, "chooses", lambda source: False)
        patch.setattr(listing, "told", all_told)
        for (where, place), answer in answers.items():
            assert answer == asked(reference, where, **CHOICES[place]), (where, CHOICES[place])
        assert alone == {place: asked(reference, None, **CHOICES[place]) for place in range(4)}
    found = [answer for answer in answers.values() if "Error" not in answer[0]]
    assert len(found) > len(answers) / 2
    assert len({tuple(answer) for answer in found}) > 15  # the conditions differ in what they fit


def logged(uri: str, experiment: str, *, traps: bool) -> str:
    """Thirty runs in MLflow, two in three of which wstrack logged; traps are settings called as what MLflow says."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient(uri)
    number = client.create_experiment(experiment)
    states = ("FINISHED", "FAILED", "RUNNING", "KILLED", "FINISHED")
    for place in range(30):
        # Three start in one second, and two of these in one millisecond.
        started = 1_777_593_600_000 + place // 3 * 43_200_000 + (place % 3 > 0) * 500
        run = client.create_run(number, started, run_name=f"run {place}")
        params = {
            "lr": ("0.1", "1e-1", "0.01", ".1", "auto")[place % 5],
            "seed": "007",
            "amp": ("True", "1")[place % 2],
        }
        tags = {"wstrack.metrics": "rwc", "wstrack.samples": str(place)} if place % 3 else {}
        if place % 2:
            params |= {"model": ("vit", "ViT", "mlp")[place // 2 % 3]}
        elif place % 4:
            tags |= {"model": "vit"}
        if place % 7 == 1:
            params |= {"LR": "0.1", "model.name": "big one", "api_key": "5ecret", "note": "it's"}
        if place % 5 == 1:
            tags |= {"team": "vision", "Only": "here"}
        tags |= {"only": "here"} if place % 5 == 2 else {}
        params |= {"api_key": "***"} if place == 2 else {}
        if place % 4 == 1:
            tags |= {"model": "mlp"}
        if traps and place % 3 == 1:
            params |= [{"state": "finished"}, {"name": "told"}, {"val/loss": "0.25"}][place // 3 % 3]
            tags |= [{"started": "2026-05-03"}, {"state": "failed"}, {"val/loss": "0.2"}, {"State": "finished"}][
                place % 4
            ]
        metrics = [Metric("val/loss", (0.25, 0.75, float("nan"), -1.0)[place % 4], started, 0)] if place % 6 else []
        client.log_batch(
            run.info.run_id,
            metrics=[*metrics, Metric("rwc/fc", 0.1, started, 0)],
            params=[Param(key, value) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        if (state := states[place % 5]) != "RUNNING":
            client.set_terminated(run.info.run_id, state)
        if place == 13:
            client.delete_tag(run.info.run_id, "mlflow.runName")  # MLflow's filter by the name is one by this tag
    return f"mlflow:experiment/{experiment}"


@pytest.mark.parametrize("store", ["mlflow_store", "postgres_uri", "sqlite_server"])
@pytest.mark.parametrize("traps", [False, True])
def test_mlflow_answers_the_same(
    store: str, traps: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    uri = request.getfixturevalue(store)
    mlflow.set_tracking_uri(uri)
    check_all(logged(uri, f"asked {traps}", traps=traps), monkeypatch)


def test_mlflow_in_a_folder_answers_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str
) -> None:
    uri = f"{tmp_path}/mlruns"
    logged(uri, "asked", traps=True)
    check_all(f"mlflow:{uri}", monkeypatch)


@pytest.fixture(scope="module")
def served(sqlite_server: str) -> str:
    """The URI of a server that has thirty runs in its experiment `less`."""
    logged(sqlite_server, "less", traps=False)
    return sqlite_server


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs came with each answer of MLflow's server to a search for runs."""
    counts: list[int] = []
    call = MlflowServer.call

    def counted(self: MlflowServer, method: str, endpoint: str, content: dict[str, Any], **options: Any) -> Any:
        answer = call(self, method, endpoint, content, **options)
        if endpoint == "runs/search":
            counts.append(len(answer.get("runs", [])))
        return answer

    monkeypatch.setattr(MlflowServer, "call", counted)
    return counts


@pytest.mark.parametrize(
    ("where", "choice", "most"),
    [
        (None, {}, 20),  # not those that wstrack did not log
        ("state = 'finished'", {}, 8),
        ("state in ('failed', 'killed') and lr < 1", {}, 9),
        ("started >= '2026-05-05'", {}, 6),
        ("\"model.name\" = 'big one'", {}, 5),
        ("\"val/loss\" < 0 and state != 'killed'", {}, 6),
        (None, {"limit": 2}, 3),
        (None, {"limit": 2, "newest": True}, 9),
        ("lr = 0.1", {"limit": 2, "newest": True}, 10),
        ("state = 'running'", {"limit": 1}, 2),
        ("state = 'nonsense'", {}, 2),  # which need no more than to know that there are runs
    ],
)
def test_less_is_asked_of_the_server_of_mlflow(
    served: str, handed: list[int], where: str | None, choice: dict[str, Any], most: int
) -> None:
    import mlflow

    mlflow.set_tracking_uri(served)
    asked("mlflow:experiment/less", where, **choice)
    assert 0 < sum(handed) <= most


def test_a_server_that_does_not_know_the_filter_is_asked_for_all(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow
    from wstrack_integrations.mlflow import server

    mlflow.set_tracking_uri(served)
    reference = "mlflow:experiment/less"
    expected = asked(reference, "state = 'finished'", limit=3)
    monkeypatch.setattr(server, "OURS", "tags.`wstrack.metrics` RESEMBLES '%'")
    assert asked(reference, "state = 'finished'", limit=3) == expected
    assert len(expected) == 3


@pytest.mark.parametrize("tag", [True, False])
def test_runs_without_a_name_of_their_own_are_found_by_that_which_is_shown(
    tag: bool, mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    reference = logged(mlflow_store, "unnamed", traps=False)
    with sqlite3.connect(mlflow_store.removeprefix("sqlite:///")) as database:
        database.execute("update runs set name = '' where name = 'run 4'")  # as MLflow wrote them before 1.30
        if not tag:
            database.execute("delete from tags where key = 'mlflow.runName'")
    runs = {run.name: run.reference for run in listing.listed(reference)}
    shown = "run 4" if tag else next(name for name in runs if not name.startswith("run "))
    assert asked(reference, f"name = '{shown}'") == [runs[shown]]
    assert asked(reference, f"name in ('x', '{shown}') and lr = 'auto'") == [runs[shown]]


def test_details_are_read_of_few_runs_in_a_database(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    stored = Database._stored

    def counted(self: Database, rows: Any, which: str, **options: Any) -> Any:
        read.append(len(rows))
        return stored(self, rows, which, **options)

    monkeypatch.setattr(Database, "_stored", counted)
    reference = logged(mlflow_store, "few", traps=False)
    assert len(asked(reference, None, limit=2, newest=True)) == 2
    assert sum(read) <= 9
    read.clear()
    assert len(asked(reference, "state = 'finished' and lr < 1")) > 3
    assert sum(read) == 8


# ---- W&B ------------------------------------------------------------------------------------------------------------


def stored(server: Server, *, traps: bool) -> str:
    """Sixty runs on the stand-in, two in three of which wstrack logged."""
    states = ("finished", "failed", "running", "crashed", "finished")
    for place in range(60):
        facts = [{}, {"lr": 0.1}, {"model": "vit"}, {"depth": {"a": 1}}][place % 4]
        config: dict[str, Any] = {
            "lr": (0.1, 0.01, "0.1", 1e-5, "auto")[place % 5],
            "seed": "007",
            "amp": place % 2 == 0,
        }
        if place % 2:
            config |= {"model": ("vit", "ViT", {"name": "big one"})[place % 3]}
        if place % 7 == 1:
            config |= {"LR": 0.1, "model.name": "big one", "api_key": "5ecret", "note": "it's"}
        config |= [{}, {"Only": "here"}, {"only": "here"}, {}, {}][place % 5]
        if traps and place % 3 == 1:
            config |= [{"state": "finished"}, {"name": "told"}, {"started": "2026-05-03"}, {"State": "failed"}][
                place % 4
            ]
            facts |= [{}, {"state": "failed"}, {"name": "run 3"}, {"started": "2026-05-02"}][place // 3 % 4]
        if place % 3:
            manifest = Manifest("m", (Layer("fc"),), ("rwc",), 1, facts=facts, origin={"started": "2026", "name": "x"})
            about = {"manifest": manifest.to_json(), "sessions": [{"samples": place}]}
            config["wstrack" if place % 2 else "wstrack-run"] = about
        summary = {"val/loss": (0.25, 0.75, "NaN", -1.0)[place % 4]} if place % 6 else {}
        run = server.store(f"id{place}", [], summary=summary, state=states[place % 5])
        run.config = {key: {"value": value} for key, value in config.items()}
        run.display_name = f"run {place // 2}"
        run.created = f"2026-05-{place // 6 + 1:02}T00:00:{place % 6 // 2:02}Z"
    return "wandb:team/p"


@pytest.mark.parametrize("traps", [False, True])
def test_wandb_answers_the_same(server: Server, traps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    check_all(stored(server, traps=traps), monkeypatch)
    check_all("wandb:team/p?state=finished", monkeypatch)


@pytest.mark.parametrize(
    ("where", "choice", "most", "requests"),
    [
        (None, {}, 60, 2),  # no request for each run
        ("state = 'finished'", {}, 24, 1),
        ("state in ('failed', 'crashed') and lr < 1", {}, 24, 1),
        ("started >= '2026-05-08'", {}, 24, 1),
        ("name = 'run 3'", {}, 2, 1),
        (None, {"limit": 2}, 50, 1),
        (None, {"limit": 2, "newest": True}, 50, 1),
        ("lr = 0.1", {"limit": 2, "newest": True}, 50, 1),
        ("state = 'nonsense'", {}, 50, 2),
    ],
)
def test_less_is_asked_of_wandb(
    server: Server, where: str | None, choice: dict[str, Any], most: int, requests: int
) -> None:
    reference = stored(server, traps=False)
    asked(reference, where, **choice)
    assert 0 < server.handed <= most
    assert server.asked["Runs"] <= requests
    assert not server.asked["Run"]


def test_the_filter_for_wandb_is_json_and_keeps_the_one_of_the_address() -> None:
    found = filtered({"group": "a"}, comparisons_in("state = 'finished' and started > '2026-05-01' and lr = 1"))
    assert found["$and"][0] == {"group": "a"}
    assert len(found["$and"]) == 3
    assert json.loads(json.dumps(found)) == found
    assert "lr" not in json.dumps(found).replace("wstrack", "")


# ---- any tracker ----------------------------------------------------------------------------------------------------


class Plain:
    """A source of a third party, which never heard of being asked; `back` has the same runs the other way round."""

    def __init__(self, address: str) -> None:
        runs = [
            Listed(f"plain:{place}", state="finished" if place % 2 else "failed", started=f"2026-05-{place % 9 + 1:02}")
            for place in range(20)
        ]
        self.runs = runs[::-1] if address == "back" else runs

    def listed(self, *, match: str | None = None) -> list[Listed]:
        return self.runs

    def references(self, *, match: str | None = None) -> list[str]:
        return [run.reference for run in self.runs]


class Asking(Plain):
    """One that yields what is taken."""

    taken = 0

    def listed(self, *, match: str | None = None, asked: Asked | None = None) -> Iterable[Listed]:  # type: ignore[override]
        runs = sorted(self.runs, key=lambda run: run.started)[::-1] if asked and asked.newest else self.runs
        for run in runs:
            type(self).taken += 1
            yield run


@pytest.mark.parametrize("kind", [Plain, Asking])
def test_sources_of_third_parties(kind: type[Plain], monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        open_source = staticmethod(kind)

    monkeypatch.setattr(listing, "tracker", lambda scheme: Module)
    monkeypatch.setattr(listing, "split", lambda reference: ("plain", str(reference).partition(":")[2]))
    everything = kind("").runs
    finished = [run.reference for run in everything if run.state == "finished"]
    assert asked("plain:", "state = 'finished'") == finished
    Asking.taken = 0
    assert asked("plain:", "state = 'finished'", limit=2) == finished[:2]
    assert kind is Plain or 0 < Asking.taken <= 6
    newest = [run.reference for run in sorted(everything, key=lambda run: run.started)[::-1]]
    assert asked("plain:", None, newest=True, limit=3) == newest[:3]
    for limit in range(1, 21):
        assert asked(["plain:", "plain:back"], None, newest=True, limit=limit) == newest[:limit]
    with pytest.raises(ValueError, match="there is no setting rate"):
        listing.listed("plain:", where="rate = 1 and state = 'finished'", limit=2)
    with pytest.raises(WstrackError, match=r"none of the (20 )?runs at plain: fits"):
        wstrack.runs_table("plain:", where="state = 'nonsense'")
