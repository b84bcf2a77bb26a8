"""What an open page is shown of samples that came since its report."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.reporting.conftest import HOSTILE
from wstrack.reporting.page import render_page
from wstrack.reporting.report import Report, report
from wstrack.reporting.tail import tail_of
from wstrack.runs.run import Run

SAMPLES = 30


@pytest.fixture
def whole(make_run: Callable[..., Run]) -> Run:
    """A run of more samples than its report is of."""
    return make_run(samples=SAMPLES + 5)


def until(run: Run, samples: int) -> Run:
    return Run(
        {name: frame.iloc[:samples] for name, frame in run.series.items()}, run.layers, run.facts, run.completeness
    )


@pytest.fixture
def made(whole: Run) -> Report:
    return report(until(whole, SAMPLES), k=3)


def unpacked(packed: str, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.frombuffer(base64.b64decode(packed), "<f4").reshape(shape or -1)


def test_it_holds_the_new_samples_behind_the_last_that_is_shown(whole: Run, made: Report) -> None:
    series = whole.series["rwc"]
    tail = tail_of(made, series)
    assert tail is not None
    new = series.iloc[SAMPLES - 1 :]
    assert (tail["after"], tail["step"]) == (new.index[0], new.index[-1])
    assert (tail["start"], tail["end"]) == (new.index[0] - 5, new.index[-1] + 5)  # half of the ten steps of a sample
    np.testing.assert_array_equal(unpacked(tail["image"], *tail["shape"]), new.to_numpy(np.float32).T)
    assert tail["high"] == np.float32(new.to_numpy().max())
    assert tail["low"] == [np.float32(new.to_numpy().min())] * 2
    assert set(tail["courses"]) == {"1", "2", "3"}
    for label, course in tail["courses"].items():
        members = made.table.index[made.table["cut"] == int(label)]
        expected = np.quantile(new[members].to_numpy(), [0.1, 0.5, 0.9], axis=1)
        np.testing.assert_array_equal(unpacked(course["step"]), new.index)
        found = [unpacked(course[name]) for name in ("low", "middle", "high")]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    lines = unpacked(tail["lines"]["values"], len(made.table), len(new))
    np.testing.assert_array_equal(lines, new[made.table.index].to_numpy(np.float32).T)


def test_what_is_not_finite_is_white_in_the_map_and_a_gap_in_the_curves(whole: Run, made: Report) -> None:
    series = whole.series["rwc"].copy()
    series.iloc[-2] = np.inf
    series.iloc[-1, 0] = np.nan
    tail = tail_of(made, series)
    assert tail is not None
    image = unpacked(tail["image"], *tail["shape"])
    assert np.isinf(image[:, -2]).all()
    assert np.isnan(image[0, -1])
    assert tail["high"] == np.float32(np.nanmax(series.iloc[SAMPLES - 1 :].replace(np.inf, np.nan).to_numpy()))
    assert np.isnan(unpacked(tail["courses"]["1"]["middle"])).sum() == 1


def test_there_is_none_where_only_another_report_will_do(whole: Run, made: Report) -> None:
    series = whole.series["rwc"]
    assert tail_of(made, series.iloc[:SAMPLES]) is None  # nothing new
    assert tail_of(made, series.drop(index=series.index[SAMPLES // 2])) is None  # another past
    again = series.copy()
    again.iloc[SAMPLES - 1] *= 2  # logged anew, by a run that went on from an older checkpoint
    assert tail_of(made, again) is None
    assert tail_of(made, series.drop(columns=series.columns[0])) is None
    assert tail_of(made, series.assign(more=1.0)) is not None
    assert tail_of(report([made.runs[0]] * 2), series) is None


def test_of_many_samples_few_are_drawn(make_run: Callable[..., Run]) -> None:
    run = make_run(samples=5000)
    tail = tail_of(report(until(run, SAMPLES), k=3), run.series["rwc"])
    assert tail is not None
    assert tail["shape"][1] <= 400
    assert len(unpacked(tail["lines"]["step"])) <= 100
    assert unpacked(tail["lines"]["step"])[-1] == run.steps[-1]


# Data of the page's figures that live in no view of their own, by a column that they have.
WITH = """(...columns) => Bokeh.documents[0].roots().flatMap((root) => [...root.references()])
  .filter((model) => columns.every((column) => model.data?.[column])).map((model) => model.data)"""


@pytest.mark.slow
def test_an_open_page_shows_it(browser: Any, make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run(HOSTILE, samples=SAMPLES + 5)
    run.series["rwc"].iloc[-1, 0] *= 1e6  # far above what the colours went up to
    made = report(until(run, SAMPLES), k=3)
    (tmp_path / "page.html").write_text(render_page(made, live=""), errors="backslashreplace")
    page = browser.new_page()
    trouble: list[str] = []
    page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    dispatch = "(detail) => document.documentElement.dispatchEvent(new CustomEvent('wstrack-tail', {detail}))"
    for samples in (SAMPLES + 2, SAMPLES + 5):  # the second takes the place of the first
        series: pd.DataFrame = run.series["rwc"].iloc[:samples]
        page.evaluate(dispatch, tail_of(made, series))
        last = int(series.index[-1])
        courses = page.evaluate(f"({WITH})('middle').map((data) => [...data.step])")
        assert [course[-1] for course in courses] == [last] * 3
        assert all(len(set(course)) == samples for course in courses)
        assert page.evaluate(f"({WITH})('alpha', 'steps').map((data) => data.steps.length)") == [0]  # none is chosen
        (image,) = page.evaluate(
            f"({WITH})('dw').map((data) => [data.x[0], data.x[0] + data.dw[0], data.image[0].shape])"
        )
        assert image == [10 * SAMPLES - 5, last + 5, [14, samples - SAMPLES + 1]]
    ranges = "Bokeh.documents[0].roots()[0].children[1].x_range"
    assert page.evaluate(f"[{ranges}.start, {ranges}.end]") == [5, 10 * (SAMPLES + 5) + 5]
    high = "Bokeh.documents[0].roots()[0].children[1].renderers[0].glyph.color_mapper.high"
    assert page.evaluate(high) == pytest.approx(run.series["rwc"].iloc[-1, 0])
    veiled = "Bokeh.documents[0].roots()[0].children[1].renderers.map((one) => one.nonselection_glyph?.right?.value)"
    assert 10 * (SAMPLES + 5) + 5 in page.evaluate(veiled)  # what hides the layers that are not chosen
    page.locator("#search").fill("onerror")
    values = page.evaluate(f"({WITH})('alpha', 'steps').map((data) => [...data.values].map((values) => [...values]))")
    np.testing.assert_allclose(values[0], run.series["rwc"].iloc[SAMPLES - 1 :, [1]].to_numpy().T, rtol=1e-6)
    page.locator("#from").fill("300")
    assert page.evaluate(f"[{ranges}.start, {ranges}.end]") == [300, 10 * (SAMPLES + 5) + 5]  # to the end as it is now
    page.close()
    assert trouble == []
