"""What layers, runs and folders are called in a tracker's own terms."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path

__all__ = ["RUNS", "layer_keys", "run_folder", "run_home"]

RUNS = Path("runs")  # where runs go if nothing else is said, as with TensorBoard's own writer
LONGEST_PART = 200  # bytes of a folder's name; most file systems take 255

LONGEST_KEY = 250  # MLflow refuses longer metric names
_UNSAFE = re.compile(r"[^\w\- :/]")  # what MLflow refuses in a name, and the dots that W&B's globs do not match


def layer_keys(layers: Sequence[str]) -> list[str]:
    """A name for each layer that every tracker accepts, distinct and in the same order.

    Dots and brackets become slashes; what any tracker refuses becomes an underscore; names that collide or are too long
    get a short hash of the true name. The manifest carries the true names.

    Example:
        >>> layer_keys(["layer1.0.conv1.weight", "w[0]", "w(0)", "w{0}"])
        ['layer1/0/conv1/weight', 'w/0', 'w_0_', 'w_0_-4f6bad']
    """
    keys: list[str] = []
    taken: set[str] = set()
    for layer in layers:
        key = re.sub("/+", "/", _UNSAFE.sub("_", re.sub(r"[.\[\]]", "/", layer))).strip("/ ") or "_"
        room = LONGEST_KEY - 24  # for "<metric>/" before the key
        short, digest = key[: room - 7], hashlib.sha256(layer.encode(errors="surrogatepass")).hexdigest()
        length = 6
        while key in taken or len(key) > room:
            key, length = f"{short[: room - 1 - length]}-{digest[:length]}", length + 1
        taken.add(key)
        keys.append(key)
    return keys


def run_folder(name: str) -> Path:
    """A relative folder for a run's name, which is any text and must not lead anywhere else.

    Where the folder cannot be called what the run is called, a short hash of the name keeps two runs apart.

    Example:
        >>> run_folder("vision/resnet-3").as_posix(), run_folder("../../etc").as_posix()
        ('vision/resnet-3', 'etc-74ccf3')
    """
    parts = [re.sub(r"[^\w\-. ]", "_", part) for part in name.split("/")]
    parts = [_short(part) for part in parts if part.strip(". ")] or ["run"]
    if "/".join(parts) != name:
        parts[-1] = f"{parts[-1]}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:6]}"
    return Path(*parts)


def run_home(name: str) -> Path:
    """The folder for a run of this name: the one that it has already, or a new one.

    Another run's folder is not taken, whatever its name is on this file system; nor is that of a run of the same name
    that another process is recording now.
    """
    from wstrack.runs.recording import FOLDER, being_written, recorded_name

    for number in count(1):
        home = RUNS / run_folder(name if number == 1 else f"{name}-{number}")
        if not being_written(home / FOLDER, "another") and recorded_name(home / FOLDER) in (None, name):
            break
    return home


def _short(part: str) -> str:
    """As much of a folder's name as may be, in bytes."""
    return part.encode()[:LONGEST_PART].decode(errors="ignore")
