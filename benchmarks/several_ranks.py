"""What a sample of a sharded model costs, against what others do; prints Markdown.

Run it with `python benchmarks/several_ranks.py` (two minutes, 5 GB). Two processes of one thread each hold a model
sharded by FSDP2 between them, over gloo on the CPU. A sample of ours is taken by a step of a watched optimizer that
changes nothing; what the ranks send each other goes on in the background, and is waited for in a row of its own. All
others wait for it themselves. Times are of the clock, of rank 0; the ranks meet before each job.
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

import torch
import torch.distributed as dist
import torch.multiprocessing
from overhead import Silent
from overhead_peers import floor, weights
from torch import nn
from torch.distributed.fsdp import fully_shard

import wstrack
from wstrack.doctor import doctor

MODELS = ("ResNet-50", "GPT-2 small", "1000 tensors of 1024")
PORT = 29561
Job = Callable[[], object]


def local(parameter: nn.Parameter) -> torch.Tensor:
    """The shard that is held here."""
    return parameter.detach().to_local()  # type: ignore[operator]


def batched_way(parameters: list[nn.Parameter]) -> Job:
    """As OLMo does: sums of each shard on the device, all of them reduced at once and brought to the host."""
    before = [local(parameter).clone() for parameter in parameters]

    @torch.no_grad()
    def run() -> list[float]:
        sizes = []
        for p, parameter in zip(before, parameters, strict=True):
            w = local(parameter)
            sizes += [(w - p).abs().sum(), p.abs().sum()]
            p.copy_(w)
        vector = torch.stack(sizes)
        dist.all_reduce(vector)
        return vector.cpu().tolist()

    return run


def parameter_way(parameters: list[nn.Parameter]) -> Job:
    """As Composer does: an all_reduce and an `.item()` for each sum of each tensor."""
    before = [local(parameter).clone() for parameter in parameters]

    @torch.no_grad()
    def run() -> list[float]:
        values = []
        for p, parameter in zip(before, parameters, strict=True):
            w = local(parameter)
            sizes = []
            for size in ((w - p).abs().sum(), p.abs().sum()):
                dist.all_reduce(size)
                sizes.append(size.item())
            values.append(sizes[0] / (sizes[1] + 1e-30))
            p.copy_(w)
        return values

    return run


def dtensor_way(parameters: list[nn.Parameter]) -> Job:
    """The arithmetic of a single process on DTensors, which reduce when they are read."""
    before = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def run() -> list[float]:
        values = []
        for p, w in zip(before, parameters, strict=True):
            values.append((w - p).abs().sum().full_tensor().item() / (p.abs().sum().full_tensor().item() + 1e-30))
            p.copy_(w)
        return values

    return run


def measured(rank: int, name: str, repeats: int, folder: str) -> None:
    """Print the rows of one model, on rank 0."""
    logging.getLogger("wstrack").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{PORT}", rank=rank, world_size=2)
    torch.manual_seed(0)
    shapes = [nn.Parameter(torch.randn(32, 32)) for _ in range(1000)] if name == MODELS[2] else weights(name)
    model = nn.ParameterList(parameter for parameter in shapes if parameter.ndim >= 2)
    fully_shard(model)
    parameters = list(model.parameters())
    silent = Silent(parameters)
    watcher = wstrack.watch(model, silent, every=1, to=folder)
    jobs: dict[str, Job] = {
        "floor (rank's own shard)": floor([nn.Parameter(local(parameter)) for parameter in parameters]),
        "**wstrack**, training thread": silent.step,
        "wstrack, until rank 0 has recorded it": lambda: (silent.step(), watcher.flush()),
        "one all_reduce, as OLMo": batched_way(parameters),
        "an all_reduce for each sum": parameter_way(parameters),
        "DTensor arithmetic": dtensor_way(parameters),
    }
    seconds: dict[str, list[float]] = {job: [] for job in jobs}
    for repeat in range(repeats + 1):
        for title, job in jobs.items():
            watcher.flush()
            dist.barrier()
            begin = time.perf_counter()
            job()
            if repeat:
                seconds[title].append(time.perf_counter() - begin)
    dist.barrier()
    watcher.close()
    if rank == 0:
        median = {title: statistics.median(values) for title, values in seconds.items()}
        least, ours = list(median.values())[:2]
        print(f"\n{name}: {len(parameters)} layers, {sum(p.numel() for p in parameters) / 1e6:.1f}M parameters\n")
        print("| | ms | x floor | x ours |\n|---|---|---|---|")
        for title, value in median.items():
            print(f"| {title} | {value * 1e3:.2f} | {value / least:.1f} | {value / ours:.1f} |")
    dist.destroy_process_group()


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    found = doctor()["versions"]
    today = datetime.datetime.now(datetime.timezone.utc)
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", "torch"))
    print(
        f"{today:%Y-%m-%d}; {found['cpu']}; {versions}; 2 ranks on gloo; medians of {repeats}; "
        f"load {os.getloadavg()[0]:.1f} at the start."
    )
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(measured, (name, repeats, folder), nprocs=2)


if __name__ == "__main__":
    main()
