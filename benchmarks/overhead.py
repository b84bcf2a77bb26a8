"""What a sample costs, against the floor, against other tools and against training itself; prints Markdown.

Run it with `python benchmarks/overhead.py` (ten minutes, 5 GB; `wandb` and `cockpit-for-pytorch` are left out where
they are not installed). On a machine with CUDA it measures there as well.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from overhead_parts import parts_table
from overhead_peers import (
    Job,
    WandbWay,
    batched_way,
    cockpit_way,
    floor,
    foreach_way,
    item_way,
    numpy_way,
    resnet,
    weights,
)  # fmt: skip
from overhead_timing import clock, interleaved, measured, stepped
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

import wstrack
from wstrack.doctor import doctor

RWC = ("abs_change", "abs_previous")
BITS = (*RWC, "bits_low", "bits_high")
DISTANCE = (*RWC, "abs_from_start", "abs_start")
COUNTS = (*RWC, "changed", "changed_bf16")
ALL = (*COUNTS, "sq_change", "sq_previous", "ratio", "nonzero", "abs_current")
MODELS = ("ResNet-18", "ResNet-50", "GPT-2 small", "5000 tensors of 1024")


def makers(fast: str) -> dict[str, Callable[[list[nn.Parameter]], Job]]:
    """Everything that is compared with the floor."""
    ways: dict[str, Callable[[list[nn.Parameter]], Job]] = {
        f"**wstrack**, `{fast}`, `rwc`": partial(measured, sums=RWC, meter=fast),
        f"wstrack, `{fast}`, all metrics of one snapshot": partial(measured, sums=ALL, meter=fast),
        f"wstrack, `{fast}`, `rwc`, `changed`, `changed_bf16`": partial(measured, sums=COUNTS, meter=fast),
        f"wstrack, `{fast}`, `rwc` and `distance`": partial(measured, sums=DISTANCE, meter=fast),
        f"wstrack, `{fast}`, `rwc` and `fingerprint`": partial(measured, sums=BITS, meter=fast),
        "wstrack, `portable`, `rwc`": partial(measured, sums=RWC, meter="portable"),
        "NumPy, tensor by tensor": numpy_way,
        "a loop with `.item()`": item_way,
        "`_foreach_sub`, `_foreach_norm`, `_foreach_copy_`": foreach_way,
        "norms on the device, one copy (as OLMo)": batched_way,
    }
    if find_spec("cockpit"):
        ways["Cockpit's `UpdateSize`"] = cockpit_way
    if find_spec("wandb"):
        ways['`wandb.watch(log="all")`, offline'] = WandbWay
    ways["(a fused SGD step)"] = partial(stepped, torch.optim.SGD)
    ways["(a fused AdamW step)"] = partial(stepped, torch.optim.AdamW)
    return ways


def meters_table(name: str, device: str, repeats: int) -> None:
    """Our meters, other tools, and optimizer steps, on one model.

    Each takes turns with the floor and with our meter, on its own, or large models would need tens of gigabytes; an
    optimizer step goes before each. Ratios are to the floor and the meter of the same turns.
    """
    parameters = [nn.Parameter(parameter.detach().to(device)) for parameter in weights(name)]
    fast = "cuda" if device == "cuda" else "cpu"
    before, least, ours = stepped(torch.optim.SGD, parameters), floor(parameters), measured(parameters, RWC, fast)
    counts = (1, 2) if device == "cpu" else (1,)
    total = sum(parameter.numel() for parameter in parameters)
    print(f"\n{name}, {total / 1e6:.1f}M weights in {len(parameters)} tensors, on {device}:\n")
    print(
        "| | " + " | ".join(f"{count} thread{'s' * (count > 1)} | of the floor | of wstrack" for count in counts) + " |"
    )
    print("|---|" + "---|---|---|" * len(counts))
    for label, make in makers(fast).items():
        job = make(parameters)
        cells = []
        for count in counts:
            few = max(3, repeats // 4) if isinstance(job, WandbWay) else repeats
            taken = interleaved({"floor": least, "ours": ours, "this": job}, count, few, before)
            this, lowest, best = taken["this"], taken["floor"], taken["ours"]
            cells.append(f"{this * 1e3:.2f} ms | {this / lowest:.2f}x | {this / best:.1f}x")
        print(f"| {label} | {' | '.join(cells)} |", flush=True)
        if isinstance(job, WandbWay):
            job.close()
    taken = {count: interleaved({"floor": least}, count, repeats, before)["floor"] for count in counts}
    print("| (the floor) | " + " | ".join(f"{seconds * 1e3:.2f} ms | 1.00x | " for seconds in taken.values()) + " |")


class Silent(torch.optim.Optimizer):
    """An optimizer whose step does nothing, so that what is left is what watching adds to a step."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__(parameters, {})

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Nothing."""


def watched(
    model: nn.Module, every: int, threads: int, repeats: int, metrics: tuple[str, ...] = ("rwc",)
) -> tuple[float, float, float]:
    """Seconds that `watch` adds to a step, of a fused AdamW step, and of the floor; with the default choice of layers.

    What is added is the step of a silent optimizer with and without the watch. A real step goes before each, and moves
    the weights. The delivery thread and the writing of TensorBoard's files go on meanwhile.
    """
    torch.set_num_threads(threads)
    now = clock(threads, time.thread_time)
    parameters = list(model.parameters())
    real, silent = stepped(torch.optim.AdamW, parameters), Silent(parameters)
    least = floor([parameter for parameter in parameters if parameter.ndim >= 2])
    taken: dict[str, list[float]] = {"with": [], "without": [], "real": [], "floor": []}

    def timed(name: str, job: Job) -> None:
        begin = now()
        job()
        taken[name].append(now() - begin)

    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            timed("real", real)
            timed("without", silent.step)
            with wstrack.watch(model, silent, every=every, metrics=metrics, to=f"{folder}/{repeat}") as watcher:
                timed("real", real)
                silent.step()
                for _ in range(5):
                    timed("real", real)
                    timed("with", silent.step)
                    timed("real", real)
                    timed("floor", least)
                assert watcher.steps == 6
    median = {name: statistics.median(values) for name, values in taken.items()}
    return median["with"] - median["without"], median["real"], median["floor"]


def training_step(model: nn.Module, threads: int) -> float:
    """Seconds of a forward and backward pass and a fused AdamW step on 64 images of 32x32."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    images, labels = torch.randn(64, 3, 32, 32), torch.randint(0, 10, (64,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return interleaved({"step": step}, threads, 3)["step"]


