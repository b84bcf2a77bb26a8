"""wandb's client is kept: many runs are not as many connections, and what it remembers does not outlive its time."""

from __future__ import annotations

import threading

import pytest
from wstrack_integrations.wandb.api import client

import wstrack
from tests.integrations.wandb_server import Server
from wstrack.errors import WstrackError
from wstrack.trackers import listing

wandb = pytest.importorskip("wandb")


def test_who_we_are_is_asked_once_and_not_for_each_run(server: Server) -> None:
    for place in range(8):
        server.store(f"r{place}", [{"_step": step, "grad/a": 1.0 + step} for step in range(3)])
    server.asked.clear()
    for place in range(8):
        assert wstrack.pull(f"wandb:team/p/r{place}", match="grad/(?P<layer>.+)").steps.tolist() == [0, 1, 2]
    assert server.asked["Viewer"] <= 1


def test_what_changed_between_two_looks_is_seen(server: Server) -> None:
    stored = server.store("r", [{"_step": 0, "grad/a": 1.0}], state="running")
    assert [run.state for run in listing.listed("wandb:team/p", match="grad/(?P<layer>.+)")] == ["running"]
    assert wstrack.pull("wandb:team/p/r", match="grad/(?P<layer>.+)").completeness.notes
    stored.state = "finished"
    stored.rows.append({"_step": 1, "grad/a": 2.0})
    assert [run.state for run in listing.listed("wandb:team/p", match="grad/(?P<layer>.+)")] == ["finished"]
    again = wstrack.pull("wandb:team/p/r", match="grad/(?P<layer>.+)")
    assert again.steps.tolist() == [0, 1]
    assert not again.completeness.notes


def used() -> object:
    with client("team/p") as api:
        return api


@pytest.mark.usefixtures("server")
def test_another_key_another_process_of_wandb_and_another_thread_have_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = used()
    assert used() is first
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_API_KEY", "another" * 6)
        other = used()
        assert other is not first
    others: list[object] = []
    thread = threading.Thread(target=lambda: others.extend((used(), used())))
    thread.start()
    thread.join()
    assert others[0] is others[1]
    assert others[0] is not used()
    before = used()
    wandb.teardown()
    assert used() is not before


def test_a_client_that_failed_is_not_used_again(server: Server) -> None:
    before = used()
    with pytest.raises(WstrackError, match="W&B has no team/p/missing, refuses it, or does not answer: "):
        wstrack.pull("wandb:team/p/missing")
    assert used() is not before
