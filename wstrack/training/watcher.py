"""watch(): attaches to optimizer steps and decides when a sample is due."""

from __future__ import annotations

import atexit
import logging
import operator
import os
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import torch
    from torch import nn
    from torch.distributed import ProcessGroup
    from torch.optim import Optimizer

    from wstrack.measuring.layers import Selection
    from wstrack.measuring.meters.meter import Meter
    from wstrack.runs.run import Run
    from wstrack.training.delivery import Delivery
    from wstrack.training.lookup import Lookup
    from wstrack.training.ranks import Ranks

__all__ = ["Watcher", "watch"]

# Nothing heavy is imported here: `import wstrack` imports this module, and must bring in neither torch nor a tracker.

log = logging.getLogger("wstrack")
_watchers: weakref.WeakKeyDictionary[nn.Module, Watcher] = weakref.WeakKeyDictionary()

# Facts that a run has anyway, beside those of `_facts`: from us, or from the tracker that it is read back from.
RESERVED_FACTS = (
    "name", "every", "window", "meter", "snapshot", "reference", "references", "source", "closed", "match", "files",
    "tracking_store", "failed_samples", "display_name", "id", "entity", "project", "group", "tags", "state",
)  # fmt: skip
CLOSE_TIMEOUT = 60.0  # seconds that close() waits for a tracker


