"""One event file that holds a run's samples, its manifest and the layout of its charts."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from itertools import compress, count, groupby
from typing import TYPE_CHECKING, BinaryIO

from wstrack.errors import WstrackError
from wstrack.runs.manifest import Manifest, block_of
from wstrack.trackers.contract import Sample
from wstrack.trackers.naming import layer_keys
from wstrack.trackers.shared import by_layer, numbers_of, series_keys
from wstrack.trackers.summary import share_of
from wstrack_integrations.tensorboard.files import SCHEME
from wstrack_integrations.tensorboard.records import record
from wstrack_integrations.tensorboard.source import CLOSED, INTERVAL, MANIFEST
from wstrack_integrations.tensorboard.summaries import text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tensorboard.compat.proto.event_pb2 import Event

    from wstrack.runs.alerts import Alert

__all__ = ["TensorBoardSink"]

_SERIAL = count()
ALERTS = "wstrack/alerts"


class TensorBoardSink:
    """One event file; see `open_sink`. One event holds a whole sample: far faster than an `add_scalar` each."""

    name = "TensorBoard"

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._Event, self._Summary = Event, Summary
        self._directory = directory.absolute()
        self.recording_directory: Path | None = self._directory
        self.recording_label = ""
        self.reference = f"{SCHEME}{self._directory}"
        self._manifest = manifest
        self._file: BinaryIO | None = None
        self._offered = 0
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            if not os.access(self._directory, os.W_OK):
                raise PermissionError(None, "it is read-only")
        except (OSError, ValueError) as error:
            raise self._cannot(error) from error

    def bind(self, directory: Path, manifest: Manifest, flush: Callable[[float], bool] | None = None) -> None:
        """Begin the event file; what lies in this run's directory needs no sending.

        Raises:
            WstrackError: the file cannot be written to.
        """
        self._manifest = manifest
        keys = layer_keys([layer.name for layer in manifest.layers])
        # Made once and filled anew for each sample: building thousands of messages costs more than their numbers.
        tags = [
            INTERVAL,
            *(tag for metric in manifest.metrics for tag in series_keys(metric, keys, manifest.has(metric))),
        ]
        self._event = self._Event(summary=self._Summary(value=[self._Summary.Value(tag=tag) for tag in tags]))
        # By a name that no SummaryWriter gives, or one of the user's would take its place that begins in this second.
        place = f"{socket.gethostname()}.{os.getpid()}.{next(_SERIAL)}"
        name = f"events.out.tfevents.{int(time.time()):010d}.{place}.wstrack"
        try:
            # Not tensorboard's EventFileWriter: it writes on a thread of its own, which dies at the first full disk.
            self._file = (self._directory / name).open("xb")
        except OSError as error:
            raise self._cannot(error) from error
        content = manifest.to_json().encode(errors="backslashreplace")  # a lone surrogate, as JSON writes it
        layout = _layout(manifest, keys)
        about = [text(MANIFEST, "wstrack", content), text("custom_scalars__config__", "custom_scalars", layout)]
        self._add(self._Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._add(self._Event(wall_time=time.time(), summary=self._Summary(value=about)))

    def write(self, samples: Sequence[Sample]) -> None:
        """Write and flush these samples; values are rounded to float32.

        Raises:
            WstrackError: the file cannot be written to.
        """
        self._offered += len(samples)  # also those that then cannot be written
        if self._file is None:
            self.bind(self._directory, self._manifest)
        for sample in samples:
            numbers = [float(sample.interval)]
            for metric in self._manifest.metrics:
                numbers.extend(numbers_of(metric, sample.values[metric], self._manifest.has(metric)))
            self._event.wall_time, self._event.step = sample.time, sample.step
            for value, number in zip(self._event.summary.value, numbers, strict=True):
                value.simple_value = number
            self._add(self._event)

    def alert(self, alerts: Sequence[Alert]) -> None:
        """Write what rules said, for the tab Text.

        Raises:
            WstrackError: the file cannot be written to.
        """
        for step, its in groupby(alerts, key=lambda alert: alert.step):
            lines = [f"- **{_plain(alert.rule)}**: {_plain(alert.sentence)}" for alert in its]
            content = text(ALERTS, "text", "\n".join(lines).encode())
            self._add(self._Event(wall_time=time.time(), step=step, summary=self._Summary(value=[content])))

    def close(self) -> None:
        """Write down how many samples there should be, and close the file."""
        if self._file is None:
            return
        count = json.dumps({"samples": self._offered}).encode()
        summary = self._Summary(value=[text(CLOSED, "wstrack", count)])
        try:
            self._add(self._Event(wall_time=time.time(), step=self._event.step, summary=summary))
        finally:
            self._file.close()

    def _add(self, event: Event) -> None:
        assert self._file is not None
        try:
            self._file.write(record(event.SerializeToString()))
            self._file.flush()
        except OSError as error:
            raise self._cannot(error) from error

    def _cannot(self, error: Exception) -> WstrackError:
        return WstrackError(f"cannot write to {str(self._directory)!r}: {getattr(error, 'strerror', None) or error}")


def _plain(said: str) -> str:
    """Text as Markdown that shows it as it is."""
    said = re.sub(r"([\\`*_\[\]#])", r"\\\1", said)
    return said.replace("&", "&amp;").replace("<", "&lt;")


def _layout(manifest: Manifest, keys: Sequence[str]) -> bytes:
    """The Custom Scalars page: a category per metric, in it a chart per block with the lines of its layers."""
    from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MultilineChartContent

    categories = []
    for metric in manifest.metrics:
        charts = []
        blocks: dict[str, list[str]] = {} if by_layer([metric]) else {"": ["least", "largest"]}
        for layer, key in compress(zip(manifest.layers, keys, strict=True), manifest.has(metric)):
            if by_layer([metric]):
                block = block_of(layer.of or layer.name)
                if layer.name == share_of(layer.of):  # a share among changes would flatten their lines
                    block = f"{block} share of parts that are 0".strip()
                blocks.setdefault(block, []).append(re.escape(key))
        for block, tags in blocks.items():
            # The page asks for a pattern's lines by URL, which must not become too long.
            some = ("|".join(tags[first : first + 100]) for first in range(0, len(tags), 100))
            lines = MultilineChartContent(tag=[f"{re.escape(metric)}/(?:{any_tag})$" for any_tag in some])
            charts.append(Chart(title=block or "top", multiline=lines))
        categories.append(Category(title=metric, chart=charts))
    return bytes(Layout(category=categories).SerializeToString())
