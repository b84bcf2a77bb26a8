"""What people wait for most often: `python benchmarks/everyday.py`. Prints a dated table.

Each from a start of Python, on one core, with the files in the system's cache: the help of the command, the first
pull of a small run, and the first report of 16 layers x 300 samples, from its recording to the page.
"""

from __future__ import annotations

import compileall
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import wstrack
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER

LAYERS, SAMPLES, REPEATS = 16, 300, 9
ONE_CORE = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def record(folder: Path) -> None:
    """A run of three kinds of layers."""
    layers = tuple(Layer(f"block.{number}.weight", "conv", (9,), 9) for number in range(LAYERS))
    recorder = Recorder(folder / FOLDER, Manifest("run", layers, ("rwc",), 10), ("abs_change", "abs_previous"))
    rng = np.random.default_rng(0)
    change = 10 ** (-4 + np.arange(LAYERS) % 3 + rng.normal(0, 0.1, (SAMPLES, LAYERS)))
    steps = [10 * (place + 1) for place in range(SAMPLES)]
    sums = np.stack([change, np.ones_like(change)], axis=2)
    recorder.append(steps, [10] * SAMPLES, [float(step) for step in steps], sums)
    recorder.close()


def seconds(command: list[str], folder: Path) -> float:
    """What a command takes, by the clock."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, env=os.environ | ONE_CORE, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    """Every command in turn, so that what else the machine does falls on all of them alike."""
    compileall.compile_dir(Path(wstrack.__file__).parent, quiet=2)  # as pip does to what it installs
    python, command = [sys.executable, "-c"], str(Path(sys.executable).with_name("wstrack"))
    commands = {
        "Python alone": [*python, "pass"],
        "pandas and pyarrow imported": [*python, "import pandas, pyarrow"],
        "`wstrack --help`": [command, "--help"],
        'first `wstrack.pull(".")`': [*python, "import wstrack; wstrack.pull('.')"],
        "`wstrack report . -o report.html`": [command, "report", ".", "-o", "report.html"],
    }
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder))
        took: dict[str, list[float]] = {name: [] for name in commands}
        for repeat in range(REPEATS + 1):
            for name, asked in commands.items():
                took[name] += [seconds(asked, Path(folder))] if repeat else []
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        f"medians of {REPEATS} (least)\n\n| what | seconds |\n|---|---|"
    )
    for name, times in took.items():
        print(f"| {name} | {statistics.median(times):.2f} ({min(times):.2f}) |")


if __name__ == "__main__":
    main()
