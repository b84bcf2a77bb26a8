"""Looking at many runs: what a list of them takes, from metadata alone; prints Markdown.

Run it with `python benchmarks/fleet.py` (some minutes, most of which make the runs). A run of 200 layers is watched for
real, in MLflow and on disk, and copied as often as `--runs` says, each with a learning rate of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

LAYERS, SAMPLES = 200, 10
TABLES = ("tags", "params", "latest_metrics", "metrics")


def make(folder: Path, runs: int) -> str:
    """The runs, as recordings in a folder and in an MLflow database; the database's URI."""
    import mlflow
    import torch

    import wstrack

    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("sweep", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("sweep")
    model = torch.nn.Sequential(*(torch.nn.Linear(8, 8, bias=False) for _ in range(LAYERS)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with mlflow.start_run() as active:
        mlflow.log_params({"lr": 0, "model.name": "mlp", **{f"setting{place}": place for place in range(20)}})
        with wstrack.watch(model, to=[str(folder / "first"), "mlflow"], every=1, facts={"lr": 0.0}):
            for _ in range(SAMPLES):
                for parameter in model.parameters():
                    parameter.grad = torch.randn_like(parameter)
                optimizer.step()
        mlflow.log_metric("val/loss", 1.0)
    recording = next((folder / "first").rglob("*.arrow")).parent
    for number in range(runs):
        shutil.copytree(recording, folder / "runs" / f"{number:05d}" / recording.name)
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        columns = {
            table: [name for _, name, *_ in database.execute(f"pragma table_info({table})")]
            for table in ("runs", *TABLES)
        }
        first = active.info.run_id
        for number in range(runs - 1):
            new = f"{number:032x}"
            for table, names in columns.items():
                chosen = ", ".join(":new" if name == "run_uuid" else name for name in names)
                query = f"insert into {table} select {chosen} from {table} where run_uuid = :first"
                if table != "metrics":  # the points, which no list reads
                    database.execute(query, {"new": new, "first": first})
            rate = {"new": new, "rate": f"{10 ** (-1 - number % 4)}"}
            database.execute("update params set value = :rate where run_uuid = :new and key = 'lr'", rate)
        database.commit()
    return uri


def take(reference: str, where: str) -> None:
    """List the runs in this process, and print the seconds, how many were found, and the most memory in MB."""
    import wstrack

    began = time.perf_counter()
    if where == "client":
        import mlflow

        found = len(mlflow.search_runs(search_all_experiments=True, output_format="list"))
    else:
        found = len(wstrack.runs_table(reference, where=where or None))
    took = time.perf_counter() - began
    most = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    print(f"{took} {found} {int(most[1]) // 1024 if most else 0}")


def measured(reference: str, where: str, uri: str) -> tuple[float, int, int]:
    """The median of three processes, each of which lists the runs once."""
    command = [sys.executable, __file__, "--take", reference, where]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    took = []
    for _ in range(3):
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        seconds, found, memory = out.split()[-3:]
        took.append((float(seconds), int(found), int(memory)))
    return statistics.median(one[0] for one in took), took[0][1], max(one[2] for one in took)


def main() -> None:
    """Make the runs, list them, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--take", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.take:
        take(*options.take)
        return
    with tempfile.TemporaryDirectory() as folder:
        uri = make(Path(folder), options.runs)
        libraries = ", ".join(f"{name} {version(name)}" for name in ("mlflow", "pandas", "pyarrow"))
        print(
            f"{datetime.date.today()}; {os.cpu_count()} cores, Python {platform.python_version()}, {libraries}; ",
            end="",
        )
        print(f"{options.runs:,} runs of {LAYERS} layers.\n")
        print("| runs in | asked for | found | seconds | memory |")
        print("|---|---|---|---|---|")
        chosen = "lr < 0.005"
        for name, reference, where in (
            ("recordings", f"{folder}/runs", ""),
            ("recordings", f"{folder}/runs", "lr = 0"),
            ("MLflow, SQLite", "mlflow:experiment/sweep", ""),
            ("MLflow, SQLite", "mlflow:experiment/sweep", chosen),
            ("MLflow, SQLite, by its client", "mlflow:experiment/sweep", "client"),
        ):
            seconds, found, memory = measured(reference, where, uri)
            asked = {"": "all", "client": "all, `search_runs`"}.get(where, f"`{where}`")
            print(f"| {name} | {asked} | {found:,} | {seconds:.1f} | {memory:,} MB |", flush=True)


if __name__ == "__main__":
    main()
