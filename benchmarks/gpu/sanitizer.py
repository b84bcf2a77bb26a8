"""Step (f): compute-sanitizer looks for reads and writes beyond what was allocated, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from gpu.machine import Machine
from gpu.told import Told

__all__ = ["sanitizer"]

FOUND = 99  # its exit code for errors
SECONDS = 150.0


def sanitizer(told: Told, machine: Machine) -> None:
    """Print what it says; dry, the same program without it."""
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if program is None and not machine.dry:
        told.say(told.leave_out("compute-sanitizer", "it is not installed (it comes with the CUDA toolkit)"))
        return
    checker = [] if machine.dry else [str(program), "--tool", "memcheck", "--error-exitcode", str(FOUND)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        # Each tensor is its own allocation then: a pool would hide what lies beside it.
        "PYTORCH_NO_CUDA_MEMORY_CACHING": "1",
    }
    try:
        done = subprocess.run(
            [*checker, sys.executable, str(Path(__file__).with_name("sampled.py")), *["--dry"] * machine.dry],
            capture_output=True, text=True, errors="replace", env=environment, check=False,
            timeout=max(10.0, min(SECONDS, machine.left - 10)),
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        told.say(told.leave_out("compute-sanitizer", f"it did not end within {late.timeout:.0f} s"))
        return
    output = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode and "Device not supported" in done.stdout + done.stderr:
        told.say(told.leave_out("compute-sanitizer", "it does not support this device, or this driver"))
        return
    measured = [line for line in output if line.startswith("measured")]
    if done.returncode == 0 and measured:
        told.say(f"memcheck: no error; {measured[0]}.")
        return
    print("\n".join(output[-60:]), flush=True)
    why = "memcheck found errors" if done.returncode == FOUND else f"the program ended with exit code {done.returncode}"
    told.say(told.are_wrong("compute-sanitizer", [f"{why}; its last lines are above"]))
