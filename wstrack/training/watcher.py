"""Watcher: follows a model's optimizer steps, and has a sample taken when one is due."""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from typing import TYPE_CHECKING

from wstrack.training.measurement import CLOSE_TIMEOUT
from wstrack.training.steps import Steps

if TYPE_CHECKING:
    import threading
    from pathlib import Path
    from types import TracebackType

    from torch import nn
    from torch.optim import Optimizer

    from wstrack.runs.run import Run
    from wstrack.training.acting import Acting
    from wstrack.training.followed import Followed
    from wstrack.training.measurement import Measured
    from wstrack.training.settings import Settings

__all__ = ["Watcher"]

log = logging.getLogger("wstrack")


class Watcher:
    """What `watch` returns: follows a model's optimizer steps until it is closed. A context manager.

    Args:
        model: what trains; only a weak reference to it is kept.
        optimizer: the only one to follow; None = every one that holds a layer.
        settings: what was asked for.
        followed: the model's layers.
        measured: takes the samples, here or elsewhere.
        acting: acts on what rules say, after each sample; None = nobody does.
        begin: the steps that the model has seen.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None,
        settings: Settings,
        followed: Followed,
        measured: Measured,
        acting: Acting | None,
        *,
        begin: int,
    ) -> None:
        self.name = measured.name
        self._measured = measured
        self._followed = followed
        self._acting = acting
        self._layers = len(followed.parameters)
        self._every = settings.every
        self._single_step = settings.single_step
        self._steps = Steps(
            followed.parameters, optimizer, look_up=self._look_up, newcomers=self._meet, unheld=self._warn_of_no_step,
            begins=self._before_step if settings.single_step else None, ended=self._sample,
            stepping=self._stepping if settings.rates else None,
        )  # fmt: skip
        measured.begin(begin)
        self._steps.count = begin
        self._steps.due = (begin // self._every + 1) * self._every
        self._closed = False
        self._closing: threading.Thread | None = None
        self._process = os.getpid()
        self._steps.follow()
        atexit.register(self.close)
        # The model's end ends the watch, or a search over hyper-parameters would keep every model's weights.
        self._end = weakref.finalize(model, self._abandon)
        self._end.atexit = False

    @property
    def steps(self) -> int:
        """Optimizer steps counted so far, those of the run that was resumed included."""
        return self._steps.count

    @property
    def recording(self) -> Path:
        """The recording's folder; with ranks, on the first one's machine.

        Raises:
            WstrackError: another rank measures this model, and knows.
        """
        return self._measured.folder

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"every {self._every} steps"
        return f"<Watcher {self.name!r}: {self._layers} layers, {state}, at step {self.steps}, {self._measured.where}>"

    def step(self) -> None:
        """Count one step, and sample if one is due: for loops whose weights no torch optimizer changes.

        Call it outside of a function that `torch.compile` compiles: inside, each count would be compiled anew.

        Raises:
            ValueError: with `window="step"`, which must see the weights before the step as well.
        """
        if self._single_step:
            raise ValueError("window='step' needs a torch optimizer to follow; use window='interval' with step()")
        if not self._closed:
            self._steps.one()

    def mark(self, name: str, *, reset: bool = False) -> None:
        """Name the step that the run is at: the begin of an epoch or a task, a change of the data.

        It is kept in the recording, read back as `Run.marks`, and drawn in reports. Call it between two steps; where
        several processes measure one model, in each. Marking the same step twice by one name is marking it once.

        Args:
            name: of what begins here, as in "epoch 3".
            reset: whether `distance` counts from the weights as they are now, and no more from the start of training.

        Raises:
            ValueError: an empty name.
            TypeError: a name that is no text.

        Example:
            >>> import tempfile, torch, wstrack
            >>> model = torch.nn.Linear(4, 4)
            >>> with wstrack.watch(model, to=tempfile.mkdtemp(), every=1) as watcher:
            ...     for task in (1, 2):
            ...         watcher.mark(f"task {task}")
            ...         watcher.step()
            >>> watcher.run().marks
            ((0, 'task 1'), (1, 'task 2'))
        """
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, not {type(name).__name__}")
        if not name.strip():
            raise ValueError("name is empty; say what begins here, as in watcher.mark('epoch 3')")
        if not self._closed:
            self._steps.end_round()  # a sample that is due is of before
            self._measured.mark(self._steps, name, reset=reset)

    def flush(self, timeout: float = CLOSE_TIMEOUT) -> bool:
        """Wait until every sample so far is recorded and with the trackers, between two steps.

        Returns:
            False if that takes over `timeout` seconds, or if some could not be recorded: the disk is full, say, or the
            run's folder is gone.
        """
        if self._closed:
            self.close()  # which waits for one that goes on in the background
            return True
        self._steps.end_round()
        return self._measured.flush(timeout)

    def run(self) -> Run:
        """The run so far, from its recording.

        Raises:
            WstrackError: another rank records it.
        """
        self.flush()
        return self._measured.run()

    def close(self) -> None:
        """Stop measuring, deliver what is waiting, finish the recording. Once is enough; more does no harm."""
        if os.getpid() != self._process:  # a forked child must not finish its parent's files
            return
        if self._closed:
            if self._closing is not None:
                self._closing.join(CLOSE_TIMEOUT)
            return
        acting, self._acting = self._acting, None  # nothing is acted on with a last sample: training is over
        self._steps.end_round()
        self._acting = acting
        self._detach()
        self._measured.close(self._steps)

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- what the steps call ----------------------------------------------------------------------------------------

    def _look_up(self) -> None:
        """Find the layers again, which may be other parameters by now."""
        self._measured.replace(self._followed.look(self._steps))

    def _meet(self, newcomers: list[nn.Parameter]) -> None:
        """Parameters of an optimizer that are no layers: say so once if they would have been, had they trained then."""
        missed = self._followed.missed(newcomers)
        if not missed:
            return
        more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
        log.warning(
            "%s: %s%s began to train after watch() and are not measured. Call watch() again now, or choose layers "
            "that are unfrozen later from the start, as in layers=lambda name, p: p.ndim >= 2",
            self.name,
            ", ".join(missed[:3]),
            more,
        )

    def _warn_of_no_step(self) -> None:
        log.warning(
            "%s: optimizers have stepped, and none that holds one of the layers: nothing is measured so far. Where "
            "weights are trained through copies of them (fp32 master weights, apex O2, DeepSpeed's ZeRO 1 and 2), call "
            "step() on the watcher after each step",
            self.name,
        )

    def _before_step(self) -> None:
        if not self._closed:
            self._measured.before_step(self._steps, self._look_up)

    def _stepping(self, optimizer: Optimizer) -> None:
        if not self._closed:
            self._measured.stepping(self._steps, optimizer)

    def _sample(self) -> None:
        self._steps.due = (self._steps.count // self._every + 1) * self._every
        self._steps.look_up_again()
        due = self._steps.due
        # What rules say of this very sample waits for the next, however soon they say it.
        heard = [] if self._acting is None else self._acting.heard()
        self._measured.sample(self._steps, self._look_up)
        if self._acting is not None and not self._closed:
            self._steps.due = due  # in a process that does not measure as well
            for layer in self._acting.act(heard):
                self._measured.mark(self._steps, f"froze {layer}", reset=False)

    # ---- ending -----------------------------------------------------------------------------------------------------

    def _abandon(self) -> None:
        """Close without waiting: this runs inside garbage collection, when the model is gone."""
        if os.getpid() != self._process:  # as in close(): a forked child's copy of the model is gone, not the model
            return
        self._detach()
        self._closing = self._measured.close_in_background()

    def _detach(self) -> None:
        """Let go of the optimizers, the weights and the snapshot: the handle may live on."""
        self._closed = True
        if self._acting is not None:
            self._acting.close()
        self._end.detach()
        atexit.unregister(self.close)
        self._steps.unfollow()
        self._followed.clear()
        self._measured.release()
