"""Real processes of `torch.distributed` on gloo that stay while many tests use them: to start one takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

__all__ = ["Processes"]

TIMEOUT = 120.0  # seconds that a test's function may take in all ranks; what hangs must fail


class Processes:
    """`size` processes, each with its rank, that call functions together."""

    def __init__(self, size: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(size):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, rank, size, port), daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def __call__(self, function: Callable[..., Any], folder: Path, **arguments: Any) -> list[Any]:
        """What `function(rank, **arguments)` returns in each rank, run in `folder`; None for one that died in it."""
        folder.mkdir(parents=True, exist_ok=True)
        for pipe in self._pipes:
            pipe.send((function, str(folder), arguments))
        answers: list[tuple[Any, str | None]] = []
        for rank, pipe in enumerate(self._pipes):
            if not pipe.poll(TIMEOUT):
                raise TimeoutError(f"rank {rank} did not answer within {TIMEOUT:.0f} s")
            try:
                answers.append(pipe.recv())
            except EOFError:
                answers.append((None, None))
        for rank, (_, error) in enumerate(answers):
            assert error is None, f"rank {rank}:\n{error}"
        return [result for result, _ in answers]

    def stop(self) -> None:
        """End them, whatever they do."""
        for process in self._processes:
            process.kill()
            process.join()


def _serve(pipe: Connection, rank: int, size: int, port: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    while True:
        try:
            function, folder, arguments = pipe.recv()
        except EOFError:
            return
        os.chdir(folder)
        try:
            pipe.send((function(rank, **arguments), None))
        except BaseException:  # noqa: BLE001  whatever it is, the test shall see it
            pipe.send((None, traceback.format_exc()))
