"""What a run reference names, and the run behind it: a tracker's address, a path, a pattern of paths, or a table."""

from __future__ import annotations

import contextlib
import glob
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wstrack.errors import WstrackError
from wstrack.messages import without_secrets
from wstrack.trackers.matching import assigned, compiled
from wstrack.trackers.registry import tracker, trackers

if TYPE_CHECKING:
    from wstrack.runs.asked import Asked
    from wstrack.runs.listed import Listed
    from wstrack.runs.run import Run
    from wstrack.trackers.contract import Source

TABLES = (".csv", ".tsv", ".parquet")

__all__ = ["at_once", "chooses", "homes_of", "names", "pull", "references", "settings_of", "split", "told"]


def pull(reference: str | Path, *, metrics: Sequence[str] | None = None, match: str | None = None) -> Run:
    r"""The run behind a reference, whole.

    Args:
        reference: `tensorboard:runs/exp1` reads that tracker; a path reads what lies there: the recording if there is
            one, else a tracker's files; or a table (.csv, .parquet: a row a layer, a column a step).
        metrics: which metrics; None = all.
        match: a regular expression with a group `layer` (and, if need be, `metric`): pulls series that were logged
            without wstrack, by their tags.

    Raises:
        ValueError: the reference's scheme is unknown, or a metric is not there.
        WstrackError: there is no run, there are several, or what is there cannot be read.

    Example:
        >>> import tempfile, pathlib
        >>> table = pathlib.Path(tempfile.mkdtemp()) / "mine.csv"
        >>> _ = table.write_text("layer,epoch_1,epoch_2\nconv1.weight,0.1,0.05\nfc.weight,0.2,0.1\n")
        >>> pull(table)
        <Run 'mine': rwc; 2 layers x 2 samples; all 4 values>
    """
    scheme, address = split(reference)
    if scheme:
        return tracker(scheme).open_source(address).read(f"{scheme}:{address}", metrics=metrics, match=match)
    found = references(reference, match=match)
    if len(found) != 1:
        some = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise WstrackError(f"{reference} holds {len(found)} runs ({some}); name one, or use pull_many()")
    if split(found[0])[0]:
        return pull(found[0], metrics=metrics, match=match)
    from wstrack.runs.recording import find_recordings, read_recording
    from wstrack.runs.tables import read_table
    from wstrack.runs.wholer import wholer

    path = Path(found[0])
    recorded = find_recordings(path)
    if not recorded:
        if match is None:
            return read_table(path, metrics=metrics)
        pattern = compiled(match)
        table = read_table(path, metrics=metrics, pick=lambda keys: assigned(pattern, keys, f"columns of {path}"))
        return table.with_origin(match=match)
    run = wholer(lambda: read_recording(recorded[0], metrics=metrics), lambda: _from_tracker(path, metrics))
    assert run is not None
    settings = settings_of(recorded[0].parent)
    return run.with_origin(settings=settings) if settings else run


def settings_of(reference: str | Path) -> dict[str, Any]:
    """What a run's trackers were told that it was made with, which its recording does not hold; perhaps nothing."""
    scheme, address = split(reference)
    place = Path(address)
    here = [scheme] if scheme else [name for name in trackers() if place.is_dir() and tracker(name).recognises(place)]
    found: dict[str, Any] = {}
    for name in here:
        with contextlib.suppress(WstrackError):  # the recording can be read all the same
            for run in told(tracker(name).open_source(address), None):
                found |= run.settings if split(run.reference)[1] == address else {}
    return found


def told(source: Source, match: str | None, asked: Asked | None = None) -> Iterable[Listed]:
    """What a source tells of its runs beside their names; nothing, if it does not.

    What is asked goes only to a source that `chooses`.
    """
    tell: Callable[..., Iterable[Listed]] | None = getattr(source, "listed", None)
    if tell is None:
        return []
    return tell(match=match) if asked is None else tell(match=match, asked=asked)


def chooses(source: Source) -> bool:
    """Whether a source may be asked for some of its runs."""
    tell = getattr(source, "listed", None)
    return tell is not None and "asked" in inspect.signature(tell).parameters


def at_once(references: Iterable[str]) -> int | None:
    """How many of these runs their trackers want to be read at a time; None where there is no limit."""
    first: dict[str, str] = {}
    for reference in references:
        scheme, address = split(reference)
        first.setdefault(scheme, address)
    limits = [getattr(tracker(scheme).open_source(at), "at_once", None) for scheme, at in first.items() if scheme]
    return min((limit for limit in limits if limit is not None), default=None)


def _from_tracker(path: Path, metrics: Sequence[str] | None) -> Run | None:
    """The run in the tracker's own files at a path, if any tracker has one there."""
    for name in trackers():
        if path.is_dir() and tracker(name).recognises(path):
            return tracker(name).open_source(str(path)).read(f"{name}:{path}", metrics=metrics)
    return None


def references(reference: str | Path, *, match: str | None = None) -> list[str]:
    """A reference for each run at a reference: a tracker's address, a path, or a pattern of paths.

    Args:
        reference: see `pull`.
        match: see `pull`; without it, runs that wstrack logged.

    Raises:
        ValueError: the reference's scheme is unknown.
        WstrackError: nothing is there.
    """
    return list(names(reference, match=match))


