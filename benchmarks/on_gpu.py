"""Everything that only a GPU can show, in one command: values, host syncs, training, times; prints Markdown.

    python benchmarks/on_gpu.py                      # on a machine with PyTorch and CUDA, within ten minutes
    python benchmarks/on_gpu.py --only values syncs  # some steps
    python benchmarks/on_gpu.py --dry                # on the CPU: walks every step, with Triton interpreted, all small

It runs from the repository, where wstrack need not be installed, and needs what comes with PyTorch (NumPy, Triton) and
a C compiler, as Triton does. Of wstrack's other dependencies a watch needs pandas and pyarrow. Where they are not
installed, and there is no network, bring them as wheels, made for that machine's Python:

    pip download --no-deps --only-binary=:all: --python-version 3.12 -d wheels pandas pyarrow python-dateutil six
    python benchmarks/on_gpu.py --wheels wheels

What the machine has is used before what the folder has. Each step is a process of its own, so that one which fails, or
breaks the device's context, leaves the others alone. The exit code is 1 if a value was wrong, a host sync was found or
a step failed, and 2 if there is nothing to run on.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 580.0  # for everything
LIMITS = {"values": 150, "syncs": 60, "training": 200, "sharded": 60, "sanitizer": 170, "times": 200, "cost": 150}
"""Seconds for each step: one that hangs leaves time for the others."""
STEPS = {
    "values": "(a) every sum of the CUDA meter against NumPy in float64",
    "syncs": "(b) host syncs in samples, and in steps between them",
    "training": "(d) watched training: graphs, streams, offload, AMP, torch.compile",
    "sharded": "(e) FSDP2 and DDP on one rank, over NCCL",
    "sanitizer": "(f) compute-sanitizer over a few samples",
    "times": "(c) what a sample takes",
    "cost": "(c) what it costs training",
}
"""What there is to run, in this order: what is right comes before what is fast, should time run out."""


def run_step(name: str, dry: bool, until: float, tell: Connection) -> None:
    """One step, in a process of its own; tells what was wrong and what was left out."""
    import logging

    from gpu.machine import here
    from gpu.told import Told

    logging.getLogger("wstrack").setLevel(logging.ERROR)
    told = Told(name)
    machine = here(dry=dry, until=until)
    step = getattr(importlib.import_module(f"gpu.{name}"), name)
    told.tried(name, lambda: step(told, machine) or "")
    tell.send((told.wrong, told.left_out))


def _run(name: str, dry: bool, until: float) -> tuple[list[str], list[str]]:
    """What was wrong in a step, and what was left out."""
    if until - time.time() < 15:
        return [], [f"{name}: no time is left"]
    until = min(until, time.time() + LIMITS[name])
    print(f"\n## {STEPS[name]}", flush=True)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    begin = time.time()
    process = context.Process(target=run_step, args=(name, dry, until, there), daemon=False)
    process.start()
    there.close()
    try:
        said = here.recv() if here.poll(max(0.0, until - time.time()) + 15) else None
    except EOFError:  # it died without a word
        said = None
    if said is None and process.is_alive():
        process.join(2)
    late = process.is_alive() and said is None
    if late:
        process.kill()
    process.join(20)
    print(f"\n(`{name}`: {time.time() - begin:.0f} s)", flush=True)
    if said is not None:
        return said
    why = "did not end in time" if late else f"its process ended with exit code {process.exitcode}"
    return [f"{name}: {why}"], []


def _described(dry: bool) -> str:
    """The machine and the versions, in a line; dated, as benchmarks/README.md has them."""
    import torch

    def of(package: str) -> str:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"no {package}"

    where = "on the CPU, dry: no number here means anything"
    if not dry:
        one = torch.cuda.get_device_properties(0)
        driver = "driver unknown"
        try:
            asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30)
            driver = f"driver {done.stdout.split()[0]}"
        except (OSError, subprocess.SubprocessError, IndexError):
            pass
        where = f"{one.name}, compute capability {one.major}.{one.minor}, {one.total_memory / 2**30:.0f} GiB, {driver}"
    today = datetime.datetime.now(datetime.timezone.utc)
    versions = f"Python {sys.version.split()[0]}, torch {torch.__version__}, {of('triton')}, {of('numpy')}"
    return f"{today:%Y-%m-%d}; {where}; CUDA {torch.version.cuda}; {versions}."


def _install(wheels: Path, folder: str) -> None:
    """Put the wheels where this process and its children find what the machine does not have."""
    found = sorted(str(wheel) for wheel in wheels.glob("*.whl"))
    if not found:
        raise SystemExit(f"--wheels {wheels}: no wheels there; see the top of {Path(__file__).name}")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--find-links", str(wheels),
         "--target", folder, *found],
        check=True,
    )  # fmt: skip
    sys.path.append(folder)
    importlib.invalidate_caches()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="wheels of pandas and pyarrow, if need be")
    parser.add_argument("--dry", action="store_true", help="on the CPU, in Triton's interpreter")
    parser.add_argument("--only", nargs="+", choices=STEPS, metavar="STEP", help=f"of {', '.join(STEPS)}")
    asked = parser.parse_args(arguments)
    until = time.time() + SECONDS
    for name in ("TRITON_INTERPRET", "WSTRACK_METER"):  # what someone tried before
        os.environ.pop(name, None)
    if asked.dry:  # before anything imports torch or Triton
        os.environ.update(TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")
    # The oracle stands beside the tests of the meters.
    sys.path[:0] = [
        str(ROOT / "benchmarks"),
        str(ROOT),
        str(ROOT / "integrations"),
        str(ROOT / "tests/measuring/meters"),
    ]
    with tempfile.TemporaryDirectory(prefix="wstrack-wheels-") as folder:
        if asked.wheels is not None:
            _install(asked.wheels, folder)
        missing = [
            package for package in ("torch", "numpy", "triton", "pandas", "pyarrow") if find_spec(package) is None
        ]
        if missing:
            print(f"not installed: {', '.join(missing)}; see the top of {__file__} (--wheels)", file=sys.stderr)
            return 2
        import torch

        if not asked.dry and not torch.cuda.is_available():
            print("PyTorch sees no CUDA device; --dry walks every step on the CPU", file=sys.stderr)
            return 2
        print(_described(asked.dry), flush=True)
        wrong: list[str] = []
        left_out: list[str] = []
        for name in asked.only or STEPS:
            more_wrong, more_left_out = _run(name, asked.dry, until)
            wrong += more_wrong
            left_out += more_left_out
    for title, lines in (("Left out", left_out), ("Wrong", wrong)):
        print(
            f"\n{title}: " + ("nothing." if not lines else "\n" + "\n".join(f"- {line}" for line in lines)), flush=True
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
