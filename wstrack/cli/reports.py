"""The commands that make reports: report, diff."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wstrack.cli.arguments import Output, choosing, full, measuring, read, reading
from wstrack.cli.telling import say, tell, tell_findings
from wstrack.collecting import importing

if TYPE_CHECKING:
    from wstrack.reporting.report import Report
    from wstrack.runs.run import Run

__all__ = ["diff", "report"]


@click.command()
@reading
@choosing
@click.option("-o", "--output", "outputs", multiple=True, type=Output("report"), help="May be given several times: "
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
    help="Clusters inside groups: kind, block, stage, parent (of parts) or a regular "
    "expression; auto shows kinds alone, none nothing.",
)
@click.option(
    "--aggregate",
    metavar="NAME",
    help="Blocks instead of layers, from recorded sums: block, stage, kind or a regular expression.",
)
@click.option("--compare", metavar="SETTING", help="Hold runs against each other: by a setting of theirs, or run.")
@click.option("--by", metavar="SETTING", help="How layers go with a setting that has numbers, over the runs.")
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
@click.option("--follow", "follows", is_flag=True, help="Write the page anew as samples come, which the open page "
              "shows, until the run is over or Ctrl-C.")  # fmt: skip
def report(
    references: tuple[str, ...], tracker: str | None, project: str | None, match: str | None, outputs: tuple[Path, ...],
    attach: bool, opens: bool, follows: bool, where: str | None, limit: int | None, newest: bool, **settings: Any,
) -> None:  # fmt: skip
    """Reduce the curves of a run's layers, cluster them, and write a report."""
    with importing():
        from wstrack.reporting.report import report as make
        from wstrack.trackers.listing import chosen

    if settings["k"] not in ("auto", "stability", "gap", "silhouette"):
        try:
            settings["k"] = int(settings["k"])
        except ValueError:
            raise click.UsageError(
                f"--k {settings['k']}: a whole number, or auto, stability, gap or silhouette"
            ) from None
    settings["group"] = None if settings["group"] == "none" else settings["group"]
    _check_settings(settings)  # before runs are pulled, which may take minutes
    written = outputs or (() if attach and not follows else (Output("report").convert("report.html", None, None),))
    named = full(references, tracker, project)
    choice: dict[str, Any] = {"where": where, "limit": limit, "newest": newest}
    if follows:
        if any(choice.values()):
            named = chosen(named, match=match, **choice)
        made = _follow(named, match, written, partial(make, **settings), opens=opens)
        _finish(made, [path for path in written if path.suffix.lower() != ".html"], opens=False, attach=attach)
        return
    runs = read(named, match, **choice)
    for run in runs:
        tell(run)
    _finish(make(runs, **settings), written, opens=opens, attach=attach)


@click.command()
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@click.option("-o", "--output", "outputs", multiple=True, type=Output("report"), help="As of wstrack report. "
              "[default: report.html]")  # fmt: skip
@click.option("--metric", metavar="NAME", help="What to report on. [default: rwc of weights, apart of runs, or "
              "differs of recordings]")  # fmt: skip
@click.option("--title", default="", metavar="TEXT", help="Stands over the report. [default: the names of the two]")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
def diff(before: str, after: str, outputs: tuple[Path, ...], metric: str | None, title: str, opens: bool) -> None:
    """Compare two sets of weights, or two runs step by step, layer by layer.

    BEFORE and AFTER are checkpoints of one model: a file (.safetensors, .pt, .pth, .bin, .ckpt), or a folder as
    trainers and hubs make them. AFTER may be an adapter of peft, which is taken as what it makes of BEFORE.

    Or both are runs: folders of checkpoints, which are compared at each step that both have; or recordings or run
    references with fingerprints, of which it is told where they first differ.
    """
    with importing():
        from wstrack.checkpoints.diff import diff as compare
        from wstrack.reporting.report import report as make

    with measuring() as progress:
        run = compare(before, after, metrics=None if metric is None else (metric,), progress=progress)
    tell(run)
    _finish(make([run], metric=metric, title=title), outputs or (Output("report").convert("report.html", None, None),),
            opens=opens)  # fmt: skip


def _follow(
    named: Sequence[str],
    match: str | None,
    written: Sequence[Path],
    make: Callable[[list[Run]], Report],
    *,
    opens: bool,
) -> Report:
    from wstrack.cli.following import follow
    from wstrack.trackers.following import Followed
    from wstrack.trackers.references import references as runs_at

    pages = [path for path in written if path.suffix.lower() == ".html"]
    if not pages:
        raise click.UsageError("--follow writes a page; give an -o that ends in .html, or none")
    found = dict.fromkeys(one for each in named for one in runs_at(each, match=match))
    for one in found:
        say(f"following {one}; Ctrl-C ends it")
    say(f"{', '.join(map(str, pages))}: written anew as samples come")
    made = follow([Followed(one, match) for one in found], make, pages, opens=opens)
    for run in made.runs:
        tell(run)
    return made


def _finish(result: Report, written: Sequence[Path], *, opens: bool, attach: bool = False) -> None:
    """Print what was found, and write, attach and open what was asked for."""
    tell_findings(result)
    for output in written:
        result.save(output)
        say(f"wrote {output}")
    for place in result.attach() if attach else ():
        say(f"attached: {place}")
    if opens:
        page = next((path for path in written if path.suffix.lower() == ".html"), None)
        if page is None:
            page = result.show()
        else:
            webbrowser.open(page.resolve().as_uri())
        say(f"opened {page}")


def _check_settings(settings: dict[str, Any]) -> None:
    """Refuse settings of a report that no run could satisfy."""
    from wstrack.analysis.groups import check_grouping
    from wstrack.analysis.procedure import Procedure

    Procedure(**{one.name: settings[one.name] for one in fields(Procedure)})
    for by in (settings["group"], settings["aggregate"]):
        if by is not None:
            check_grouping(by)
