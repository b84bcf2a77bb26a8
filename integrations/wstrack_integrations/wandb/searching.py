"""What W&B's server can look for by itself when runs are chosen: comparisons as its filter, which is like MongoDB's.

Only what it knows of a run beside config and summary is looked for. It finds no setting whose name has a dot, and not
all small numbers (wandb issues 3087 and 2947); and a setting may be among the facts given to `watch` alone, which stand
in the config as one text.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from wstrack.runs.asked import days_of
from wstrack_integrations.wandb.about import PLACES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wstrack.runs.asked import Comparison

__all__ = ["filtered"]

_FIELDS = {"state": "state", "name": "display_name"}
_DAY = timedelta(days=1)  # W&B may have moments to other fractions of a second, or of another zone


def filtered(filters: dict[str, Any], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The filter that each run fits that fits this one and the comparisons.

    Example:
        >>> filtered({"group": "a"}, [])
        {'group': 'a'}
    """
    found = [_unless_told(one.name, said) for one in comparisons if (said := _said(one))]
    first, last = days_of(comparisons)
    bounds = {
        **({} if first is None else {"$gte": (first - _DAY).isoformat()[:19] + "Z"}),
        **({} if last is None else {"$lte": (last + _DAY).isoformat()[:19] + "Z"}),
    }
    if bounds:
        found.append(_unless_told("started", {"createdAt": bounds}))
    return {"$and": [*([filters] if filters else []), *found]} if found else filters


def _said(one: Comparison) -> dict[str, Any] | None:
    """A state or name as W&B has it; what it says of all texts but one is left here, where case counts."""
    texts = [value for value in one.values if isinstance(value, str)]
    if one.name not in _FIELDS or len(texts) < len(one.values):
        return None
    if one.sign in ("=", "in"):
        return {_FIELDS[one.name]: texts[0] if len(texts) == 1 else {"$in": texts}}
    return {"state": {"$ne": texts[0]}} if (one.name, one.sign) == ("state", "!=") and texts[0].islower() else None


def _unless_told(name: str, said: dict[str, Any]) -> dict[str, Any]:
    """Or the run has a setting of that name, which then stands, in its config or among its facts."""
    # Facts are followed by the origin, which has a `started` of its own.
    among_facts = rf'"facts": \{{.*"{re.escape(name)}": .*"origin": \{{'
    facts = [{f"config.{place}.value.manifest": {"$regex": among_facts}} for place in PLACES]
    return {"$or": [said, {f"config.{name}": {"$exists": True}}, *facts]}
