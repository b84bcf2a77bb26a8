"""How long a report takes, and how much memory: `python benchmarks/analysis_speed.py`.

From a start of Python to the page, on one core: imports, the analysis, its JSON and the page; of 16 layers x 330
samples, of 1,000 x 1,000 and of 2,000 x 2,000. And without a page, 200 runs of 100 layers x 500 samples, averaged and
compared in two settings. Each job in a process of its own; making the runs up is no part of it. `--profile JOB` prints
where the time of one goes.
"""

from __future__ import annotations

import argparse
import compileall
import cProfile
import datetime
import os
import platform
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

JOBS = {
    "small": "16 x 330, cold start with the page",
    "one": "1000 x 1000",
    "large": "2000 x 2000",
    "many": "200 runs, 100 layers x 500 samples, two settings, no page",
}
SIZES = {"small": (16, 330), "one": (1000, 1000), "large": (2000, 2000)}
ONE_CORE = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
LINES = 40  # of a profile
REPEATS = 5


def run(name: str, layers: int, samples: int, seed: int) -> Any:
    """A run with three planted clusters."""
    import numpy as np

    from wstrack.runs.manifest import Layer, Manifest
    from wstrack.runs.run import Run

    rng = np.random.default_rng(seed)
    kind = np.arange(layers) * 3 // layers
    time_ = np.linspace(0, 1, samples)[:, None]
    values = 10 ** (-4 + kind - time_ * (1 + kind % 2) + rng.normal(0, 0.1, (samples, layers)))
    facts = {"task": "a" if seed % 2 else "b"}
    names = tuple(Layer(f"block.{i}.weight", "conv") for i in range(layers))
    manifest = Manifest(name, names, ("rwc",), every=10, facts=facts)
    return Run.from_values(manifest, np.arange(1, samples + 1) * 10, {"rwc": values})


def job(name: str) -> None:
    """Do one, and print its row."""
    import wstrack

    report = wstrack.report  # imports what making runs up would else import in its own time
    runs = [run(f"run {i}", 100, 500, i) for i in range(200)] if name == "many" else []
    start, cpu = time.time(), time.process_time()
    if name == "many":
        found = report(runs, compare="task")
        found.to_dict()
        took, used = time.time() - start, time.process_time() - cpu
    else:
        one = run("one", *SIZES[name], 0)
        made, made_cpu = time.time() - start, time.process_time() - cpu
        found = report(one)
        with tempfile.TemporaryDirectory() as folder:
            found.save(Path(folder) / "report.json")
            found.save(Path(folder) / "report.html")
        # Since the process began, so that Python and the imports are in it.
        took, used = time.time() - float(os.environ["BEGAN"]) - made, time.process_time() - made_cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(took, used, memory, found.clustering.k)


def profile(name: str) -> None:
    """Do one under cProfile, and print what took longest, with all that it called."""
    profiler = cProfile.Profile()
    profiler.runcall(job, name)
    pstats.Stats(profiler).sort_stats("cumulative").print_stats(LINES)


def table() -> None:
    """Every job in turn, each in a fresh process on one core."""
    import numpy
    import sklearn

    import wstrack

    compileall.compile_dir(Path(wstrack.__file__).parent, quiet=2)  # as pip does to what it installs
    print(
        f"{datetime.date.today()}; {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"numpy {numpy.__version__}, scikit-learn {sklearn.__version__}; load {os.getloadavg()[0]:.1f} at the start; "
        f"medians of {REPEATS} (least to most)\n"
    )
    print("| job | clock | processor | peak memory | clusters found (3 planted) |\n|---|---|---|---|---|", flush=True)
    for name in JOBS:
        rows = [tuple(map(float, start(name, "--job").split())) for _ in range(REPEATS)]
        took, used, memory, clusters = (sorted(column) for column in zip(*rows, strict=True))
        print(
            f"| {JOBS[name]} | {median(took):.2f} s ({took[0]:.2f} to {took[-1]:.2f}) | {median(used):.2f} s | "
            f"{memory[-1]:.2f} GB | {' to '.join(f'{k:.0f}' for k in sorted(set(clusters)))} |",
            flush=True,
        )


def start(name: str, how: str) -> str:
    """A job in a process of its own; what it printed."""
    environment = os.environ | ONE_CORE | {"BEGAN": str(time.time())}
    command = [sys.executable, __file__, how, name]
    return subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=JOBS, metavar="JOB", help=f"one of: {', '.join(JOBS)}")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--profiled", choices=JOBS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        job(given.job)
    elif given.profiled:
        profile(given.profiled)
    elif given.profile:
        print(start(given.profile, "--profiled"), end="")
    else:
        table()
