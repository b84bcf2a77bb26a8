"""One function for many runs, on the processors of this machine or on those of a Dask cluster: the same answers."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from types import ModuleType
from typing import Protocol, TypeVar

__all__ = ["Client", "Lost", "answers"]

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Client(Protocol):
    """What a `dask.distributed.Client` offers, and all that is asked of one."""

    def get_executor(self, **arguments: object) -> Executor:
        """Its cluster as an executor of the standard library."""

    def nthreads(self) -> dict[str, int]:
        """By worker, how many tasks it does at once."""


@dataclass(frozen=True)
class Lost:
    """In the place of an answer: the process that did this piece of work died, more than once."""


def answers(
    work: Callable[[Asked], Answer], asked: Sequence[Asked], *, client: Client | None = None, at_once: int | None = None
) -> Generator[tuple[Asked, Answer | Lost]]:
    """Each piece of work with its answer, as they come; only a few more are handed out than can be done at once.

    Args:
        work: a function that other processes can import.
        asked: what it is to be called with.
        client: of a Dask cluster, which gives the work of a worker that dies to another; None = processes here.
        at_once: how many may be done at a time, over all workers.

    Raises:
        whatever `work` raises.

    Example:
        >>> sorted(answers(abs, [-1, -2]))
        [(-2, 2), (-1, 1)]
    """
    if not asked:
        return
    workers = 1 if client is not None else min(os.cpu_count() or 1, len(asked), at_once or len(asked))

    def room() -> int:
        here = 4 * workers if client is None else 64 + 4 * sum(client.nthreads().values())
        return min(here, at_once or here)

    left, doubtful = deque(asked), deque[Asked]()
    while left:
        with _executor(client, workers) as executor:
            for one, answer in _done(executor, work, left, room):
                if isinstance(answer, Lost):
                    doubtful.append(one)
                else:
                    yield one, answer
    # A process died, and with it all that was at work there: each is done alone, which tells whose fault it is.
    while doubtful:
        with _executor(client, 1) as executor:
            yield from _done(executor, work, deque([doubtful.popleft()]), lambda: 1)


@contextmanager
def _executor(client: Client | None, workers: int) -> Iterator[Executor]:
    if client is not None:
        executor = client.get_executor(pure=False)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)
        return
    # Spawned: a fork of a process with threads (torch's, a tracker's) may hang.
    # Ctrl-C is for the process that hands out the work; these would each print that they were interrupted.
    pool = ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _done(
    executor: Executor, work: Callable[[Asked], Answer], left: deque[Asked], room: Callable[[], int]
) -> Iterator[tuple[Asked, Answer | Lost]]:
    """What comes of `left`, from which is taken what was handed out; ends early where the executor breaks."""
    going: dict[Future[Answer], Asked] = {}
    broken = False
    while going or (left and not broken):
        while left and not broken and len(going) < room():
            try:
                with _another_main():
                    going[executor.submit(work, left[0])] = left[0]
            except BrokenProcessPool:
                broken = True
            else:
                left.popleft()
        if not going:
            break
        finished, _ = wait(going, return_when=FIRST_COMPLETED)
        for future in finished:
            one = going.pop(future)
            try:
                answer: Answer | Lost = future.result()
            except BrokenProcessPool:
                broken = True
                answer = Lost()
            except Exception as error:
                # Dask's own, of a piece of work at which worker after worker died; its type cannot be had without Dask.
                if type(error).__name__ != "KilledWorker":
                    raise
                answer = Lost()
            yield one, answer


@contextmanager
def _another_main() -> Iterator[None]:
    """Processes are spawned as if by another script: they run that again, and few have the guard which that takes."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
