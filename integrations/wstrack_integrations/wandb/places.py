"""Where wandb keeps runs on this machine: `wandb/[offline-]run-<time>-<id>/run-<id>.wandb`, and files beside it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["files_of", "is_local", "local_runs"]


def is_local(address: str) -> bool:
    """Whether an address is a path on this machine, not a run or a project of a server.

    That there is a folder of that name says little: wandb's client makes `entity/project/run` for the runs it reads.
    """
    path = Path(address)
    return path.is_absolute() or address.startswith(".") or path.is_file() or bool(local_runs(path))


def local_runs(path: Path) -> list[Path]:
    """The `.wandb` files at a path: the file itself, a run's folder or its `files`, or a folder of runs; by time."""
    if path.is_file():
        return [path] if path.suffix == ".wandb" else []
    if path.name == "files" and (found := sorted(path.parent.glob("run-*.wandb"))):
        return found
    patterns = ("run-*.wandb", "run-*/run-*.wandb", "offline-run-*/run-*.wandb")
    found = [file for folder in (path, path / "wandb") for pattern in patterns for file in folder.glob(pattern)]
    return sorted(found, key=lambda file: (_when(file), str(file)))


def files_of(run: Path) -> Path:
    """The folder of a run's files, given its `.wandb` file; that of the file itself if it lies alone."""
    return run.parent / "files" if (run.parent / "files").is_dir() else run.parent


def _when(run: Path) -> str:
    return run.parent.name.removeprefix("offline-")
