"""Reading W&B runs, side by side with wandb's own ways; prints Markdown.

Run it with `python benchmarks/wandb_speed.py` (a few minutes). The server is the stand-in of the tests, in a process of
its own: what is compared is the work of the clients.
"""

from __future__ import annotations

import datetime
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

import wstrack
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER
from wstrack.trackers.naming import layer_keys

LAYERS, OFFLINE_STEPS, ONLINE_STEPS, REPEATS = 1000, 200, 2000, 5
NAMES = [f"layer{number // 10}.{number % 10}.conv1.weight" for number in range(LAYERS)]
KEYS = [f"rwc/{key}" for key in layer_keys(NAMES)]
MATCH = "rwc/(?P<layer>.+)"


def log_offline(folder: Path) -> Path:
    """A file as most people have them: plain rows of numbers; its path."""
    import wandb

    with wandb.init(project="p", mode="offline", dir=folder) as run:
        for row in np.random.default_rng(0).random((OFFLINE_STEPS, LAYERS)):
            run.log(dict(zip(KEYS, row.tolist(), strict=True)))
    (file,) = Path(run.dir).parent.glob("*.wandb")
    wstrack.pull(f"wandb:{file}", match=MATCH)  # waits until it is all there
    return file


def inspect(file: Path) -> int:
    """The number of values that wandb's own command prints."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", str(file), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    records = (json.loads(line) for line in done.stdout.splitlines() if '"type":"history"' in line)
    return sum(key in record["history"]["item"] for record in records for key in KEYS)


def serve() -> None:
    """The stand-in with a finished run three times: exported, not exported yet, and with its recording.

    Prints its address and serves until its input ends.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.integrations.wandb_server import Server

    numbers = np.random.default_rng(0).random((ONLINE_STEPS, LAYERS)).tolist()
    rows = [
        {"_step": step, "wstrack/step": step + 1, "wstrack/interval": 1, **dict(zip(KEYS, row, strict=True))}
        for step, row in enumerate(numbers)
    ]
    manifest = Manifest("run", tuple(map(Layer, NAMES)), ("rwc",), every=1)
    session = {"samples": ONLINE_STEPS, "thinned": 0, "values": ONLINE_STEPS * LAYERS}
    config = {"wstrack": {"value": {"manifest": manifest.to_json(), "sessions": [session]}}}
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        exported = server.store("exported", rows, config=config, state="finished", exported=ONLINE_STEPS)
        exported.parquet()
        server.store("fresh", rows, config=config, state="finished")
        files = {f"{FOLDER}/{part.name}": part.read_bytes() for part in record(Path(folder), manifest).iterdir()}
        server.store("recorded", rows, config=config, state="finished", files=files)
        for stored in server.runs.values():
            stored.keys()
        print(server.url, flush=True)
        sys.stdin.read()


def record(folder: Path, manifest: Manifest) -> Path:
    """A recording of the same size, as a watcher leaves it; its folder."""
    sums = np.random.default_rng(0).random((ONLINE_STEPS, LAYERS, 2))
    recorder = Recorder(folder / FOLDER, manifest, ("abs_change", "abs_previous"))
    recorder.append(range(1, ONLINE_STEPS + 1), [1] * ONLINE_STEPS, [1e9] * ONLINE_STEPS, sums)
    recorder.close()
    return folder / FOLDER


def pull(run: str) -> int:
    """The number of values in the run that wstrack reads."""
    return wstrack.pull(f"wandb:team/p/{run}").completeness.received


def scan(run: str) -> int:
    """The number of values that wandb's client hands out."""
    import wandb

    return sum(len(row.keys() & set(KEYS)) for row in wandb.Api().run(f"team/p/{run}").scan_history(use_cache=False))


def timed(work: Mapping[str, Callable[[], int]], expected: int) -> dict[str, float]:
    """Median seconds on the clock, taking turns; other processes do part of the work."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS):
        for name, call in work.items():
            gc.collect()  # what the one before left behind is not this one's to clear away
            start = time.perf_counter()
            found = call()
            taken[name].append(time.perf_counter() - start)
            assert found == expected, (name, found)
    return {name: statistics.median(times) for name, times in taken.items()}


def table(title: str, times: Mapping[str, float]) -> str:
    """Times and how they compare with the first."""
    first = next(iter(times.values()))
    lines = [f"| {name} | {time:.2f} s ({time / first:.1f}x) |" for name, time in times.items()]
    return "\n".join([title, "", "| reader | time |", "|---|---|", *lines, ""])


def main() -> None:
    """Measure and print."""
    os.environ.update(WANDB_SILENT="true", WANDB_CONSOLE="off")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("wandb", "numpy", "pandas", "pyarrow"))
    print(f"{datetime.date.today()}; {os.cpu_count()} cores, Python {platform.python_version()}, {libraries}; ", end="")
    print(f"medians of {REPEATS}, taking turns.\n")
    with tempfile.TemporaryDirectory() as folder:
        file = log_offline(Path(folder))
        offline = {
            "wstrack": lambda: wstrack.pull(f"wandb:{file}", match=MATCH).completeness.received,
            "`wandb leet inspect --json`, parsed": lambda: inspect(file),
        }
        times = timed(offline, LAYERS * OFFLINE_STEPS)
        print(table(f"An offline `.wandb` file, {LAYERS:,} keys x {OFFLINE_STEPS:,} steps:", times))
        command = [sys.executable, __file__, "serve"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            os.environ["WANDB_BASE_URL"] = server.stdout.readline().strip()
            os.environ["WANDB_API_KEY"] = "local" + "0" * 40
            os.environ["WANDB_CACHE_DIR"] = folder
            online = {
                "wstrack, from the recording": lambda: pull("recorded"),
                "wstrack, from the exported history": lambda: pull("exported"),
                "`scan_history`, exported history": lambda: scan("exported"),
                "`scan_history`, not exported yet": lambda: scan("fresh"),
            }
            times = timed(online, LAYERS * ONLINE_STEPS)
            print(table(f"A run on a server (the stand-in), {LAYERS:,} keys x {ONLINE_STEPS:,} steps:", times))
            server.communicate("")


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
