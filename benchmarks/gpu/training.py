"""Step (d): training in the ways that GPUs are trained in, watched, each held against NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import nn

from gpu.course import net, watched
from gpu.machine import Machine
from gpu.told import Told
from wstrack.measuring.meters.meter import Meter

__all__ = ["training"]

Case = Callable[[Machine], list[str]]


class Loop:
    """A small training: a network, its optimizer, and a batch that is another one in each step."""

    def __init__(self, machine: Machine, width: int = 512, dtype: torch.dtype = torch.float32, **options: Any) -> None:
        self.machine = machine
        self.model = net(machine, width, dtype)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, **{"fused": True, **options})
        first = self.model[0]
        assert isinstance(first, nn.Linear)
        self.inputs = torch.zeros(64, first.in_features, device=machine.device, dtype=dtype)
        self.call: Callable[[torch.Tensor], torch.Tensor] = self.model

    def backward(self) -> None:
        """New gradients."""
        self.optimizer.zero_grad()
        self.call(self.inputs).float().square().mean().backward()

    def step(self) -> None:
        """A whole step."""
        self.inputs.normal_()
        self.backward()
        self.optimizer.step()


def training(told: Told, machine: Machine) -> None:
    """Print a row for each way of training."""
    told.say("The series of a watch against float64 over copies of the weights (all metrics of a layer's weights):")
    rows = []
    for name, case in CASES.items():
        said = told.tried(
            f"training, {name}", lambda name=name, case=case: told.are_wrong(f"training, {name}", case(machine))  # type: ignore[misc]
        )  # fmt: skip
        rows.append([name, said])
    told.table(["training", "series"], rows)


def _plain(machine: Machine, loop: Loop | None = None, **options: Any) -> list[str]:
    lines: list[str] = []
    loop = loop or Loop(machine)
    with watched(machine, loop.model, lines, **{"meter": "cuda", **options}) as (_, course):
        for _ in range(machine.steps):
            loop.step()
            course.stepped()
    return lines


def _moving(machine: Machine) -> list[str]:
    """New memory for all weights in the middle, and the old memory for something else."""
    lines: list[str] = []
    loop = Loop(machine)
    with watched(machine, loop.model, lines, meter="cuda") as (_, course):
        for number in range(machine.steps):
            loop.step()
            course.stepped()
            if number == 2:
                for parameter in loop.model.parameters():
                    parameter.data = parameter.data.clone()
                rubbish = [torch.full_like(parameter, 1e9) for parameter in loop.model.parameters()]
                del rubbish
    return lines


def _side_stream(machine: Machine, **options: Any) -> list[str]:
    with machine.side_stream():
        lines = _plain(machine, **options)
    machine.synchronize()
    return lines


def _other_stream(machine: Machine) -> list[str]:
    """Watched on one stream, trained on another."""
    lines: list[str] = []
    loop = Loop(machine)
    with watched(machine, loop.model, lines, meter="cuda") as (_, course):
        with machine.side_stream():
            for _ in range(machine.steps):
                loop.step()
                course.stepped()
        machine.synchronize()
    return lines


def _on_host(machine: Machine) -> list[str]:
    """Copies over the bus that take longer than the steps, each with a sample, while training goes on."""
    return _plain(machine, Loop(machine, 1280), snapshot="cpu", every=1)


def _scaled(machine: Machine, *, fused: bool) -> list[str]:
    """Some steps overflow; a fused optimizer is called all the same, and the device alone knows."""
    lines: list[str] = []
    loop = Loop(machine, fused=fused)
    kind = machine.device.type
    scaler = torch.amp.GradScaler(kind, init_scale=4.0)
    with watched(machine, loop.model, lines, meter="cuda") as (_, course):
        for number in range(machine.steps + 2):
            loop.optimizer.zero_grad()
            loop.inputs.normal_()
            with torch.autocast(kind, dtype=torch.bfloat16 if machine.dry else torch.float16):
                loss = loop.model(loop.inputs).float().square().mean()
            overflows = number in (1, 4)
            scaler.scale(loss * (torch.inf if overflows else 1.0)).backward()
            scaler.step(loop.optimizer)
            scaler.update()
            if fused or not overflows:
                course.stepped(real=not overflows)
    return lines


def _compiled(machine: Machine, what: str, **options: Any) -> list[str]:
    """The model or the optimizer's step compiled; dry, traced only: what is made of a trace is nothing to a watch."""
    torch._dynamo.reset()
    loop = Loop(machine, **({"fused": False} if what == "optimizer" else {}))
    chosen = {"backend": "eager"} if machine.dry else options
    if what == "model":
        loop.call = torch.compile(loop.model, **chosen)
        return _plain(machine, loop)
    update = torch.compile(loop.optimizer.step, **chosen)
    lines: list[str] = []
    with watched(machine, loop.model, lines, meter="cuda") as (_, course):
        for _ in range(machine.steps):
            loop.inputs.normal_()
            loop.backward()
            update()
            course.stepped()
    return lines