def watch(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    to: object = None,
    every: int = 50,
    window: str = "interval",
    metrics: str | Sequence[str] = ("rwc",),
    layers: Selection = None,
    name: str | None = None,
    facts: Mapping[str, str | float | bool] | None = None,
    start: int | None = None,
    group: ProcessGroup | None = None,
    snapshot: str = "device",
    meter: str | None = None,
) -> Watcher:
    """Measure how much each layer changes while `model` trains, and log it.

    One argument is enough: whichever torch optimizer steps this model's parameters is followed. A step is one real
    optimizer step: not a micro-batch, and not one that loss scaling skipped. With several optimizers on one model (a
    GAN, an optimizer per parameter) a step is a round: it ends when each layer's optimizer has stepped, or when one
    that has already stepped is about to step again. Of an optimizer that wraps another (SAM, Lookahead) the step of
    the inner one counts. The model is not touched and stays picklable.

    Args:
        model: what trains.
        optimizer: follow this one only; None = every optimizer that holds one of the model's layers.
        to: where samples go. None = every tracker active in this process, or else TensorBoard under `runs/`; or a
            tracker's name, a folder, a tracker's own run or writer object, a Sink, or a list of these.
        every: steps between samples. A sample reads the weights once; a step in between costs a few comparisons.
        window: "interval" = the change since the previous sample, as in the paper; "step" = the change of the sampled
            step alone, which can be compared between cadences and with the rule of thumb of 1e-3.
        metrics: one or several of `wstrack.metrics.METRICS`.
        layers: None = trainable parameters of two or more dimensions, as in the paper; "all"; a regular expression or
            several; or a callable (name, parameter) -> bool. A callable sees frozen parameters too, so that layers that
            are unfrozen later can be watched from the start (`layers=lambda name, p: p.ndim >= 2`): they read 0 until
            then.
        name: the run's name. A run that is there already is resumed: steps go on from its last one.
        facts: what else is to be known of the run, as in {"data": "cifar10", "seed": 1}: kept with it in every tracker
            and in `Run.facts`, for runs to be held against each other by (`wstrack.report(compare="data")`).
        start: the optimizer steps that the model has seen: those of the checkpoint that it was loaded from (save
            `watcher.steps` with it). Steps go on from there, and those that the run has samples of are not logged
            again. None = the last step that the run has.
        group: the processes that hold this model between them, where the model does not show it: a pipeline stage or
            experts in each. All of them call `watch`, and their layers make one run. None = all processes of
            `torch.distributed` if any layer is sharded (FSDP, tensor parallel); otherwise rank 0 measures, and the
            others do not.
        snapshot: where the copy of the weights is kept: "device" = beside them; "cpu" = in the host's memory, for
            training that leaves no room on the device. A sample then takes as long as the copies over the bus.
        meter: "auto" = the fastest for each layer; "cuda", "cpu" or "portable" = this one; None = what the environment
            variable WSTRACK_METER says, or else "auto". `wstrack doctor` tells which there are.

    Returns:
        A handle. It closes itself when the interpreter exits, when the model is gone, or when the model is watched
        again (also if that then fails to open a tracker).

    Raises:
        ValueError: an argument that cannot be, or a model without layers.
        TypeError: an argument of the wrong type.
        WstrackError: a tracker or the recording cannot be opened. Later failures of a tracker never reach training.

    Example:
        >>> import tempfile, torch, wstrack
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with wstrack.watch(model, to=tempfile.mkdtemp(), every=2) as watcher:
        ...     for _ in range(4):
        ...         model(torch.randn(16, 8)).square().mean().backward()
        ...         optimizer.step()
        >>> watcher.run().series["rwc"].shape  # samples at steps 2 and 4, of two layers
        (2, 2)
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    model = model._modules.get("_orig_mod") or model  # what torch.compile gave may be compiled anew, or be let go of
    from wstrack.measuring.sharding import reshard
    from wstrack.training.ranks import find_ranks

    reshard(model)
    ranks = find_ranks(group, model)
    try:
        watcher = Watcher(
            model, optimizer, to, every, window, metrics, layers, name, facts, start, group, ranks, snapshot, meter
        )
    except BaseException as error:
        if ranks is not None:
            ranks.withdraw(error)
        raise
    _watchers[model] = watcher
    return watcher


class Watcher:
    """What `watch` returns: follows a model's optimizer steps until it is closed. A context manager."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None,
        to: object,
        every: int,
        window: str,
        metrics: str | Sequence[str],
        layers: Selection,
        name: str | None,
        facts: Mapping[str, str | float | bool] | None,
        start: int | None,
        group: ProcessGroup | None,
        ranks: Ranks | None,
        snapshot: str,
        meter: str | None,
    ) -> None:
        from torch.optim import Optimizer

        from wstrack.measuring.layers import predicate, select
        from wstrack.measuring.meters import choose
        from wstrack.metrics import sums_needed
        from wstrack.runs.run import Manifest
        from wstrack.trackers.registry import name_in
        from wstrack.training.lookup import Lookup
        from wstrack.training.opening import open_delivery
        from wstrack.training.ranks import measured_by_rank_0
        from wstrack.training.steps import Steps

        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string, not {type(name).__name__}")
        if isinstance(every, bool) or not hasattr(every, "__index__") or operator.index(every) < 1:
            raise ValueError(f"every={every!r} must be a whole number of steps, at least 1")
        every = operator.index(every)
        if start is not None and (isinstance(start, bool) or not hasattr(start, "__index__") or start < 0):
            raise ValueError(f"start={start!r} must be a whole number of steps, at least 0")
        if window not in ("interval", "step"):
            raise ValueError(f"window={window!r} must be 'interval' or 'step'")
        names = (metrics,) if isinstance(metrics, str) else tuple(dict.fromkeys(metrics))
        if not names:
            raise ValueError("metrics is empty; name at least one, as in metrics=('rwc',)")
        sums = sums_needed(names)
        selected = select(model, layers)
        if name is not None and not name.strip():
            raise ValueError("name is empty; leave it out to have one made")
        known = _facts(model)
        given = _checked(facts or {}, known)

        self._about = tuple(layer for layer, _ in selected)
        self._shares = [share for _, share in selected]
        self._held: list[torch.Tensor | None] = [share.local() for share in self._shares]
        self._sharded = [index for index, share in enumerate(self._shares) if not share.whole]
        parameters = [share.parameter for share in self._shares]
        self._lookup: Lookup | None = Lookup(model, parameters)
        self._ranks = ranks
        self._idle = self._ranks is None and group is None and measured_by_rank_0()
        self._shape = len(selected), len(sums)
        if not self._idle:
            self._meter: Meter = choose([share.local() for share in self._shares], sums, meter=meter, snapshot=snapshot)
        # A callable has seen all there is; it may also hold the model, which must not live on for that.
        self._wanted = None if self._idle or callable(layers) else predicate(layers)
        self._known = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
        self._alone = window == "step"
        self._steps = Steps(
            parameters, optimizer, ask=self._look_up, strangers=self._meet,
            begins=self._begins if self._alone else None, ended=self._sample,
        )  # fmt: skip
        if optimizer is not None and not self._steps.holds(optimizer):
            raise ValueError("optimizer holds none of the model's layers; pass the one that trains this model")

        if model in _watchers:
            _watchers.pop(model).close()
        self._every = every
        self._sampled = 0
        if self._idle:
            self.name, self._folder, self._recorded = name or name_in(to) or type(model).__name__, None, 0
        else:
            self._meter.snapshot()
            self._meter.sample()  # whatever is compiled or laid out at first use is so now, not while training
            if self._alone:
                self._meter.release()  # what is left is the start, for the distance
            known |= {"meter": self._meter.ways(), "snapshot": snapshot, **given}
            manifest = Manifest(name or name_in(to) or "", self._about, names, every, window, known)
            alike = {"every": every, "window": window, "metrics": list(names), "start": start}
            alike["layers"] = "a callable" if callable(layers) else layers
            opened = open_delivery(to, manifest, sums, ranks=ranks, shares=self._shares, settings=alike)
            self._delivery: Delivery = opened.delivery
            self.name, self._folder, self._recorded = opened.name, opened.folder, opened.last
        begin = self._recorded if start is None else operator.index(start)
        self._steps.count = self._since = begin
        self._steps.due = (begin // every + 1) * every
        self._skipped_since: torch.Tensor | None = None
        self._failed = 0
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
        from wstrack.errors import WstrackError

        if self._folder is None:
            raise WstrackError("rank 0 measures and records this model; ask its watcher")
        return self._folder

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"every {self._every} steps"
        where = self._folder or "measured by rank 0"
        return f"<Watcher {self.name!r}: {len(self._about)} layers, {state}, at step {self.steps}, {where}>"

    # ---- following the model ----------------------------------------------------------------------------------------

    def _look_up(self) -> None:
        """Follow the parameters that have taken the place of others (`load_state_dict(assign=True)`, a new head)."""
        from wstrack.measuring.sharding import local_shard

        lookup = self._lookup
        if lookup is None:  # closed meanwhile, on another thread
            return
        for index, parameter in lookup.replaced().items():
            if parameter is not None and local_shard(parameter).copy != self._shares[index].copy:
                parameter = None
            self._steps.replace(index, parameter)
            if parameter is None:
                self._replace(index, None)
            else:
                share = self._shares[index] = replace(self._shares[index], parameter=parameter)
                self._replace(index, share.local())
        for index in self._sharded:
            here = self._shares[index].local(self._held[index])
            if here is not self._held[index]:
                self._replace(index, here)

    def _replace(self, index: int, here: torch.Tensor | None) -> None:
        if not self._idle:
            self._held[index] = here
            self._meter.replace(index, here)

    def _meet(self, strangers: list[nn.Parameter]) -> None:
        """Parameters that began to train after the watch: say so once if they would have been layers."""
        news = [one for one in strangers if id(one) not in self._known and one.requires_grad]
        self._known.update(map(id, news))
        if not news or self._wanted is None or self._lookup is None:
            return
        missed = [name for name, parameter in self._lookup.named(news).items() if self._wanted(name, parameter)]
        if missed:
            self._wanted = None
            more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
            log.warning(
                "%s: %s%s began to train after watch() and are not measured. Call watch() again now, or choose layers "
                "that are unfrozen later from the start, as in layers=lambda name, p: p.ndim >= 2",
                self.name,
                ", ".join(missed[:3]),
                more,
            )

    def step(self) -> None:
        """Count one step, and sample if one is due: for loops whose weights no torch optimizer changes.

        Call it outside of a function that `torch.compile` compiles: inside, each count would be compiled anew.

        Raises:
            ValueError: with `window="step"`, which must see the weights before the step as well.
        """
        if self._alone:
            raise ValueError("window='step' needs a torch optimizer to follow; use window='interval' with step()")
        if not self._closed:
            self._steps.one()

    # ---- sampling ---------------------------------------------------------------------------------------------------

    def _begins(self) -> None:
        if self._idle or self._closed:
            return
        self._since, self._skipped_since = self._steps.count, self._steps.skipped
        try:
            self._look_up()
            self._meter.snapshot()
        except Exception as error:  # noqa: BLE001  a failed allocation, say: training is worth more than a sample
            self._fail(error)

    def _sample(self) -> None:
        import torch

        from wstrack.training.delivery import Reading

        step, skipped = self._steps.count, self._steps.skipped
        self._steps.due = (step // self._every + 1) * self._every
        self._sampled += 1
        self._steps.ask_again()
        if self._idle:
            self._leave_it_to_rank_0()
            return
        if self._closed:  # meanwhile, on another thread or by a signal
            return
        meter = self._meter
        try:
            self._look_up()
            sums = meter.sample()
            if self._alone:
                meter.release()
        except Exception as error:  # noqa: BLE001  as above: a sample never raises in the training loop
            meter.release()  # some layers may have moved on: the next sample is missing and begins anew
            self._fail(error)
            if self._ranks is None:
                return
            sums = torch.full(self._shape, torch.nan)  # the other ranks have theirs, and must not be left waiting
        try:
            if step > self._recorded:  # or else it is trained again, from an older checkpoint
                self._delivery.put(Reading(sums, step, self._since, skipped, self._skipped_since))
        except Exception as error:  # noqa: BLE001  as above
            self._fail(error)
        self._since, self._skipped_since = step, skipped

    def _leave_it_to_rank_0(self) -> None:
        from wstrack.training.ranks import announced

        self._steps.due = sys.maxsize
        if not announced(self._about):
            log.warning(
                "%s: this rank is not measured, and rank 0 watches no model with these layers. Where each rank holds a "
                "part of one model, pass group=torch.distributed.group.WORLD to watch() on all of them; where each "
                "trains its own, a group of its own",
                self.name,
            )

    def _fail(self, error: Exception) -> None:
        if not self._failed:
            log.warning("sample at step %d: %s: %s (said once)", self.steps, type(error).__name__, error)
        self._failed += 1

    # ---- ending -----------------------------------------------------------------------------------------------------

    def flush(self, timeout: float = CLOSE_TIMEOUT) -> bool:
        """Wait until every sample so far is recorded and with the trackers; False if that takes over `timeout` s."""
        if self._closed:
            self.close()  # which waits for one that goes on in the background
            return True
        return self._idle or self._delivery.flush(timeout)

    def run(self) -> Run:
        """The run so far, from its recording.

        Raises:
            WstrackError: another rank records it.
        """
        from wstrack.runs.recording import read_recording

        self.flush()
        run = read_recording(self.recording)
        return replace(run, facts={**run.facts, "failed_samples": self._failed} if self._failed else run.facts)

    def close(self) -> None:
        """Stop measuring, deliver what is waiting, finish the recording. Once is enough; more does no harm."""
        if os.getpid() != self._process:  # a forked child must not finish its parent's files
            return
        if self._closed:
            if self._closing is not None:
                self._closing.join(CLOSE_TIMEOUT)
            return
        if self.steps >= self._steps.due:
            self._steps.end_round()
        self._detach()
        if self._idle:
            return
        self._delivery.close(CLOSE_TIMEOUT)
        if not self._sampled:
            why = f"{self.steps} steps were counted and every={self._every}"
            if not self._steps.seen and not self.steps:
                why = "no optimizer stepped any of the layers that were watched"
            log.warning("%s: no sample was taken: %s", self.name, why)

    def _abandon(self) -> None:
        """Close without waiting: this runs inside garbage collection, when the model is gone."""
        if os.getpid() != self._process:  # as in close(): a forked child's copy of the model is gone, not the model
            return
        self._detach()
        if self._idle:
            return
        self._closing = threading.Thread(target=self._delivery.close, args=(CLOSE_TIMEOUT,), name="wstrack closing")
        self._closing.start()

    def _detach(self) -> None:
        """Let go of the optimizers, the weights and the snapshot: the handle may live on."""
        self._closed = True
        self._end.detach()
        atexit.unregister(self.close)
        self._steps.unfollow()
        self._shares.clear()
        self._held.clear()
        self._lookup = None
        if not self._idle:
            del self._meter

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _checked(facts: Mapping[str, str | float | bool], known: Mapping[str, Any]) -> dict[str, str | float | bool]:
    """The user's facts, if none is in the way of ours."""
    for name, value in facts.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float | bool):
            raise TypeError(f"facts: {name!r}: {value!r} is no name with a text, a number or a bool")
        if name in known or name in RESERVED_FACTS:
            raise ValueError(f"facts: {name!r} is one that wstrack keeps itself; give yours another name")
    return dict(facts)


def _facts(model: nn.Module) -> dict[str, Any]:
    import platform

    import torch

    from wstrack._version import __version__

    return {
        "model": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "devices": sorted({str(parameter.device) for parameter in model.parameters()}),
        "dtypes": sorted({str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()}),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {"wstrack": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