def off_step() -> float:
    """Seconds that `watch` adds to a step that is not sampled.

    Steps with it and without its hooks, as in a process that never watched, take turns so short that the processor's
    clock is the same for both.
    """
    model = nn.Linear(2, 2)
    silent = Silent(list(model.parameters()))

    def many() -> float:
        begin = time.thread_time()
        for _ in range(300):
            silent.step()
        return (time.thread_time() - begin) / 300

    added = []
    with tempfile.TemporaryDirectory() as folder, wstrack.watch(model, every=10**9, to=folder):
        many()
        hooks = [(kept, dict(kept)) for kept in (_global_optimizer_pre_hooks, _global_optimizer_post_hooks)]
        for _ in range(500):
            for kept, _ in hooks:
                kept.clear()
            without = many()
            for kept, ours in hooks:
                kept.update(ours)
            added.append(many() - without)
    return statistics.median(added)


def watch_table(repeats: int) -> None:
    """What the public `watch` adds to training."""
    print("\nThrough `wstrack.watch`, its default layers, TensorBoard and recording included:\n")
    print("| | 1 thread | 2 threads |")
    print("|---|---|---|")
    large, small = resnet([3, 4, 6, 3], wide=True, classes=1000), resnet([2, 2, 2, 2], wide=False, classes=10)
    rows: dict[str, list[str]] = {}
    for threads in (1, 2):
        added, real, least = watched(large, 1, threads, repeats)
        rows.setdefault("ResNet-50: added to a sampled step", []).append(
            f"{added * 1e3:.2f} ms, {added / least:.2f}x the floor"
        )
        added, *_ = watched(large, 1, threads, repeats, ("rwc", "lr", "weight_decay"))
        rows.setdefault("- the same with `lr` and `weight_decay`", []).append(
            f"{added * 1e3:.2f} ms, {added / least:.2f}x the floor"
        )
        rows.setdefault("ResNet-50: a fused AdamW step alone", []).append(f"{real * 1e3:.2f} ms")
        added, real, least = watched(small, 1, threads, repeats)
        step = training_step(small, threads)
        rows.setdefault("ResNet-18, 64 images of 32x32: a training step", []).append(f"{step * 1e3:.0f} ms")
        rows.setdefault("- added to it with `every=1`", []).append(f"{added * 1e3:.2f} ms, {added / step:.2%}")
        rows.setdefault("- with the default `every=50`, on average", []).append(
            f"{(added + 49 * off_step()) / 50 / step:.3%}"
        )
    rows["a step that is not sampled"] = [f"{off_step() * 1e6:.1f} µs", ""]
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")


PEAK = """
import pathlib, re, sys, torch
sys.path[:0] = {path!r}
from overhead_peers import {way}, weights
from wstrack.measuring.meters import choose
def hwm(name): return 1024 * int(re.search(name + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
small = [torch.nn.Parameter(torch.ones(9))]
job = {job}
small = job(small); small(); small()
parameters = weights("ResNet-50"); tracked = sum(p.nbytes for p in parameters)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = hwm("VmRSS"); run = job(parameters); run(); run(); run()
print((hwm("VmHWM") - before) / tracked)
"""


def memory_table() -> None:
    """Peak memory of ResNet-50, in fresh processes."""
    import subprocess
    import sys

    ours = "(lambda sums, meter: lambda ps: (lambda m: (m.snapshot(), m.sample)[1])(choose(ps, sums, meter=meter)))"
    jobs = {
        "**wstrack**, `cpu`, `rwc`": f"{ours}({RWC!r}, 'cpu')",
        "wstrack, `cpu`, `rwc` and `distance`": f"{ours}({DISTANCE!r}, 'cpu')",
        "wstrack, `portable`, `rwc`": f"{ours}({RWC!r}, 'portable')",
        **{way.__name__: way.__name__ for way in (numpy_way, item_way, foreach_way, batched_way)},
    }
    print(
        "\nPeak memory beyond the weights, in copies of the weights (ResNet-50, resident set):\n\n| | peak |\n|---|---|"
    )
    for name, job in jobs.items():
        way = job if job.isidentifier() else "floor"
        code = PEAK.format(path=sys.path[:1], way=way, job=job)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        print(f"| {name.replace('_way', '')} | {float(done.stdout):.2f} |")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    logging.getLogger("wstrack").setLevel(logging.ERROR)
    found = doctor()["versions"]
    load = os.getloadavg()[0]
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", "torch", "compiler", "cuda"))
    today = datetime.datetime.now(datetime.timezone.utc)
    print(f"{today:%Y-%m-%d}; {found['cpu']}; {versions}; load {load:.1f} at the start; medians of {repeats}.")
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        for name in MODELS:
            meters_table(name, device, repeats)
        parts_table(device, repeats)
    watch_table(repeats)
    memory_table()
    print(f"\nLoad at the end: {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
