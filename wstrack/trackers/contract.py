"""What a tracker must offer, and what it is handed.

A tracker is a module named by an entry point of the group `wstrack.trackers`; the name of the entry point is the
scheme of its run references. The built-in ones register exactly as a third party's would. `wstrack.testing` holds a
tracker to this contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from wstrack.runs.alerts import Alert
    from wstrack.runs.manifest import Manifest
    from wstrack.runs.run import Run

__all__ = ["AlertedSink", "Attachment", "Recorded", "Sample", "Sink", "Source", "Tracker", "WritingTracker"]


@dataclass(frozen=True)
class Sample:
    """One measurement of every layer at one step.

    Attributes:
        step: the optimizer step after which it was taken.
        interval: how many optimizer steps the change spans.
        time: seconds since the epoch.
        values: by metric, float64 of shape (layers,) in the manifest's order; NaN where a layer does not have the
            metric (`Manifest.has`), of which a tracker need not keep anything.
    """

    step: int
    interval: int
    time: float
    values: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Recorded:
    """A recording on its way to a tracker.

    Attributes:
        folder: where its files lie, for a tracker that keeps files.
        manifest: of these samples.
        samples: by ascending step, each step once.
    """

    folder: Path
    manifest: Manifest
    samples: list[Sample]


@dataclass(frozen=True)
class Attachment:
    """A report, in the forms that trackers show.

    Attributes:
        page: the report as one HTML file.
        summary: what was found, as Markdown.
        table: a row a layer (the index), in model order; `cluster` is its label.
        pictures: PNG files by name, without an ending.
    """

    page: str
    summary: str
    table: pd.DataFrame
    pictures: Mapping[str, bytes]

    def files(self) -> dict[str, bytes]:
        """All of it as files, by name."""
        pictures = {f"{name}.png": picture for name, picture in self.pictures.items()}
        texts = {"report.html": self.page, "report.md": self.summary, "layers.csv": self.table.to_csv()}
        # A name may hold half a surrogate pair, which UTF-8 cannot.
        return {**{name: text.encode(errors="backslashreplace") for name, text in texts.items()}, **pictures}


@runtime_checkable
class Sink(Protocol):
    """The write half of a tracker. Called from one background thread of its own, never from the training thread."""

    name: str
    """What people call it, in messages."""

    reference: str | None
    """When opened: how the run is named in a run reference; None if it cannot be read back."""

    recording_directory: Path | None
    """When opened: where this tracker's run keeps local files, to have the recording beside them; None if nowhere."""

    recording_label: str
    """When opened: what tells the recording's files from those of other sessions that the tracker puts into one folder
    with them; "" where that cannot be."""

    def bind(self, directory: Path, manifest: Manifest, flush: Callable[[float], bool]) -> None:
        """Begin. Called once, before the first sample; only now the tracker's run is written to.

        Args:
            directory: in which the recording (`wstrack.runs.recording.FOLDER`) lies, to send it along. At `close()` it
                is finished.
            manifest: of the samples: the one that the sink was opened with, but for what had to be told apart since.
            flush: waits until every sample so far has come to `write`, or for so many seconds at most; whether they
                have. For a tracker whose run the user may end before the watch.

        Raises:
            WstrackError: the tracker cannot be written to.
        """

    def write(self, samples: Sequence[Sample]) -> None:
        """Take over these samples, in the order of their steps, and make them durable before returning."""

    def close(self) -> None:
        """Release what was opened here; what belongs to the user stays open."""


@runtime_checkable
class AlertedSink(Protocol):
    """A sink that can also tell people what rules have noticed (`watch(rules=...)`); others are not asked to."""

    def alert(self, alerts: Sequence[Alert]) -> None:
        """Tell of these alerts, where people who look at the run, or wait for it, see them.

        Called like `write`, after the samples that they are of. Each alert comes once, and there are never many.
        """


class Source(Protocol):
    """The read half of a tracker, opened at one address.

    It may also offer `names(*, match: str | None = None) -> dict[str, str]`: what people call each run, by what
    `references` gives, where that is an id; `wstrack runs` shows it. `listed(*, match: str | None = None) ->
    list[wstrack.runs.listed.Listed]`: what is known of each run without reading a series, its settings above all; runs
    are chosen by it (`where=`). A source whose tracker can search takes `asked: wstrack.runs.asked.Asked | None = None`
    in it as well, which says what runs are wanted, and had best yield them one by one: no more are taken than are
    needed. `files() -> list[Path]`: the files that the runs at the address are read from, so that work on them is done
    again only if they change. `at_once`, how many runs to read at a time, over all processes and machines, where a
    server sets limits. And `expands`, true where a pattern in the address is its own to read; else each path that it
    matches is an address.
    """

    def references(self, *, match: str | None = None) -> list[str]:
        """A full reference for every run of wstrack at the address, or that has what `match` fits; in stable order."""

    def read(self, reference: str, *, metrics: Sequence[str] | None = None, match: str | None = None) -> Run:
        """The whole run, each point that the tracker has; `completeness` says what is missing."""


class Tracker(Protocol):
    """What the module named by an entry point must offer. Importing it must not import the tracker itself.

    It may also offer `recognises_url(url: str) -> bool`: whether the address of a web page shows runs of this tracker;
    then people can paste it where a reference is asked for, and `open_source` gets it whole.
    """

    def recognises(self, path: Path) -> bool:
        """Whether the file or folder holds runs of this tracker."""

    def open_source(self, address: str) -> Source:
        """The source at an address: what follows the scheme in a run reference."""


class WritingTracker(Tracker, Protocol):
    """What such a module offers as well if runs can be logged to the tracker; one that only reads has none of it."""

    def is_active(self) -> bool:
        """Whether the user has a run of this tracker open in this process."""

    def accepts(self, target: object) -> bool:
        """Whether `target` is one of this tracker's own run or writer objects."""

    def open_sink(self, target: object, manifest: Manifest) -> Sink:
        """A sink for `target`: None (the active run, or a new one), an address, or an object that it accepts."""

    def push(self, address: str, recorded: Recorded) -> int:
        """Send to the run at an address what it lacks of a recording, nothing twice; how many samples were sent."""

    def attach(self, address: str, attachment: Attachment) -> str:
        """Put a report on the run at an address, in place of one put there before; where to look at it, for people."""
