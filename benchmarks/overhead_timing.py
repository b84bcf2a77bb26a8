"""How the benchmarks of the meters take times: jobs by turns, and the jobs that all of them need."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from overhead_peers import Job
from torch import nn

from wstrack.measuring.meters import choose
from wstrack.measuring.parts import Piece


def clock(threads: int, processor: Callable[[], float] = time.process_time) -> Callable[[], float]:
    """CPU seconds, of the process or by `processor`, where one thread does all the work, else those of the clock."""
    return processor if threads == 1 and not torch.cuda.is_available() else time.perf_counter


def interleaved(jobs: Mapping[str, Job], threads: int, repeats: int, before: Job = lambda: None) -> dict[str, float]:
    """The median seconds of each job; the jobs take turns, so that a busy machine hits all alike.

    `before` goes before each of them and is not counted: all find the caches as it leaves them.
    """
    torch.set_num_threads(threads)
    now = clock(threads)
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            before()
            _synchronize()
            begin = now()
            job()
            _synchronize()
            if repeat:  # the first round compiles, allocates and warms up
                seconds[name].append(now() - begin)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measured(
    parameters: list[nn.Parameter],
    sums: tuple[str, ...],
    meter: str,
    pieces: Mapping[int, Sequence[Piece]] | None = None,
) -> Job:
    """A sample of one of our meters."""
    made = choose(parameters, sums, pieces=pieces, meter=meter)
    made.snapshot()
    return made.sample


def stepped(kind: type[torch.optim.Optimizer], parameters: list[nn.Parameter]) -> Job:
    """A fused optimizer step."""
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    return kind(parameters, lr=1e-6, fused=True).step