def _half_a_graph(machine: Machine, *, first: int) -> list[str]:
    """Forward and backward pass in a graph, captured before the watch begins, or after some steps of it."""
    lines: list[str] = []
    loop = Loop(machine)
    graph = None if first else machine.captured(loop.backward)
    with watched(machine, loop.model, lines, meter="cuda") as (_, course):
        for number in range(machine.steps):
            loop.inputs.normal_()
            if graph is None and number == first:
                graph = machine.captured(loop.backward)
            if graph is None:
                loop.backward()
            else:
                graph.replay()
            loop.optimizer.step()
            course.stepped()
    return lines


def _whole_graph(machine: Machine, **options: Any) -> list[str]:
    """The optimizer's step in the graph too: nobody calls its hooks, and the loop tells the watcher."""
    lines: list[str] = []
    loop = Loop(machine, capturable=not machine.dry, **options)

    def whole() -> None:
        loop.backward()
        loop.optimizer.step()

    graph = machine.captured(whole)
    with watched(machine, loop.model, lines, meter="cuda") as (watcher, course):
        for _ in range(machine.steps):
            loop.inputs.normal_()
            graph.replay()
            watcher.step()
            course.stepped()
    return lines


def _refused(machine: Machine) -> list[str]:
    """A sample inside a capture is an error, and spoils neither the capture nor the next sample."""
    weight = torch.ones(100, device=machine.device)
    meter = Meter([weight], ("abs_change",), only="cuda")
    meter.snapshot()
    meter.sample()
    lines = ["a sample was taken inside a capture"]

    def inside() -> None:
        weight.add_(1)
        try:
            meter.sample()
        except RuntimeError as error:
            if "inside the capture of a CUDA graph" in str(error):
                lines.clear()

    if machine.dry:
        capturing = {"is_available": lambda: True, "is_current_stream_capturing": lambda: True}
        with mock.patch.multiple(torch.cuda, **capturing):
            inside()
    else:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            inside()
        graph.replay()
    found = meter.sample().item()
    return lines + ([] if found == 100.0 else [f"the sample after it is {found}, should be 100"])


CASES: dict[str, Case] = {
    "fp32, fused AdamW": _plain,
    "bf16 weights": lambda machine: _plain(machine, Loop(machine, dtype=torch.bfloat16)),
    "fp16 weights": lambda machine: _plain(machine, Loop(machine, dtype=torch.float16, eps=1e-4)),
    "`_foreach` AdamW": lambda machine: _plain(machine, Loop(machine, fused=False, foreach=True)),
    "window='step', every step": lambda machine: _plain(machine, window="step", every=1),
    "weights that move to other memory": _moving,
    "on a side stream": _side_stream,
    "on another stream than the watch began on": _other_stream,
    "snapshot='cpu', every step": _on_host,
    "snapshot='cpu' on a side stream": lambda machine: _side_stream(machine, snapshot="cpu", every=1),
    "autocast and GradScaler, steps skipped": lambda machine: _scaled(machine, fused=False),
    "the same with a fused optimizer": lambda machine: _scaled(machine, fused=True),
    "torch.compile of the model": lambda machine: _compiled(machine, "model"),
    "the same, mode='reduce-overhead'": lambda machine: _compiled(machine, "model", mode="reduce-overhead"),
    "torch.compile of the optimizer's step": lambda machine: _compiled(machine, "optimizer"),
    "a graph of forward and backward": lambda machine: _half_a_graph(machine, first=0),
    "the same, captured while watched": lambda machine: _half_a_graph(machine, first=3),
    "a graph of the whole step, fused": _whole_graph,
    "a graph of the whole step, `_foreach`": lambda machine: _whole_graph(machine, fused=False, foreach=True),
    "a sample inside a capture": _refused,
}
