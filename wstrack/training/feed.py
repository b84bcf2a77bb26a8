"""A bounded queue and the thread that empties it: what the delivery is made of."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from wstrack.runs.alerts import Alert
from wstrack.trackers.contract import AlertedSink, Sample, Sink

__all__ = ["WAITING", "Feed", "Told", "hand_over"]

log = logging.getLogger("wstrack")
Item = TypeVar("Item")
Told = tuple[Sample, Sequence[Alert]]  # a sample, and what rules said of it

WAITING = 1024  # entries of a queue; a reading of 1000 layers is 16 kB


class Feed(Generic[Item]):
    """A bounded queue and the thread that empties it.

    Args:
        name: of the thread, and in messages.
        take: gets what waits; whatever it raises is counted, and said once.
        close: called when all is taken.

    Attributes:
        thinned, failed: how many entries a full queue left out, and how many could not be taken.
    """

    def __init__(
        self, name: str, take: Callable[[Sequence[Item]], None], close: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self.thinned = 0
        self.failed = 0
        self._take = take
        self._end = close
        self._waiting: deque[Item] = deque()
        self._busy = False
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"wstrack {name}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """How many entries did not get through."""
        return self.thinned + self.failed

    def put(self, item: Item) -> None:
        """Hand over an entry; returns at once."""
        with self._changed:
            if len(self._waiting) >= WAITING:
                kept = list(self._waiting)[::2]
                self.thinned += len(self._waiting) - len(kept)
                self._waiting = deque(kept)
            self._waiting.append(item)
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything handed over so far was taken; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def close(self, timeout: float) -> bool:
        """Take what is waiting, close, then end the thread; False if that takes longer."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting) or self._closing)
                batch = list(self._waiting)
                self._waiting.clear()
                self._busy = True
            if not batch:
                break
            try:
                self._take(batch)
            except Exception as error:  # noqa: BLE001  whatever a tracker raises must not end the next delivery
                if not self.failed:
                    log.warning("%s: %s: %s (said once; training goes on)", self.name, type(error).__name__, error)
                self.failed += len(batch)
        try:
            self._end()
        except Exception as error:  # noqa: BLE001  as above: a tracker's failure ends nothing but itself
            log.warning("%s: cannot be closed: %s: %s", self.name, type(error).__name__, error)


def hand_over(sink: Sink, batch: Sequence[Told]) -> None:
    """Give a sink what waits for it: the samples, then what rules said of them, if it has ears for that."""
    sink.write([sample for sample, _ in batch])
    alerts = [alert for _, said in batch for alert in said]
    if not alerts or not isinstance(sink, AlertedSink):
        return
    try:
        sink.alert(alerts)
    except Exception as error:  # noqa: BLE001  as above; the samples have arrived, and are not to be counted as lost
        log.warning("%s: %d alerts did not arrive: %s: %s", sink.name, len(alerts), type(error).__name__, error)
