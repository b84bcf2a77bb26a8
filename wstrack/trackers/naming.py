"""What layers, runs and folders are called in a tracker's own terms."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["layer_keys", "run_folder"]

LONGEST_KEY = 250  # MLflow refuses longer metric names
_UNSAFE = re.compile(r"[^\w\- :/]")  # what MLflow refuses in a name, and the dots that W&B's globs do not match


def layer_keys(layers: Sequence[str]) -> list[str]:
    """A name for each layer that every tracker accepts, distinct and in the same order.

    Dots become slashes; what any tracker refuses becomes an underscore; names that collide or are too long get a
    short hash of the true name. The manifest carries the true names.

    Example:
        >>> layer_keys(["layer1.0.conv1.weight", "w[0]", "w(0)"])
        ['layer1/0/conv1/weight', 'w_0_', 'w_0_-47f335']
    """
    keys: list[str] = []
    taken: set[str] = set()
    for layer in layers:
        key = re.sub("/+", "/", _UNSAFE.sub("_", layer.replace(".", "/"))).strip("/ ") or "_"
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

    Example:
        >>> run_folder("vision/resnet: 3").as_posix(), run_folder("../../etc").as_posix()
        ('vision/resnet_ 3', 'etc')
    """
    parts = [re.sub(r"[^\w\-. ]", "_", part)[:120] for part in name.split("/")]
    return Path(*([part for part in parts if part.strip(". ")] or ["run"]))
