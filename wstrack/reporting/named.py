"""Named steps (`Watcher.mark`) in figures."""

from __future__ import annotations

from wstrack.analysis.analysis import Analysis
from wstrack.analysis.findings.words import names
from wstrack.reporting.labels import shorten
from wstrack.runs.alerts import is_alert

__all__ = ["about_named", "edges", "named_steps"]

_MOST = 60  # lines, which more would make a grey area of


def named_steps(analysis: Analysis) -> list[int]:
    """Where figures have a dotted line; nowhere where that would be too many."""
    steps = sorted({step for step, _ in analysis.marks})
    return steps if len(steps) <= _MOST else []


def edges(analysis: Analysis, width: int) -> list[float]:
    """The same in a heat map of columns so wide: before the first sample that is of what begins there."""
    samples = analysis.series.index
    places = samples.searchsorted(named_steps(analysis), side="right")
    return [float(samples[int(place)]) - width / 2 for place in places if place < len(samples)]


def about_named(analysis: Analysis) -> str:
    """What the dotted lines are; "" where nothing is named."""
    if not analysis.marks:
        return ""
    each = names(f"{_short(name)} (step {step:,})" for step, name in analysis.marks)
    return f"Dotted lines: {each}." if named_steps(analysis) else f"Marked, and too many to be drawn: {each}."


def _short(name: str) -> str:
    """A mark's name; of an alert, whose name is all that a rule said, the rule."""
    said = is_alert(name)
    return shorten(name if said is None else f"alert '{said.partition(': ')[0]}'", width=30)
