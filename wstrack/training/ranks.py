"""The ranks that train one model together: how they agree at the start, add up their sums, and notice who falls out.

At the start each rank offers what it holds, the first one merges the offers and tells the rest; this goes through the
key-value store of `torch.distributed`, so a rank that never comes is waited for no longer than said, and named. Sums
meet afterwards in one all_reduce a sample, over a gloo group of our own, on the delivery thread: training never waits
for it, its own collectives are left alone, and the last samples still meet when `destroy_process_group` was called.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from wstrack.errors import WstrackError
from wstrack.measuring.rows import Rows
from wstrack.measuring.sharding import LocalShard
from wstrack.runs.manifest import Layer
from wstrack.training.plan import MAX_STEP_SKEW, Plan, disagreement, format_ranks, merged, places_of, replica_ids
from wstrack.training.processes import default_store

__all__ = ["Ranks"]

log = logging.getLogger("wstrack")

START = timedelta(minutes=10)  # how long the ranks wait for each other when watching begins: one may load a checkpoint
HINT = timedelta(seconds=30)  # and after how long they say so
SAMPLE = timedelta(minutes=10)  # how long a sample waits for the slowest rank, on the delivery thread
FAILED = "failed: "  # in the place of an offer


class Ranks:
    """The ranks of one watch. Every method up to `connect` is called by all of them, in this order.

    Args:
        ranks: their global ranks; the first one records, and writes to the trackers.
        whose: what a layer that is whole here is called among the copies of it, see `replica_ids`: "" = what looks
            alike is alike; this rank's own where the user chose the ranks; one word for all that are to be compared.
    """

    def __init__(self, ranks: tuple[int, ...], *, whose: str = "") -> None:
        from torch.distributed.distributed_c10d import PrefixStore

        self.ranks = ranks
        self.rank = dist.get_rank()
        self.writes = self.rank == ranks[0]
        self._whose = whose
        self.chosen = whose.startswith("rank ")
        shared = default_store()
        if shared is None:
            raise WstrackError("torch.distributed has no store here (MPI), by which the ranks could find each other")
        # Waiting on a clone keeps nobody else waiting.
        store = shared.clone() if hasattr(shared, "clone") else shared
        among = f"wstrack/{hashlib.sha256(repr(ranks).encode()).hexdigest()[:12]}"
        number = store.add(f"{among}/watches of {self.rank}", 1)
        self._store: Any = PrefixStore(f"{among}/{number}", store)
        self._apart: str | None = None
        self._group: Any = None

    def offer(self, rows: Rows, shards: Sequence[LocalShard], settings: Mapping[str, object]) -> None:
        """Tell the others what this rank holds of which layers, and what `watch` was called with.

        Args:
            rows: its layers.
            shards: what it holds of the whole ones.
            settings: of the watch.
        """
        copies = replica_ids(shards, self._whose)
        names = [copies[weight] for weight in rows.weight]
        counts = [shards[weight].counts for weight in rows.weight]
        self._offered = list(zip(rows.layers, names, counts, strict=True))
        packed = _packed([dict(settings), [asdict(layer) for layer in rows.layers], names])
        # By content: most ranks offer the same, and the first one reads it once.
        digest = hashlib.sha256(packed.encode()).hexdigest()
        self._store.set(f"offer/{digest}", packed)
        self._store.set(f"rank/{self.rank}", digest)

    def counts(self, shard: LocalShard) -> bool:
        """Whether what a rank holds of a weight is of the copy that the first rank holds, too, of each."""
        return self.writes if shard.ranks is None else self.ranks[0] in shard.ranks

    def withdraw(self, error: BaseException) -> None:
        """Tell the others that this rank cannot take part."""
        if self._store is None:
            return
        try:
            if self.writes:
                self._publish_error(error)
            else:
                self._store.set(f"rank/{self.rank}", f"{FAILED}{type(error).__name__}: {error}")
        except RuntimeError:  # the store is gone: they know that something is wrong
            pass
        self.close()

    def plan(self, tell: Callable[[tuple[Layer, ...]], Mapping[str, Any]]) -> Plan:
        """What the first rank makes of all offers; `tell` is called there, and what it raises is raised on all ranks.

        Raises:
            ValueError: the ranks called `watch` differently.
            WstrackError: a rank did not call it at all, or the first one failed.
        """
        if not self.writes:
            self._wait(["plan"], lambda: "the first rank has not begun this watch")
            said = _unpacked(self._store.get("plan"))
            if "error" in said:
                raise ValueError(said["error"]) if said["mistake"] else WstrackError(said["error"])
            return Plan(tuple(map(Layer.from_dict, said["layers"])), tuple(said["owners"]), said["told"])
        try:
            plan = self._merge(tell)
        except BaseException as error:
            self._publish_error(error)
            raise
        self._publish({"layers": [asdict(layer) for layer in plan.layers], "owners": plan.owners, "told": plan.told})
        return plan

    def connect(self, plan: Plan) -> None:
        """Connect the ranks, and note which of this rank's layers count here, and where they stand in the plan.

        Raises:
            WstrackError: they cannot be connected.
        """
        from torch.distributed.distributed_c10d import PrefixStore

        places = places_of(plan, [(layer, copy) for layer, copy, _ in self._offered])
        self._counted, self._where, self._everywhere = [], [], places
        for number, (place, (_, copy, counts)) in enumerate(zip(places, self._offered, strict=True)):
            owner = plan.owners[place].get(copy)
            if counts and owner in (-1, self.rank):
                self._counted.append(number)
                self._where.append(place)
        self._layers = len(plan.layers)
        self._moments: deque[tuple[int, NDArray[np.float64]]] = deque()  # when each rank took the latest samples
        del self._offered
        try:
            self._group = dist.ProcessGroupGloo(
                PrefixStore("gloo", self._store), self.ranks.index(self.rank), len(self.ranks), SAMPLE
            )
            # Whoever is connected already may close at once, and would break off those who still connect.
            self._group.barrier().wait()
        except (RuntimeError, AttributeError) as error:  # AttributeError: torch was built without gloo
            raise WstrackError(
                f"the ranks cannot be connected over gloo, where their sums are added up: {error}; GLOO_SOCKET_IFNAME "
                "names the network interface to use"
            ) from error
        self._began = time.monotonic()  # the same moment on all ranks, whatever their clocks say
        if self.writes:  # connected, they have all read it
            for key in self._read:
                self._store.delete_key(key)

    def apart(self, step: int, bits: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 for each of this rank's layers that does not hold the bits that it holds in the first rank, (layers here,).

        0 for one that does, NaN where either rank could not take them.

        The first rank's go to all others; nothing is gathered.

        Args:
            step: of the sample.
            bits: of this rank's layers, (layers here, sums).

        Raises:
            WstrackError: a rank came no more.
        """
        first = np.zeros((self._layers, bits.shape[1]))
        bits = bits % 2.0**32  # sums over other chunks, as of another meter, are alike only so
        first[self._everywhere] = bits
        options = dist.BroadcastOptions()
        options.rootRank = 0
        self._meet(step, lambda group: group.broadcast([torch.from_numpy(first)], options))
        theirs = first[self._everywhere]
        unlike: NDArray[np.float64] = (theirs != bits).any(axis=1).astype(np.float64)
        unlike[np.isnan(theirs + bits).any(axis=1)] = np.nan
        return unlike

    def total(
        self,
        step: int,
        interval: int,
        moment: float,
        sums: NDArray[np.float64],
        *,
        of_all: int = 0,
        also: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """The sums of all layers, (layers of the plan, sums).

        Args:
            step, interval: of the sample.
            moment: when it was taken, by this process's `time.monotonic()`.
            sums: of this rank's layers, (layers here, sums).
            of_all: how many of the last sums count in each rank that holds a layer, not in its owner alone.
            also: more numbers, as many in each rank, that are added up in place.

        Raises:
            WstrackError: a rank took another step for this one, or came no more; and from then on always.
        """
        size = len(self.ranks)
        width = self._layers * sums.shape[1]
        vector = np.zeros(width + (0 if also is None else len(also)) + 3 * size)
        table = vector[:width].reshape(self._layers, -1)
        if also is not None:
            vector[width : -3 * size] = also
        table[self._where] = sums[self._counted]
        if of_all:
            table[self._everywhere, -of_all:] = sums[:, -of_all:]
        # A column of its own for what each rank says of the sample: whoever is elsewhere is then known to all.
        said = vector[-3 * size :].reshape(3, size)
        said[:, self.ranks.index(self.rank)] = step, interval, moment - self._began
        self._meet(step, lambda group: group.allreduce([torch.from_numpy(vector)]))
        if also is not None:
            also[:] = vector[width : -3 * size]
        earlier = self._moments[0] if self._moments else None
        self._apart = disagreement(self.ranks, said, earlier)
        if self._apart is not None:
            raise WstrackError(self._apart)
        self._moments.append((step, said[2].copy()))
        while len(self._moments) > 1 and self._moments[1][0] <= step + interval - MAX_STEP_SKEW:
            self._moments.popleft()
        return table

    def _meet(self, step: int, begin: Callable[[Any], Any]) -> None:
        """Do something together with all other ranks, at the sample of a step."""
        if self._apart is not None:
            raise WstrackError(self._apart)
        try:
            self._store.set(f"at/{self.rank}", str(step))
            begin(self._group).wait()
        except RuntimeError as error:
            self._apart = f"{self._missing(step)}: {error}"
            raise WstrackError(self._apart) from error

    def close(self) -> None:
        """Let go of the connections."""
        self._group = self._store = None
        self._apart = self._apart or "this rank has closed its watch"

    def _merge(self, tell: Callable[[tuple[Layer, ...]], Mapping[str, Any]]) -> Plan:
        keys = [f"rank/{rank}" for rank in self.ranks]
        self._wait(keys, lambda: f"watch() has not been called on {format_ranks(self._absent(keys))}")
        digests = [self._store.get(key).decode() for key in keys]
        failed = [
            f"rank {rank}: {digest.removeprefix(FAILED)}"
            for rank, digest in zip(self.ranks, digests, strict=True)
            if digest.startswith(FAILED)
        ]
        if failed:
            raise WstrackError(f"{len(failed)} of {len(self.ranks)} ranks could not begin to watch; {failed[0]}")
        self._read = ["plan", *(f"offer/{digest}" for digest in dict.fromkeys(digests))]
        known = {digest: _unpacked(self._store.get(f"offer/{digest}")) for digest in dict.fromkeys(digests)}
        offers = {rank: known[digest] for rank, digest in zip(self.ranks, digests, strict=True)}
        for name, wanted in offers[self.rank][0].items():
            others = {rank: settings[name] for rank, (settings, _, _) in offers.items() if settings[name] != wanted}
            if others:
                rank, other = next(iter(others.items()))
                raise ValueError(
                    f"{name}={wanted!r} on rank {self.rank} and {other!r} on rank {rank}; call watch() alike"
                )
        layers, owners = merged(
            {rank: (list(map(Layer.from_dict, held)), copies) for rank, (_, held, copies) in offers.items()}
        )
        return Plan(layers, owners, tell(layers))

    def _publish_error(self, error: BaseException) -> None:
        mistake = isinstance(error, ValueError | TypeError)
        self._publish({"error": f"rank {self.rank}: {type(error).__name__}: {error}", "mistake": mistake})

    def _publish(self, said: Mapping[str, Any]) -> None:
        self._store.set("plan", _packed(said))

    def _wait(self, keys: list[str], why: Callable[[], str]) -> None:
        deadline = time.monotonic() + START.total_seconds()
        told = False
        while True:
            left = deadline - time.monotonic()
            try:
                self._store.wait(keys, HINT if left > HINT.total_seconds() else timedelta(seconds=max(left, 0.001)))
                return
            except dist.DistNetworkError as error:
                raise WstrackError(f"rank 0, which keeps the store of torch.distributed, is gone: {error}") from error
            except RuntimeError as error:
                said = f"{why()}; a model that is sharded over {len(self.ranks)} ranks is watched by all of them"
                if time.monotonic() >= deadline:
                    raise WstrackError(said) from error
                if not told:
                    log.warning("%s; waiting", said)
                told = True

    def _absent(self, keys: Sequence[str]) -> list[int]:
        return [rank for rank, key in zip(self.ranks, keys, strict=True) if not self._store.check([key])]

    def _missing(self, step: int) -> str:
        """Who did not come to the sample of a step, as far as can be told."""
        try:
            absent = self._absent([f"at/{rank}" for rank in self.ranks])
            last = {rank: int(self._store.get(f"at/{rank}")) for rank in self.ranks if rank not in absent}
        except RuntimeError:
            return f"at step {step} rank 0, which keeps the store of torch.distributed, is gone"
        late = sorted({*absent, *(rank for rank, its in last.items() if its < step)})
        if not late:
            return f"the sums of step {step} could not be added up, for a rank is gone"
        where = ", ".join(f"rank {rank} at {f'step {last[rank]}' if rank in last else 'the start'}" for rank in late)
        return f"{format_ranks(late)} did not come to the sample of step {step} (last seen: {where})"


def _packed(said: object) -> str:
    return base64.b64encode(zlib.compress(json.dumps(said, default=str).encode())).decode()


def _unpacked(text: bytes) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(text)))
