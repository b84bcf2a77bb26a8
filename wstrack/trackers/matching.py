"""Series that were logged without wstrack, by the names that trackers know them by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from wstrack.errors import WstrackError

__all__ = ["assigned", "compiled", "layer_of", "wanted"]


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


def assigned(pattern: re.Pattern[str], keys: Iterable[str], what: str = "keys") -> dict[str, dict[str, str]]:
    """The key behind each layer of each metric: layer and key by metric, all in the order of the keys.

    Args:
        pattern: what was asked for, see `compiled`.
        keys: what the tracker has.
        what: it calls them, in messages.

    Raises:
        ValueError: two keys would be the same layer.
        WstrackError: no key fits.

    Example:
        >>> assigned(compiled("(?P<metric>grad|upd)/(?P<layer>.+)"), ["grad/a", "upd/a", "grad/b", "loss"])
        {'grad': {'a': 'grad/a', 'b': 'grad/b'}, 'upd': {'a': 'upd/a'}}
    """
    found: dict[str, dict[str, str]] = {}
    held = list(keys)
    for key in held:
        parts = layer_of(pattern, key)
        if parts is None:
            continue
        metric, layer = parts
        other = found.setdefault(metric, {}).setdefault(layer, key)
        if other != key:
            raise ValueError(
                f"match={pattern.pattern!r} takes both {other!r} and {key!r} for metric {metric!r} of layer {layer!r}; "
                "make match= (--match) tell them apart, for example by a group 'metric'"
            )
    if not found:
        some = ", ".join(map(repr, sorted(held)[:5])) or "none"
        raise WstrackError(f"match={pattern.pattern!r} (--match) fits none of the {len(held)} {what}: {some}")
    return found


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
