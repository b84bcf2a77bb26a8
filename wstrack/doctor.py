"""What this machine has to measure with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from wstrack._version import __version__
from wstrack.measuring.meters import VARIABLE, cpu, cuda, named
from wstrack.measuring.meters.build import CannotBuildError, compiler, compiler_version

__all__ = ["doctor"]


def doctor() -> dict[str, dict[str, str]]:
    """Which meter a model would get here, and why, with versions of everything that matters.

    Returns:
        "meters": by device ("cpu", "cuda"), the meter, and in brackets why it is not the fastest one;
        "versions": of wstrack, Python, torch, numpy, Triton, CUDA and its device, the compiler, the CPU, threads.

    Raises:
        ValueError: WSTRACK_METER names no meter.

    Example:
        >>> sorted(doctor())
        ['meters', 'versions']
    """
    only = named(None)
    return {
        "meters": {
            "cpu": _meter("cpu", cpu.unavailable(), only),
            "cuda": _meter("cuda", cuda.unavailable(), only)
            if torch.cuda.is_available()
            else f"none: {cuda.unavailable()}",
        },
        "versions": {
            "wstrack": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": _version("numpy"),
            "triton": _version("triton"),
            "cuda": f"{torch.version.cuda}, {_devices()}" if torch.cuda.is_available() else "none",
            "compiler": _compiler(),
            "cpu": _cpu(),
            "threads": str(torch.get_num_threads()),
        },
    }


def _meter(device: str, unavailable: str | None, only: str | None) -> str:
    if only is not None and only != device:
        return f"portable ({VARIABLE}={os.environ[VARIABLE]})"
    return device if unavailable is None else f"portable ({device}: {unavailable})"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> str:
    names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return ", ".join(sorted({f"{one.name} (compute capability {one.major}.{one.minor})" for one in names}))


def _compiler() -> str:
    try:
        return compiler_version(compiler())
    except (CannotBuildError, OSError) as error:
        return str(error)


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (information.read_text().splitlines() if information.exists() else [])
        if line.startswith("model name")
    ]
    return f"{next(iter(models), platform.processor() or platform.machine())}, {os.cpu_count()} cores"
