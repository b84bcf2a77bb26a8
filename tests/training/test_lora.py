"""Watching a model with adapters: what comes of it in the run, the trackers and the report."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import wstrack
from wstrack.training.watcher import Watcher

peft = pytest.importorskip("peft", reason="peft is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # of peft's

WEIGHTS = ["base_model.model.0.weight", "base_model.model.2.weight"]
FACTORS = [f"base_model.model.{place}.lora_{factor}.default.weight" for place in (0, 2) for factor in "AB"]


def network() -> Any:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2))
    return peft.get_peft_model(layers, peft.LoraConfig(r=2, lora_alpha=4, target_modules=["0", "2"]))


def train(model: nn.Module, to: object, *, steps: int = 12, **how: Any) -> tuple[Watcher, list[list[np.ndarray]]]:
    """Train, and what peft adds to each weight before each step and after the last, in float64."""
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.05)
    watcher = wstrack.watch(model, to=to, **{"every": 3, "metrics": ("rwc", "lora", "lora_change"), **how})
    courses = [added(model)]
    for _ in range(steps):
        model(torch.randn(16, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        courses.append(added(model))
    watcher.close()
    return watcher, courses


def added(model: nn.Module) -> list[np.ndarray]:
    found = []
    for module in model.modules():
        if hasattr(module, "get_delta_weight"):
            left, right = module.lora_B["default"].weight, module.lora_A["default"].weight
            scale = module.scaling["default"]
            found.append(scale * left.detach().double().numpy() @ right.detach().double().numpy())
    return found


def norms(model: nn.Module) -> np.ndarray:
    weights = [module.base_layer.weight for module in model.modules() if hasattr(module, "get_delta_weight")]
    return np.array([np.linalg.norm(weight.detach().double().numpy()) for weight in weights])


@pytest.mark.parametrize("window", ["interval", "step"])
def test_the_series(tmp_path: Path, window: str) -> None:
    model = network()
    watcher, courses = train(model, tmp_path / "run", window=window)
    run = watcher.run()
    by = norms(model)
    steps, back = range(3, 13, 3), 3 if window == "interval" else 1
    size = [[np.linalg.norm(one) for one in courses[step]] / by for step in steps]
    change = [
        [np.linalg.norm(one - other) for one, other in zip(courses[step], courses[step - back], strict=True)] / by
        for step in steps
    ]
    columns, index = pd.Index(WEIGHTS, dtype=object), pd.Index(list(steps), name="step")
    pd.testing.assert_frame_equal(run.series["lora"], pd.DataFrame(size, index, columns), rtol=1e-9)
    pd.testing.assert_frame_equal(run.series["lora_change"], pd.DataFrame(change, index, columns), rtol=1e-9)
    assert list(run.series["rwc"].columns) == FACTORS
    assert not run.series["rwc"].isna().any(axis=None)
    assert list(run.layers.index) == [*FACTORS, *WEIGHTS]
    assert run.layers.loc[WEIGHTS, "shape"].tolist() == [(16, 8), (8, 16)]
    assert str(run.completeness) == f"all {4 * (4 + 2 + 2)} values"
    assert not run.completeness.notes


def test_alone(tmp_path: Path) -> None:
    watcher, _ = train(network(), tmp_path / "run", metrics="lora")
    run = watcher.run()
    assert run.metrics == ["lora"]
    assert list(run.series["lora"].columns) == WEIGHTS


def test_of_chosen_layers(tmp_path: Path) -> None:
    watcher, _ = train(network(), tmp_path / "run", layers=r"model\.2\..*lora_B")
    run = watcher.run()
    assert list(run.series["rwc"].columns) == FACTORS[3:]
    assert list(run.series["lora"].columns) == WEIGHTS[1:]


def test_with_a_callable_that_takes_the_weight_itself(tmp_path: Path) -> None:
    watcher, _ = train(network(), tmp_path / "run", layers=lambda name, parameter: parameter.ndim > 1)
    run = watcher.run()
    assert set(run.series["rwc"].columns) >= {*FACTORS, "base_model.model.0.base_layer.weight"}
    assert list(run.series["lora"].columns) == WEIGHTS


def test_beside_the_learning_rate(tmp_path: Path) -> None:
    watcher, _ = train(network(), tmp_path / "run", metrics=("lora", "lr"))
    run = watcher.run()
    assert (run.series["lr"][FACTORS] == 0.05).all(axis=None)
    assert list(run.series["lora"].columns) == WEIGHTS
    assert wstrack.pull(f"tensorboard:{tmp_path / 'run'}").metrics == ["lora"]  # it has lr of no layer


def test_a_tracker_has_a_series_for_each_layer_that_has_the_metric(tmp_path: Path) -> None:
    watcher, _ = train(network(), tmp_path / "run")
    run = watcher.run()
    shutil.rmtree(tmp_path / "run" / "wstrack-recording")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run")).Reload()
    keys = [key for key in events.Tags()["scalars"] if not key.startswith("wstrack")]
    slashed = [name.replace(".", "/") for name in (*FACTORS, *WEIGHTS)]
    assert keys == [
        *(f"rwc/{name}" for name in slashed[:4]),
        *(f"{metric}/{name}" for metric in ("lora", "lora_change") for name in slashed[4:]),
    ]
    read = wstrack.pull(f"tensorboard:{tmp_path / 'run'}")
    assert read.completeness.missing == 0
    assert read.completeness.expected == run.completeness.expected
    for metric, frame in run.series.items():
        pd.testing.assert_frame_equal(read.series[metric], frame, rtol=1e-6)


def test_it_can_be_pushed_once(tmp_path: Path) -> None:
    watcher, _ = train(network(), tmp_path / "run")
    assert wstrack.push(tmp_path / "run", f"tensorboard:{tmp_path / 'elsewhere'}") == 4
    assert wstrack.push(tmp_path / "run", f"tensorboard:{tmp_path / 'elsewhere'}") == 0
    for metric, frame in wstrack.pull(f"tensorboard:{tmp_path / 'elsewhere'}").series.items():
        pd.testing.assert_frame_equal(frame, watcher.run().series[metric], rtol=1e-6)


def test_a_resumed_run(tmp_path: Path) -> None:
    model = network()
    train(model, tmp_path / "run")
    train(model, tmp_path / "run")
    run = wstrack.pull(str(tmp_path / "run"))
    assert run.steps.tolist() == list(range(3, 25, 3))
    assert list(run.series["lora"].columns) == WEIGHTS
    assert list(run.series["rwc"].columns) == FACTORS
    assert run.completeness.missing == 0


def test_a_report(tmp_path: Path) -> None:
    watcher, _ = train(network(), tmp_path / "run", steps=60)
    run = watcher.run()
    found = wstrack.report(run, metric="lora")
    assert [layer["layer"] for layer in found.to_dict()["layers"]] == WEIGHTS
    found.save(tmp_path / "lora.html")
    assert "‖s B A‖ of what adapters add to a weight" in (tmp_path / "lora.html").read_text()
    assert [layer["layer"] for layer in wstrack.report(run).to_dict()["layers"]] == FACTORS
    blocks = wstrack.report(run, metric="lora", aggregate=r"model\.(\d)").to_dict()["layers"]
    assert [layer["layer"] for layer in blocks] == ["0", "2"]


def test_the_model_stays_as_it_is(tmp_path: Path) -> None:
    model = network()
    with wstrack.watch(model, to=tmp_path / "run", metrics="lora"):
        copy.deepcopy(model)


def test_a_module_that_loses_its_adapter(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    with wstrack.watch(model, to=tmp_path / "run", every=1, metrics=("rwc", "lora")) as watcher:
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
        model.base_model.model[0] = nn.Linear(8, 16)
        optimizer.step()
    assert watcher.run().series["lora"].isna().to_numpy().tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize("metrics", ["lora", ("rwc", "lora_change")])
def test_a_model_without_adapters(tmp_path: Path, metrics: str) -> None:
    with pytest.raises(ValueError, match=r"metrics: 'lora' is of LoRA adapters.*Linear has none"):
        wstrack.watch(nn.Linear(3, 3), to=tmp_path / "run", metrics=metrics)
    assert not (tmp_path / "run").exists()


def test_a_model_that_several_processes_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = SimpleNamespace(withdraw=lambda error: None, writes=True)
    monkeypatch.setattr("wstrack.training.watching.find_ranks", lambda *about, **more: others)
    with pytest.raises(ValueError, match=r"'lora' is not to be had of a model that several processes hold"):
        wstrack.watch(network(), to=tmp_path, metrics="lora")
