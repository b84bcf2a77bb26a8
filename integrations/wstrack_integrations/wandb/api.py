"""wandb's client of a server, one to a thread: each opens connections of its own, and asks the server who we are."""

from __future__ import annotations

import os
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wstrack.errors import WstrackError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["client"]

_kept = threading.local()


@contextmanager
def client(address: str) -> Iterator[Any]:
    """The client of wandb; its troubles become ours.

    Raises:
        ModuleNotFoundError: wandb is not installed.
        WstrackError: W&B has no such thing, refuses, or does not answer.
    """
    try:
        import wandb
        from requests import RequestException
        from wandb.errors import Error
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("W&B needs wandb: pip install 'wstrack[wandb]'") from error
    try:
        yield _of_this_thread(wandb)
    except (Error, RequestException, OSError) as error:
        vars(_kept).clear()  # the key it was made with may be what is wrong
        said = _without_secrets(str(error))
        raise WstrackError(f"W&B has no {address}, refuses it, or does not answer: {said}") from error


def _of_this_thread(wandb: Any) -> Any:
    """The client that this thread used before, unless its server, its key or wandb's process is another since."""
    session = wandb.setup()
    made_for = (session, session.settings.api_key, *map(os.environ.get, ("WANDB_API_KEY", "WANDB_BASE_URL")))
    if getattr(_kept, "made_for", None) != made_for:
        _kept.api, _kept.made_for = wandb.Api(), made_for
    _kept.api.flush()  # it remembers runs as they were
    return _kept.api


def _without_secrets(text: str) -> str:
    """A message without passwords in URLs, or anything that looks like a key."""
    return re.sub(r"[\w-]{40,}", "***", re.sub(r"(?<=://)[^/@\s]+@", "", text))
