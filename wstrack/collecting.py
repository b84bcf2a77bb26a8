"""Python looks now and then through all that is there for what can be thrown away; not while much is made to stay."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["importing", "paused"]


@contextmanager
def paused() -> Iterator[None]:
    """Without looking, which takes a tenth of a report; as it was before, afterwards.

    >>> with paused():
    ...     gc.isenabled()
    False
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def importing() -> Iterator[None]:
    """Without looking, and without three looks afterwards, as through all that is new: modules stay.

    Where all was imported before, nothing is done: what else is new may well be thrown away soon.

    >>> with importing():
    ...     import json
    """
    known = len(sys.modules)
    with paused():
        yield
        # Somebody may have frozen what there was, before forking say.
        if len(sys.modules) > known and not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()  # into what is old
