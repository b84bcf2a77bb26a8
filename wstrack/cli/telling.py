"""What the commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wstrack.messages import printable, without_secrets

if TYPE_CHECKING:
    from wstrack.reporting.report import Report
    from wstrack.runs.run import Run

__all__ = ["say", "tell", "tell_findings"]


def say(text: str, *, err: bool = False) -> None:
    """Print what may hold names and addresses from outside."""
    click.echo(printable(without_secrets(text)), err=err)


def tell(run: Run) -> None:
    """Print what is in a run and how whole it is."""
    steps = run.steps
    span = f"steps {steps[0]:,} to {steps[-1]:,}" if len(steps) else "no steps"
    say(
        f"{run.origin.get('reference', run.name)}: {', '.join(run.metrics)}; {len(run.layers):,} layers, "
        f"{len(steps):,} samples, {span}; {run.completeness}"
    )
    for note in run.completeness.notes:
        say(f"  note: {note}", err=True)


def tell_findings(report: Report) -> None:
    """What the report concludes, and the first three findings without the lines of detail that the page has."""
    from wstrack.reporting.brief import findings_in_brief

    say(click.wrap_text(report.verdict, width=88))
    for text in findings_in_brief(report):
        say(click.wrap_text(text, width=88, initial_indent="  - ", subsequent_indent="    "))
