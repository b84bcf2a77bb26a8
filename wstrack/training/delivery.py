"""From the device to the trackers, off the training thread.

The training thread hands over a reading (a tensor on the device, its copy to the host under way) and goes on. One
thread waits for the copy, writes the recording and turns sums into metrics; each sink has a thread of its own, so that
a slow one holds up nobody. Queues are bounded: one that is full is thinned to every other entry, which is counted, and
what a sink missed is in the recording.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from wstrack.errors import WstrackError
from wstrack.measuring.meters.margins import MarginMeter
from wstrack.measuring.rows import Rows
from wstrack.metrics import NODES, RANKS, compute
from wstrack.rules.contract import Observed
from wstrack.rules.panel import Panel
from wstrack.runs.alerts import Alert
from wstrack.runs.manifest import Manifest
from wstrack.runs.recorder import Recorder
from wstrack.trackers.contract import Sample, Sink
from wstrack.trackers.summary import summarise, summarised
from wstrack.training.feed import Feed, Told, hand_over
from wstrack.training.host import OnHost
from wstrack.training.rates import table_of
from wstrack.training.reading import Reading
from wstrack.training.replicas import Adder, Replicas

__all__ = ["Delivery", "below"]

log = logging.getLogger("wstrack")


STILL = 3  # samples without any change after which it is said


@dataclass
class _Arriving:
    reading: Reading
    sums: OnHost
    skipped: OnHost | None
    products: OnHost | None = None
    margins: OnHost | None = None


_Taken = tuple[int, int, float, NDArray[np.float64]]  # step, interval, time, sums


def below(sums: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two tables of other layers and other sums as one; NaN where a layer does not have a sum.

    Example:
        >>> below(np.zeros((1, 2)), np.ones((1, 1)))
        array([[ 0.,  0., nan],
               [nan, nan,  1.]])
    """
    rows, columns = sums.shape
    table = np.full((rows + others.shape[0], columns + others.shape[1]), np.nan)
    table[:rows, :columns], table[rows:, columns:] = sums, others
    return table


