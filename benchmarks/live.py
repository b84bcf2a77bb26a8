"""How long TensorBoard's tab takes to show one more sample of a run that goes on; prints Markdown.

Run it with `python benchmarks/live.py` (ten minutes). Asked is what the tab's page asks: `/state`, which reads what is
new of the recording and answers with what the open page is to draw. Not counted are the browser, and the 1.5 seconds
between two questions. The report with clusters and findings is made in the background, and comes when it is done.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import tempfile
import time
import types
from pathlib import Path

import numpy as np
from werkzeug.test import Client
from wstrack_integrations.tensorboard_tab.plugin import Tab

from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER

SIZES = ((100, 1_000), (1_000, 1_000), (1_000, 10_000))
REPEATS = 20
AT_ONCE = 100  # samples


class Training:
    """A run in a log directory, to which samples are added."""

    def __init__(self, place: Path, layers: int) -> None:
        names = tuple(Layer(f"blocks.{i // 10}.part{i % 10}.weight", "linear", (64, 64), 4096) for i in range(layers))
        self._folder, self._manifest = place / FOLDER, Manifest("run", names, ("rwc",), 1)
        self._level = 10.0 ** (np.arange(layers) * 3 // layers - 4)
        self._rng = np.random.default_rng(0)
        self.step = 0
        self.restart()

    def restart(self) -> None:
        """Another process goes on with the run."""
        self._recorder = Recorder(self._folder, self._manifest, ("abs_change", "abs_previous"), after=self.step or None)

    def end(self) -> None:
        """The process ends."""
        self._recorder.close()

    def go_on(self, samples: int) -> None:
        """Record so many more."""
        for first in range(self.step + 1, self.step + samples + 1, AT_ONCE):
            steps = list(range(first, min(first + AT_ONCE, self.step + samples + 1)))
            change = self._level * np.exp(self._rng.normal(0, 0.1, (len(steps), len(self._level))))
            sums = np.stack([change, np.ones_like(change)], axis=2)
            self._recorder.append(steps, [1] * len(steps), [0.0] * len(steps), sums)
        self.step += samples


class Page:
    """What the page in the tab does: it asks, again and again."""

    def __init__(self, logdir: Path) -> None:
        tab = Tab(types.SimpleNamespace(flags=None, logdir=str(logdir)))
        self._state = Client(tab.get_plugin_apps()["/state"])
        self.shown = ""

    def ask(self) -> tuple[dict[str, object], int]:
        """The answer, and how long it is."""
        data = self._state.get("/state", query_string={"run": "run", "shown": self.shown}).data
        state = json.loads(data)
        if state["tail"]:
            self.shown = f"{state['version']}/{state['tail']['step']}"
        return state, len(data)

    def until(self, key: str, value: object) -> float:
        """Ask until the answer is this, and how long that took."""
        began = time.perf_counter()
        while self.ask()[0][key] != value:
            time.sleep(0.02)
        return time.perf_counter() - began


def refreshes(training: Training, page: Page) -> tuple[float, float, int]:
    """The median and the longest time, in seconds, from one more sample to the answer that holds it, and its bytes."""
    times, sizes = [], []
    for _ in range(REPEATS):
        training.go_on(1)
        began = time.perf_counter()
        state, size = page.ask()
        times.append(time.perf_counter() - began)
        sizes.append(size)
        assert state["tail"]["step"] == training.step  # type: ignore[index]
    return statistics.median(times), max(times), round(statistics.median(sizes))


def measured(layers: int, samples: int) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as logdir:
        training, page = Training(Path(logdir) / "run", layers), Page(Path(logdir))
        training.go_on(samples)
        report = page.until("version", 1)
        alone = refreshes(training, page)
        training.go_on(1)
        page.until("busy", True)
        beside = refreshes(training, page)
        page.until("busy", False)
        training.end()
        training.restart()
        training.go_on(1)
        page.until("version", 3)
        restarted = refreshes(training, page)
        training.end()
    cells = [f"{median:.3f} s ({longest:.3f})" for median, longest, _ in (alone, beside, restarted)]
    return f"| {layers:,} x {samples:,} | {' | '.join(cells)} | {alone[2] / 1e3:,.0f} kB | {report:.1f} s |"


def main() -> None:
    """Print the table."""
    rows = [measured(*size) for size in SIZES]
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores; medians of {REPEATS} (longest)\n")
    print("| layers x samples | one more sample | while a report is made | after a restart | is sent | a report |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
