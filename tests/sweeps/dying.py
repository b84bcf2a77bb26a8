"""Work that takes its process with it, for the tests of what happens then; processes import it from here."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

_going, _lock, most = 0, threading.Lock(), 0


def killed_by_13(number: int) -> int:
    """The number twice; at 13 the process is killed, as by a machine that is out of memory."""
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def killed_once(place: str) -> str:
    """Kills its process the first time that it is called with a path that ends in 3."""
    if place.endswith("3") and not Path(place).exists():
        Path(place).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return place


def counted(gate: threading.Barrier) -> int:
    """How many were at work when this was; waits until as many are as the barrier takes."""
    global _going
    with _lock:
        _going += 1
        now = _going
    gate.wait(30)
    with _lock:
        _going -= 1
    return now