class Delivery:
    """Takes readings from the training thread to the recording and the sinks.

    Args:
        manifest: what the recorder was opened with, and the sinks, but for `wstrack.trackers.summary`.
        rows: of what this process measures.
        sums: names of the columns of each reading's `sums`, then of its `products`, then of what the optimizers say.
        recorder: gets everything; None on a rank that only adds its sums.
        sinks: get the manifest's metrics.
        ranks: where the sums of several ranks are added up; None if a reading has those of whole layers.
        panel: the rules that look at each sample once it is recorded; None = none.
        nodes: what of readings' margins is made into sums, the last of them; None = none.
    """

    def __init__(
        self,
        manifest: Manifest,
        rows: Rows,
        sums: Sequence[str],
        recorder: Recorder | None,
        sinks: Sequence[Sink],
        ranks: Adder | None = None,
        panel: Panel | None = None,
        nodes: MarginMeter | None = None,
    ) -> None:
        self._manifest = manifest
        self._summarised = summarised(manifest) is not manifest
        self._rows = rows
        self._sums = tuple(sums)
        self._recorder = recorder
        self._ranks = ranks
        self._parted = 0  # samples since the ranks have fallen apart
        self._numel = np.array([layer.numel for layer in manifest.layers], dtype=np.float64)
        self._feeds = [Feed[Told](sink.name, partial(hand_over, sink), sink.close) for sink in sinks]
        self._panel = panel
        self._nodes = nodes
        dtypes: Sequence[str] = manifest.origin.get("dtypes") or ()
        self._dtype = dtypes[0] if len(dtypes) == 1 else ""
        self._recording = Feed[_Arriving]("recording", self._record)
        self._marks: Feed[tuple[int, str, OnHost | None, bool]] | None = None  # begun with the first
        self._replicas = Replicas(manifest.name, self._sums) if any(name in RANKS for name in self._sums) else None
        self.delivered = 0
        self.skipped = 0
        self._unchanged: int | None = 0  # samples so far in which nothing had changed; None once something has

    def put(self, reading: Reading) -> None:
        """Hand over a reading; called on the training thread, waits for nothing."""
        skipped = None
        if reading.skipped is not None:
            since = reading.skipped_since
            base = torch.zeros_like(reading.skipped) if since is None else since.to(reading.skipped.device)
            skipped = OnHost(torch.stack([reading.skipped, base]))
        products = None if reading.products is None else OnHost(reading.products)
        margins = None if reading.margins is None else OnHost(reading.margins)
        self._recording.put(_Arriving(reading, OnHost(reading.sums), skipped, products, margins))

    def mark(self, step: int, name: str, skipped: torch.Tensor | None, *, reset: bool) -> None:
        """Have a named step written down, like samples by a thread of its own; called on the training thread."""
        if self._recorder is None:
            return
        recorder = self._recorder

        def write(marks: Sequence[tuple[int, str, OnHost | None, bool]]) -> None:
            for count, named, without, anew in marks:
                recorder.mark(count - round(float(without.numpy())) if without else count, named, reset=anew)

        if self._marks is None:
            self._marks = Feed("marks", write)
        # A step that loss scaling turned into nothing is counted on the device alone.
        self._marks.put((step, name, None if skipped is None else OnHost(skipped.clone()), reset))

    def _record(self, batch: Sequence[_Arriving]) -> None:
        if self._ranks is None:
            self._write([sample for arriving in batch if (sample := self._arrived(arriving)) is not None])
            return
        for arriving in batch:  # one by one: the next may wait for a rank that never comes
            sample = self._arrived(arriving)
            if sample is not None and self._recorder is not None:
                self._write([sample])

    def _arrived(self, arriving: _Arriving) -> _Taken | None:
        """A sample with the sums of all layers; None if there is none to tell of."""
        reading, sums = arriving.reading, self._rows.added(arriving.sums.numpy())
        if arriving.products is not None:
            sums = below(sums, arriving.products.numpy())
        if told := [name for name in self._sums[sums.shape[1] :] if name not in (*RANKS, *NODES)]:
            of = self._rows.weight
            rates = np.full((len(sums), len(told)), np.nan)
            rates[: len(of)] = table_of(reading.rates, told, int(of[-1]) + 1)[of]
            sums = np.hstack([sums, rates])
        skipped, skipped_since = arriving.skipped.numpy().ravel() if arriving.skipped else (0.0, 0.0)
        step, interval = reading.step - round(skipped), reading.step - reading.since - round(skipped - skipped_since)
        margins = (
            None if arriving.margins is None or self._nodes is None else self._nodes.whole(arriving.margins.numpy())
        )
        if self._replicas is not None and self._ranks is None:
            sums = np.hstack([sums, np.zeros((len(sums), 1))])
        if self._ranks is not None:
            try:
                if self._replicas is not None:
                    sums = self._replicas.compared(step, sums, self._rows.layers, self._ranks)
                sums = self._ranks.total(
                    step, interval, reading.moment, sums, of_all=int(self._replicas is not None), also=margins
                )
            except WstrackError as error:
                if not self._parted:
                    log.error("%s (said once; training goes on, the samples from here on are lost)", error)
                self._parted += 1
                return None
            if self._replicas is not None and self._recorder is not None:
                self._replicas.say(step, sums[:, -1], self._manifest.layers)
        if margins is not None and self._nodes is not None:
            sums = np.hstack([sums, self._nodes.columns(margins, [layer.name for layer in self._manifest.layers])])
        if interval <= 0:  # every step since the snapshot was skipped by loss scaling: there is no change to tell
            self.skipped += 1
            return None
        return step, interval, reading.time, sums

    def _write(self, samples: Sequence[_Taken]) -> None:
        if not samples or self._recorder is None:
            return
        steps, intervals, times, taken = zip(*samples, strict=True)
        sums = np.stack(taken)
        try:
            self._recorder.append(steps, intervals, times, sums)
        finally:  # what could not be recorded can still be watched
            columns = {name: sums[:, :, column] for column, name in enumerate(self._sums)}
            of_layers = values = compute(self._manifest.metrics, columns, self._numel)
            if self._summarised:
                values = summarise(self._manifest.layers, values)
            for row, (step, interval, moment) in enumerate(zip(steps, intervals, times, strict=True)):
                sample = Sample(step, interval, moment, {name: array[row] for name, array in values.items()})
                said: Sequence[Alert] = ()
                if self._panel is not None:
                    here = {name: array[row] for name, array in of_layers.items()}
                    at = {name: array[row] for name, array in columns.items()}
                    seen = Observed(step, interval, self._manifest.layers, here, at, self._dtype)
                    said = self._judged(seen, self._panel)
                for feed in self._feeds:
                    feed.put((sample, said))
            self.delivered += len(samples)
            self._look_for_change(steps, columns)

    def _judged(self, seen: Observed, panel: Panel) -> list[Alert]:
        """What the rules say of a sample, as far as it is to be told; it is logged, and kept in the recording."""
        said = panel.worth_telling(panel.judge(seen))
        for alert in said:
            log.warning("%s", alert)
            try:
                if self._recorder is not None:
                    self._recorder.mark(alert.step, alert.mark, reset=False)
            except OSError as error:
                log.warning("recording: this alert cannot be kept: %s", error)
        return said

    def _look_for_change(self, steps: Sequence[int], columns: Mapping[str, NDArray[np.float64]]) -> None:
        """Say once if the first samples find that nothing at all has changed."""
        if self._unchanged is None:
            return
        moving = self._manifest.has("rwc")
        changes = [values[:, moving] for name, values in columns.items() if name in ("abs_change", "sq_change")]
        if not changes or any(values.any() for values in changes):
            self._unchanged = None
            return
        self._unchanged += len(steps)
        if self._unchanged >= STILL:
            self._unchanged = None
            log.warning(
                "no weight of any layer has changed in %d samples, up to step %d: is the learning rate 0, or are other "
                "weights trained than the model's own (torch.func.functional_call, copies in fp32)?",
                STILL,
                steps[-1],
            )

    def flush(self, timeout: float) -> bool:
        """Wait until all that was handed over is recorded and with the trackers; False if it takes longer or fails."""
        deadline = time.monotonic() + timeout
        recorded = self._recording.flush(timeout) and not self._recording.failed  # first: it is what feeds the sinks
        if self._recorder is not None:
            recorded = recorded and self._recorder.is_there()
        if self._marks is not None:
            recorded = self._marks.flush(max(0.0, deadline - time.monotonic())) and not self._marks.failed and recorded
        return all([recorded, *(feed.flush(max(0.0, deadline - time.monotonic())) for feed in self._feeds)])

    def close(self, timeout: float) -> None:
        """Deliver what is waiting, close the recording and the sinks, and say what did not arrive."""
        deadline = time.monotonic() + timeout
        drained = self._recording.close(timeout)
        if self._marks is not None:
            self._marks.close(max(1.0, deadline - time.monotonic()))
        lost = self._recording.lost + self._parted
        if self._ranks is not None and drained:
            self._ranks.close()
        if not drained:
            why = "for the disk" if self._ranks is None else "for another rank, or the disk"
            log.warning("recording: still waiting %s after %.0f s; what waits is left behind", why, timeout)
        if self._recorder is None:
            return
        if drained:
            try:
                self._recorder.close(lost=lost)
            except OSError as error:
                log.warning("recording: cannot be finished (%s); it stays readable as it is", error)
        for feed in self._feeds:
            if not feed.close(max(1.0, deadline - time.monotonic())):
                log.warning("%s: still busy after %.0f s; it is left behind", feed.name, timeout)
            elif feed.lost:
                kept = f"in {self._recorder.folder}"
                where = f"the recording {kept} has them" if not lost else f"the recording {kept} is not whole either"
                log.warning("%s: %d of %d samples did not arrive; %s", feed.name, feed.lost, self.delivered, where)
        if lost:
            log.warning("recording: %d samples were lost", lost)
