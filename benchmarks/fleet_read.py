"""Reading many runs, a half of benchmarks/fleet.py: recordings on all processors and on Dask, and MLflow on PostgreSQL.

Memory is that of the process and all that it started, sampled every fifth of a second: proportional set sizes, so that
what they share counts once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

RATES = [10 ** (-3 + place / 2) for place in range(7)]


@contextlib.contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Seconds, and the most memory in GB of this process and its children."""
    found = {"gb": 0.0}
    over = threading.Event()

    def look() -> None:
        me = psutil.Process()
        while not over.wait(0.2):
            total = 0
            for process in (me, *me.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_full_info().pss
            found["gb"] = max(found["gb"], total / 1e9)

    thread = threading.Thread(target=look)
    began = time.perf_counter()
    thread.start()
    try:
        yield found
    finally:
        found["seconds"] = time.perf_counter() - began
        over.set()
        thread.join()


def recordings(folder: Path, runs: int, layers: int, samples: int) -> Path:
    """So many recordings, copies of one for each rate."""
    import torch

    import wstrack

    first = []
    for place, rate in enumerate(RATES):
        torch.manual_seed(place)
        model = torch.nn.Sequential(*(torch.nn.Linear(8, 8, bias=False) for _ in range(layers)))
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        with wstrack.watch(model, to=str(folder / "first" / str(place)), every=1, facts={"lr": rate}):
            for _ in range(samples):
                for parameter in model.parameters():
                    parameter.grad = torch.randn_like(parameter)
                optimizer.step()
        first.append(next((folder / "first" / str(place)).rglob("*.arrow")).parent)
    for number in range(runs):
        shutil.copytree(first[number % len(first)], folder / "all" / f"{number:05d}" / first[0].name)
    return folder / "all"


def row(what: str, found: dict[str, float], runs: int, points: int) -> None:
    """Print a row of the table."""
    rate = points / found["seconds"]
    print(
        f"| {what} | {runs:,} | {points / 1e6:,.4g} million | {found['seconds']:.0f} s | {rate / 1e6:.2f} million | "
        f"{found['gb']:.2f} GB |",
        flush=True,
    )


def read_recordings(runs: int, layers: int, samples: int) -> None:
    """Pool, again, Dask, and Dask with a worker that is killed in the middle."""
    import distributed

    import wstrack

    with tempfile.TemporaryDirectory() as scratch:
        folder = recordings(Path(scratch), runs, layers, samples)
        points = runs * layers * samples
        to = Path(scratch) / "sweep"
        with watched() as took:
            here = wstrack.sweep(folder, by="lr", to=to)
        row("recordings, the processors of this machine", took, len(here.runs), points)
        plain = [one.to_json() for one in here.runs]
        del here
        with watched() as took:
            wstrack.sweep(folder, by="lr", to=to)
        row("the same again, nothing changed", took, runs, points)
        for what, kill in (("recordings, Dask with two workers", False), ("the same, a worker killed half way", True)):
            with (
                distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
                distributed.Client(cluster) as client,
            ):
                killed: list[int] = []

                with watched() as took:
                    progress = partial(killing, client, killed) if kill else None
                    there = wstrack.sweep(folder, by="lr", client=client, progress=progress)
            assert bool(killed) == kill
            same = [one.to_json() for one in there.runs] == plain
            row(f"{what}; {'equal to the bit' if same else 'NOT EQUAL'}", took, len(there.runs), points)
            del there


def killing(client: Any, killed: list[int], done: int, total: int) -> None:
    """Kill one worker when half of the work is done."""
    if not killed and done > total / 2:
        killed.append(next(iter(client.run(os.getpid).values())))
        os.kill(killed[0], signal.SIGKILL)


def read_mlflow(make: Callable[[Path, int, str], str], runs: int, layers: int, samples: int) -> None:
    """MLflow on PostgreSQL, against a loop of its client over some of the runs."""
    import mlflow

    import wstrack

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integrations"))
    from mlflow_servers import postgres, postgres_folder

    programs = postgres_folder()
    if programs is None:
        print("PostgreSQL is not installed here.")
        return
    with tempfile.TemporaryDirectory() as scratch, postgres(programs) as uri:
        mlflow.set_tracking_uri(uri)
        make(Path(scratch), runs, uri)
        with watched() as took:
            found = wstrack.sweep("mlflow:experiment/sweep", by="lr", to=Path(scratch) / "sweep")
        row("metrics of MLflow, PostgreSQL", took, len(found.runs), runs * layers * samples)
        client = mlflow.MlflowClient()
        some = [one.reference.removeprefix("mlflow:") for one in found.runs[:10]]
        with watched() as took:
            for run in some:
                keys = [key for key in client.get_run(run).data.metrics if key.startswith("rwc/")]
                for key in keys:
                    client.get_metric_history(run, key)
        row("the same, a loop of `get_metric_history` over 10 of the runs", took, 10, 10 * layers * samples)
