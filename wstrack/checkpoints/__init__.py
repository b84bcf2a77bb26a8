"""Saved weights as runs: a folder of checkpoints in the order of their steps is a run that nobody watched.

Files in order of their steps -> layer by layer through the same meters as in training, each byte read once -> a run, or
a recording of it. To the rest of the package it is a tracker that only reads: `checkpoints:DIR` is a run reference.
Nothing that a checkpoint holds is ever run.
"""

from __future__ import annotations

from pathlib import Path

from wstrack.checkpoints.source import CheckpointSource

__all__ = ["CheckpointSource", "open_source", "recognises"]


def recognises(path: Path) -> bool:
    """Never by a path alone: beside a trainer's checkpoints lie its logs, and those are what a bare path means."""
    return False


def open_source(address: str) -> CheckpointSource:
    """The checkpoints at an address: a folder, a folder of such folders, a pattern, or a list with commas."""
    return CheckpointSource(address)
