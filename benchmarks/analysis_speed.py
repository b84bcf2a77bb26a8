"""How long a report's analysis takes, and how much memory: `python benchmarks/analysis_speed.py`.

One run of 1,000 layers x 1,000 samples, and of twice as many of both; and 200 runs of 100 layers x 500 samples,
averaged and compared in two settings. Each in a process of its own, without writing a page.
"""

from __future__ import annotations

import datetime
import os
import platform
import resource
import subprocess
import sys
import time
from typing import Any

JOBS = {
    "one": "1 run, 1,000 layers x 1,000 samples",
    "large": "1 run, 2,000 layers x 2,000 samples",
    "many": "200 runs, 100 layers x 500 samples, two settings",
}


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
    """Analyse, and print a row."""
    from wstrack.reporting.report import report

    if name == "many":
        runs = [run(f"run {i}", 100, 500, i) for i in range(200)]
    else:
        size = 1000 if name == "one" else 2000
        runs = [run("one", size, size, 0)]
    start, cpu = time.perf_counter(), time.process_time()
    found = report(runs, compare="task" if name == "many" else None)
    found.to_dict()
    took, used = time.perf_counter() - start, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| {JOBS[name]} | {took:.1f} s | {used:.1f} s | {memory:.2f} GB | {found.clustering.k} |")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        job(sys.argv[1])
    else:
        import numpy
        import sklearn

        print(
            f"{datetime.date.today()}; {os.cpu_count()} cores, Python {platform.python_version()}, "
            f"numpy {numpy.__version__}, scikit-learn {sklearn.__version__}\n"
        )
        print(
            "| job | clock | processor | peak memory | clusters found (3 planted) |\n|---|---|---|---|---|", flush=True
        )
        for one in JOBS:
            subprocess.run([sys.executable, __file__, one], check=True)
