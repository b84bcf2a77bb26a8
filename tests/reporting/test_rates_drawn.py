"""The learning rate in reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from bokeh.models import Range1d
from bokeh.plotting import figure
from matplotlib.figure import Figure

from wstrack.analysis import analyse
from wstrack.analysis.equilibrium import Equilibrium
from wstrack.analysis.schedule import Schedule
from wstrack.reporting.captions import about_curves
from wstrack.reporting.marks import mark_clusters
from wstrack.reporting.pictures import _curves
from wstrack.reporting.rates import draw_rates
from wstrack.reporting.report import report
from wstrack.runs.run import Run

MakeRun = Callable[..., Run]


def with_rates(run: Run, *groups: float) -> Run:
    """The run with a rate a layer, in turn, that falls to a hundredth."""
    frame = run.series["rwc"]
    fall = np.geomspace(1, 0.01, len(frame))[:, None]
    rates = fall * np.resize(np.array(groups), frame.shape[1])
    return replace(run, series={**run.series, "lr": pd.DataFrame(rates, index=frame.index, columns=frame.columns)})


def schedule(values: np.ndarray) -> Schedule:
    courses = pd.DataFrame(values, index=np.arange(1, len(values) + 1), columns=range(1, values.shape[1] + 1))
    return Schedule(courses, {int(at): (f"{at}.weight",) for at in courses.columns})


def test_page_and_picture_have_the_rate_below_the_curves_and_say_so(make_run: MakeRun, tmp_path: Path) -> None:
    for run, drawn in ((make_run(), False), (with_rates(make_run(), 0.1), True)):
        found = report(run, k=3)
        found.save(tmp_path / "report.html")
        assert ('"axis_label":"learning rate"' in (tmp_path / "report.html").read_text()) == drawn
        assert ("Below them the learning rate: all layers have the same." in about_curves(found)) == drawn
        place = Figure()
        _curves(found, mark_clusters(found), place)
        assert [axes.get_ylabel() for axes in place.axes] == ["rwc", "learning rate"][: 1 + drawn]


def test_a_line_for_each_course_on_the_steps_of_the_curves() -> None:
    x_range, above = Range1d(0, 10), figure()
    plot = draw_rates(schedule(np.array([[0.1, 0.01], [0.01, 0.001], [0.001, 0.0001]])), x_range, [above])
    assert plot.x_range is x_range
    assert plot.min_border_left == above.min_border_left
    rates = [one.data_source.data["rate"].tolist() for one in plot.renderers]
    assert rates == [[0.1, 0.01, 0.001], [0.01, 0.001, 0.0001]]
    dashes = [tuple(one.glyph.line_dash) for one in plot.renderers]
    assert len(set(dashes)) == 2
    assert type(plot.y_scale).__name__ == "LogScale"


def test_rates_that_begin_at_zero_are_drawn_on_a_linear_scale() -> None:
    plot = draw_rates(schedule(np.array([[0.0], [0.1], [0.05]])), Range1d(0, 10), [])
    assert type(plot.y_scale).__name__ == "LinearScale"


def test_a_rate_that_stays_is_drawn_above_zero() -> None:
    plot = draw_rates(schedule(np.full((3, 1), 0.003)), Range1d(0, 10), [])
    assert (plot.y_range.start, plot.y_range.end) == (0, 0.006)


def test_the_equilibrium_is_a_dotted_line_among_the_curves_and_the_caption_says_what_it_is(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run()
    frame = run.series["rwc"]
    expected = pd.Series(np.where(frame.index > 100, 0.02, np.nan), index=frame.index)
    for line, drawn in ((None, False), (Equilibrium(expected, tuple(frame.columns[:8])), True)):
        found = replace(report(run, k=3), equilibrium=line)
        found.save(tmp_path / "report.html")
        text = about_curves(found)
        assert ("gradients and weight decay of 8 layers balance:" in text) == drawn
        assert ('"field":"expected"' in (tmp_path / "report.html").read_text()) == drawn
        place = Figure()
        _curves(found, mark_clusters(found), place)
        lines = [np.asarray(one.get_ydata()) for one in place.axes[0].lines]
        assert any(np.array_equal(one, expected, equal_nan=True) for one in lines) == drawn


def test_of_many_courses_six_are_drawn_and_it_is_said(make_run: MakeRun) -> None:
    run = with_rates(make_run(12), *np.geomspace(0.1, 0.01, 9))
    found = analyse(run)
    assert found.schedule is not None
    assert len(draw_rates(found.schedule, Range1d(0, 10), []).renderers) == 6
    assert "a line for each course that layers have, those of the most layers are 6 of 9." in about_curves(found)
