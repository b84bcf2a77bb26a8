"""`wstrack report --follow`: the page is written anew as samples come, until the run is over."""

from __future__ import annotations

import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wstrack.cli.telling import say
from wstrack.errors import WstrackError
from wstrack.reporting.page import render_page
from wstrack.runs.files import write_whole

if TYPE_CHECKING:
    from wstrack.reporting.report import Report
    from wstrack.runs.run import Run
    from wstrack.trackers.following import Followed

__all__ = ["follow"]

PAUSE = 2.0  # seconds between two readings, or twice as long as one takes with its report
PATIENCE = 600.0  # seconds without anything new after which a run counts as over that nobody can tell of


def follow(
    followed: Sequence[Followed], make: Callable[[list[Run]], Report], paths: Sequence[Path], *, opens: bool
) -> Report:
    """Write pages anew whenever a run has something new, until all runs are over or Ctrl-C is pressed.

    Args:
        followed: the runs.
        make: the report on them.
        paths: of the pages, each written whole; one that is open shows what is new.
        opens: whether the first page is opened in the browser, once it is there.

    Returns:
        The last report; its pages are those of a run that is over.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed before there was a report.
        WstrackError: the runs are over, and hold too little for a report.
    """
    made: Report | None = None
    with _Pages(paths) as pages:
        try:
            for made in _reports(followed, make):
                pages.write(made)
                if opens:
                    webbrowser.open(paths[0].resolve().as_uri())
                    opens = False
        except KeyboardInterrupt:
            if made is None:
                raise
        assert made is not None
        for path in paths:
            made.save(path)
            say(f"wrote {path}")
    return made


def _reports(followed: Sequence[Followed], make: Callable[[list[Run]], Report]) -> Iterator[Report]:
    """A report whenever there is something new, until all runs are over."""
    shown: object = None
    said = ""
    none_yet = True
    quiet = time.monotonic()
    while True:
        began = time.monotonic()
        try:
            now = [run.stamp() for run in followed]  # before they are read: what comes meanwhile is new
            if None in now or now != shown:
                runs = [run.read() for run in followed]
                now = [_seen(run) if stamp is None else stamp for run, stamp in zip(runs, now, strict=True)]
            if now != shown:
                shown, quiet = now, time.monotonic()
                yield make(runs)
                none_yet = False
        except WstrackError as error:  # a tracker that is away for a moment, or too few samples yet
            if none_yet and _over(followed, quiet):
                raise
            if str(error) != said:
                said = str(error)
                say(f"waiting: {said}", err=True)
        if _over(followed, quiet):
            return
        time.sleep(max(PAUSE, 2 * (time.monotonic() - began)))


def _over(followed: Sequence[Followed], quiet: float) -> bool:
    waited = time.monotonic() - quiet > PATIENCE
    return all(run.goes_on is False or (run.goes_on is None and waited) for run in followed)


def _seen(run: Run) -> object:
    """What tells whether a tracker has something new of a run."""
    return run.completeness, len(run.steps), int(run.steps.max(initial=0))


class _Pages:
    """Pages that are written anew, each with a script beside it that tells the open page so; see `live.js`.

    As a context: when it ends, the scripts are gone.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._beside = [path.with_name(f".{path.name}.js") for path in paths]

    def __enter__(self) -> _Pages:
        return self

    def __exit__(self, *error: object) -> None:
        for script in self._beside:
            script.unlink(missing_ok=True)

    def write(self, report: Report) -> None:
        """Each page whole, and then the news of it."""
        token = str(time.time_ns())
        content = render_page(report, live=token).encode(errors="backslashreplace")
        for page, script in zip(self._paths, self._beside, strict=True):
            write_whole(page, content)
            write_whole(script, f"wstrack_newest({token!r})\n")
