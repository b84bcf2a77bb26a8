"""How far a long read has come, in the log: the command shows it, and a program that wants it need only listen."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["progress"]

log = logging.getLogger("wstrack")
Item = TypeVar("Item")

EVERY = 2.0  # seconds between two lines


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a line at level INFO now and then on how many there have been.

    Example:
        >>> list(progress("abc", "letters", 3))
        ['a', 'b', 'c']
    """
    of = "" if total is None else f" of {total:,}"
    said = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said >= EVERY:
            said = now
            log.info("%s: %s%s", what, f"{count:,}", of)
