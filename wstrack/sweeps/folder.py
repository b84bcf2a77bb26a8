"""The folder that a sweep becomes: its page, its table, and reports on its runs a click away."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from wstrack._version import __version__
from wstrack.errors import WstrackError
from wstrack.reporting.page import library
from wstrack.runs.files import write_whole
from wstrack.runs.listed import save_table
from wstrack.sweeps.page import render_sweep
from wstrack.sweeps.summary import Ask, Summary, at_home, library_file, page_of
from wstrack.sweeps.work import Client, answers
from wstrack.trackers.references import at_once

if TYPE_CHECKING:
    from wstrack.sweeps.summed import Summed

__all__ = ["write_folder"]


def write_folder(
    sweep: Summed,
    folder: Path,
    *,
    pages: int = 200,
    client: Client | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """See `Sweep.save`."""
    if pages < 0:
        raise ValueError(f"pages={pages} (--pages) must be at least 0")
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WstrackError(f"cannot write to {folder}: {error.strerror or error}") from error
    save_table(sweep.table, folder / "runs.csv")
    index = folder / "index.html"
    wanted = _wanted(sweep, pages)
    names = {one.reference: _file_name(one, sweep) for one in wanted}
    there = {one.reference for one in wanted if one.stamp and (folder / "runs" / names[one.reference]).is_file()}

    def write_index() -> None:
        linked = {reference: f"runs/{name}" for reference, name in names.items() if reference in there}
        write_whole(index, render_sweep(sweep, pages=linked).encode(errors="backslashreplace"))

    write_index()  # at once: the reports on single runs may take long, and are looked at afterwards
    left = {at_home(one.reference): one.reference for one in wanted if one.reference not in there}
    if left:
        write_whole(folder / library_file(), "\n".join(library()))
        asks = [Ask(home, sweep.metric, sweep.match) for home in left]
        with closing(answers(page_of, asks, client=client, at_once=at_once(left))) as done:
            for count, (ask, page) in enumerate(done, 1):
                if isinstance(page, str):
                    reference = left[ask.reference]
                    write_whole(folder / "runs" / names[reference], page.encode(errors="backslashreplace"))
                    there.add(reference)
                if progress is not None:
                    progress(count, len(asks))
        write_index()
    return index


def _wanted(sweep: Summed, most: int) -> list[Summary]:
    """The runs whose own report is of most use: the odd ones, those with findings, the others."""
    return sorted(sweep.runs, key=lambda one: (one.reference not in sweep.odd, not one.findings))[:most]


def _file_name(one: Summary, sweep: Summed) -> str:
    """What tells the report on a run from one that it had before, and from those of runs with its name."""
    of = "\0".join((one.reference, one.stamp, sweep.metric, str(sweep.match), __version__, library_file()))
    digest = hashlib.sha256(of.encode(errors="backslashreplace")).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', one.name)[:40].strip('.-') or 'run'}-{digest}.html"