def names(reference: str | Path, *, match: str | None = None) -> dict[str, str]:
    """What people call each run at a reference, by its own reference, which is as `references` gives it.

    Empty where the tracker has no name beside the address. Nothing is read of a run but that.

    Raises:
        ValueError, WstrackError: see `references`.
    """
    scheme, address = split(reference)
    path = Path(address)
    is_pattern = any(mark in address for mark in "*?[") and not _exists(address)
    if scheme:
        source = tracker(scheme).open_source(address)
        if (
            is_pattern
            and not getattr(source, "expands", False)
            and (matched := sorted(glob.glob(address, recursive=True)))
        ):
            return {one: name for each in matched for one, name in names(f"{scheme}:{each}", match=match).items()}
        found = _named(source, match)
        if not found:
            raise WstrackError(f"{reference} holds {_nothing(match)}")
        return found
    if is_pattern:
        matched = sorted(glob.glob(address, recursive=True))
        if not matched:
            raise WstrackError(f"nothing matches {reference}")
        return {one: name for each in matched for one, name in names(each, match=match).items()}
    if not path.exists():
        raise WstrackError(f"{reference}: there is no such file or folder, and no tracker of that name")
    from wstrack.runs.recording import find_recordings

    recorded = find_recordings(path) if match is None else []
    if path.is_file() and (recorded or path.suffix.lower() in TABLES):
        return {str(path): ""}
    found = dict.fromkeys((str(folder.parent if folder != path else folder) for folder in recorded), "")
    for known in trackers():
        if tracker(known).recognises(path):
            for one, name in _named(tracker(known).open_source(str(path)), match).items():
                # The run of a recording is in the tracker's files too, in the same folder.
                place = split(one)[1]
                found[place if place in found else one] = name
    if not found:
        raise WstrackError(f"{reference} holds {_nothing(match)}")
    return dict(sorted(found.items(), key=lambda item: split(item[0])[1]))


def _named(source: Source, match: str | None) -> dict[str, str]:
    tell: Callable[..., dict[str, str]] | None = getattr(source, "names", None)
    return dict.fromkeys(source.references(match=match), "") if tell is None else tell(match=match)


def homes_of(run: Run) -> list[tuple[str, str]]:
    """The trackers that a run is in, and its address in each: where it was read from, or where it was logged to.

    A folder that was copied or moved since it was logged to is its own home.

    Raises:
        WstrackError: it is in none: a table, or a recording of its own.
    """
    from wstrack.runs.recording import FOLDER

    reference = str(run.origin.get("reference", run.name))
    scheme, address = split(reference)
    if scheme:
        return [(scheme, address)]
    place = Path(reference).parent if Path(reference).name == FOLDER else Path(reference)
    here = [(name, str(place.absolute())) for name in trackers() if place.is_dir() and tracker(name).recognises(place)]
    logged = [split(each) for each in run.origin.get("references", ())]
    if not set(here).intersection(logged):  # it was copied or moved, and is meant where it was named
        found = dict(here)
        logged = [(name, found.get(name, to) if Path(to).is_absolute() else to) for name, to in logged]
    if logged or here:
        return list(dict.fromkeys(logged)) or here[:1]
    raise WstrackError(
        f"{reference} is in no tracker; name the run as its tracker does, as in mlflow:<run id>, or save() the report"
    )


def _nothing(match: str | None) -> str:
    if match is not None:
        return f"no series that match={match!r} (--match) fits"
    return (
        "no run: no recording, no table (.csv, .parquet), and nothing that wstrack logged; to read other series pass "
        "match= (--match), a regular expression with a group for the layer, such as 'grad_norm/(?P<layer>.+)'; to "
        "measure saved weights, write checkpoints:FOLDER"
    )


def split(reference: str | Path) -> tuple[str, str]:
    """The scheme and the address of a reference; no scheme for a path.

    The address of a page, as a browser shows it, is given to the tracker that knows it.

    Raises:
        ValueError: there is no such tracker, or none that knows the page.

    Example:
        >>> split("tensorboard:runs/exp1"), split("https://wandb.ai/team/project/runs/3f2a")
        (('tensorboard', 'runs/exp1'), ('wandb', 'https://wandb.ai/team/project/runs/3f2a'))
    """
    text = str(reference)
    scheme, colon, address = text.partition(":")
    if isinstance(reference, Path) or _exists(text):
        return "", _at_home(text)
    if colon and scheme in trackers():
        return scheme, _at_home(address)
    if "://" in text or text.lower().startswith("wandb.ai/"):
        for name in trackers():
            knows = getattr(tracker(name), "recognises_url", None)
            if knows is not None and knows(text):
                return name, text
    if len(scheme) > 1 and re.fullmatch(r"[a-z][a-z0-9_+.-]*", scheme) and colon:  # one letter is a drive
        raise ValueError(
            f"unknown tracker {scheme!r} in {without_secrets(text)!r}; installed: {', '.join(trackers())}. What lies "
            "elsewhere (s3://, gs://) must be copied here first"
        )
    return "", _at_home(text)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # no file has so long a name
        return False


def _at_home(text: str) -> str:
    return str(Path(text).expanduser()) if text.startswith("~") else text
