"""What happens to machines while they train, and whether anything is lost that nobody is told of.

A process trains and is watched, and something happens at a random step: it is killed, its disk is full for a while or
for good, the run's folder is deleted or takes no new files, the clock jumps. Then the recording and the tracker are
read. A value that is there must be the true one; one that is not must be told of.

`tests/test_disasters.py` tries some; `python -m tests.disasters --points 1000` as many as you like (as root, for it
mounts small file systems), and prints the table that stands in docs/damage.md.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import wstrack
from wstrack.errors import WstrackError
from wstrack.runs.run import Run

STEPS = 120
TRACKERS = ("tensorboard", "wandb", "mlflow")
HAPPENINGS = ("killed", "disk full for a while", "disk full", "folder deleted", "no new files", "clock jumps")
MOUNTED = ("disk full for a while", "disk full", "no new files")
ROOM = 1_500_000  # bytes of the small file systems


@dataclass
class Tally:
    """What came of some points: of a reading each, and what was wrong."""

    points: int = 0
    readings: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


# ---- once, before the forks -----------------------------------------------------------------------------------------


def ready() -> None:
    """Do what takes each process seconds when it is done anew: import, and make MLflow's tables."""
    import mlflow
    import wandb

    del mlflow, wandb
    os.environ |= {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "MLFLOW_DISABLE_TELEMETRY": "true"}
    torch.optim.SGD(torch.nn.Linear(1, 1).parameters())  # the first optimizer imports torch's compiler
    tables()


