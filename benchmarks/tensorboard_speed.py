"""Reading and writing TensorBoard event files, side by side with what else there is; prints Markdown.

Run it with `python benchmarks/tensorboard_speed.py` (two minutes, 30 MB in a temporary directory).
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tbparse
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from wstrack_integrations.tensorboard import open_sink, open_source

from wstrack.runs.manifest import Layer, Manifest
from wstrack.trackers.contract import Sample

TAGS, STEPS, WIDE, REPEATS = 100, 2000, 1000, 5


def names(count: int) -> list[str]:
    """Layer names of ordinary length."""
    return [f"layer{number // 10}.{number % 10}.conv1.weight" for number in range(count)]


def write_one_by_one(directory: Path, numbers: NDArray[np.float64]) -> None:
    """A file as most people have them: one event per tag and step."""
    with SummaryWriter(str(directory)) as writer:
        for step, row in enumerate(numbers):
            for name, number in zip(names(TAGS), row, strict=True):
                writer.add_scalar(f"rwc/{name}", number, step)


def write_samples(directory: Path, numbers: NDArray[np.float64]) -> None:
    """A file as the sink writes it: one event per step."""
    sink = open_sink(directory, Manifest("run", tuple(map(Layer, names(TAGS))), ("rwc",), every=1))
    sink.write([Sample(step, 1, time.time(), {"rwc": row}) for step, row in enumerate(numbers)])
    sink.close()


def read_wstrack(directory: Path) -> int:
    """The number of points in a `Run`; by `match`, which fits both files."""
    return open_source(str(directory)).read(f"tensorboard:{directory}", match="rwc/(?P<layer>.+)").completeness.received


def read_tbparse(directory: Path) -> int:
    """The number of points in tbparse's long frame, the faster of its two."""
    frame = tbparse.SummaryReader(str(directory), event_types={"scalars"}).scalars
    return int(frame["tag"].str.startswith("rwc/").sum())


def read_event_accumulator(directory: Path) -> int:
    """The number of points in the lists of TensorBoard's own reader."""
    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    return sum(len(accumulator.Scalars(tag)) for tag in accumulator.Tags()["scalars"] if tag.startswith("rwc/"))


READERS: dict[str, Callable[[Path], int]] = {
    "wstrack": read_wstrack,
    "tbparse": read_tbparse,
    "EventAccumulator, nothing sampled": read_event_accumulator,
}


def interleaved(jobs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The median seconds of each job; the jobs take turns, so that a busy machine hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(REPEATS):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def reading(directory: Path) -> None:
    """Print the table of readers."""
    numbers = np.random.default_rng(0).random((STEPS, TAGS))
    write_one_by_one(directory / "one by one", numbers)
    write_samples(directory / "sample", numbers)
    medians = {}
    for layout in ("one by one", "sample"):
        for name, read in READERS.items():
            assert read(directory / layout) == TAGS * STEPS, name
        jobs = {name: partial(read, directory / layout) for name, read in READERS.items()}
        medians[layout] = interleaved(jobs)
    print(f"Reading {TAGS} tags x {STEPS:,} steps, every point:\n")
    print("| reader | file of `add_scalar` | file of one event per sample |")
    print("|---|---|---|")
    for name in READERS:
        cells = (f"{medians[layout][name]:.3f} s ({times(medians[layout], name)})" for layout in medians)
        print(f"| {name} | {' | '.join(cells)} |")


def times(medians: dict[str, float], name: str) -> str:
    """How long something took against wstrack."""
    return "1x" if name == "wstrack" else f"{medians[name] / medians['wstrack']:.0f}x as long"


def writing(directory: Path) -> None:
    """Print the table of writers."""
    numbers = np.random.default_rng(0).random(WIDE)
    tags = names(WIDE)
    sink = open_sink(directory / "wide sample", Manifest("run", tuple(map(Layer, tags)), ("rwc",), every=1))
    writer = SummaryWriter(str(directory / "wide one by one"))
    step = iter(range(10**9))

    def write_samples_20() -> None:
        for _ in range(20):
            sink.write([Sample(next(step), 1, time.time(), {"rwc": numbers})])

    def add_scalars_20() -> None:
        for _ in range(20):
            now = next(step)
            for tag, number in zip(tags, numbers, strict=True):
                writer.add_scalar(f"rwc/{tag}", number, now)
            writer.flush()

    jobs = {"wstrack": write_samples_20, "add_scalar": add_scalars_20}
    medians = {name: seconds / 20 for name, seconds in interleaved(jobs).items()}
    sink.close()
    writer.close()
    print(f"\nWriting {WIDE:,} tags at one step, flushed (mean of 20 steps):\n")
    print("| writer | time |\n|---|---|")
    print(f"| wstrack's sink | {1000 * medians['wstrack']:.1f} ms (1x) |")
    loop = f"{1000 * medians['add_scalar']:.1f} ms ({times(medians, 'add_scalar')})"
    print(f"| a loop of `SummaryWriter.add_scalar` | {loop} |")


def machine() -> str:
    """What this was measured on and with."""
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line).split(": ")[1]
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("tensorboard", "tbparse", "torch", "numpy", "pandas", "protobuf")
    )
    return f"{os.cpu_count()} cores of {cpu}, Python {platform.python_version()}, {packages}"


if __name__ == "__main__":
    today = datetime.datetime.now(datetime.timezone.utc).date()
    print(f"{today}; {machine()}; medians of {REPEATS}, taking turns.\n")
    with tempfile.TemporaryDirectory() as scratch:
        reading(Path(scratch))
        writing(Path(scratch))
