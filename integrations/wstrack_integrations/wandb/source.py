"""From a reference to the `Run`s that it names, on this machine or on a server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wstrack.errors import WstrackError
from wstrack.runs.asked import Asked
from wstrack.runs.listed import Listed
from wstrack.runs.recording import FOLDER, find_recordings, read_recording
from wstrack.runs.wholer import wholer
from wstrack.trackers.matching import compiled, layer_of
from wstrack_integrations.wandb import listing, online
from wstrack_integrations.wandb.about import samples_in, settings_in
from wstrack_integrations.wandb.history import manifest_in, run_of
from wstrack_integrations.wandb.offline import read_about, read_history
from wstrack_integrations.wandb.places import files_of, is_local, local_runs

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator, Sequence

    from wstrack.runs.run import Run
    from wstrack_integrations.wandb.history import History

__all__ = ["WandbSource"]

SCHEME = "wandb:"
AT_ONCE = 4
EVERY = Asked()


class WandbSource:
    """The runs at an address; see `open_source` and `wstrack.trackers.Source`."""

    def __init__(self, address: str) -> None:
        self.address = address

    def references(self, *, match: str | None = None) -> list[str]:
        """A reference for each run that wstrack logged, or with keys that `match` fits, by time."""
        return list(self.names(match=match))

    def names(self, *, match: str | None = None) -> dict[str, str]:
        """The name of each of these runs, by its reference; empty for runs on this machine.

        Raises:
            ValueError: a `match` that is no regular expression with a group for the layer; an address that is none.
            WstrackError: nothing is at the address, or the server refuses.
        """
        pattern = None if match is None else compiled(match)
        if not is_local(self.address):
            return {f"{SCHEME}{run}": name for run, name in listing.runs(self.address, pattern).items()}
        return {f"{SCHEME}{_address_of(path)}": "" for path, _ in _fitting(self.address, pattern)}

    def listed(self, *, match: str | None = None, asked: Asked = EVERY) -> Iterable[Listed]:
        """What is known of each of these runs: the config, and on a server the tags and the summary as well.

        On a server only of those that are asked for, as far as it can look for them.

        Raises:
            ValueError, WstrackError: as `names`.
        """
        pattern = None if match is None else compiled(match)
        if not is_local(self.address):
            return listing.listed(self.address, pattern, asked)
        runs = [
            Listed(
                f"{SCHEME}{_address_of(path)}", str(run.origin.get("display_name", "")),
                "finished" if run.finished else "", str(run.origin.get("created", "")), samples_in(run.config),
                settings_in(run.config),
            )
            for path, run in _fitting(self.address, pattern)
        ]  # fmt: skip
        return sorted(runs, key=lambda run: run.started)[::-1] if asked.newest else runs

    def files(self) -> list[Path]:
        """The files with the history of the runs, on this machine."""
        return local_runs(Path(self.address)) if is_local(self.address) else []

    @property
    def at_once(self) -> int | None:
        """How many runs of a server to read at a time: W&B's limits are over all who ask for a team."""
        return None if is_local(self.address) else AT_ONCE

    def read(self, reference: str, *, metrics: Sequence[str] | None = None, match: str | None = None) -> Run:
        """One run, each point of it: from its recording where that is whole, else from its history.

        With `match`, any numbers will do, by W&B's own step: the regular expression is searched in each key; its
        group `layer` is the layer, and the metric is its group `metric` or else the key around the layer.

        Raises:
            ValueError: a metric that the run does not have; a `match` that is no such expression.
            WstrackError: nothing there, no such series, several runs, or the server refuses.
        """
        address = reference.removeprefix(SCHEME)
        if match is not None:
            compiled(match)
        if not is_local(address):
            return online.read(address, metrics=metrics, match=match)
        runs = _local(address)
        if len(runs) != 1:
            some = ", ".join(str(_address_of(run)) for run in runs[:5]) + (", ..." if len(runs) > 5 else "")
            raise WstrackError(f"{address} holds {len(runs)} runs ({some}); name one, or use pull_many()")
        return _read_local(runs[0], metrics, match)


def _local(address: str) -> list[Path]:
    runs = local_runs(Path(address))
    if not runs:
        raise WstrackError(f"{address} holds no .wandb file")
    return runs


def _fitting(address: str, pattern: re.Pattern[str] | None) -> Iterator[tuple[Path, History]]:
    """The runs at an address that wstrack logged, or with keys that fit, and all that is known of each but its rows."""
    for path in _local(address):
        about = read_about(path)
        if pattern is None:
            fits = manifest_in(about.config) is not None
        else:
            fits = any(layer_of(pattern, key) for key in read_history(path).columns if not key.startswith("_"))
        if fits:
            yield path, about


def _address_of(run: Path) -> Path:
    """A run's folder of files, where the recording lies as well, or else the `.wandb` file."""
    files = files_of(run)
    return files if files != run.parent else run


def _read_local(path: Path, metrics: Sequence[str] | None, match: str | None) -> Run:
    reference = f"{SCHEME}{_address_of(path)}"
    folder = path.parent / "files" / FOLDER

    def logged() -> Run:
        history = read_history(path)
        run = run_of(replace(history, origin={**history.origin, "source": "wandb"}), metrics, match, path)
        return run.with_origin(settings=settings_in(history.config))

    def recording() -> Run | None:
        there = match is None and find_recordings(folder.parent)
        if not there:
            return None
        return read_recording(folder, metrics=metrics).with_origin(settings=settings_in(read_about(path).config))

    run = wholer(recording, logged)
    assert run is not None
    return run.with_origin(reference=reference)
