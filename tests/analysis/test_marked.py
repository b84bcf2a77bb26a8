"""What falls on named steps, where the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from wstrack.analysis import Analysis, analyse
from wstrack.analysis.findings.marked import on_marks
from wstrack.reporting.captions import about_heatmap
from wstrack.reporting.named import edges, named_steps
from wstrack.reporting.thin import tile
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run

STEPS = pd.Index(range(50, 6501, 50))  # 130 samples
EPOCH = 650  # steps: 13 samples
EPOCHS = tuple((step, f"epoch {step // EPOCH}") for step in range(0, 6500, EPOCH))


def run(marks: tuple[tuple[int, str], ...], *, shift: int = 0) -> Run:
    """Layers whose change triples in the first sample of each epoch, or so many samples later."""
    rng = np.random.default_rng(0)
    high = (np.arange(130) - shift) % 13 == 0
    values = 10 ** (np.log10(np.where(high, 3.0, 1.0))[:, None] - 3 + 0.03 * rng.normal(size=(130, 10)))
    layers = tuple(Layer(f"{number}.weight") for number in range(10))
    made = Run.from_values(Manifest("demo", layers, ("rwc",), every=50), STEPS.to_numpy(), {"rwc": values})
    return replace(made, marks=marks)


def period(analysis: Analysis) -> str:
    return next(finding.text for finding in analysis.findings if finding.kind == "period")


@pytest.mark.parametrize(
    ("marks", "shift", "where"),
    [
        (EPOCHS, 0, "at the begin of each epoch"),
        (EPOCHS, 6, "as where epochs begin"),
        ((), 0, "as where epochs begin"),
        (EPOCHS[:5], 0, "as where epochs begin"),
        (tuple((step, f"stage {'abcdefghij'[step // EPOCH]}") for step, _ in EPOCHS), 0, "at the marks"),
        (tuple((step, f"batch {step}") for step in range(0, 6500, 50)), 0, "as where epochs begin"),
    ],
    ids=["epochs", "epochs elsewhere", "none", "half of them", "names of their own", "one a sample"],
)
def test_jumps_on_marks_are_told_as_such(marks: tuple[tuple[int, str], ...], shift: int, where: str) -> None:
    assert f"(13 samples), {where}: it is " in period(analyse(run(marks, shift=shift)))


def test_a_mark_belongs_to_the_first_sample_after_it() -> None:
    steps = pd.Index([10, 20, 30, 40])
    assert on_marks([20, 40], steps, [(10, "a 1"), (35, "a 2")]) == "at the begin of each a"
    assert on_marks([10, 30], steps, [(10, "a 1"), (35, "a 2")]) == ""
    assert on_marks([20], steps, []) == ""


def test_figures_have_a_line_before_what_begins_and_name_it() -> None:
    found = analyse(run(((650, "epoch 1"), (1325, "task 2"), (9000, "later"))))
    assert found.marks == ((650, "epoch 1"), (1325, "task 2"))
    assert named_steps(found) == [650, 1325]
    assert edges(found, 50) == [675, 1325]  # left of the samples of steps 700 and 1,350
    tiles = tile(found.series.to_numpy(), found.series.index.to_numpy(np.int64))
    assert "Dotted lines: epoch 1 (step 650), task 2 (step 1,325)." in about_heatmap(found, tiles)


def test_more_marks_than_can_be_told_apart_are_said_and_not_drawn() -> None:
    found = analyse(run(tuple((step, f"batch {step}") for step in STEPS)))
    assert named_steps(found) == []
    tiles = tile(found.series.to_numpy(), found.series.index.to_numpy(np.int64))
    assert "Marked, and too many to be drawn: batch 50 (step 50), " in about_heatmap(found, tiles)


def test_of_several_runs_the_marks_that_all_have() -> None:
    found = analyse([run(EPOCHS), run((*EPOCHS[:3], (777, "mine")))])
    assert found.marks == EPOCHS[1:3]
