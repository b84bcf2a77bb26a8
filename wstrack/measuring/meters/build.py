"""Compiles a small C++ source for this machine, once, into a folder of the user's own."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

__all__ = ["CannotBuildError", "build", "cache_folder", "compiler", "compiler_version"]

# -O2 and no -ffast-math: the source spells out its vectors, and NaN, inf and denormals must survive.
FLAGS = ("-std=c++17", "-O2", "-march=native", "-fopenmp", "-shared", "-fPIC", "-Wno-psabi")
COMPILE_TIMEOUT = 60.0  # seconds


class CannotBuildError(Exception):
    """There is no library, and why."""


def compiler() -> str:
    """The C++ compiler: that of the environment variable CXX, else the first of g++, clang++ and c++ that is installed.

    Raises:
        CannotBuildError: there is none.
    """
    named = os.environ.get("CXX")
    for name in (named,) if named else ("g++", "clang++", "c++"):
        if found := shutil.which(name):
            return found
    raise CannotBuildError(f"CXX={named} is not a program" if named else "no C++ compiler (g++, clang++) is installed")


def cache_folder() -> Path:
    """Where libraries are kept, made if need be: nobody else may write to it, for what is in it is run.

    Raises:
        CannotBuildError: it belongs to someone else, others may write to it, or it cannot be made.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wstrack"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.lstat()
    except OSError as error:
        raise CannotBuildError(f"{folder} cannot be made ({error})") from error
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
        raise CannotBuildError(f"{folder} is not a folder of this user's own")
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CannotBuildError(f"{folder} can be written to by others; chmod 700 it, or remove it")
    return folder


def build(source: Path, defines: Mapping[str, int] | None = None) -> Path:
    """The shared library made of `source` with these macros, compiled now if they, the compiler or the CPU are new.

    Processes that start at once may all compile; each puts its own result in place whole.

    Raises:
        CannotBuildError: there is no compiler, it fails, or there is no safe place for the result.
    """
    if os.name != "posix":
        raise CannotBuildError(f"not on {platform.system()}")
    flags = [*FLAGS, *(f"-D{name}={value}" for name, value in (defines or {}).items())]
    program = compiler()
    folder = cache_folder()
    try:
        key = "\0".join((source.read_text(), program, compiler_version(program), *flags, _cpu()))
        library = folder / f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.so"
        if library.exists():
            return library
        handle, unfinished = tempfile.mkstemp(suffix=".so", dir=folder)
        os.close(handle)
        try:
            subprocess.run(  # noqa: S603  the user's own compiler
                [program, *flags, str(source), "-o", unfinished],
                check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=COMPILE_TIMEOUT,
            )  # fmt: skip
            Path(unfinished).replace(library)
        finally:
            Path(unfinished).unlink(missing_ok=True)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        line = next((line for line in said if "error:" in line), said[0])  # before it GCC says in which function
        raise CannotBuildError(f"{program} failed: {line}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotBuildError(f"{program}: {error}") from error
    return library


@cache
def compiler_version(program: str) -> str:
    """The first line of what the compiler says of itself."""
    done = subprocess.run(  # noqa: S603  as above
        [program, "--version"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=COMPILE_TIMEOUT,
        check=True,
    )
    return done.stdout.partition("\n")[0]


def _cpu() -> str:
    """What -march=native depends on: a cache may be shared by the machines of a cluster."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return f"{platform.machine()} {platform.processor()}"
    kinds = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in information.read_text().splitlines() if line.startswith(kinds)}))
