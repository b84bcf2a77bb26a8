"""What is kept of a run of a sweep when the run itself is let go: where its layers stand, and what must be known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from wstrack.analysis.findings import collect_first
from wstrack.analysis.parts import on_one_level
from wstrack.analysis.series import choose_metric, encodable
from wstrack.analysis.slopes import level_of
from wstrack.errors import WstrackError
from wstrack.messages import without_secrets
from wstrack.runs.listed import flat
from wstrack.runs.run import Run
from wstrack.trackers.references import pull, split
from wstrack.trackers.registry import tracker
from wstrack.trackers.stamps import stamp_of_files

__all__ = ["Ask", "Summary", "at_home", "library_file", "page_of", "summarise", "summary_of"]


@dataclass(frozen=True)
class Ask:
    """A run to be read, wherever that is done.

    Attributes:
        reference: see `wstrack.pull`; a path in it is absolute.
        metric: which; None = `rwc`, or the first that the run holds.
        match: see `wstrack.pull`.
        stamp: what changes whenever the run does, as its tracker tells; "" = by its files.
        known: the stamp of the summary that there is already; "" = there is none.
    """

    reference: str
    metric: str | None = None
    match: str | None = None
    stamp: str = ""
    known: str = ""


@dataclass(frozen=True)
class Summary:
    """A run without its series.

    Attributes:
        reference: where it was read from.
        stamp: what changes whenever the run does; "" = that is not known.
        error: why it could not be read; "" = it was.
        name: for people.
        metric: of the levels.
        samples: how many there are of it; `first` and `last` are their steps.
        expected, received: values that there should be, and that came; `notes` names each loss or repair.
        layers: their names, in model order, with their `kinds` and `blocks`.
        levels: of each layer, the mean log10 of its values; None without a positive one.
        findings: what must not be missed, each its kind and its text.
        settings: what the run was made with, as far as its own files and its tracker told when it was read.
    """

    reference: str
    stamp: str = ""
    error: str = ""
    name: str = ""
    metric: str = ""
    samples: int = 0
    first: int = 0
    last: int = 0
    expected: int = 0
    received: int = 0
    notes: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    levels: tuple[float | None, ...] = ()
    findings: tuple[tuple[str, str], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line, from which `from_json` makes an equal one."""
        return json.dumps(asdict(self), allow_nan=False, default=str)

    @classmethod
    def from_json(cls, line: str) -> Summary:
        """The summary on a line.

        Raises:
            ValueError, TypeError: there is none on it.
        """
        told = json.loads(line)
        for name in ("notes", "layers", "kinds", "blocks", "levels"):
            told[name] = tuple(told[name])
        told["findings"] = tuple((str(kind), str(text)) for kind, text in told["findings"])
        return cls(**told)


def summarise(ask: Ask) -> Summary | None:
    """Read a run, and say what is to be kept of it; None if that is what is known already.

    A run that cannot be read is a summary as well, which says why: thousands of others go on.
    """
    try:
        stamp = ask.stamp or (stamp_of_files(ask.reference) if ask.match is None else "")
        if stamp and stamp == ask.known:
            return None
        # One thread, whatever the machine: sums in another order differ in the last bit.
        with threadpool_limits(1):
            return summary_of(pull(ask.reference, match=ask.match), ask, stamp=stamp)
    except (WstrackError, ValueError, OSError) as error:
        return Summary(ask.reference, error=without_secrets(" ".join(str(error).split())))
    except Exception as error:  # noqa: BLE001  whatever a file of others does to a reader, the other runs go on
        return Summary(ask.reference, error=without_secrets(f"{type(error).__name__}: {' '.join(str(error).split())}"))


def summary_of(run: Run, ask: Ask, *, stamp: str = "") -> Summary:
    """What is kept of a run.

    Raises:
        ValueError: it does not hold the metric.
        WstrackError: it holds no sample.

    Example:
        >>> from wstrack.runs.manifest import Layer, Manifest
        >>> manifest = Manifest("demo", (Layer("a.weight"), Layer("b.weight")), ("rwc",), every=1)
        >>> run = Run.from_values(manifest, [1, 2], {"rwc": np.array([[0.1, 0.0], [0.1, 0.0]])})
        >>> found = summary_of(run, Ask("demo"))
        >>> found.levels, [kind for kind, _ in found.findings]
        ((-1.0, None), ['still'])
    """
    run = encodable(run)
    metric = choose_metric((run,), ask.metric)
    found = collect_first(run, metric)
    (level,), _ = on_one_level([run])
    series = level.series[metric]
    if series.empty:
        raise WstrackError(f"no samples of {metric} in {run.name}; train longer, or sample more often")
    levels = level_of(series)
    layers = level.layers.reindex(series.columns)
    return Summary(
        reference=ask.reference,
        stamp=stamp,
        name=run.name,
        metric=metric,
        samples=len(series),
        first=int(series.index[0]),
        last=int(series.index[-1]),
        expected=run.completeness.expected,
        received=run.completeness.received,
        notes=run.completeness.notes,
        layers=tuple(map(str, series.columns)),
        kinds=tuple(str(kind) if isinstance(kind, str) else "" for kind in layers["kind"]),
        blocks=tuple(str(block) if isinstance(block, str) else "" for block in layers["block"]),
        levels=tuple(float(value) if np.isfinite(value) else None for value in levels),
        findings=tuple((finding.kind, finding.text) for finding in found),
        settings=flat(run.settings),
    )


def page_of(ask: Ask) -> str | None:
    """The report on a run as a page, whose scripts lie a folder above it; None if none can be made."""
    from wstrack.reporting.page import render_page
    from wstrack.reporting.report import report

    try:
        with threadpool_limits(1):
            found = report(pull(ask.reference, match=ask.match), metric=ask.metric)
            return render_page(found, library_at=f"../{library_file()}")
    except Exception:  # noqa: BLE001  the row of the run says why it cannot be read, or it holds too little
        return None


def library_file() -> str:
    """What Bokeh's scripts are called beside the pages, which go with one version of it."""
    from bokeh import __version__

    return f"bokeh-{__version__}.js"


def at_home(reference: str) -> str:
    """The reference with a path in it made absolute, for a process in another folder.

    Example:
        >>> at_home("mlflow:3f2a"), Path(at_home(".")).is_absolute()
        ('mlflow:3f2a', True)
    """
    scheme, address = split(reference)
    if not scheme:
        return str(Path(address).absolute()) if Path(address).exists() else address
    # A folder called as a run of a server says nothing; the source knows whether it reads files.
    files = getattr(tracker(scheme).open_source(address), "files", None)
    return f"{scheme}:{Path(address).absolute()}" if files is not None and files() else reference
