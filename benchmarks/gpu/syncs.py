"""Step (b): how often a watch has the host wait for the device, in steps with a sample and between them: never.

PyTorch says of its own operations whether they wait (`torch.cuda.set_sync_debug_mode`). First they are counted, then
they are made errors. On the CPU nothing waits; dry, reading a number out of a tensor stands for it.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import wstrack
from gpu.course import Kept, net
from gpu.machine import Machine
from gpu.told import Told

__all__ = ["syncs"]

WAYS: dict[str, dict[str, Any]] = {
    "rwc": {"metrics": ("rwc",)},
    "all metrics of weights": {"metrics": (
        "rwc", "rwc_l2", "rwc_elementwise", "norm", "cosine", "distance", "changed", "changed_bf16", "fingerprint"
    )},
    "with lr, weight_decay, equilibrium": {"metrics": ("rwc", "lr", "weight_decay", "equilibrium")},
    "with strength, fluctuation, balance": {"metrics": ("rwc", "strength", "fluctuation", "balance")},
    "window='step'": {"window": "step"},
    "snapshot='cpu'": {"snapshot": "cpu", "metrics": ("rwc", "cosine", "distance")},
    "parts": {"parts": {".*": 4}},
    "rules='default'": {"rules": "default"},
    "the portable meter": {"meter": "portable"},
}  # fmt: skip
EVERY, STEPS = 3, 9


class _Reading(TorchDispatchMode):
    """Dry: notes, or refuses, that a number is read out of a tensor."""

    def __init__(self, seen: list[str], *, refuse: bool) -> None:
        super().__init__()
        self._seen = seen
        self._refuse = refuse

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self._seen.append("a number was read")
            if self._refuse:
                raise RuntimeError("a number was read")
        return func(*args, **(kwargs or {}))


@contextmanager
def noted(machine: Machine, *, refuse: bool = False) -> Iterator[list[str]]:
    """Every sync of what is done meanwhile; `refuse`: it is an error where it happens."""
    seen: list[str] = []
    if machine.dry:
        with _Reading(seen, refuse=refuse):
            yield seen
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("error" if refuse else "warn")
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode("default")
    seen += [f"{Path(one.filename).name}:{one.lineno}" for one in said if "synchronizing" in str(one.message)]


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what wstrack warns of: a sample that fails is no error in the training loop."""
        self.lines.append(record.getMessage())


def syncs(told: Told, machine: Machine) -> None:
    """Print a row for each way of watching."""
    rows = [
        [
            "(reading one number: the instrument itself)",
            told.tried("syncs, the instrument", lambda: _control(told, machine)),
            "",
            "",
        ]
    ]
    for way in ("(not watched)", *WAYS):
        cells: list[str] = []
        said = told.tried(f"syncs, {way}", lambda way=way, cells=cells: _way(told, machine, way, cells))  # type: ignore[misc]
        rows.append([way, *(cells or ["", ""]), said])
    told.table(["watched with", "syncs in sampled steps", "in steps between", "as errors"], rows)


def _control(told: Told, machine: Machine) -> str:
    number = torch.ones(1, device=machine.device)
    with noted(machine) as seen:
        number.item()
    lines = [] if seen else ["a sync was not noticed"]
    try:
        with noted(machine, refuse=True):
            number.item()
        lines.append("a sync was no error")
    except RuntimeError:
        pass
    told.are_wrong("the instrument", lines)
    return str(len(seen))


def _way(told: Told, machine: Machine, way: str, cells: list[str]) -> str:
    model = net(machine)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    inputs = torch.randn(32, model[0].in_features, device=machine.device)

    def step() -> None:
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()

    for _ in range(2):
        step()
    lines: list[str] = []
    heard = _Heard()
    logger = logging.getLogger("wstrack")
    level = logger.level
    logger.addHandler(heard)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        with tempfile.TemporaryDirectory() as folder:
            options = {"meter": "cuda", **WAYS.get(way, {})}
            watcher = None
            if way in WAYS:
                watcher = wstrack.watch(model, every=EVERY, to=Kept(Path(folder)), **options)
            step()  # lookups of a first step
            counted: dict[bool, list[str]] = {True: [], False: []}
            for number in range(2, STEPS + 1):
                with noted(machine) as seen:
                    step()
                counted[number % EVERY == 0] += seen
            cells += [str(len(counted[True])), str(len(counted[False]))]
            lines += [
                f"{kind}: a sync, {where}"
                for kind, seen in (("sampled", counted[True]), ("between", counted[False]))
                for where in seen
            ]
            with noted(machine, refuse=True):
                for _ in range(STEPS):
                    step()
                if watcher is not None:
                    watcher.flush(
                        30
                    )  # what the delivery thread does in its own time must not wait by an operation either
            if watcher is not None:
                watcher.close()
                run = watcher.run()
                steps = list(range(EVERY, 2 * STEPS + 1, EVERY))
                if run.steps.tolist() != steps or run.origin.get("failed_samples"):
                    lines.append(f"samples at {run.steps.tolist()}, should be {steps}")
    finally:
        logger.removeHandler(heard)
        logger.setLevel(level)
        logger.propagate = True
    lines += [said for said in heard.lines if "failed" in said or "sample at step" in said or "Error" in said]
    said = told.are_wrong(way, lines)
    return "none raised" if said == "right" else said
