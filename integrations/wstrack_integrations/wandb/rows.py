"""Putting samples into a run's history without harming the rows that the user logs.

W&B drops a row, silently, whose `step=` is below the run's current one; so a row of ours must never move the step on
while the user may still log. Samples therefore ride in the user's rows (`commit=False`), one a row: the next one waits
until the run's step has moved. What still waits when the run finishes gets rows of its own then, when no row of the
user's can come any more.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from wstrack.errors import WstrackError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Rows"]

log = logging.getLogger("wstrack")

MANY = 100  # samples that wait before it is said
PAUSE = 0.1  # seconds between looks at the run's step while samples wait


class Logging(Protocol):
    """Who puts samples into a run's rows: a sink."""

    def drain(self) -> None:
        """Wait for what is on its way, for the run is about to end."""

    def complete(self) -> None:
        """Say how much there should be."""


_of_run: weakref.WeakKeyDictionary[Any, Rows] = weakref.WeakKeyDictionary()


class Rows:
    """Samples on their way into a run's history, of all sinks that the run has: two would ride in one row.

    Called from several threads: the sinks', its own while samples wait, and the user's when the run finishes. wandb
    sends each `log` and each question for the step as one message, in order, from whichever thread. Use `of`.
    """

    def __init__(self, run: Any) -> None:
        self._run = weakref.proxy(run)
        self._commit = False
        self._sinks: list[Logging] = []
        self._waiting: deque[Callable[[], dict[str, float]]] = deque()
        self._taken: int | None = None
        self._told = False
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._told_of_end = _at_finish(run, self._end)

    @classmethod
    def of(cls, run: Any) -> Rows:
        """Those of a run."""
        if run not in _of_run:
            _of_run[run] = cls(run)
        return _of_run[run]

    def join(self, sink: Logging, *, commit: bool) -> None:
        """Have a sink's samples logged from now on; `commit`: a row for each sample at once, see `WandbTarget`."""
        self._commit |= commit
        self._sinks.append(sink)

    def leave(self, sink: Logging) -> None:
        """A sink has put all its samples; those that wait still get their rows."""
        self._sinks.remove(sink)
        if not self._told_of_end and not self._sinks:
            self.finish()

    def put(self, rows: Sequence[Callable[[], dict[str, float]]]) -> None:
        """Log these, or have them wait. Each is made when it is logged: as arrays they take a tenth of the memory.

        Raises:
            WstrackError: the run is finished.
        """
        with self._lock:
            if self._over.is_set():
                raise WstrackError("the W&B run was finished before the watcher; call watcher.close() first")
            self._waiting.extend(rows)
        self._advance()
        with self._lock:
            if len(self._waiting) >= MANY and not self._told:
                self._told = True
                log.warning(
                    "W&B: %d samples wait for rows of yours to ride in, and get rows of their own when the run "
                    "finishes; if you never pass step= to run.log, pass to=WandbTarget(commit=True) (said once)",
                    len(self._waiting),
                )
            if self._waiting and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._follow, name="wstrack W&B rows", daemon=True)
                self._thread.start()

    def finish(self) -> None:
        """Give all that waits rows of their own; the open row, with what the user put there, is completed first."""
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
            if self._waiting and self._run.step == self._taken:
                self._run.log({}, commit=True)
            while self._waiting:
                self._run.log(self._waiting.popleft()(), commit=True)

    def _advance(self) -> bool:
        """Log what can be logged now; whether some still waits."""
        with self._lock:
            while self._waiting and not self._over.is_set():
                if self._commit:
                    self._run.log(self._waiting.popleft()(), commit=True)
                    continue
                if self._run.step == self._taken:
                    break
                self._run.log(self._waiting.popleft()(), commit=False)
                # Again: a row of the user's may have come in between, and the sample be in the one after it.
                self._taken = self._run.step
            return bool(self._waiting)

    def _follow(self) -> None:
        try:
            while self._advance() and not self._over.wait(PAUSE):
                pass
        except Exception:  # the run may refuse at any moment; finish() tries what waits once more, and says if it fails
            log.debug("W&B: waiting samples cannot be logged", exc_info=True)

    def _end(self) -> None:
        """The last moment at which the run takes rows; runs inside the user's `run.finish()`."""
        try:
            sinks = list(self._sinks)  # one may leave meanwhile
            for sink in sinks:
                sink.drain()
            self.finish()
            for sink in sinks:
                sink.complete()
        except Exception as error:  # noqa: BLE001  the user's run must finish whatever becomes of ours
            log.warning("W&B: waiting samples cannot be logged: %s; the recording has them", type(error).__name__)


def _at_finish(run: Any, call: Callable[[], None]) -> bool:
    """Have `call` called when the run finishes, before its last message; False if this wandb cannot."""
    try:
        from wandb.sdk.wandb_run import TeardownHook, TeardownStage
    except ImportError:
        return False
    hooks = getattr(run, "_teardown_hooks", None)
    if isinstance(hooks, list):
        hooks.append(TeardownHook(call, TeardownStage.EARLY))
    return isinstance(hooks, list)
