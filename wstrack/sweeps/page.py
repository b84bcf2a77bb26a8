"""The page of a sweep."""

from __future__ import annotations

from collections.abc import Mapping

from wstrack.sweeps.summed import Summed

__all__ = ["render_sweep"]


def render_sweep(sweep: Summed, *, pages: Mapping[str, str]) -> str:
    """To come."""
    return f"<p>{len(sweep.runs)} {len(pages)}</p>"
