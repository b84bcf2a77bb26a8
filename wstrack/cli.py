"""The command line: a thin shell over the Python API."""

from __future__ import annotations

import logging
import os
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wstrack._version import __version__
from wstrack.errors import WstrackError
from wstrack.messages import printable, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from wstrack.reporting.report import Report
    from wstrack.runs.run import Run

# Everything heavy is imported inside the commands, so that --help answers at once.

__all__ = ["cli", "main"]

if TYPE_CHECKING:
    _PathType = click.ParamType[Path]
else:
    _PathType = click.ParamType  # not generic in older releases

ENDINGS = {"report": (".html", ".json", ".csv", ".md", ".png", ".svg"), "pull": (".csv", ".parquet", ".json")}


class _Output(_PathType):
    """A path whose ending says what to write, checked before the work begins."""

    name = "path"

    def __init__(self, command: str) -> None:
        self.endings = ENDINGS[command]

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if path.suffix.lower() not in self.endings:
            self.fail(f"{value}: the ending must be one of {', '.join(self.endings)}", param, ctx)
        folder = path.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK) or path.is_dir():
            raise WstrackError(f"cannot write {value}: {folder} is not a folder that can be written to")
        return path


def _set_store(ctx: click.Context, param: click.Parameter, uri: str | None) -> None:
    if uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri


_tracking_uri = click.option(
    "--tracking-uri", metavar="URI", expose_value=False, callback=_set_store,
    help="MLflow's server or store. [default: $MLFLOW_TRACKING_URI]",
)  # fmt: skip


