"""Which runs are told of, of trackers that can say little and of patterns of addresses."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.utils.tensorboard import SummaryWriter

import wstrack
from wstrack.runs.asked import Asked
from wstrack.runs.listed import Listed
from wstrack.trackers import listing, references, registry

MATCH = "grad/(?P<layer>.+)"


class Bare:
    """A source with references and nothing else: what the contract asks for."""

    at_once = 3
    matched: str | None = None

    def __init__(self, address: str) -> None:
        self.address = address

    def references(self, *, match: str | None = None) -> list[str]:
        Bare.matched = match
        return [f"bare:{self.address}/{name}" for name in ("a", "b")]


class Telling(Bare):
    """One that tells of its runs one by one, and can begin with the newest."""

    taken = 0

    def listed(self, *, match: str | None = None, asked: Asked | None = None) -> Iterable[Listed]:
        runs = [Listed(f"telling:{second}", started=f"2026-05-01T10:00:0{second}Z") for second in range(9)]
        for run in runs[::-1] if asked and asked.newest else runs:
            Telling.taken += 1
            yield run


@pytest.fixture(autouse=True)
def _third_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(registry.trackers())
    for source in (Bare, Telling):
        name = source.__name__.lower()
        known[name] = f"{name}_tracker"
        module = SimpleNamespace(open_source=source, recognises=lambda path: False)
        monkeypatch.setitem(sys.modules, known[name], module)
    for room in (registry, references, listing):
        monkeypatch.setattr(room, "trackers", lambda: known)


def test_a_source_that_tells_nothing_of_its_runs_is_asked_for_their_references() -> None:
    assert wstrack.runs_table("bare:x", match=MATCH).index.tolist() == ["bare:x/a", "bare:x/b"]
    assert Bare.matched == MATCH


def test_no_more_of_the_newest_are_taken_than_it_takes_to_know_them() -> None:
    Telling.taken = 0
    assert wstrack.runs_table("telling:", newest=True, limit=2).index.tolist() == ["telling:8", "telling:7"]
    assert Telling.taken == 3  # the third is older by its second, so that no other can be among them


def test_the_most_careful_tracker_says_how_many_are_read_at_once() -> None:
    assert references.at_once(["tensorboard:runs/a", "bare:x/a", "runs/b"]) == 3
    assert references.at_once(["tensorboard:runs/a", "runs/b"]) is None


def test_a_pattern_of_addresses_with_series_of_others(tmp_path: Path) -> None:
    for name, tag in (("one", "grad/a"), ("two", "grad/b"), ("other", "loss")):
        with SummaryWriter(str(tmp_path / name)) as writer:
            writer.add_scalar(tag, 0.5, 1)
            writer.add_scalar("loss", 0.5, 1)
    found = [f"tensorboard:{tmp_path}/{name}" for name in ("one", "two")]
    assert wstrack.runs_table(f"tensorboard:{tmp_path}/[ot][nw]*", match=MATCH).index.tolist() == found
