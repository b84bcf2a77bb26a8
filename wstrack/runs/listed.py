"""What is known of a run without reading its series: its name, its state, and the settings that it was made with."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from wstrack.runs.locks import holder
from wstrack.runs.part import read_header
from wstrack.runs.recording import FOLDER, parts_in

__all__ = ["Listed", "described", "differing", "encodable_text", "flat", "save_table", "table_of", "typed"]

Setting = str | float | int | bool
_SECRET = re.compile(
    r"(?:^|\.)token$"  # but no pad_token
    r"|(?:^|[._-])(?:hub|auth|access|api|hf|neptune|wandb|github|gitlab|bearer|refresh|session)[_-]?token$"
    r"|(?:^|[._-])(?:(?:api|access|private|secret)[_-]?key|secret|passw(?:or)?d|passphrase|credentials?)$",
    re.IGNORECASE,
)

ABOUT = ("name", "state", "started", "samples")
"""What a table of runs begins with, after the reference."""


@dataclass(frozen=True)
class Listed:
    """A run as a list of runs has it.

    Attributes:
        reference: which `wstrack.pull` takes.
        name: what people call it; perhaps "".
        state: "running", "finished", "failed", ..., as its tracker says; perhaps "".
        started: when, in ISO 8601; perhaps "".
        samples: how many it says that it has; None = it does not say.
        settings: what it was made with, by the user's own names, those inside others with dots (`model.width`).
        results: the last values of what the user logged beside.
        stamp: what changes whenever the run does, as its tracker tells; "" = it goes on, or that is not told.
    """

    reference: str
    name: str = ""
    state: str = ""
    started: str = ""
    samples: int | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)
    results: Mapping[str, float] = field(default_factory=dict)
    stamp: str = ""

    def values(self) -> dict[str, Any]:
        """All of it by the names of columns; a setting called as one of these, or as a result, stands."""
        about = {name: getattr(self, name) for name in ("reference", *ABOUT)}
        return {**self.results, **about, **self.settings}


def flat(settings: Mapping[Any, Any], within: str = "") -> dict[str, Setting]:
    """Settings in settings by names with dots; what is no text, number or truth value, as JSON.

    What is called as keys and passwords are is hidden: people put these into configurations, and pages are handed on.

    Example:
        >>> flat({"model": {"width": 64, "heads": [2, 4]}, "lr": 0.1, "warmup": None})
        {'model.width': 64, 'model.heads': '[2, 4]', 'lr': 0.1, 'warmup': 'None'}
        >>> flat({"hub_token": "5ecret", "pad_token": "<pad>", "max_tokens": 512})
        {'hub_token': '***', 'pad_token': '<pad>', 'max_tokens': 512}
    """
    found: dict[str, Setting] = {}
    for name, value in settings.items():
        key = f"{within}{name}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{key}.")
        elif isinstance(value, str) and value and _SECRET.search(key):
            found[key] = "***"
        elif isinstance(value, str | int | float):
            found[key] = value
        else:
            found[key] = "None" if value is None else json.dumps(value, default=str)
    return found


def typed(text: str) -> Setting:
    """What a tracker that keeps settings as texts was given: a number, a truth value, or the text itself.

    Example:
        >>> [typed(text) for text in ("1e-3", "64", "True", "adam", "007", "nan")]
        [0.001, 64, True, 'adam', '007', 'nan']
    """
    if text in ("True", "False", "true", "false"):
        return text in ("True", "true")
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number) or "_" in text or (text.lstrip("+-")[:1] == "0" and text.lstrip("+-")[1:2].isdigit()):
        return text
    return int(text) if text.lstrip("+-").isdigit() else number


def differing(runs: Sequence[Listed]) -> list[str]:
    """The names of the settings that not all runs have alike, in the order in which they come."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [name for name in names if any(_unlike(run, runs[0], name) for run in runs[1:])]


def _unlike(one: Listed, other: Listed, name: str) -> bool:
    ours, theirs = one.settings.get(name), other.settings.get(name)
    return type(ours) is not type(theirs) or ours != theirs


def table_of(runs: Iterable[Listed]) -> pd.DataFrame:
    """A row a run, by reference; columns: name, state, started, samples, then settings, then results.

    Example:
        >>> table_of([Listed("a", settings={"lr": 0.1}), Listed("b", settings={"lr": 0.2}, samples=3)])
                  name state started  samples   lr
        reference
        a                                <NA>  0.1
        b                                   3  0.2
    """
    runs = [_encodable(run) for run in runs]
    settings = dict.fromkeys(name for run in runs for name in run.settings)
    results = dict.fromkeys(name for run in runs for name in run.results if name not in settings)
    about = [name for name in ABOUT if name not in settings]
    rows = [run.values() for run in runs]
    table = pd.DataFrame(
        {name: [row.get(name) for row in rows] for name in (*about, *settings, *results)},
        index=pd.Index([run.reference for run in runs], name="reference", dtype=object),
    )
    return table.astype({"samples": "Int64"}) if "samples" in about else table


def _encodable(run: Listed) -> Listed:
    """The run in texts that pandas takes."""
    return replace(
        run,
        **{name: encodable_text(getattr(run, name)) for name in ("reference", "name", "state", "started")},
        settings={encodable_text(name): encodable_text(value) for name, value in run.settings.items()},
        results={encodable_text(name): value for name, value in run.results.items()},
    )


def encodable_text(value: Any) -> Any:
    r"""A text with halves of surrogate pairs as JSON writes them, for pandas takes no others; what is none, as it is.

    Example:
        >>> encodable_text("caf\udce9"), encodable_text(3)
        ('caf\\udce9', 3)
    """
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def save_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table of runs: `.csv`, `.parquet`, or `.json` with an object a run."""
    ending = path.suffix.lower()
    if ending == ".parquet":
        # A column of Parquet has one type, and settings of a name need not.
        mixed = [name for name in table if table[name].dtype == object]
        table.astype(dict.fromkeys(mixed, "string")).to_parquet(path)
    elif ending == ".json":
        path.write_text(table.reset_index().to_json(orient="records", indent=1), encoding="utf-8")
    else:
        table.to_csv(path)


def described(path: Path) -> Listed | None:
    """What the recording at a path, or right in it, says of its run without its samples; None if there is none."""
    folder = path if path.name == FOLDER else path / FOLDER
    for part in reversed(parts_in(folder) if folder.is_dir() else []):
        try:
            header = read_header(part)
        except (OSError, pa.ArrowException, ValueError):
            continue  # an earlier part may say it
        about = header.manifest
        closed = "finished" if header.offered is not None else ""
        state = "running" if part.suffix == ".arrows" and holder(part) is not None else closed
        started = str(about.origin.get("started", ""))
        return Listed(str(path), about.name, state, started, header.offered, flat(about.facts))
    return None
