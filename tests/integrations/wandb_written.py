"""The wait for the file of an offline run of W&B: `finish` returns before the client has written it whole."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from wstrack_integrations.wandb.framing import records

__all__ = ["written"]

PATIENCE = 120  # seconds, on a machine with much else to do


def written(files: str | Path) -> list[Any]:
    """The records of a run that is over, `run.dir`, as W&B's own classes, once the last is there."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = Path(files).parent.glob("*.wandb")
    late = time.monotonic() + PATIENCE
    while True:
        told = [Record.FromString(data) for data in records(file.read_bytes(), [])]
        if any(record.HasField("exit") for record in told):
            return told
        assert time.monotonic() < late, f"{file} has no end"
        time.sleep(0.05)
