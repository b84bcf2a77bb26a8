"""How the processes that train one model agree on what to act on: all of them at the same sample, or none.

With each sample, the process that judges says what is to be acted on, and the others ask. This goes through the
key-value store of `torch.distributed` and waits for nothing but the first process to come to the same sample.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from wstrack.errors import WstrackError
from wstrack.runs.alerts import Alert
from wstrack.training.plan import format_ranks
from wstrack.training.processes import default_store

__all__ = ["Agreement", "agreement_of"]

log = logging.getLogger("wstrack")

START = timedelta(minutes=10)  # that processes wait for each other when a watch begins: one may load a checkpoint
SAMPLE = timedelta(minutes=10)  # and with a sample, as collectives wait by default
KEPT = 64  # samples whose word is kept for those who come late
_END = "end"


def agreement_of(ranks: Sequence[int] | None) -> Agreement | None:
    """The agreement of a watch that acts; None where this process alone trains the model.

    Args:
        ranks: those that hold the model between them; None = every process holds it whole.

    Raises:
        WstrackError: they have no store by which they could find each other.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return None
    ranks = tuple(ranks if ranks is not None else range(dist.get_world_size()))
    return Agreement(ranks) if len(ranks) > 1 else None


class Agreement:
    """One watch's, of which each process calls the methods alike and in this order.

    Args:
        ranks: the global ranks of the processes; the first one judges.
    """

    def __init__(self, ranks: tuple[int, ...]) -> None:
        from torch.distributed.distributed_c10d import PrefixStore

        shared = default_store()
        if shared is None:
            raise WstrackError("act: torch.distributed has no store here (MPI), by which processes could agree")
        store = shared.clone() if hasattr(shared, "clone") else shared  # waiting on a clone keeps nobody else waiting
        self._ranks, self._rank = ranks, dist.get_rank()
        self.judges = self._rank == ranks[0]
        among = f"wstrack/acting/{hashlib.sha256(repr(ranks).encode()).hexdigest()[:12]}"
        self._store: Any = PrefixStore(f"{among}/{store.add(f'{among}/watches of {self._rank}', 1)}", store)
        self._samples = 0

    def begin(self, step: int) -> int:
        """The step at which the run goes on, which the first process knows.

        Raises:
            WstrackError: a process does not watch the model, and would not act.
        """
        self._store.set(f"here/{self._rank}", str(step))
        keys = [f"here/{rank}" for rank in self._ranks]
        try:
            self._store.wait(keys, START)
        except RuntimeError as error:
            absent = [rank for rank, key in zip(self._ranks, keys, strict=True) if not self._store.check([key])]
            raise WstrackError(
                f"act: watch() has not been called on {format_ranks(absent)}; where rules act, each process of a "
                "training calls it, so that all act at the same step"
            ) from error
        return int(self._store.get(keys[0]))

    def agree(self, alerts: Sequence[Alert]) -> list[Alert]:
        """What all processes act on with this sample; `alerts` are those of the first one."""
        if self._store is None:
            return []
        self._samples += 1
        key = str(self._samples)
        try:
            if self.judges:
                self._store.set(key, json.dumps([asdict(alert) for alert in alerts]))
                if self._samples > KEPT:
                    self._store.delete_key(str(self._samples - KEPT))
                return list(alerts)
            self._store.wait([key], SAMPLE)
            said = self._store.get(key).decode()
        except RuntimeError as error:
            log.warning("rank %d acts on no rule any more: the first rank does not answer: %s", self._rank, error)
            said = _END
        if said == _END:
            self._store = None
            return []
        return [Alert(**alert) for alert in json.loads(said)]

    def close(self) -> None:
        """Keep nobody waiting for what will not come."""
        store, self._store = self._store, None
        if store is not None and self.judges:
            with contextlib.suppress(RuntimeError):  # the store is gone, and with it whoever would ask
                store.set(str(self._samples + 1), _END)
