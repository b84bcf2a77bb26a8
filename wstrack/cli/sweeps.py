"""The command for many runs at once: sweep."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wstrack.cli.arguments import choosing, full, reading
from wstrack.cli.telling import say

if TYPE_CHECKING:
    from wstrack.sweeps.work import Client

__all__ = ["sweep"]

_NAMED = 10  # runs that could not be read


@click.command()
@reading
@choosing
@click.option("-o", "--output", default="sweep", show_default=True, metavar="FOLDER",
              type=click.Path(file_okay=False, path_type=Path), help="Where its pages go. What was read "
              "of runs is kept there too: an interrupted command, given again, goes on where it stopped.")  # fmt: skip
@click.option("--by", multiple=True, metavar="SETTING", help="Which settings with numbers to look at; may be given "
              "several times. 'lr * width': how one goes with the other. [default: all that differ]")  # fmt: skip
@click.option("--metric", metavar="NAME", help="What to sum up. [default: rwc]")
@click.option("--pages", type=click.IntRange(0), default=200, show_default=True, metavar="N",
              help="How many runs get a report of their own: the odd ones first.")  # fmt: skip
@click.option("--dask", metavar="ADDRESS", help="Have the workers of this Dask scheduler read the runs, such as "
              "tcp://10.0.0.1:8786. [default: the processors of this machine]")  # fmt: skip
@click.option("--title", default="", metavar="TEXT", help="Stands over the page.")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
def sweep(
    references: tuple[str, ...], tracker: str | None, project: str | None, match: str | None, where: str | None,
    limit: int | None, newest: bool, output: Path, by: tuple[str, ...], metric: str | None, pages: int,
    dask: str | None, title: str, opens: bool,
) -> None:  # fmt: skip
    """Sum up many runs: what settings do to which layers, which runs are odd, and a page for all of it."""
    from wstrack.sweeps.sweep import sweep as sum_up

    client = None if dask is None else _cluster("dask", dask)
    choice: dict[str, Any] = {"match": match, "where": where, "limit": limit, "newest": newest}
    with _bar("reading") as progress:
        found = sum_up(
            full(references, tracker, project), **choice, by=list(by) or None, metric=metric, to=output,
            client=client, title=title, progress=progress,
        )  # fmt: skip
    for reference, why in list(found.unread.items())[:_NAMED]:
        say(f"left out: {reference}: {why}", err=True)
    if len(found.unread) > _NAMED:
        say(f"left out: {len(found.unread) - _NAMED:,} more runs, which the page names", err=True)
    say(f"{len(found.runs):,} runs, {len(found.layers):,} layers, {found.metric}")
    for finding in found.findings:
        say(click.wrap_text(finding.text.splitlines()[0], width=88, initial_indent="  - ", subsequent_indent="    "))
    with _bar("reports") as progress:
        page = found.save(output, pages=pages, client=client, progress=progress)
    say(f"wrote {page}")
    if opens:
        webbrowser.open(page.resolve().as_uri())


def _cluster(kind: str, address: str) -> Client:
    """A cluster of a kind that is installed with a package: `wstrack_integrations`, or somebody else's."""
    (entry,) = entry_points(group="wstrack.clusters", name=kind)
    client: Client = entry.load()(address)
    return client


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """What tells how far work has come, where people look on."""
    bars: list[Any] = []

    def tell(done: int, total: int) -> None:
        if not bars:
            bars.append(click.progressbar(length=total, label=label, file=sys.stderr))
            bars[0].__enter__()
        bars[0].update(done - bars[0].pos)

    try:
        yield tell
    finally:
        if bars:
            bars[0].render_finish()
