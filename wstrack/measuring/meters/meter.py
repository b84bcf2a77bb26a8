"""The meter: keeps a snapshot of the layers, and has each measured by the fastest backend that is right for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from wstrack.measuring.meters import cpu, offload
from wstrack.measuring.meters.backends import BACKENDS, PLAIN, backend_for
from wstrack.measuring.meters.memory import Pair, Snapshot, dense, needs_bits, row_major
from wstrack.measuring.meters.table import upload
from wstrack.measuring.parts import Piece

__all__ = ["Meter"]


class Meter:
    """Takes raw sums (see `wstrack.metrics`) of a list of parameters. Never synchronises with the device.

    Where parameters are, and their shapes, strides and dtypes, is looked up again at every snapshot and sample, so that
    nothing is read where it no longer is. A layer that cannot be compared is NaN in that sample and measured again from
    then on: it was replaced by one of another shape, dtype or device, or it had no values (freed, on the meta device).

    Args:
        parameters: what to measure.
        sums: names of raw sums.
        pieces: by the number of a parameter, what to measure of it, each by itself; of those that are not here, all.
        standings: where the elements of each parameter stand in its whole layer (`Pair.standing`), for sums of bits;
            None = each is a whole layer.
        only: the one backend to use besides the portable one; None = the fastest for each parameter.
        on_host: whether the snapshots of parameters on accelerators are kept in the host's memory.

    Example:
        >>> w = torch.tensor([1.0, -2.0])
        >>> meter = Meter([w], ("abs_change", "abs_previous"))
        >>> meter.snapshot()
        >>> _ = w.add_(0.5)
        >>> meter.sample().tolist()
        [[1.0, 3.0]]
        >>> meter = Meter([w], ("abs_change", "abs_previous"), pieces={0: [Piece(0, 0, 1), Piece(0, 1, 1)]})
        >>> meter.snapshot()
        >>> _ = w.add_(0.5)
        >>> meter.sample().tolist()
        [[0.5, 1.5], [0.5, 1.5]]
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        sums: Sequence[str],
        *,
        pieces: Mapping[int, Sequence[Piece]] | None = None,
        standings: Sequence[torch.Tensor] | None = None,
        only: str | None = None,
        on_host: bool = False,
    ) -> None:
        self._parameters = list(parameters)
        self._sums = tuple(sums)
        self._pieces = {index: (self._parameters[index].shape, tuple(some)) for index, some in (pieces or {}).items()}
        counts = [len(self._pieces[index][1]) if index in self._pieces else 1 for index in range(len(self._parameters))]
        self._first = np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).tolist()  # the row of each parameter
        self._standings = None if standings is None else list(standings)
        self._only = only
        self._on_host = on_host
        self._kept = [Snapshot() for _ in self._parameters]
        plain = all(type(one) in PLAIN for one in self._parameters)
        self._places = cpu.Places() if plain and only != "portable" and cpu.unavailable() is None else None
        self._known: object = None
        self._plans: list[tuple[torch.Tensor, Callable[[], torch.Tensor]]] | None = None
        self._home = torch.device("cpu")

    def replace(self, index: int, parameter: torch.Tensor | None) -> None:
        """Measure another parameter in the place of one, or none any more."""
        self._parameters[index] = torch.empty(0, device="meta") if parameter is None else parameter
        if type(self._parameters[index]) not in PLAIN:
            self._places = None

    def backends(self) -> dict[str, int]:
        """How many layers each backend measures."""
        return dict(
            Counter(backend_for(parameter.detach(), self._sums, self._only)[0] for parameter in self._parameters)
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Of a sample."""
        return self._first[-1], len(self._sums)

    @torch.no_grad()
    def snapshot(self) -> None:
        """Remember every layer as it is now; the next sample measures from here."""
        self._look()
        for parameter, kept in zip(self._parameters, self._kept, strict=True):
            self._remember(kept, parameter)

    @torch.no_grad()
    def restart(self) -> None:
        """Take every layer as it is now to be the start, from which a distance counts."""
        self._look()
        self._plans = None
        for parameter, kept in zip(self._parameters, self._kept, strict=True):
            if kept.start is not None:
                kept.start.copy_(parameter.detach(), non_blocking=True)

    def release(self) -> None:
        """Give the memory of the snapshot back until the next one; what reaches further back is kept."""
        self._plans = None
        for kept in self._kept:
            kept.previous = None

    @torch.no_grad()
    def sample(self) -> torch.Tensor:
        """Raw sums of the change since the snapshot, which moves to now; on the accelerator if there is one.

        Returns:
            (rows, sums), a row a parameter in their order, or a row for each of its pieces; float64, or float32 on
            devices that have no float64.
        """
        self._look()
        if self._plans is None:
            self._plans = self._arranged()
        taken = [(where, sums().to(self._home, non_blocking=True)) for where, sums in self._plans]
        missing = [index for index, kept in enumerate(self._kept) if kept.previous is None]
        for index in missing:
            self._remember(self._kept[index], self._parameters[index])
        if len(taken) == 1 and len(taken[0][0]) == self._first[-1]:
            return taken[0][1]
        dtype = torch.float32 if self._home.type == "mps" else torch.float64
        result = torch.full(self.shape, torch.nan, dtype=dtype, device=self._home)
        for where, rows in taken:
            result.index_copy_(0, where, rows.to(dtype))
        return result

    def _look(self) -> None:
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "weights cannot be measured inside the capture of a CUDA graph, whose replay would not repeat it; "
                "keep optimizer.step() out of the graph, or call step() on the watcher after each replay"
            )
        if not self._moved():
            return
        self._plans = None
        for parameter, kept in zip(self._parameters, self._kept, strict=True):
            kept.look(parameter.detach())

    def _moved(self) -> bool:
        """Whether any parameter is not where and as it was when last looked at."""
        if self._places is not None:
            return self._places.moved(self._parameters)
        known = self._known
        self._known = [
            (_address(one), one.shape, one.stride(), one.dtype, one.device, one.layout) for one in self._parameters
        ]
        return known != self._known

    def _remember(self, kept: Snapshot, parameter: torch.Tensor) -> None:
        host = self._on_host and parameter.device.type != "cpu" and dense(parameter)
        if kept.remember(parameter.detach(), self._sums, on_host=host):
            self._plans = None

    def _arranged(self) -> list[tuple[torch.Tensor, Callable[[], torch.Tensor]]]:
        """Layers that are measured together, and the functions that do it."""
        groups: dict[tuple[str, torch.device, bool], tuple[list[int], list[Pair]]] = {}
        for index, (parameter, kept) in enumerate(zip(self._parameters, self._kept, strict=True)):
            pair = self._placed(index, kept.pair(parameter.detach()))
            if pair is None:
                continue
            name, _ = backend_for(pair.weight, self._sums, self._only)
            far = pair.previous.device != pair.weight.device
            if (
                far and pair.standing is not None and not pair.dense
            ):  # batches are copied as they lie, which is not how they stand in the layer
                continue
            rows, pairs = groups.setdefault((name, pair.weight.device, far), ([], []))
            cut = self._cut(index, pair)
            rows.extend(range(self._first[index], self._first[index] + len(cut)))
            pairs.extend(cut)
        devices = [device for _, device, _ in groups]
        # Small results of several devices meet on an accelerator: copying from one to the host would wait for it.
        self._home = next((device for device in devices if device.type != "cpu"), torch.device("cpu"))
        return [
            (
                upload(np.array(rows), self._home),
                (partial(offload.plan, BACKENDS[name]) if far else BACKENDS[name].plan)(pairs, self._sums),
            )
            for (name, _, far), (rows, pairs) in groups.items()
        ]

    def _placed(self, index: int, pair: Pair | None) -> Pair | None:
        """With the places of its elements, where they are asked for."""
        if pair is None or not needs_bits(self._sums):
            return pair
        standing = None if self._standings is None else self._standings[index]
        return replace(pair, standing=standing if standing is not None and standing.shape == pair.weight.shape else
                       row_major(pair.weight.shape))  # fmt: skip

    def _cut(self, index: int, pair: Pair) -> list[Pair]:
        """What is measured of a layer; nothing if it has another shape now, and nobody knows where its pieces are."""
        if index not in self._pieces:
            return [pair]
        shape, pieces = self._pieces[index]
        return [pair.each(piece.of) for piece in pieces] if pair.weight.shape == shape else []


def _address(tensor: torch.Tensor) -> tuple[int, int]:
    try:
        return tensor.data_ptr(), tensor.untyped_storage().nbytes()
    except RuntimeError:  # a tensor without memory of its own
        return id(tensor), 0
