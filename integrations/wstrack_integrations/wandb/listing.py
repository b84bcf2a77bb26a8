"""The runs of a project on a W&B server, by what is known of them without reading a series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wstrack.runs.asked import Asked
from wstrack.runs.listed import Listed, flat
from wstrack.trackers.matching import layer_of
from wstrack_integrations.wandb.about import samples_in
from wstrack_integrations.wandb.api import client
from wstrack_integrations.wandb.history import manifest_in
from wstrack_integrations.wandb.online import settings_of, split
from wstrack_integrations.wandb.searching import filtered

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

__all__ = ["listed", "runs"]


def runs(address: str, pattern: re.Pattern[str] | None) -> dict[str, str]:
    """The names of the runs at an address that wstrack logged, or that have keys that fit, by `entity/project/run`.

    In the order of creation.

    Raises:
        ValueError: the address is none.
        WstrackError: the server has no such thing, or refuses.
    """
    with client(address) as api:
        return {f"{run.entity}/{run.project}/{run.id}": run.name for run in _found(api, address, pattern, Asked())}


def listed(address: str, pattern: re.Pattern[str] | None, asked: Asked) -> Iterator[Listed]:
    """What is known of each run at an address that wstrack logged, or that has keys that fit.

    Only of those that are asked for, as far as W&B can look for them.

    Raises:
        ValueError, WstrackError: as `runs`.
    """
    with client(address) as api:
        for run in _found(api, address, pattern, asked):
            yield Listed(
                f"wandb:{run.entity}/{run.project}/{run.id}", run.name, run.state, str(run.created_at or ""),
                samples_in(run.config), settings_of(run), _results(run), _stamp(run),
            )  # fmt: skip


def _found(api: Any, address: str, pattern: re.Pattern[str] | None, asked: Asked) -> Iterator[Any]:
    """The runs, page by page as they are taken."""
    parts, filters = split(address)
    path = "/".join(parts)
    if len(parts) == 3:
        found = [api.run(path)]
    else:
        # The latest first is taken for the reverse of the usual order, among runs of one moment too.
        order = "-created_at" if asked.newest else "+created_at"
        # Whole at once: the config of one that is lazy is a request of its own.
        found = api.runs(path, filtered(filters, asked.comparisons), order, lazy=False)
    for run in found:
        if manifest_in(run.config) is not None if pattern is None else _any_fits(run, pattern):
            yield run


def _stamp(run: Any) -> str:
    """What changes whenever a run is logged to; of one that goes on, nothing."""
    last = getattr(run, "heartbeatAt", None)
    return "" if run.state in ("running", "pending") or not last else f"{run.id} {last} {run.historyLineCount}"


def _results(run: Any) -> dict[str, float]:
    """The numbers of the summary that are none of ours, nor W&B's own."""
    manifest = manifest_in(run.config)
    ours = ("_", "wstrack/", *(f"{metric}/" for metric in (manifest.metrics if manifest else ())))
    summary = flat({key: value for key, value in dict(run.summary).items() if not key.startswith(ours)})
    return {key: float(value) for key, value in summary.items() if isinstance(value, int | float)}


def _any_fits(run: Any, pattern: re.Pattern[str]) -> bool:
    return any(layer_of(pattern, key) for key in run.history_keys.get("keys", {}) if not key.startswith("_"))
