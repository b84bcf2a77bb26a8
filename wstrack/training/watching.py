"""watch(): puts together what watches a model, and keeps one watcher a model."""

from __future__ import annotations

import logging
import platform
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from wstrack._version import __version__
from wstrack.measuring.adapters import adapted_weights
from wstrack.measuring.cuts import cuts, stacked_experts
from wstrack.measuring.layers import predicate, select
from wstrack.measuring.meters import choose
from wstrack.measuring.meters.margins import MarginMeter
from wstrack.measuring.meters.memory import needs_bits
from wstrack.measuring.meters.products import ProductMeter
from wstrack.measuring.rows import rows_of
from wstrack.measuring.sharding import reshard
from wstrack.rules.panel import Panel
from wstrack.runs.manifest import Manifest
from wstrack.trackers.registry import name_in
from wstrack.training.acting import Act, Acting, check_freezing
from wstrack.training.agreement import agreement_of
from wstrack.training.finding_ranks import find_ranks
from wstrack.training.followed import Followed
from wstrack.training.measurement import Measured, MeasuredByRank0, Measurement
from wstrack.training.opening import open_delivery
from wstrack.training.processes import measured_by_rank_0
from wstrack.training.rates import Rates
from wstrack.training.settings import Fact, MeterName, Place, Settings, Window
from wstrack.training.watcher import Watcher

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from wstrack.measuring.cuts import Parts
    from wstrack.measuring.layers import Selection
    from wstrack.rules.panel import Rules
    from wstrack.training.ranks import Ranks

__all__ = ["watch"]

log = logging.getLogger("wstrack")

_watchers: weakref.WeakKeyDictionary[nn.Module, Watcher] = weakref.WeakKeyDictionary()


