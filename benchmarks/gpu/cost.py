"""Step (c): what a watch costs training: steps without one, and with a sample in every step and in every 50th.

All samples go into a recording on disk, as in use. Stretches of steps with and without the watch take turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import torch

import wstrack
from gpu.course import Kept
from gpu.machine import Machine
from gpu.models import TRAINED
from gpu.told import Told

__all__ = ["cost"]

STRETCH, TURNS = 50, 5
WAYS: dict[str, dict[str, object] | None] = {
    "no watch": None,
    "every=50": {"every": 50},
    "every=1": {"every": 1},
    "every=1, `rwc`, `cosine`, `distance`, `changed`": {
        "every": 1, "metrics": ("rwc", "cosine", "distance", "changed"),
    },
    "every=50, window='step'": {"every": 50, "window": "step"},
    "every=50, snapshot='cpu'": {"every": 50, "snapshot": "cpu"},
}  # fmt: skip


def cost(told: Told, machine: Machine) -> None:
    """Print a table for each model."""
    for name in TRAINED:
        if machine.left < 45:
            told.leave_out(f"cost, {name}", "no time is left")
            continue
        told.tried(f"cost, {name}", lambda name=name: _table(told, machine, name) or "")  # type: ignore[misc]


def _table(told: Told, machine: Machine, name: str) -> None:
    machine.free()
    torch.manual_seed(0)
    model, loss = TRAINED[name](machine)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    stretch, turns = (2, 1) if machine.dry else (STRETCH, TURNS)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(machine.device.type, dtype=torch.bfloat16):
            value = loss()
        value.backward()
        optimizer.step()

    for _ in range(1 if machine.dry else 10):
        step()
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(turns):
        if machine.left < 20:
            break
        for way, options in WAYS.items():
            with tempfile.TemporaryDirectory() as folder, ExitStack() as open_:
                if options is not None:
                    open_.enter_context(wstrack.watch(model, to=Kept(Path(folder)), meter="cuda", **options))
                step()
                machine.synchronize()
                begin = time.perf_counter()
                for _ in range(stretch):
                    step()
                machine.synchronize()
                taken[way].append((time.perf_counter() - begin) / stretch)
    middle = {way: statistics.median(seconds) for way, seconds in taken.items() if seconds}
    plain = middle["no watch"]
    rows = [
        [way, f"{1e3 * seconds:.3f} ms", f"{1e3 * (seconds - plain):+.3f} ms", f"{(seconds - plain) / plain:+.2%}"]
        for way, seconds in middle.items()
    ]
    told.say(f"{name}{', dry: tiny' * machine.dry}; medians of {turns} stretches of {stretch} steps:")
    told.table(["", "a step", "more than without", "of it"], rows)
