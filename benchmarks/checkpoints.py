"""How long a series of checkpoints takes to measure, and how much memory: `python benchmarks/checkpoints.py`.

Eight checkpoints of GPT-2's shapes (148 tensors, 124 million weights) in float32 and bfloat16, as safetensors and as
torch's files, against reading the same bytes once into a buffer (the floor, warm cache, one thread), and against the
script that people write: load both, subtract, add up. And one tensor of 4 GB in a sparse file, for the memory. Each
figure is from a process of its own; files lie in a temporary folder, 4 GB at a time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CHECKPOINTS = 8
REPEATS = 3
BUFFER = 1 << 20  # bytes: what the floor reads at a time


def shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of GPT-2."""
    found: dict[str, tuple[int, ...]] = {"wte.weight": (50257, 768), "wpe.weight": (1024, 768)}
    for block in range(12):
        for part, columns, rows in (("attn.c_attn", 768, 2304), ("attn.c_proj", 768, 768), ("mlp.c_fc", 768, 3072),
                                    ("mlp.c_proj", 3072, 768)):  # fmt: skip
            found[f"h.{block}.{part}.weight"], found[f"h.{block}.{part}.bias"] = (columns, rows), (rows,)
        for part in ("ln_1", "ln_2"):
            found[f"h.{block}.{part}.weight"], found[f"h.{block}.{part}.bias"] = (768,), (768,)
    return found | {"ln_f.weight": (768,), "ln_f.bias": (768,)}


def make(folder: Path, dtype: str, ending: str) -> None:
    """Write the checkpoints: a random walk."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = {name: torch.randn(shape) * 0.02 for name, shape in shapes().items()}
    for step in range(CHECKPOINTS):
        saved = {name: value.to(getattr(torch, dtype)) for name, value in state.items()}
        file = folder / f"step_{step}.{ending}"
        if ending == "pt":
            torch.save(saved, file)
        else:
            save_file(saved, file)
        for value in state.values():
            value.add_(torch.randn_like(value), alpha=1e-4)


def floor(folder: Path) -> None:
    """Read every byte once."""
    room = bytearray(BUFFER)
    for file in sorted(folder.iterdir()):
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(room):
                pass


def ours(folder: Path) -> None:
    """The run, measured."""
    import wstrack

    run = wstrack.pull(f"checkpoints:{folder}")
    assert not run.completeness.missing


def script(folder: Path) -> None:
    """What people write: load one file after the other, and compare tensor by tensor."""
    import torch
    from safetensors.torch import load_file

    before = None
    for file in sorted(folder.iterdir()):
        now = torch.load(file, map_location="cpu") if file.suffix == ".pt" else load_file(file)
        if before is not None:
            for name, value in now.items():
                if value.ndim > 1:
                    old, new = before[name].double(), value.double()
                    float((new - old).abs().sum() / old.abs().sum())
        before = now


WAYS: dict[str, Callable[[Path], None]] = {"floor": floor, "ours": ours, "script": script}


def timed(way: str, folder: Path) -> tuple[float, float]:
    """Seconds without the imports, and gigabytes at the peak, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--do", way, str(folder)], check=True, capture_output=True, text=True
    )
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def do(way: str, folder: Path) -> None:
    """Do one, and print its time and memory."""
    if way != "floor":
        import torch
        from safetensors.torch import load_file

        assert load_file
        assert torch
    if way == "ours":  # what is imported and compiled once is no part of it
        import wstrack.checkpoints.measuring
        from wstrack.measuring.meters import cpu

        cpu.unavailable()
        assert wstrack.pull
    start = time.perf_counter()
    WAYS[way](folder)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, peak()]))


def peak() -> float:
    """Gigabytes of this process at the most, which `getrusage` mixes up with those of the process that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6


def sparse(folder: Path) -> None:
    """Two files of one tensor of 4 GB, which are holes."""
    for step in (0, 1):
        header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 15, 1 << 15], "data_offsets": [0, 1 << 32]}}).encode()
        with (folder / f"step_{step}.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + (1 << 32))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--do", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do:
        do(given.do[0], Path(given.do[1]))
        return
    import torch

    print(
        f"{datetime.date.today()}; {os.cpu_count()} cores, Python {platform.python_version()}, torch "
        f"{torch.__version__}; load {os.getloadavg()[0]:.1f} at the start; medians of {REPEATS}\n"
    )
    print("| checkpoints | GB | reading them | wstrack | of the floor | script | of wstrack | peak: wstrack, script |")
    print("|---|---|---|---|---|---|---|---|")
    for dtype in ("float32", "bfloat16"):
        for ending in ("safetensors", "pt"):
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made)
                make(folder, dtype, ending)
                size = sum(file.stat().st_size for file in folder.iterdir()) / 1e9
                found = {way: [] for way in WAYS}
                for _ in range(REPEATS):
                    for way in WAYS:
                        found[way].append(timed(way, folder))
                seconds = {way: statistics.median(one for one, _ in runs) for way, runs in found.items()}
                peak = {way: max(one for _, one in runs) for way, runs in found.items()}
                print(
                    f"| {CHECKPOINTS} of GPT-2, {dtype}, .{ending} | {size:.2f} | {seconds['floor']:.2f} s "
                    f"| {seconds['ours']:.2f} s | {seconds['ours'] / seconds['floor']:.2f} | {seconds['script']:.2f} s "
                    f"| {seconds['script'] / seconds['ours']:.1f} | {peak['ours']:.2f}, {peak['script']:.2f} GB |",
                    flush=True,
                )
    with tempfile.TemporaryDirectory() as made:
        sparse(Path(made))
        seconds, peak = timed("ours", Path(made))
        print(f"| 2 of one tensor of 4 GB, sparse | 8.59 | – | {seconds:.2f} s | – | – | – | {peak:.2f} GB, – |")


if __name__ == "__main__":
    main()