def watch(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    to: object = None,
    every: int = 50,
    window: Window = "interval",
    metrics: str | Sequence[str] = ("rwc",),
    layers: Selection = None,
    parts: Parts | None = None,
    name: str | None = None,
    facts: Mapping[str, Fact] | None = None,
    start: int | None = None,
    process_group: ProcessGroup | None = None,
    snapshot: Place = "device",
    meter: MeterName | None = None,
    log_parts: bool = False,
    rules: Rules | None = None,
    act: Act | Mapping[str, Act] | None = None,
) -> Watcher:
    """Measure how much each layer changes while `model` trains, and log it.

    One argument is enough: whichever torch optimizer steps this model's parameters is followed. A step is one real
    optimizer step: not a micro-batch, and not one that loss scaling skipped. With several optimizers on one model (a
    GAN, an optimizer per parameter) a step is a round: it ends when each layer's optimizer has stepped, or when one
    that has already stepped is about to step again. Of an optimizer that wraps another (SAM, Lookahead) the step of
    the inner one counts, and a sample waits for the outermost. The model is not touched and stays picklable.

    Args:
        model: what trains.
        optimizer: follow this one only; None = every optimizer that holds one of the model's layers.
        to: where samples go. None = every tracker active in this process, or else TensorBoard under `runs/`; or a
            tracker's name, a folder, a tracker's own run or writer object, a Sink, or a list of these.
        every: steps between samples. A sample reads the weights once; a step in between costs a few comparisons.
        window: "interval" = the change since the previous sample, as in the paper; "step" = the change of the sampled
            step alone, which can be compared between cadences and with the rule of thumb of 1e-3.
        metrics: one or several of `wstrack.metrics.METRICS`; "lr", "weight_decay" and "equilibrium" beside one of the
            weights. "lora" and "lora_change" are of the weights that LoRA adapters add to: those whose factors are
            among the layers. "fingerprint" is of a layer's bits, kept in the recording for `wstrack.diff` of two runs;
            "replicas" compares them between the processes of `torch.distributed` that each hold the whole model: then
            all of them call `watch`. "strength", "fluctuation" and "balance" are of the nodes that a layer writes
            (docs/networks.md).
        layers: None = trainable parameters of two or more dimensions, as in the paper; "all"; a regular expression or
            several; or a callable (name, parameter) -> bool. A callable sees frozen parameters too, so that layers that
            are unfrozen later can be watched from the start (`layers=lambda name, p: p.ndim >= 2`): they read 0 until
            then.
        parts: what of a layer is to be a layer of its own beside it: "experts" of stacked weights; "qkv" of fused
            projections; "heads"; a list of these; {regular expression: cut}, where a cut is a number of equal parts or
            the size of each along the first dimension, one of these words, or a `wstrack.Cut`; or a callable
            (name, parameter) -> Cut or None.
        name: the run's name. A run that is there already is resumed: steps go on from its last one.
        facts: what else is to be known of the run, as in {"data": "cifar10", "seed": 1}: kept with it in every tracker
            and in `Run.facts`, for runs to be held against each other by (`wstrack.report(compare="data")`).
        start: the optimizer steps that the model has seen: those of the checkpoint that it was loaded from (save
            `watcher.steps` with it). Steps go on from there; samples of later ones, from before, are of a branch that
            was given up, and are left out. None = the last step that the run has.
        process_group: the processes that hold this model between them, where the model does not show it: a pipeline
            stage or experts in each. All of them call `watch`, and their layers make one run. None = all processes of
            `torch.distributed` if any layer is sharded (FSDP, tensor parallel); otherwise rank 0 measures, and the
            others do not.
        snapshot: where the copy of the weights is kept: "device" = beside them; "cpu" = in the host's memory, for
            training that leaves no room on the device. A sample then takes as long as the copies over the bus.
        meter: "auto" = the fastest for each layer; "cuda", "cpu" or "portable" = this one; None = what the environment
            variable WSTRACK_METER says, or else "auto". `wstrack doctor` tells which there are.
        log_parts: whether trackers get a series for each part, not only the least, the median and the largest of a
            layer's parts and the share of them that are 0. The recording has each in any case.
        rules: what looks at each sample, and says when something is wrong, in the log, the trackers and the recording:
            "default", a rule of `wstrack.rules`, a function of your own, or a list of these (docs/rules.md). None = no
            rules.
        act: what is done when a rule speaks, with the next sample and in all processes alike: "stop" raises
            `wstrack.rules.StopTraining` out of `optimizer.step()`, "freeze" trains the layer's weight and bias no
            further, and a function is called with the alert, between two steps; or a dictionary with one of these for
            the names of some rules. None = nothing, rules only speak.

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
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"model: {path or type(module).__name__} is TorchScript, whose parameters cannot be followed; watch "
                "the module that was scripted or traced, which has the same parameters"
            )
    model = model._modules.get("_orig_mod") or model  # what torch.compile gave may be compiled anew, or be let go of
    reshard(model)
    compares = "replicas" in ((metrics,) if isinstance(metrics, str) else metrics)
    ranks = find_ranks(process_group, model, replicas=compares)
    elsewhere = ranks is None and process_group is None and measured_by_rank_0()
    try:
        settings = Settings.checked(
            every=every, window=window, metrics=metrics, layers=layers, parts=parts, name=name, facts=facts,
            start=start, snapshot=snapshot, meter=meter, log_parts=log_parts,
            rules=rules, act=act,
        )  # fmt: skip
        watcher = _begin(model, optimizer, to, settings, ranks, elsewhere=elsewhere)
    except BaseException as error:
        if ranks is not None:
            ranks.withdraw(error)
        raise
    _watchers[model] = watcher
    return watcher


def _begin(
    model: nn.Module,
    optimizer: Optimizer | None,
    to: object,
    settings: Settings,
    ranks: Ranks | None,
    *,
    elsewhere: bool,
) -> Watcher:
    """A watcher that follows the model; the one that did before is closed, once nothing can be wrong any more."""
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
    selected = select(model, settings.layers)
    shards = [shard for _, shard in selected]
    whole = [layer for layer, _ in selected]
    rows = rows_of(selected, {} if settings.parts is None else cuts(model, settings.parts, whole))
    alone = not elsewhere and (ranks is None or ranks.writes)
    if settings.parts is None and alone and (said := stacked_experts(model, whole)):
        log.warning("%s", said)
    layers = rows.layers
    # A callable has seen all there is; it may also hold the model, which must not live on for that.
    missed = None if elsewhere or callable(settings.layers) else predicate(settings.layers)
    followed = Followed(model, shards, missed)
    tensors = [shard.local() for shard in shards]
    meter = None
    if not elsewhere:
        standings = [shard.standing(layer.shape) for layer, shard in selected] if needs_bits(settings.sums) else None
        meter = choose(
            tensors, settings.sums, pieces=rows.pieces, standings=standings, meter=settings.meter,
            snapshot=settings.snapshot,
        )  # fmt: skip
    nodes = None
    if settings.nodes:
        if ranks is not None and ranks.chosen:
            raise ValueError(
                "metrics: 'strength', 'fluctuation' and 'balance' are of a network that each process knows whole, and "
                "with process_group= each may hold other layers; leave them out"
            )
        nodes = MarginMeter(model, settings.nodes, counts=None if ranks is None else ranks.counts)
    products = ProductMeter((), ())
    if settings.products:
        if ranks is not None:
            raise ValueError(
                "metrics: 'lora' is not to be had of a model that several processes hold (sharded, or process_group=), "
                "whose factors none has whole; leave it out, or compare saved adapters with `wstrack diff`"
            )
        adapted = adapted_weights(model, set(followed.parameters))
        layers += tuple(layer for layer, _ in adapted)
        products = ProductMeter([one for _, one in adapted], settings.products)
    if optimizer is not None and not followed.held_by(optimizer):
        raise ValueError("optimizer holds none of the model's layers; pass the one that trains this model")

    if model in _watchers:
        _watchers.pop(model).close()
    name = settings.name or name_in(to) or ""
    acting = None
    if settings.acts:
        check_freezing(settings.acts, model)
        acting = Acting(settings.acts, model, agreement_of(None if ranks is None else ranks.ranks))
    measured: Measured = MeasuredByRank0(name or type(model).__name__, layers)
    if meter is not None:
        meter.snapshot()
        meter.sample()  # whatever is compiled or laid out at first use is so now, not while training
        products.snapshot()
        products.sample()
        if settings.single_step:
            meter.release()  # what is left is the start, for the distance
            products.release()
        origin = {**_origin(model), "meter": meter.backends(), "snapshot": settings.snapshot}
        if rows.pieces:
            origin |= {"parts": "each", **({"log_parts": True} if settings.log_parts else {})}
        manifest = Manifest(name, layers, settings.metrics, settings.every, settings.window, settings.facts, origin)
        opened = open_delivery(
            to,
            manifest,
            (*settings.sums, *settings.products, *settings.rates, *settings.compared, *settings.nodes),
            ranks=ranks,
            rows=rows,
            shards=shards,
            settings=settings.alike_on_all_ranks(),
            start=settings.start,
            panel=_panel(settings, acting),
            nodes=nodes,
        )
        measured = Measurement(
            meter,
            opened,
            Rates(settings.rates, followed),
            products,
            single_step=settings.single_step,
            sharded=ranks is not None,
            nodes=nodes,
        )
    begin = measured.last_step if settings.start is None else settings.start
    if acting is not None:
        try:
            begin = acting.begin(begin)
        except BaseException:
            measured.close_in_background()
            raise
    return Watcher(model, optimizer, settings, followed, measured, acting, begin=begin)


def _panel(settings: Settings, acting: Acting | None) -> Panel | None:
    """The rules of a watch, told who acts on them."""
    if not settings.rules:
        return None
    return (
        Panel(settings.rules) if acting is None else Panel(settings.rules, hear=acting.hear, passed_over=acting.frozen)
    )


def _origin(model: nn.Module) -> dict[str, Any]:
    """What is known of a model's training when it begins."""
    return {
        "model": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "devices": sorted({str(parameter.device) for parameter in model.parameters()}),
        "dtypes": sorted({str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()}),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {"wstrack": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
