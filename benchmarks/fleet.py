"""Many runs: what a list of them takes, from metadata alone, and what reading all of them does; prints Markdown.

Run it with `python benchmarks/fleet.py` (a quarter of an hour, most of which makes the runs; 10 GB). Runs of 200
layers are watched for real, in MLflow and on disk, and copied as often as `--runs` says, each with a learning rate of
its own: for the list with ten samples, to be read with `--samples` as recordings and ten as metrics of MLflow in
PostgreSQL (ten million points).
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from fleet_read import read_mlflow, read_recordings

LAYERS, SAMPLES = 200, 10
TABLES = ("tags", "params", "latest_metrics", "metrics")


def make(folder: Path, runs: int, uri: str, *, points: bool = True) -> Path:
    """An experiment of so many runs in an MLflow database, with or without their points; the recording of the first."""
    import mlflow
    import torch

    import wstrack

    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("sweep", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("sweep")
    model = torch.nn.Sequential(*(torch.nn.Linear(8, 8, bias=False) for _ in range(LAYERS)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with mlflow.start_run() as active:
        mlflow.log_params({"lr": 0, "model.name": "mlp", **{f"setting{place}": place for place in range(20)}})
        with wstrack.watch(model, to=[str(folder / "first"), "mlflow"], every=1, facts={}):
            for _ in range(SAMPLES):
                for parameter in model.parameters():
                    parameter.grad = torch.randn_like(parameter)
                optimizer.step()
        mlflow.log_metric("val/loss", 1.0)
    copy(uri, active.info.run_id, runs - 1, points=points)
    for recording in (folder / "artifacts").rglob("wstrack-recording"):
        shutil.rmtree(recording)  # the artifacts are those of all copies: metrics are to be read
    return next((folder / "first").rglob("*.arrow")).parent


def copy(uri: str, first: str, count: int, *, points: bool) -> None:
    """Copies of a run in MLflow's database, each with a learning rate of its own."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    tables = {
        table: [column["name"] for column in sqlalchemy.inspect(engine).get_columns(table)]
        for table in ("runs", *TABLES)
        if points or table != "metrics"
    }
    with engine.begin() as database:
        for number in range(count):
            new = {"new": f"{number:032x}", "first": first}
            for table, names in tables.items():
                chosen = ", ".join(":new" if name == "run_uuid" else name for name in names)
                query = f"insert into {table} ({', '.join(names)}) select {chosen} from {table} where run_uuid = :first"
                database.execute(sqlalchemy.text(query), new)
            database.execute(
                sqlalchemy.text("update params set value = :rate where run_uuid = :new and key = 'lr'"),
                {"new": new["new"], "rate": f"{10 ** (-1 - number % 4)}"},
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as database:
        database.execute(sqlalchemy.text("analyze"))
    engine.dispose()


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
    """Make the runs, list and read them, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--samples", type=int, default=500, help="of each recording that is read")
    parser.add_argument("--only", choices=("list", "read"), help="one of the two tables")
    parser.add_argument("--take", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.take:
        take(*options.take)
        return
    print(f"{datetime.date.today()}; {os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{name} {version(name)}" for name in ("mlflow", "pandas", "pyarrow", "distributed")), end="; ")
    print(f"{options.runs:,} runs of {LAYERS} layers.\n")
    if options.only != "read":
        lists(options.runs)
    if options.only != "list":
        print("\n| what | runs | points | time | points a second | memory |")
        print("|---|---|---|---|---|---|", flush=True)
        read_recordings(options.runs, LAYERS, options.samples)
        read_mlflow(make, options.runs, LAYERS, SAMPLES)


def lists(runs: int) -> None:
    """The table of lists."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        recording = make(Path(folder), runs, uri, points=False)
        for number in range(runs):
            shutil.copytree(recording, Path(folder) / "runs" / f"{number:05d}" / recording.name)
        print("| runs in | asked for | found | seconds | memory |")
        print("|---|---|---|---|---|")
        for name, reference, where in (
            ("recordings", f"{folder}/runs", ""),
            ("recordings", f"{folder}/runs", "name like 'S%'"),
            ("MLflow, SQLite", "mlflow:experiment/sweep", ""),
            ("MLflow, SQLite", "mlflow:experiment/sweep", "lr < 0.005"),
            ("MLflow, SQLite, by its client", "mlflow:experiment/sweep", "client"),
        ):
            seconds, found, memory = measured(reference, where, uri)
            asked = {"": "all", "client": "all, `search_runs`"}.get(where, f"`{where}`")
            print(f"| {name} | {asked} | {found:,} | {seconds:.1f} | {memory:,} MB |", flush=True)


if __name__ == "__main__":
    main()
