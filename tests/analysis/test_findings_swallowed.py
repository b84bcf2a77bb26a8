"""Updates that rounding takes back are named; sound trainings, few gradients and rounding by chance are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.analysis.findings.swallowed import swallowed
from wstrack.checkpoints.measuring import measure_opened
from wstrack.checkpoints.stored import Checkpoint, InMemory
from wstrack.runs.run import Run

pytestmark = pytest.mark.slow

METRICS = ("rwc", "changed", "changed_bf16")
Optimizer = Callable[[Any], torch.optim.Optimizer]


def mlp(dtype: torch.dtype) -> nn.Module:
    return nn.Sequential(nn.Linear(32, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 40)).to(dtype)


def adamw(rate: float) -> Optimizer:
    return lambda parameters: torch.optim.AdamW(parameters, rate)


def sgd(rate: float) -> Optimizer:
    return lambda parameters: torch.optim.SGD(parameters, rate, momentum=0.9)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def trained(
    folder: Path, dtype: torch.dtype, optimizer_of: Optimizer, *, seed: int = 0, steps: int = 12, **settings: Any
) -> Run:
    torch.manual_seed(seed)
    model = mlp(dtype)
    optimizer = optimizer_of(model.parameters())
    inputs, targets = torch.randn(512, 32, dtype=dtype), torch.randint(40, (512,))
    settings = {"metrics": METRICS, "every": 1, "name": f"{seed}", **settings}
    with threads(1), wstrack.watch(model, optimizer, to=folder / settings["name"], **settings) as watcher:
        for _ in range(steps):
            batch = torch.randint(512, (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]).float(), targets[batch]).backward()
            optimizer.step()
        watcher.flush()
        return watcher.run()


def run_of(weights: list[torch.Tensor]) -> Run:
    opened = [
        Checkpoint(Path(f"step_{step}"), {"w": InMemory("w", tuple(one.shape), one.dtype, one.clone)}, ordered=True)
        for step, one in enumerate(weights)
    ]
    return measure_opened(
        opened, "made", "made", as_given=False, metrics=METRICS, to=None, progress=lambda done, whole: None
    )


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_what_rounding_swallows_is_named_and_the_rate_that_moves_half_of_it(tmp_path: Path, optimizer: str) -> None:
    make, rate = (adamw, 1e-5) if optimizer == "AdamW" else (sgd, 1e-3)
    run = trained(tmp_path, torch.bfloat16, make(rate))
    found = swallowed([run])
    assert found is not None
    few = run.series["changed"].median() <= 0.03
    assert few.sum() >= 2
    assert found.layers == tuple(few.index[few])
    assert "of 3 layers at most 3 % of the weights move in an optimizer step (median over samples): " in found.text
    assert "bfloat16 swallows the updates" in found.text
    assert "1/512 to 1/256 of it" in found.text
    factor = float(found.numbers["rate_for_half"])
    assert 15 < factor < 150
    again = trained(tmp_path / "faster", torch.bfloat16, make(rate * factor))
    moved = float(again.series["changed"][list(found.layers)].median().median())
    assert 0.25 < moved < 0.65  # and not more: "at least"
    assert any(one.kind == "swallowed" for one in wstrack.report(run).findings)


def test_single_steps_between_others_and_checkpoints_of_every_step_tell_as_well(tmp_path: Path) -> None:
    found = swallowed([trained(tmp_path, torch.bfloat16, adamw(1e-6), steps=20, every=5, window="step")])
    assert found is not None
    assert len(found.layers) == 3
    torch.manual_seed(0)
    weights = [torch.randn(300, 40).bfloat16()]
    for _ in range(5):
        weights.append((weights[-1].float() + 1e-5 * torch.randn(300, 40)).bfloat16())
    run = run_of(weights)
    saved = swallowed([run])
    assert saved is not None
    assert saved.layers == ("w",)
    assert swallowed([replace(run, origin={**run.origin, "counted": True})]) is None


def test_of_changes_over_several_steps_nothing_is_said(tmp_path: Path) -> None:
    run = trained(tmp_path, torch.bfloat16, adamw(1e-6), steps=20, every=5)
    assert (run.series["changed"].median() < 0.03).all()
    assert swallowed([run]) is None


def test_the_type_of_weights_in_a_mixed_model_is_told_by_the_rounded_share(tmp_path: Path) -> None:
    run = trained(tmp_path, torch.bfloat16, adamw(1e-6))
    mixed = replace(run, origin={**run.origin, "dtypes": ["bfloat16", "float32"]})
    assert swallowed([mixed]) == swallowed([run]) is not None
    without = {name: run.series[name] for name in ("rwc", "changed")}
    assert swallowed([replace(mixed, series=without)]) is None
    assert swallowed([replace(run, series=without)]) == swallowed([run])
    assert swallowed([replace(run, series={"changed": run.series["changed"]})]) is None


def test_of_several_runs_each_is_named(tmp_path: Path) -> None:
    types = {"a": torch.bfloat16, "b": torch.bfloat16, "c": torch.float32}
    found = swallowed([trained(tmp_path, dtype, adamw(1e-6), name=name) for name, dtype in types.items()])
    assert found is not None
    assert found.text.startswith("In a, in 3 of 3 layers")
    assert "\nIn b, in 3 of 3 layers" in found.text
    assert "In c" not in found.text


def test_layers_that_do_not_change_are_left_out(tmp_path: Path) -> None:
    run = trained(tmp_path, torch.bfloat16, adamw(1e-6))
    first, second, third = (str(name) for name in run.layers.index)
    still = {name: frame.assign(**{second: 0.0}) for name, frame in run.series.items()}
    found = swallowed([replace(run, series=still)])
    assert found is not None
    assert found.layers == (first, third)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("rows", "size"), [(8, 0.02), (40, 1e-4)], ids=["large", "small"])
def test_rows_without_a_gradient_are_not_swallowed(dtype: torch.dtype, rows: int, size: float) -> None:
    torch.manual_seed(0)
    weights = [torch.randn(400, 50).to(dtype)]
    for step in range(6):
        weights.append(weights[-1].clone())
        weights[-1][step * rows : step * rows + rows] += size * torch.randn(rows, 50).to(dtype)
    run = run_of(weights)
    assert 0.001 < run.series["changed"]["w"].median() < (0.03 if size > 0.01 or dtype == torch.bfloat16 else 0.11)
    assert swallowed([run]) is None


def test_rounding_by_chance_loses_nothing() -> None:
    rng = np.random.default_rng(0)
    weights = [torch.randn(400, 50).bfloat16()]
    for _ in range(6):
        exact = weights[-1].float().numpy() + 1e-5 * rng.normal(size=(400, 50)).astype(np.float32)
        up = exact.view(np.uint32) + rng.integers(0, 1 << 16, exact.shape, dtype=np.uint32)
        weights.append(torch.from_numpy((up & np.uint32(0xFFFF0000)).view(np.float32)).bfloat16())
    run = run_of(weights)
    assert 0.0 < run.series["changed"]["w"].median() < 0.03
    assert swallowed([run]) is None


SOUND: dict[str, tuple[torch.dtype, Optimizer]] = {
    "float32, AdamW": (torch.float32, adamw(1e-3)),
    "float32, AdamW with a rate as for tuning by reward": (torch.float32, adamw(1e-6)),
    "float32, SGD with a small rate": (torch.float32, sgd(1e-3)),
    "bfloat16, AdamW": (torch.bfloat16, adamw(1e-3)),
    "float16, SGD": (torch.float16, sgd(0.03)),
}


@pytest.mark.parametrize("kind", SOUND)
def test_of_fifty_sound_trainings_nothing_is_said(kind: str, tmp_path: Path) -> None:
    dtype, optimizer = SOUND[kind]
    for seed in range(10):
        run = trained(tmp_path, dtype, optimizer, seed=seed)
        assert (run.series["changed"] > 0).all(axis=None)
        assert swallowed([run]) is None, run.series["changed"].median()
        if "reward" in kind:  # what a copy in bfloat16 would see of it
            assert run.series["changed_bf16"].median().max() < 0.03
