"""The commands that read and send runs: pull, push, runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wstrack.cli.arguments import Output, choosing, full, measuring, read, reading, tracking_uri
from wstrack.cli.telling import say, tell
from wstrack.errors import WstrackError

if TYPE_CHECKING:
    from wstrack.runs.run import Run

__all__ = ["pull", "push", "runs"]

_SHOWN = 6  # settings of a run in a line


@click.command()
@reading
@click.option("-o", "--output", "outputs", multiple=True, type=Output("pull"), help="May be given several times: "
              ".csv and .parquet hold one metric, a row a layer; .json everything; of checkpoints:DIR a name without "
              "an ending is the folder of their recording.")  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Which metrics; by default all.")
def pull(
    references: tuple[str, ...], tracker: str | None, project: str | None, match: str | None, outputs: tuple[Path, ...],
    metrics: tuple[str, ...],
) -> None:  # fmt: skip
    """Fetch the series of a run, whole, and say what is missing."""
    from wstrack.runs.tables import save_run

    given = full(references, tracker, project)
    recordings = [output for output in outputs if not output.suffix]
    runs = [_recorded(given, match, metrics, recordings)] if recordings else read(given, match, list(metrics) or None)
    if outputs and len(runs) > 1:
        raise click.UsageError(f"-o writes one run, and {len(runs)} were found; name one, or use wstrack report")
    for run in runs:
        tell(run)
        for output in outputs:
            if output.suffix:
                save_run(run, output, metric=metrics[0] if metrics else None)
            say(f"wrote {output}")


def _recorded(references: list[str], match: str | None, metrics: Sequence[str], folders: Sequence[Path]) -> Run:
    """The run that checkpoints are, measured into a folder."""
    from wstrack.checkpoints import open_source

    scheme, _, address = references[0].partition(":")
    if scheme != "checkpoints" or len(references) > 1 or len(folders) > 1:
        raise click.UsageError(
            f"-o {folders[0]}: an output without an ending is the folder of a recording, which is made of one run of "
            "checkpoints: wstrack pull checkpoints:DIR -o FOLDER; else write .csv, .parquet or .json"
        )
    with measuring() as progress:
        return open_source(address).read(
            references[0], metrics=list(metrics) or None, match=match, to=folders[0], progress=progress
        )


@click.command()
@click.argument("recording", type=click.Path(exists=True), metavar="RECORDING")
@click.argument("reference", metavar="REFERENCE")
@tracking_uri
def push(recording: str, reference: str) -> None:
    """Send to a tracker's run what it lacks of a recording, nothing twice.

    RECORDING is a recording's folder, or a run's folder that holds one; REFERENCE is the run that it is of, such as
    mlflow:RUN_ID or wandb:ENTITY/PROJECT/RUN.
    """
    from wstrack.trackers.pushing import push as send

    sent = send(recording, reference)
    say(f"sent {sent:,} samples to {reference}" if sent else f"{reference} lacks no sample of {recording}")


@click.command()
@reading
@choosing
@click.option("--check", is_flag=True, help="Read each run, and say what is in it and how whole it is.")
@click.option("-o", "--output", "outputs", multiple=True, type=Output("runs"), help="May be given several times: "
              "a table of the runs with all of their settings, as .csv, .parquet or .json.")  # fmt: skip
def runs(
    references: tuple[str, ...], tracker: str | None, project: str | None, match: str | None, where: str | None,
    limit: int | None, newest: bool, check: bool, outputs: tuple[Path, ...],
) -> None:  # fmt: skip
    """List the runs at a reference, with the settings that differ between them; no series is read."""
    from wstrack.runs.listed import differing, save_table, table_of
    from wstrack.trackers.listing import listed
    from wstrack.trackers.references import pull

    given = full(references, tracker, project)
    found = listed(given, where=where, limit=limit, newest=newest, match=match)
    differ = differing(found) if len(found) > 1 else []
    failed = False
    for run in found:
        if not check:
            known = [
                "" if run.name == re.split("[:/]", run.reference)[-1] else run.name,
                run.state if run.state != "finished" else "",
            ]
            known += [f"{name}={run.settings[name]}" for name in differ[:_SHOWN] if name in run.settings]
            say("  ".join([run.reference, *filter(None, known)]))
            continue
        try:
            tell(pull(run.reference, match=match))
        except WstrackError as error:  # one run that cannot be read must not hide the others
            failed = True
            say(f"{run.reference}: {error}", err=True)
    if not check and len(differ) > _SHOWN:
        say(f"{len(differ) - _SHOWN} more settings differ; -o runs.csv has them all", err=True)
    for output in outputs:
        save_table(table_of(found), output)
        say(f"wrote {output}")
    if failed:
        raise WstrackError("some runs could not be read")
