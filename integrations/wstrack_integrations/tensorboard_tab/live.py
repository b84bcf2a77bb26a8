"""Reports on runs that go on: made in the background, one at a time, and no oftener than that pays.

What came since the last of them is read when it is asked for, and drawn onto its page alone (`wstrack.reporting.tail`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from wstrack.errors import WstrackError
from wstrack.messages import printable

if TYPE_CHECKING:
    from wstrack.reporting.marks import Mark
    from wstrack.reporting.report import Report
    from wstrack_integrations.tensorboard_tab.runs import LogRun

__all__ = ["Live", "State"]

log = logging.getLogger("wstrack")

_PAUSE = 2.0  # seconds between two reports, or twice as long as one takes
_ASKED = 15.0  # seconds after which nobody looks any more: what waits for its turn then is left out
_turn = Lock()


@dataclass(frozen=True)
class State:
    """What there is to show.

    Attributes:
        version: of the page; 0 = there is none yet.
        page: HTML.
        said: what became of the last reading, for people; "" where the page says it all.
        metrics: which there are to choose from.
        busy: whether a new page is being made.
        made: what the page shows, and how it marks the clusters.
    """

    version: int = 0
    page: bytes = b""
    said: str = ""
    metrics: tuple[str, ...] = ()
    busy: bool = False
    made: tuple[Report, list[Mark]] | None = None


class Live:
    """The report on some runs, as they are now.

    Args:
        runs: one, or several that are held against each other.
        metric: to report on; None = that of `wstrack.report`.
        library_at: where the page finds Bokeh's scripts.
    """

    def __init__(self, runs: Sequence[LogRun], metric: str | None, library_at: str) -> None:
        self._runs, self._metric, self._library_at = runs, metric, library_at
        self._lock = Lock()
        self._state = State()
        self._shown: object = None  # the stamps of what the state is of
        self._tail: tuple[object, dict[str, Any] | None] = (None, None)  # likewise, and of which page
        self._next = self._asked = 0.0

    def look(self) -> State:
        """The state by now, without waiting; if there is something new, the next one is begun."""
        with self._lock:
            self._asked = time.monotonic()
            due = not self._state.busy and self._asked >= self._next
            if due and [run.stamp() for run in self._runs] != self._shown:
                self._state = replace(self._state, busy=True)
                Thread(target=self._make, name="wstrack-tab", daemon=True).start()
            return self._state

    def tail(self) -> dict[str, Any] | None:
        """What a page of this state can be shown of the samples since; None where there is nothing, or it cannot be."""
        from wstrack.reporting.tail import tail_of

        state = self._state
        if state.made is None or len(self._runs) > 1:
            return None
        made, marks = state.made
        now = [run.stamp() for run in self._runs], state.version
        if now[0] != self._shown and now != self._tail[0]:
            try:
                series = self._runs[0].read().series.get(made.metric)
                self._tail = now, None if series is None else tail_of(made, series, marks)
            except (WstrackError, ValueError):  # which the next report says
                self._tail = now, None
        return self._tail[1] if self._tail[0] == now else None

    def _make(self) -> None:
        with _turn:
            began = time.monotonic()
            wanted = began - self._asked < _ASKED
            shown, state = self._renewed() if wanted else (self._shown, self._state)
            took = time.monotonic() - began
        with self._lock:
            self._shown, self._state = shown, replace(state, busy=False)
            self._next = time.monotonic() + max(_PAUSE, 2 * took)

    def _renewed(self) -> tuple[object, State]:
        from wstrack.reporting.marks import mark_clusters
        from wstrack.reporting.page import render_page
        from wstrack.reporting.report import report

        before = self._state
        stamps = [run.stamp() for run in self._runs]  # before it is read: what comes meanwhile is new
        try:
            found = [run.read() for run in self._runs]
            metrics = tuple(name for name in found[0].metrics if all(name in run.metrics for run in found))
            before = replace(before, metrics=metrics)
            metric = self._metric if self._metric in metrics else None
            made = report(found, metric=metric, compare="run" if len(found) > 1 else None)
            page = render_page(made, library_at=self._library_at, live="")
        except (WstrackError, ValueError) as error:
            return stamps, replace(before, said=printable(str(error)))
        except Exception:
            log.exception("the tab in TensorBoard could not report")
            return stamps, replace(before, said="The report failed; TensorBoard's own output says where.")
        # A name may hold half a surrogate pair, which UTF-8 cannot.
        content = page.encode(errors="backslashreplace")
        return stamps, replace(
            before, version=before.version + 1, page=content, said="", made=(made, mark_clusters(made))
        )
