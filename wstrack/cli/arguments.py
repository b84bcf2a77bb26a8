"""What the commands take: run references, and where results go."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wstrack.errors import WstrackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wstrack.runs.run import Run

__all__ = ["Output", "choosing", "full", "measuring", "read", "reading", "tracking_uri"]

if TYPE_CHECKING:
    _PathType = click.ParamType[Path]
else:
    _PathType = click.ParamType  # not generic in older releases

ENDINGS = {
    "report": (".html", ".json", ".csv", ".md", ".png", ".svg"),
    "pull": (".csv", ".parquet", ".json", ""),
    "runs": (".csv", ".parquet", ".json"),
}
_SOON = 2 * 10**9  # bytes, which are read in a moment


class Output(_PathType):
    """A path whose ending says what to write, checked before the work begins."""

    name = "path"

    def __init__(self, command: str) -> None:
        self.endings = ENDINGS[command]

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, or a refusal; one without an ending, where that is allowed, is a recording's folder."""
        path = Path(value)
        if path.suffix.lower() not in self.endings:
            self.fail(f"{value}: the ending must be one of {', '.join(filter(None, self.endings))}", param, ctx)
        folder = path.parent
        if not path.suffix and not path.is_file():
            return path
        if not folder.is_dir() or not os.access(folder, os.W_OK) or path.is_dir():
            raise WstrackError(f"cannot write {value}: {folder} is not a folder that can be written to")
        return path


def _set_store(ctx: click.Context, param: click.Parameter, uri: str | None) -> None:
    if uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri


tracking_uri = click.option(
    "--tracking-uri", metavar="URI", expose_value=False, callback=_set_store,
    help="MLflow's server or store. [default: $MLFLOW_TRACKING_URI]",
)  # fmt: skip


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments of every command that reads runs."""
    options = (
        click.argument("references", nargs=-1, required=True, metavar="REFERENCE..."),
        click.option("--tracker", metavar="NAME", help="Take REFERENCE as a bare run id of this tracker."),
        click.option("--project", metavar="NAME", help="With --tracker: the project (or folder) of the run id."),
        click.option("--match", metavar="REGEX", help="Pull series logged without wstrack: a regular expression "
                     "over their tags with a group (?P<layer>...)."),
        tracking_uri,
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def choosing(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments of every command that chooses among many runs."""
    options = (
        click.option("--where", metavar="CONDITION", help="Only runs that this fits, as behind WHERE in SQL: "
                     "\"lr > 1e-4 and state == 'finished'\"."),
        click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many runs."),
        click.option("--newest", is_flag=True, help="The latest runs first."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def full(references: Sequence[str], tracker: str | None, project: str | None) -> list[str]:
    """References whole, of bare run ids and the tracker that they are of."""
    if project and not tracker:
        raise click.UsageError("--project needs --tracker")
    if not tracker:
        return list(references)
    return [f"{tracker}:{project}/{one}" if project else f"{tracker}:{one}" for one in references]


def read(references: list[str], match: str | None, metrics: Sequence[str] | None = None, **choice: Any) -> list[Run]:
    """Every run at these references that is chosen, with progress on long work."""
    from wstrack.trackers.listing import chosen
    from wstrack.trackers.references import pull

    found = chosen(references, match=match, **choice)
    # Of several runs the bar tells; of one, what its source says meanwhile.
    logging.getLogger("wstrack").setLevel(logging.INFO if len(found) < 2 else logging.WARNING)
    runs: list[Run] = []
    failed: list[WstrackError] = []
    with click.progressbar(found, label="reading", file=sys.stderr, hidden=len(found) < 2) as bar:
        for one in bar:
            try:
                runs.append(pull(one, metrics=metrics, match=match))
            except WstrackError as error:
                if len(found) == 1:
                    raise
                failed.append(error)
    for trouble in failed:  # one run that cannot be read must not hide the others
        click.echo(f"left out: {trouble}", err=True)
    if failed and not runs:
        raise WstrackError(f"none of the {len(found)} runs could be read")
    return runs


@contextmanager
def measuring() -> Iterator[Callable[[int, int], None]]:
    """A bar of progress: what it yields is told how many bytes were read, and of how many."""
    bar: list[Any] = []

    def tell(done: int, total: int) -> None:
        if not bar:
            bar.append(click.progressbar(length=total, label="measuring", file=sys.stderr, hidden=total < _SOON))
            bar[0].__enter__()
        bar[0].update(done - bar[0].pos)

    try:
        yield tell
    finally:
        if bar:
            bar[0].render_finish()
