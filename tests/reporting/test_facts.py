"""What the page says of many runs, and that it says it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from wstrack.reporting import facts
from wstrack.reporting.report import report
from wstrack.runs.run import Completeness, Run

MakeRun = Callable[..., Run]


def seeds(make_run: MakeRun, count: int = 3) -> list[Run]:
    return [make_run(name=f"run {seed}", seed=seed, dataset="digits", lr=0.1 * (seed % 2)) for seed in range(count)]


def test_what_runs_share_is_a_row_and_what_differs_a_column(make_run: MakeRun) -> None:
    found = report(seeds(make_run), k=3)
    names, rows = facts.differing(found)
    assert names == ["run", "lr"]
    assert rows == [["run 0", "0.0"], ["run 1", "0.1"], ["run 2", "0.0"]]
    shared = dict(facts.settings(found))
    assert shared["run: dataset"] == "digits"
    assert shared["completeness"] == "all 360 values"
    assert "run: lr" not in shared
    assert "notes" not in shared  # there are none


def test_a_fact_that_a_run_lacks_differs(make_run: MakeRun) -> None:
    runs = [make_run(name="a", seed=1), make_run(name="b", seed=2, note="hot")]
    names, rows = facts.differing(report(runs, k=3))
    assert (names, rows) == (["run", "note"], [["a", ""], ["b", "hot"]])


def test_one_run_has_no_table(make_run: MakeRun) -> None:
    found = report(make_run(lr=0.1), k=3)
    assert facts.differing(found) == (["run"], [])
    assert dict(facts.settings(found)).items() >= {("run", "a run"), ("run: lr", "0.1")}


@pytest.mark.parametrize(
    ("completeness", "whole", "words"),
    [
        ([Completeness(360, 360)] * 3, True, "Complete: all 360 values in each of the 3 runs"),
        ([Completeness(360, 360), Completeness(400, 400)], True, "Complete: all values in each of the 2 runs"),
        ([Completeness(360, 360, ("a note",)), Completeness(360, 360)], False,
         "Complete: all 360 values in each of the 2 runs; 1 of 2 runs has notes"),
        ([Completeness(360, 350), Completeness(360, 359, ("a note",)), Completeness(360, 360, ("a note",))], False,
         "Incomplete: 11 of 1,080 values missing, in 2 of 3 runs; 2 of 3 runs have notes"),
    ],
)  # fmt: skip
def test_how_whole_many_runs_are_is_one_sentence(
    make_run: MakeRun, completeness: list[Completeness], whole: bool, words: str
) -> None:
    runs = seeds(make_run, len(completeness))
    found = report([replace(run, completeness=one) for run, one in zip(runs, completeness, strict=True)], k=3)
    assert facts.complete(found) == (whole, words, ())