def _reading(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments of every command that reads runs."""
    options = (
        click.argument("references", nargs=-1, required=True, metavar="REFERENCE..."),
        click.option("--tracker", metavar="NAME", help="Take REFERENCE as a bare run id of this tracker."),
        click.option("--project", metavar="NAME", help="With --tracker: the project (or folder) of the run id."),
        click.option("--match", metavar="REGEX", help="Pull series logged without wstrack: a regular expression "
                     "over their tags with a group (?P<layer>...)."),
        _tracking_uri,
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _full(references: Sequence[str], tracker: str | None, project: str | None) -> list[str]:
    if project and not tracker:
        raise click.UsageError("--project needs --tracker")
    if not tracker:
        return list(references)
    return [f"{tracker}:{project}/{one}" if project else f"{tracker}:{one}" for one in references]


def _pull(references: list[str], match: str | None, metrics: Sequence[str] | None = None) -> list[Run]:
    from wstrack.trackers.references import pull
    from wstrack.trackers.references import references as runs_at

    found = list(dict.fromkeys(one for each in references for one in runs_at(each, match=match)))
    # Of several runs the bar tells; of one, what its source says meanwhile.
    logging.getLogger("wstrack").setLevel(logging.INFO if len(found) < 2 else logging.WARNING)
    with click.progressbar(found, label="reading", file=sys.stderr, hidden=len(found) < 2) as bar:
        return [pull(one, metrics=metrics, match=match) for one in bar]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wstrack")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """See which layers of a network are learning.

    A REFERENCE names a run: tensorboard:runs/exp1, a folder, a pattern like 'runs/*', or a table (.csv, .parquet)
    with a row a layer and a column a step.
    """


@cli.command()
@click.option("--folder", default="wstrack-demo", show_default=True, metavar="PATH", help="Where everything goes.")
def demo(folder: str) -> None:
    """Train a small network here, watched, and report on it (under a minute)."""
    from wstrack.demo import demo as run_demo

    result = run_demo(folder, say=lambda line: click.echo(line, err=True))
    click.echo(f"\ntest accuracy: {result.accuracy:.1%}\n\nwhat its layers did:")
    _tell_findings(result.report)
    click.echo(
        f"\nopen next:\n  {result.page}   the report, in a browser\n"
        f"  tensorboard --logdir {result.logs}   the curves, in the tab Custom Scalars\n"
        f"  wstrack report {result.reference} --k 3 -o again.html   the same run, other settings"
    )


@cli.command()
@_reading
@click.option("-o", "--output", "outputs", multiple=True, type=_Output("pull"), help="May be given several times: "
              ".csv and .parquet hold one metric, a row a layer; .json everything.")  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Which metrics; by default all.")
def pull(
    references: tuple[str, ...], tracker: str | None, project: str | None, match: str | None, outputs: tuple[Path, ...],
    metrics: tuple[str, ...],
) -> None:  # fmt: skip
    """Fetch the series of a run, whole, and say what is missing."""
    from wstrack.runs.tables import save_run

    runs = _pull(_full(references, tracker, project), match, list(metrics) or None)
    if outputs and len(runs) > 1:
        raise click.UsageError(f"-o writes one run, and {len(runs)} were found; name one, or use wstrack report")
    for run in runs:
        _tell(run)
        for output in outputs:
            save_run(run, output, metric=metrics[0] if metrics else None)
            _say(f"wrote {output}")


@cli.command()
@_reading
@click.option("-o", "--output", "outputs", multiple=True, type=_Output("report"), help="May be given several times: "
              ".html the page, .json all that is in it, .csv the table of layers, .md a summary, .png, .svg a picture. "
              "[default: report.html]")  # fmt: skip
@click.option("--metric", metavar="NAME", help="What to report on. [default: rwc]")
@click.option("--reduce", default="pca", show_default=True, metavar="NAME", help="pca, svd, nmf, isomap, tsne or umap.")
@click.option("--cluster", default="kmeans", show_default=True, metavar="NAME",
              help="kmeans, kmedoids, ward, gmm, spectral, dbscan, hdbscan or meanshift.")  # fmt: skip
@click.option(
    "--k",
    default="auto",
    show_default=True,
    metavar="N",
    help="How many clusters; or how to choose: stability (auto), gap or silhouette.",
)
@click.option(
    "--methods", is_flag=True, help="Also compare every clustering method on the same data, which takes its time."
)
@click.option(
    "--group",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Clusters inside groups: kind, block, stage or a regular expression; auto shows kinds alone, none nothing.",
)
@click.option(
    "--aggregate",
    metavar="NAME",
    help="Blocks instead of layers, from recorded sums: block, stage, kind or a regular expression.",
)
@click.option("--compare", metavar="FACT", help="Hold runs against each other: by a fact of theirs, or run.")
@click.option(
    "--align",
    type=click.Choice(["step", "share"]),
    default="step",
    show_default=True,
    help="Runs by optimizer step, or by share of the training.",
)
@click.option("--cluster-on", type=click.Choice(["plane", "curves"]), default="plane", show_default=True)
@click.option("--scale", type=click.Choice(["log10", "linear"]), help="[default: log10 where the metric allows it]")
@click.option(
    "--outliers",
    type=click.Choice(["2sd", "spikes"]),
    help="Replace values beyond 2 deviations of their layer, or far from their neighbours.",
)
@click.option("--preset", metavar="NAME", help="weightscale: the published procedure, step by step.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--title", default="", metavar="TEXT", help="Stands over the report. [default: the names of the runs]")
@click.option("--attach", is_flag=True, help="Put the report on the runs in their trackers.")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
def report(
    references: tuple[str, ...], tracker: str | None, project: str | None, match: str | None, outputs: tuple[Path, ...],
    attach: bool, opens: bool, **settings: Any,
) -> None:  # fmt: skip
    """Reduce the curves of a run's layers, cluster them, and write a report."""
    from wstrack.reporting.report import report as make

    if settings["k"] not in ("auto", "stability", "gap", "silhouette"):
        try:
            settings["k"] = int(settings["k"])
        except ValueError:
            raise click.UsageError(
                f"--k {settings['k']}: a whole number, or auto, stability, gap or silhouette"
            ) from None
    settings["group"] = None if settings["group"] == "none" else settings["group"]
    _check_settings(settings)  # before runs are pulled, which may take minutes
    written = outputs or (() if attach else (_Output("report").convert("report.html", None, None),))
    runs = _pull(_full(references, tracker, project), match)
    for run in runs:
        _tell(run)
    result = make(runs, **settings)
    _tell_findings(result)
    for output in written:
        result.save(output)
        _say(f"wrote {output}")
    for place in result.attach() if attach else ():
        _say(f"attached: {place}")
    if opens:
        page = next((path for path in written if path.suffix.lower() == ".html"), None)
        if page is None:
            page = result.show()
        else:
            webbrowser.open(page.resolve().as_uri())
        _say(f"opened {page}")


@cli.command()
@click.argument("recording", type=click.Path(exists=True), metavar="RECORDING")
@click.argument("reference", metavar="REFERENCE")
@_tracking_uri
def push(recording: str, reference: str) -> None:
    """Send to a tracker's run what it lacks of a recording, nothing twice.

    RECORDING is a recording's folder, or a run's folder that holds one; REFERENCE is the run that it is of, such as
    mlflow:RUN_ID or wandb:ENTITY/PROJECT/RUN.
    """
    from wstrack.trackers.pushing import push as send

    sent = send(recording, reference)
    _say(f"sent {sent:,} samples to {reference}" if sent else f"{reference} lacks no sample of {recording}")


@cli.command()
@_reading
@click.option("--check", is_flag=True, help="Read each run, and say what is in it and how whole it is.")
def runs(references: tuple[str, ...], tracker: str | None, project: str | None, match: str | None, check: bool) -> None:
    """List the runs at a reference."""
    from wstrack.trackers.references import names, pull

    failed = False
    for reference in _full(references, tracker, project):
        for one, name in names(reference, match=match).items():
            if not check:
                _say(f"{one}  {name}".rstrip())
                continue
            try:
                _tell(pull(one, match=match))
            except WstrackError as error:  # one run that cannot be read must not hide the others
                failed = True
                _say(f"{one}: {error}", err=True)
    if failed:
        raise WstrackError("some runs could not be read")


@cli.command()
def doctor() -> None:
    """Say which meter a model would get on this machine, and why."""
    from wstrack.doctor import doctor as examine

    found = examine()
    for device, meter in found["meters"].items():
        click.echo(f"a model on {device} is measured by: {meter}")
    for name, version in found["versions"].items():
        click.echo(f"  {name:<10} {version}")


def _say(text: str, *, err: bool = False) -> None:
    """Print what may hold names and addresses from outside."""
    click.echo(printable(without_secrets(text)), err=err)


def _tell(run: Run) -> None:
    steps = run.steps
    span = f"steps {steps[0]:,} to {steps[-1]:,}" if len(steps) else "no steps"
    _say(
        f"{run.origin.get('reference', run.name)}: {', '.join(run.metrics)}; {len(run.layers):,} layers, "
        f"{len(steps):,} samples, {span}; {run.completeness}"
    )
    for note in run.completeness.notes:
        _say(f"  note: {note}", err=True)


def _check_settings(settings: dict[str, Any]) -> None:
    """Refuse settings of a report that no run could satisfy."""
    from wstrack.analysis.groups import check_grouping
    from wstrack.analysis.procedure import Procedure

    Procedure(**{one.name: settings[one.name] for one in fields(Procedure)})
    for by in (settings["group"], settings["aggregate"]):
        if by is not None:
            check_grouping(by)


def _tell_findings(report: Report) -> None:
    """What the report concludes, and the first three findings without the lines of detail that the page has."""
    from wstrack.reporting.brief import findings_in_brief

    _say(click.wrap_text(report.verdict, width=88))
    for text in findings_in_brief(report):
        _say(click.wrap_text(text, width=88, initial_indent="  - ", subsequent_indent="    "))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong use."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(message)s")
    try:
        cli.main(args=arguments, prog_name="wstrack", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (ValueError, TypeError, WstrackError, OSError, ModuleNotFoundError) as error:
        if "--debug" in arguments:
            raise
        _say(f"wstrack: {' '.join(str(error).split())}", err=True)
        sys.exit(2 if isinstance(error, ValueError | TypeError) else 1)
    sys.exit(0)
