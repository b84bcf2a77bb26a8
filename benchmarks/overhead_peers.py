"""What a sample costs is measured against: models, the floor, and the ways of other tools."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wstrack.measuring.meters.build import build
from wstrack.measuring.meters.table import addresses, cut

CHUNK = 65_536
Job = Callable[[], object]


class Residual(nn.Module):
    """A block of a ResNet: two 3x3 convolutions, or one between two 1x1 that narrow and widen by four."""

    def __init__(self, inside: int, planes: int, stride: int, wide: bool) -> None:
        super().__init__()
        out = planes * (4 if wide else 1)
        kernels = [(1, 1), (3, stride), (1, 1)] if wide else [(3, stride), (3, 1)]
        sizes = [inside, planes, planes, out] if wide else [inside, planes, planes]
        layers: list[nn.Module] = []
        for (kernel, step), before, after in zip(kernels, sizes[:-1], sizes[1:], strict=True):
            layers += [
                nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers[:-1])
        same = inside == out and stride == 1
        self.short = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) -> the same, narrower by the stride."""
        return torch.relu(self.body(images) + self.short(images))


def resnet(blocks: list[int], *, wide: bool, classes: int) -> nn.Sequential:
    """ResNet-18 ([2, 2, 2, 2]) or ResNet-50 ([3, 4, 6, 3], wide), with the first layer usual for 32x32 images."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    inside = 64
    for stage, count in enumerate(blocks):
        planes = 64 << stage
        for index in range(count):
            layers.append(Residual(inside, planes, 2 if stage and not index else 1, wide))
            inside = planes * (4 if wide else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))


def gpt2() -> list[tuple[int, ...]]:
    """Shapes of the weights of GPT-2 small, 124 million in 148 tensors."""
    block = [
        (768,),
        (768,),
        (768, 2304),
        (2304,),
        (768, 768),
        (768,),
        (768,),
        (768,),
        (768, 3072),
        (3072,),
        (3072, 768),
        (768,),
    ]
    return [(50257, 768), (1024, 768), *block * 12, (768,), (768,)]


def weights(name: str) -> list[nn.Parameter]:
    """Every parameter of a model of the tables, scaled like weights."""
    if name.startswith("ResNet"):
        return list(
            (
                resnet([2, 2, 2, 2], wide=False, classes=1000)
                if "18" in name
                else resnet([3, 4, 6, 3], wide=True, classes=1000)
            ).parameters()
        )
    shapes = gpt2() if name == "GPT-2 small" else [(1024,)] * 5000
    return [nn.Parameter(0.05 * torch.randn(shape)) for shape in shapes]


def floor(parameters: list[nn.Parameter]) -> Job:
    """Reads the weights, reads the snapshot, writes the snapshot, and does nothing else."""
    tensors = [parameter.detach() for parameter in parameters]
    snapshots = [tensor.clone() for tensor in tensors]
    if tensors[0].is_cuda:  # a fused bitwise operation is one read-read-write kernel for each tensor
        views = [
            (snapshot.view(torch.int32), tensor.view(torch.int32))
            for snapshot, tensor in zip(snapshots, tensors, strict=True)
        ]
        return lambda: [snapshot.bitwise_xor_(tensor) for snapshot, tensor in views]
    call = ctypes.CDLL(str(build(Path(__file__).with_name("floor.cpp")))).floor_pass
    chunks = cut(tensors, CHUNK)
    tasks = np.concatenate(([0], 1 + np.flatnonzero(np.diff(np.cumsum(chunks.count) // CHUNK)), [len(chunks.count)]))
    table = [addresses(tensors, chunks), addresses(snapshots, chunks), chunks.count, tasks.astype(np.int64)]
    pointers = [ctypes.c_void_p(numbers.ctypes.data) for numbers in table]

    def run() -> object:
        call(*pointers, ctypes.c_int64(len(tasks) - 1), ctypes.c_int32(torch.get_num_threads()))
        return table, snapshots

    return run


def numpy_way(parameters: list[nn.Parameter]) -> Job:
    """As the authors of relative weight change do: a copy of each tensor as a NumPy array, and NumPy's arithmetic."""
    before = [parameter.detach().clone().cpu().numpy() for parameter in parameters]

    def run() -> list[float]:
        values = []
        for index, parameter in enumerate(parameters):
            now = parameter.detach().clone().cpu().numpy()
            with np.errstate(divide="ignore", invalid="ignore"):  # biases begin at zero
                values.append(float(np.abs(now - before[index]).sum() / np.abs(before[index]).sum()))
            before[index] = now
        return values

    return run


@torch.no_grad()
def item_way(parameters: list[nn.Parameter]) -> Job:
    """A loop with `.item()` for each tensor."""
    before = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def run() -> list[float]:
        values = []
        for p, w in zip(before, parameters, strict=True):
            values.append((w - p).abs().sum().item() / (p.abs().sum().item() + 1e-30))
            p.copy_(w)
        return values

    return run


def foreach_way(parameters: list[nn.Parameter]) -> Job:
    """`_foreach_sub`, `_foreach_norm`, `_foreach_copy_` over all tensors at once."""
    before = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def run() -> list[float]:
        change = torch.stack(torch._foreach_norm(torch._foreach_sub(parameters, before), 1))
        size = torch.stack(torch._foreach_norm(before, 1))
        torch._foreach_copy_(before, parameters)
        return (change / size).tolist()

    return run


def batched_way(parameters: list[nn.Parameter]) -> Job:
    """As OLMo does: two norms of each tensor on the device, all of them brought to the host at once."""
    before = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def run() -> list[float]:
        sizes = []
        for p, w in zip(before, parameters, strict=True):
            sizes += [torch.linalg.vector_norm(w - p), torch.linalg.vector_norm(p)]
            p.copy_(w)
        return torch.stack(sizes).cpu().tolist()

    return run


def cockpit_way(parameters: list[nn.Parameter]) -> Job:
    """Cockpit's UpdateSize, at every step."""
    from cockpit.quantities import UpdateSize

    quantity = UpdateSize(track_schedule=lambda step: step >= 0)
    step = iter(range(10**9))
    with torch.no_grad():
        quantity.track(next(step), parameters, None)

    def run() -> None:
        now = next(step)
        quantity.track(now, parameters, None)
        quantity.free_cache(now, now + 1)

    return run


class WandbWay:
    """`wandb.watch(log="all")`, offline: a step of a model that does next to nothing, and its line in the run.

    A real model would hide what watching costs in the noise of its forward and backward pass.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        import wandb

        self.wandb = wandb
        self.folder = tempfile.TemporaryDirectory()
        settings = wandb.Settings(silent=True, x_disable_stats=True, console="off")
        self.run = wandb.init(mode="offline", dir=self.folder.name, settings=settings)
        self.model = _Touch(parameters)
        self.run.watch(self.model, log="all", log_freq=1)

    def __call__(self) -> None:
        """A watched step."""
        self.model().backward()
        self.run.log({"step": 1})

    def close(self) -> None:
        """End the run."""
        self.run.finish()
        self.folder.cleanup()


class _Touch(nn.Module):
    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(parameters)

    def forward(self) -> torch.Tensor:
        return _Sum.apply(*self.weights)


class _Sum(torch.autograd.Function):
    """A loss whose gradients cost nothing to make: the weights stand in for them."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*tensors)
        return torch.zeros(())

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return ctx.saved_tensors
