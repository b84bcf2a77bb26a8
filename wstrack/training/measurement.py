"""What a sample is made of: a meter that takes sums, and the delivery that they are handed to.

`Measurement` measures here; `MeasuredByRank0` stands in its place where another process measures the same weights, and
does nothing. A watcher is told which of the two it has, and never asks.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from wstrack.errors import WstrackError
from wstrack.runs.recording import read_recording
from wstrack.training.processes import announced
from wstrack.training.reading import Reading

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from wstrack.measuring.meters.margins import MarginMeter
    from wstrack.measuring.meters.meter import Meter
    from wstrack.measuring.meters.products import ProductMeter
    from wstrack.runs.manifest import Layer
    from wstrack.runs.run import Run
    from wstrack.training.opening import Opened
    from wstrack.training.rates import GroupRates, Rates
    from wstrack.training.steps import Steps

__all__ = ["CLOSE_TIMEOUT", "Measured", "MeasuredByRank0", "Measurement"]

log = logging.getLogger("wstrack")

CLOSE_TIMEOUT = 60.0  # seconds that close() waits for a tracker


class Measured(Protocol):
    """What a watcher needs of whoever measures."""

    name: str
    """Of the run."""

    last_step: int
    """The last step of which the run has a sample already."""

    where: str
    """Where the recording is, for people."""

    @property
    def folder(self) -> Path:
        """Where the recording is."""

    def begin(self, step: int) -> None:
        """Take the snapshot to be the weights at this step."""

    def replace(self, tensors: Mapping[int, torch.Tensor | None]) -> None:
        """Measure layers, by number, in other tensors from now on; None = one is not to be had."""

    def before_step(self, steps: Steps, look_up: Callable[[], None]) -> None:
        """Take the snapshot that the step which begins now is compared with; `look_up` finds the layers again."""

    def stepping(self, steps: Steps, optimizer: Optimizer) -> None:
        """Note what an optimizer says of its layers, that is about to step with the sample."""

    def sample(self, steps: Steps, look_up: Callable[[], None]) -> None:
        """Take a sample at the step that has just been counted, and hand it over. Never raises."""

    def mark(self, steps: Steps, name: str, *, reset: bool) -> None:
        """Write down a named step, the last one that was counted; `reset`: the distance counts from the weights now."""

    def flush(self, timeout: float) -> bool:
        """Wait until every sample so far has arrived; False if that takes longer."""

    def run(self) -> Run:
        """The run so far."""

    def release(self) -> None:
        """Let go of the weights and the snapshot."""

    def close(self, steps: Steps) -> None:
        """Deliver what is waiting, and say what did not come of it."""

    def close_in_background(self) -> threading.Thread | None:
        """Deliver what is waiting without keeping the caller; the thread that does it."""


class Measurement:
    """Measures here.

    Args:
        meter: has the snapshot from which the first sample is taken.
        opened: what samples are delivered to.
        rates: notes what the optimizers say.
        products: takes the sums of weights that adapters add to, perhaps of none.
        single_step: whether the change of the sampled step alone is measured.
        sharded: whether other ranks wait for this one's sums.
        nodes: takes the margins of weights; None = nobody asks.
    """

    def __init__(
        self,
        meter: Meter,
        opened: Opened,
        rates: Rates,
        products: ProductMeter,
        *,
        single_step: bool,
        sharded: bool,
        nodes: MarginMeter | None = None,
    ) -> None:
        self.name, self.last_step, self.where = opened.name, opened.last, str(opened.folder)
        self.folder: Path = opened.folder
        self.delivery = opened.delivery
        self._meter: Meter | None = meter
        self._rates = rates
        self._products = products
        self._unknown = False  # whether it was said that no optimizer is known
        self._single_step = single_step
        self._sharded = sharded
        self._nodes = nodes
        self._since = 0
        self._skipped_since: torch.Tensor | None = None
        self._taken = self._failed = 0

    def begin(self, step: int) -> None:
        """Take the snapshot to be the weights at this step."""
        self._since = step

    def replace(self, tensors: Mapping[int, torch.Tensor | None]) -> None:
        """Measure layers, by number, in other tensors from now on; None = one is not to be had."""
        if self._meter is not None:
            for index, tensor in tensors.items():
                self._meter.replace(index, tensor)

    def before_step(self, steps: Steps, look_up: Callable[[], None]) -> None:
        """Take the snapshot that the step which begins now is compared with."""
        meter = self._meter
        if meter is None:  # closed meanwhile, on another thread
            return
        self._since, self._skipped_since = steps.count, steps.skipped
        try:
            look_up()
            meter.snapshot()
            self._products.snapshot()
        except Exception as error:  # noqa: BLE001  a failed allocation, say: training is worth more than a sample
            self._fail(steps, error)

    def stepping(self, steps: Steps, optimizer: Optimizer) -> None:
        """Note what an optimizer says of its layers, that is about to step with the sample."""
        try:
            self._rates.note(optimizer)
        except Exception as error:  # noqa: BLE001  as above
            self._fail(steps, error)

    def sample(self, steps: Steps, look_up: Callable[[], None]) -> None:
        """Take a sample at the step that has just been counted, and hand it over. Never raises."""
        step, skipped = steps.count, steps.skipped
        self._taken += 1
        meter = self._meter
        if meter is None:  # closed meanwhile, on another thread or by a signal
            return
        try:
            look_up()
            sums = meter.sample()
            products = self._products.sample()
            margins = None if self._nodes is None else self._nodes.sample()
            if self._single_step:
                meter.release()
                self._products.release()
        except Exception as error:  # noqa: BLE001  as above: a sample never raises in the training loop
            meter.release()  # some layers may have moved on: the next sample is missing and begins anew
            self._products.release()
            self._fail(steps, error)
            if not self._sharded:
                return
            # The other ranks have theirs, and must not be left waiting.
            sums, products = torch.full(meter.shape, torch.nan, device="cpu"), None
            margins = None if self._nodes is None else self._nodes.nothing()
        try:
            rates = self._rates.take(steps.optimizers)
            self.delivery.put(Reading(sums, step, self._since, skipped, self._skipped_since, rates, products, margins))
            self._say_if_unknown(rates)
        except Exception as error:  # noqa: BLE001  as above
            self._fail(steps, error)
        self._since, self._skipped_since = step, skipped

    def mark(self, steps: Steps, name: str, *, reset: bool) -> None:
        """Write down a named step, the last one that was counted; `reset`: the distance counts from the weights now."""
        try:
            if reset and self._meter is not None:
                self._meter.restart()
            self.delivery.mark(steps.count, name, steps.skipped, reset=reset)
        except Exception as error:  # noqa: BLE001  as above
            self._fail(steps, error)

    def flush(self, timeout: float) -> bool:
        """Wait until every sample so far has arrived; False if that takes longer."""
        return self.delivery.flush(timeout)

    def run(self) -> Run:
        """The run so far, from its recording."""
        run = read_recording(self.folder)
        return run.with_origin(failed_samples=self._failed) if self._failed else run

    def release(self) -> None:
        """Let go of the weights and the snapshot."""
        self._meter = None
        self._products.release()
        if self._nodes is not None:
            self._nodes.release()

    def close(self, steps: Steps) -> None:
        """Deliver what is waiting, and say if there was nothing."""
        self.delivery.close(CLOSE_TIMEOUT)
        if self._taken:
            return
        why = f"{steps.count} steps were counted and the first sample was due at step {steps.due}"
        if not steps.seen and not steps.count:
            why = "no optimizer stepped any of the layers that were watched"
        log.warning("%s: no sample was taken: %s", self.name, why)

    def close_in_background(self) -> threading.Thread:
        """Deliver what is waiting without keeping the caller; the thread that does it."""
        thread = threading.Thread(target=self.delivery.close, args=(CLOSE_TIMEOUT,), name="wstrack closing")
        thread.start()
        return thread

    def _say_if_unknown(self, rates: Sequence[GroupRates]) -> None:
        if rates or self._unknown or not self._rates.names:
            return
        self._unknown = True
        log.warning(
            "%s: no torch optimizer holds one of the layers: their learning rates are not known, and NaN (said once)",
            self.name,
        )

    def _fail(self, steps: Steps, error: Exception) -> None:
        if not self._failed:
            log.warning("sample at step %d: %s: %s (said once)", steps.count, type(error).__name__, error)
        self._failed += 1


class MeasuredByRank0:
    """Stands for the measurement on a rank whose weights rank 0 holds too, and measures."""

    def __init__(self, name: str, layers: Sequence[Layer]) -> None:
        self.name, self.last_step, self.where = name, 0, "measured by rank 0"
        self._layers = tuple(layers)
        self._looked = False

    @property
    def folder(self) -> Path:
        """Nowhere here.

        Raises:
            WstrackError: always.
        """
        raise WstrackError("rank 0 measures and records this model; ask its watcher")

    def begin(self, step: int) -> None:
        """Nothing."""

    def replace(self, tensors: Mapping[int, torch.Tensor | None]) -> None:
        """Nothing."""

    def before_step(self, steps: Steps, look_up: Callable[[], None]) -> None:
        """Nothing."""

    def stepping(self, steps: Steps, optimizer: Optimizer) -> None:
        """Nothing."""

    def sample(self, steps: Steps, look_up: Callable[[], None]) -> None:
        """See once whether rank 0 does measure these layers: by now it has begun, if it ever does."""
        steps.due = sys.maxsize
        looked, self._looked = self._looked, True
        if not looked and not announced(self._layers):
            log.warning(
                "%s: this rank is not measured, and rank 0 watches no model with these layers. Where each rank holds a "
                "part of one model, pass process_group=torch.distributed.group.WORLD to watch() on all of them; where "
                "each trains its own, a group of its own",
                self.name,
            )

    def mark(self, steps: Steps, name: str, *, reset: bool) -> None:
        """Nothing."""

    def flush(self, timeout: float) -> bool:
        """Nothing is waiting here."""
        return True

    def run(self) -> Run:
        """Not here.

        Raises:
            WstrackError: always.
        """
        return read_recording(self.folder)

    def release(self) -> None:
        """Nothing."""

    def close(self, steps: Steps) -> None:
        """Nothing."""

    def close_in_background(self) -> None:
        """Nothing."""