@functools.cache
def tables() -> bytes:
    """The file of an MLflow store without runs."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
        return Path(folder, "mlflow.db").read_bytes()


# ---- in the process that trains -------------------------------------------------------------------------------------


def train(tracker: str, happening: str, home: Path, at: int, length: int, out: int) -> None:
    """Train, watched; something happens before step `at` and ends `length` steps later. True changes go to `out`.

    Runs in a forked process, which never returns from it.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    os.chdir(home)
    model = torch.nn.Sequential(torch.nn.Linear(20, 30, bias=False), torch.nn.Linear(30, 20, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with _tracked(tracker, home) as (to, folder, log):
        watcher = wstrack.watch(model, optimizer, every=1, to=to)
        os.write(out, (json.dumps({"recording": str(watcher.recording), **folder}) + "\n").encode())
        for step in range(1, STEPS + 1):
            if step == at:
                _happens(happening, home, watcher.recording)
            if step == at + length:
                _is_over(happening, home)
            before = [parameter.detach().clone() for parameter in model.parameters()]
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
            log(step)
            changes = map(wstrack.relative_weight_change, before, model.parameters())
            os.write(out, (json.dumps([step, *changes]) + "\n").encode())
            if step % 10 == 0:
                watcher.flush(timeout=1)
        watcher.close()


@contextlib.contextmanager
def _tracked(tracker: str, home: Path) -> Iterator[tuple[Any, dict[str, str], Callable[[int], None]]]:
    """What `to` is, where to read the run from, and what the user logs at a step."""
    if tracker == "tensorboard":
        yield home / "run", {"reference": f"tensorboard:{home / 'run'}"}, lambda step: None
    elif tracker == "wandb":
        import wandb

        with wandb.init(project="p", mode="offline", dir=str(home)) as run:
            yield run, {"reference": f"wandb:{Path(run.dir).parent}"}, lambda step: run.log({"loss": step})
    else:
        import mlflow

        (home / "mlflow.db").write_bytes(tables())
        mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
        mlflow.create_experiment("e", artifact_location=f"{home}/artifacts")
        mlflow.set_experiment("e")
        with mlflow.start_run() as active:
            yield None, {"reference": f"mlflow:{home}/mlflow.db/{active.info.run_id}"}, lambda step: None


def _happens(happening: str, home: Path, recording: Path) -> None:
    if happening == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif happening.startswith("disk full"):
        with contextlib.suppress(OSError), (home / "filler").open("wb") as filler:
            while True:
                filler.write(bytes(1000))
                filler.flush()
    elif happening == "folder deleted":
        shutil.rmtree(recording.parent)
    elif happening == "no new files":
        # What is open stays writable, as under a volume that is taken away: no new file can be made.
        subprocess.run(["mount", "--bind", str(home), str(home)], check=False, capture_output=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(home)], check=False, capture_output=True)
    elif happening == "clock jumps":
        real, jump = time.time, random.choice([-86_400, -3600, -1, 3600, 86_400 * 365])
        time.time = lambda: real() + jump


def _is_over(happening: str, home: Path) -> None:
    if happening == "disk full for a while":
        (home / "filler").unlink(missing_ok=True)


# ---- afterwards -----------------------------------------------------------------------------------------------------


def point(tracker: str, happening: str, chance: random.Random, tally: Tally) -> None:
    """Have one process train into something, and hold what can be read against what was true."""
    home = Path(tempfile.mkdtemp())
    mounted = happening in MOUNTED
    if mounted:
        room = [] if happening == "no new files" else ["-o", f"size={ROOM}"]
        subprocess.run(["mount", "-t", "tmpfs", *room, "tmpfs", str(home)], check=True)
    try:
        readable, out = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(readable)
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 2)
                train(tracker, happening, home, chance.randrange(2, STEPS), chance.randrange(5, 60), out)
            finally:
                os._exit(0)
        os.close(out)
        with os.fdopen(readable) as lines:
            told = [json.loads(line) for line in lines if line.endswith("\n")]
        os.waitpid(child, 0)
        tally.points += 1
        if happening == "no new files":
            subprocess.run(["umount", "-l", str(home)], check=False, capture_output=True)  # the bind mount alone
        if not told:  # it never began
            tally.readings["nothing was begun"] += 1
            return
        where, truth = told[0], {step: changes for step, *changes in told[1:]}
        if happening != "killed" and len(truth) < STEPS:
            tally.wrong.append(f"{tracker}, {happening}: training ended at step {len(truth)}")
        for name, reference in (("recording", where["recording"]), (tracker, where["reference"])):
            _hold(f"{name}, {happening}", reference, truth, tally)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(home)], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def _hold(what: str, reference: str, truth: dict[int, list[float]], tally: Tally) -> None:
    try:
        run: Run = wstrack.pull(reference)
    except (WstrackError, ValueError) as error:
        sys.stderr.write(f"{what}, {len(truth)} samples: {error}\n")
        tally.readings["refused" if truth else "nothing was begun"] += 1
        return
    series = run.series.get("rwc")
    found = {} if series is None else {int(step): row.tolist() for step, row in series.iterrows()}
    # A process that was killed may have taken one sample more than it could tell of.
    wrong = [
        step
        for step, row in found.items()
        if step in truth and any(abs(a - b) > 1e-4 * b for a, b in zip(row, truth[step], strict=True) if a == a)
    ]
    if wrong or any(step > max(truth, default=0) + 1 for step in found):
        tally.wrong.append(f"{what}: another value than the true one at steps {wrong[:5]}")
    lost = [step for step in truth if step not in found or any(value != value for value in found[step])]
    if not lost:
        tally.readings["whole"] += 1
    elif run.completeness.missing or run.completeness.notes:
        tally.readings["in part, and said"] += 1
    else:
        tally.wrong.append(f"{what}: {len(lost)} samples are gone, and nothing says so")


def can_mount() -> bool:
    """Whether small file systems can be mounted here."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=False, capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=False)
        return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=36, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    ready()
    chance = random.Random(asked.seed)
    tallies = {(happening, tracker): Tally() for happening in HAPPENINGS for tracker in TRACKERS}
    for number in range(asked.points):
        happening, tracker = list(tallies)[number % len(tallies)]
        point(tracker, happening, chance, tallies[happening, tracker])
    lines = ["| what happens | tracker | points | read whole | in part, and said | refused | wrong or unsaid |"]
    lines.append("|---|---|---|---|---|---|---|")
    for (happening, tracker), tally in tallies.items():
        counts = tally.readings
        lines.append(
            f"| {happening} | {tracker} | {tally.points} | {counts['whole']} | {counts['in part, and said']} "
            f"| {counts['refused'] + counts['nothing was begun']} | {len(tally.wrong)} |"
        )
    wrong = [line for tally in tallies.values() for line in tally.wrong[:20]]
    sys.stdout.write("\n".join([*lines, *wrong, ""]))


if __name__ == "__main__":
    main()
