"""Step (c): what a sample takes, against the least that it can and against what else is done, by CUDA events.

The floor is one kernel over as many bytes as all weights have, which reads two tensors and writes one: what a sample of
`rwc` reads and writes. A plain copy is beside it. Before each turn an optimizer step moves the weights, and what the
caches hold with them. Of a job the time until the device is done counts, from an idle device on, and beside it the time
for which it holds the thread that calls it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from overhead import DISTANCE, RWC, makers
from overhead_peers import WandbWay
from overhead_timing import stepped
from torch import nn

from gpu.machine import Machine, host_memory
from gpu.models import LISTS, made
from gpu.told import Told
from wstrack.measuring.meters import choose

__all__ = ["timed", "times"]

SECONDS = 1.0  # of turns of a job, about
COPIES = 5  # of the weights, that a table needs on the device at once: the weights, gradients, two moments, snapshots
Job = Callable[[], object]


def timed(job: Job, before: Job, machine: Machine) -> tuple[float, float]:
    """Milliseconds until a job is done, and for which it holds its caller: medians, after two turns to warm up."""
    done: list[float] = []
    held: list[float] = []
    turns = 1 if machine.dry else 3
    while len(done) < turns + 2:
        before()
        machine.synchronize()
        if machine.dry:
            begin = time.perf_counter()
            job()
            done.append(1e3 * (time.perf_counter() - begin))
            held.append(done[-1])
        else:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            begin = time.perf_counter()
            job()
            held.append(1e3 * (time.perf_counter() - begin))
            last.record()
            machine.synchronize()
            done.append(first.elapsed_time(last))
        if len(done) == 2 and not machine.dry:  # both have warmed up; the second one tells how long it takes
            turns = int(min(20, max(3, SECONDS * 1e3 / max(done[1], held[1], 1e-3))))
    return statistics.median(done[2:]), statistics.median(held[2:])


def _far(parameters: list[nn.Parameter], sums: tuple[str, ...]) -> Job:
    """A sample with the snapshot on the host."""
    meter = choose(parameters, sums, meter="cuda", snapshot="cpu")
    meter.snapshot()
    return meter.sample


def times(told: Told, machine: Machine) -> None:
    """Print a table for each list of weights."""
    os.environ.setdefault("WANDB_MODE", "offline")
    for name in LISTS:
        told.tried(f"times, {name}", lambda name=name: _table(told, machine, name) or "")  # type: ignore[misc]


def _floors(count: int, before: Job, machine: Machine) -> dict[str, tuple[float, float, int]]:
    """Of so many bytes: milliseconds of the floor and of a copy, and how often the bytes cross."""
    source = torch.ones(max(1, count // 4), dtype=torch.int32, device=machine.device)
    target = torch.zeros_like(source)
    floor = timed(lambda: target.bitwise_xor_(source), before, machine)
    copy = timed(lambda: target.copy_(source), before, machine)
    return {"(the floor: two reads, one write)": (*floor, 3), "(a copy: one read, one write)": (*copy, 2)}


def _table(told: Told, machine: Machine, name: str) -> None:
    shapes, dtype = LISTS[name]
    count = sum(torch.Size(shape).numel() for shape in shapes())
    size = count * dtype.itemsize
    if not machine.dry and (free := machine.free()) < COPIES * size:
        told.leave_out(f"times, {name}", f"{free / 1e9:.0f} GB are free, {COPIES * size / 1e9:.0f} are needed")
        return
    if machine.left < 40:
        told.leave_out(f"times, {name}", "no time is left")
        return
    parameters = made(shapes(), dtype, machine)
    bytes_ = sum(parameter.nbytes for parameter in parameters)
    before = stepped(torch.optim.SGD, parameters)
    floors = _floors(bytes_, before, machine)
    lowest = floors["(the floor: two reads, one write)"][0]
    machine.free()
    ways = dict(makers("cuda"))
    ways["wstrack, `cuda`, `rwc`, snapshot='cpu'"] = partial(_far, sums=RWC)
    ways["wstrack, `cuda`, `rwc` and `distance`, snapshot='cpu'"] = partial(_far, sums=DISTANCE)
    rows: list[list[str]] = []
    ours = 0.0
    for label, make in ways.items():
        why = _not_done(name, label, bytes_, machine)
        if why:
            rows.append([label, told.leave_out(f"times, {name}, {label}", why), "", "", "", ""])
            continue
        row: list[str] = []

        def measure(label: str = label, make: Callable[[list[nn.Parameter]], Job] = make, row: list[str] = row) -> str:
            nonlocal ours
            job = make(parameters)
            try:
                done, held = timed(job, before, machine)
            finally:
                if isinstance(job, WandbWay):
                    job.close()
            ours = ours or done
            rate = f"{3 * bytes_ / done / 1e6:.0f} GB/s" if label.startswith("**wstrack**") else ""
            row += [f"{done:.3f} ms", f"{held:.3f} ms", f"{done / lowest:.2f}x", f"{done / ours:.1f}x", rate]
            return ""

        if "wstrack" in label.partition(",")[0]:
            said = told.tried(f"times, {name}, {label}", measure)
        else:  # another's way that does not run here is no fault of ours
            try:
                said = measure()
            except Exception as error:  # noqa: BLE001  whatever it raises
                said = told.leave_out(f"times, {name}, {label}", f"{type(error).__name__}: {str(error)[:200]}")
        rows.append([label, *(row or [said, "", "", "", ""])])
        machine.free()
    for label, (done, held, crossings) in floors.items():
        rate = f"{crossings * bytes_ / done / 1e6:.0f} GB/s"
        rows.append([label, f"{done:.3f} ms", f"{held:.3f} ms", f"{done / lowest:.2f}x", "", rate])
    told.say(f"{name}, {count / 1e6:.1f}M weights in {len(shapes())} tensors{', dry: a few small ones' * machine.dry}:")
    told.table(["", "until done", "holds the thread", "of the floor", "of wstrack", "read and written"], rows)


def _not_done(name: str, label: str, size: int, machine: Machine) -> str | None:
    """Why a way is left out for these weights; None if it is not."""
    if label.startswith("NumPy") and LISTS[name][1] == torch.bfloat16:
        return "NumPy has no bfloat16"
    if "wandb" in label and (machine.left < 60 or size > 5e9 or (machine.dry and name != "ResNet-50")):
        return "it takes too long"
    if "snapshot='cpu'" in label and size > 5e9 and machine.left < 40:  # to pin so much memory takes seconds
        return "no time is left"
    copies = 2 if "distance" in label else 1
    if "snapshot='cpu'" in label and host_memory() < 3 * copies * size:  # pinned memory comes in powers of two
        return f"the host has no {3 * copies * size / 1e9:.0f} GB free"
    return None
