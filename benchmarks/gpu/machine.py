"""Where the steps run: on a CUDA device, or dry, on the CPU with the smallest substitute for what only a device has."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from wstrack.measuring.meters import cuda, kernels

__all__ = ["Machine", "Replayed", "here", "host_memory"]

Job = Callable[[], object]


class Replayed(Protocol):
    """A captured graph."""

    def replay(self) -> object:
        """Do again what was captured."""


class _Again:
    """In the place of a graph on the CPU: the job itself, without an optimizer's hooks, which no replay calls."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def replay(self) -> None:
        with _without_hooks():
            self._job()


@contextmanager
def _without_hooks() -> Iterator[None]:
    kept = [(hooks, dict(hooks)) for hooks in (_global_optimizer_pre_hooks, _global_optimizer_post_hooks)]
    for hooks, _ in kept:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in kept:
            hooks.update(before)


@dataclass(frozen=True)
class Machine:
    """What the steps run on.

    Attributes:
        device: that of the weights.
        dry: whether this is the CPU, and everything small.
        until: the time (of `time.time`) at which all should be over.
    """

    device: torch.device
    dry: bool
    until: float

    @property
    def left(self) -> float:
        """Seconds."""
        return self.until - time.time()

    @property
    def steps(self) -> int:
        """How many a small training has."""
        return 4 if self.dry else 8

    def synchronize(self) -> None:
        """Wait for the device."""
        if not self.dry:
            torch.cuda.synchronize()

    def free(self) -> int:
        """Bytes that can be had on the device; dry, none, so that nothing large is tried."""
        gc.collect()
        if self.dry:
            return 0
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]

    def side_stream(self) -> AbstractContextManager[object]:
        """Work on another stream, behind what is on this one."""
        if self.dry:
            return nullcontext()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(stream)

    def captured(self, job: Job) -> Replayed:
        """The job as a graph, after three turns on a side stream, as PyTorch asks for."""
        with self.side_stream():
            for _ in range(3):
                job()
        if self.dry:
            return _Again(job)
        torch.cuda.synchronize()  # what was allocated on the side stream is used on this one
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            job()
        return graph


def host_memory() -> int:
    """Bytes of the host's memory that can be had; 0 where nobody tells."""
    told = Path("/proc/meminfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), 0)


def here(*, dry: bool, until: float) -> Machine:
    """This process's machine. Dry, the CUDA meter takes tensors on the CPU, where Triton interprets its kernels."""
    if dry:
        cuda.unavailable = lambda: None  # type: ignore[assignment]
        cuda.refuses = lambda weight: None if weight.dtype in cuda.DTYPES else f"its dtype is {weight.dtype}"
        kernels.CHUNK = 2048  # an interpreter takes as long for a chunk of one element as for a full one
        torch.set_num_threads(1)
        return Machine(torch.device("cpu"), True, until)
    return Machine(torch.device("cuda", torch.cuda.current_device()), False, until)
