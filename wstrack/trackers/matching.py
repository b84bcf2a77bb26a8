"""Series that were logged without wstrack, by the names that trackers know them by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["compiled", "layer_of", "wanted"]


def compiled(match: str) -> re.Pattern[str]:
    """The regular expression of `match=`, checked.

    Raises:
        ValueError: it is none, or has no group `layer`.
    """
    try:
        pattern = re.compile(match)
    except re.error as error:
        raise ValueError(f"match={match!r} (--match) is no regular expression: {error}") from error
    if "layer" not in pattern.groupindex:
        raise ValueError(
            f"match={match!r} has no group for the layer; pass match= (--match) with one, such as '(?P<layer>.+)'"
        )
    return pattern


def layer_of(pattern: re.Pattern[str], key: str) -> tuple[str, str] | None:
    """The metric and the layer that a tracker's key names; None if it does not fit.

    The metric is the group `metric`, or else what is around the layer; "value" if that is nothing.

    Example:
        >>> layer_of(compiled("grad_norm/(?P<layer>.+)"), "train/grad_norm/fc.weight")
        ('train/grad_norm', 'fc.weight')
        >>> layer_of(compiled("^(?P<layer>loss)$"), "loss")
        ('value', 'loss')
    """
    found = pattern.search(key)
    if found is None or not found["layer"]:
        return None
    if "metric" in pattern.groupindex and found["metric"]:
        return found["metric"], found["layer"]
    around = (key[: found.start("layer")].strip("/."), key[found.end("layer") :].strip("/."))
    return "/".join(filter(None, around)) or "value", found["layer"]


def wanted(metrics: Sequence[str] | None, there: Iterable[str]) -> list[str]:
    """Those of `metrics`, or all, in the order in which they are there.

    Raises:
        ValueError: one is not there.
    """
    held = list(there)
    unknown = [metric for metric in metrics or () if metric not in held]
    if unknown:
        raise ValueError(f"metrics={unknown} (--metric) are not in the run; it has {', '.join(held)}")
    return [metric for metric in held if metrics is None or metric in metrics]
