"""The command line: a thin shell over the Python API."""

from __future__ import annotations

import atexit
import gc
import logging
import sys
from collections.abc import Sequence

import click

from wstrack._version import __version__
from wstrack.cli import reports, runs, sweeps
from wstrack.cli.telling import say, tell_findings
from wstrack.errors import WstrackError

# Everything heavy is imported inside the commands, so that --help answers at once.

__all__ = ["cli", "main"]


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
    tell_findings(result.report)
    click.echo(
        f"\nopen next:\n  {result.page}   the report, in a browser\n"
        f"  tensorboard --logdir {result.logs}   the curves, in the tab Custom Scalars\n"
        f"  wstrack report {result.reference} --k 3 -o again.html   the same run, other settings"
    )


@cli.command()
def doctor() -> None:
    """Say which meter a model would get on this machine, and why."""
    from wstrack.doctor import doctor as examine

    found = examine()
    for device, meter in found["meters"].items():
        click.echo(f"a model on {device} is measured by: {meter}")
    for name, version in found["versions"].items():
        click.echo(f"  {name:<10} {version}")


for command in (runs.pull, reports.report, sweeps.sweep, runs.push, runs.runs, reports.diff):
    cli.add_command(command)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong use."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(message)s")
    # Most of what a command makes stays until it ends; to look through all that so often took a tenth of a report.
    gc.set_threshold(100_000, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)  # what is left goes with the process; to take it apart before took a sixth of a report
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
        say(f"wstrack: {' '.join(str(error).split())}", err=True)
        sys.exit(2 if isinstance(error, ValueError | TypeError) else 1)
    sys.exit(0)
