"""Models and loops that are wrapped, averaged, adapted, frozen, split or copied: the series stays right.

Elsewhere: loss scaling, several optimizers on one model, parameter groups that are added (test_watch.py); names without
the prefixes of wrappers, tied names (test_layers.py); parameters that are moved or replaced (meters/test_moving.py);
torch.compile (test_compiled.py); other processes, checkpoints, notebooks (test_processes.py).
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import wstrack
from wstrack.measuring.layers import select
from wstrack.training.watching import _watchers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

pytestmark = pytest.mark.slow


class Oracle:
    """What NumPy makes of some weights, from sample to sample."""

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        self._weights = list(weights)
        self._before = self._now()
        self.rows: list[list[float]] = []

    def _now(self) -> list[np.ndarray]:
        return [weight.detach().double().numpy().copy() for weight in self._weights]

    def sample(self) -> None:
        now = self._now()
        self.rows.append([np.abs(w - p).sum() / np.abs(p).sum() for w, p in zip(now, self._before, strict=True)])
        self._before = now


def two_dimensional(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.ndim >= 2 and parameter.requires_grad]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, *, micro: int = 1) -> None:
    for _ in range(micro):
        (model(torch.randn(8, 6)).square().mean() / micro).backward()
    optimizer.step()
    optimizer.zero_grad()


def held_against_numpy(model: nn.Module, *, micro: int = 1, every: int = 2, steps: int = 6) -> pd.DataFrame:
    """Train a model under a watch; its series, which is what NumPy says."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    oracle = Oracle(two_dimensional(model))
    with wstrack.watch(model, every=every) as watcher:
        for step in range(1, steps + 1):
            train(model, optimizer, micro=micro)
            if step % every == 0:
                oracle.sample()
    frame = watcher.run().series["rwc"]
    assert frame.index.tolist() == list(range(every, steps + 1, every))
    np.testing.assert_allclose(frame.to_numpy(), oracle.rows, rtol=1e-6)
    return frame


# ---- how the model is run ------------------------------------------------------------------------------------------


def test_micro_batches_are_not_steps(model: nn.Sequential) -> None:
    held_against_numpy(model, micro=3)


class Checkpointed(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = checkpoint(self.body, inputs, use_reentrant=False)
        return output


def test_activations_that_are_computed_again(model: nn.Sequential) -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    assert "body.0.weight" in held_against_numpy(Checkpointed(copy.deepcopy(model)))
    model[2] = checkpoint_wrapper(model[2])
    assert list(held_against_numpy(model)) == ["0.weight", "2.weight", "4.weight"]


def test_a_tied_weight_is_measured_once() -> None:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False))
    model[2].weight = model[0].weight
    assert list(held_against_numpy(model)) == ["0.weight"]


def exchange_data(model: nn.Module, ema: nn.Module) -> None:
    for ours, theirs in zip(model.parameters(), ema.parameters(), strict=True):
        ours.data, theirs.data = theirs.data, ours.data


def exchange_values(model: nn.Module, ema: nn.Module) -> None:
    kept = copy.deepcopy(model.state_dict())
    model.load_state_dict(ema.state_dict())
    ema.load_state_dict(kept)


@pytest.mark.parametrize("exchange", [exchange_data, exchange_values])
@pytest.mark.parametrize("window", ["interval", "step"])
def test_weights_averaged_and_swapped_in_for_evaluation_leave_no_trace(
    model: nn.Sequential, exchange: Callable[[nn.Module, nn.Module], None], window: str
) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watcher = wstrack.watch(model, every=4, window=window)
    oracle = Oracle(two_dimensional(model))
    for step in range(1, 13):
        if window == "step" and step % 4 == 0:
            oracle._before = oracle._now()
        train(model, optimizer)
        averaged.update_parameters(model)
        if step % 4 == 0:
            oracle.sample()
        if step % 3 == 0:
            for _ in range(2):  # in, evaluate, out again
                exchange(model, averaged.module)
                with torch.no_grad():
                    model(torch.randn(8, 6))
    assert watcher.steps == 12
    frame = watcher.run().series["rwc"]
    np.testing.assert_allclose(frame.to_numpy(), oracle.rows, rtol=1e-6)
    assert list(_watchers) == [model]


# ---- weights that are computed, and adapters -----------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 3)
        self.q_proj = nn.Linear(16, 5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.q_proj(self.conv(inputs[:, None]).flatten(1))
        return outputs


PARAMETRIZED = {
    parametrizations.weight_norm: {
        "parametrizations.weight.original0": "norm",
        "parametrizations.weight.original1": "",
    },
    parametrizations.spectral_norm: {"parametrizations.weight.original": ""},
    parametrizations.orthogonal: {"parametrizations.weight.original": ""},
    nn.utils.weight_norm: {"weight_g": "norm", "weight_v": ""},
    nn.utils.spectral_norm: {"weight_orig": ""},
}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the old weight norm
@pytest.mark.parametrize("parametrize", PARAMETRIZED, ids=lambda one: f"{one.__module__.split('.')[-1]}.{one.__name__}")
def test_what_a_weight_is_computed_from_is_the_layer_and_of_its_kind(parametrize: Any) -> None:
    torch.manual_seed(0)
    model = Small()
    for module in model.children():
        parametrize(module)
    kinds = {layer.name: layer.kind for layer, _ in select(model)}
    assert kinds == {
        f"{module}.{own}": kind or default
        for module, default in (("conv", "conv"), ("q_proj", "attention"))
        for own, kind in PARAMETRIZED[parametrize].items()
    }
    assert list(held_against_numpy(model)) == list(kinds)


class LoRA(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(2, base.in_features))
        self.B = nn.Parameter(torch.randn(base.out_features, 2))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.base(inputs) + inputs @ self.A.T @ self.B.T
        return output


def test_of_an_adapted_model_the_adapters_are_the_layers() -> None:
    torch.manual_seed(0)
    model = Small()
    model.conv.requires_grad_(False)
    model.q_proj = LoRA(model.q_proj)
    assert {layer.name: layer.kind for layer, _ in select(model)} == {"q_proj.A": "attention", "q_proj.B": "attention"}
    assert (held_against_numpy(model) > 0).all(axis=None)


def test_of_a_peft_model_the_adapters_are_the_layers() -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(0)
    config = peft.LoraConfig(target_modules=["conv", "q_proj"], r=2, lora_alpha=1, init_lora_weights=False)
    model = peft.get_peft_model(Small(), config)
    kinds = {layer.name.removeprefix("base_model.model."): layer.kind for layer, _ in select(model)}
    assert kinds == {
        "conv.lora_A.default.weight": "conv",
        "conv.lora_B.default.weight": "pointwise",
        "q_proj.lora_A.default.weight": "attention",
        "q_proj.lora_B.default.weight": "attention",
    }
    assert (held_against_numpy(model) > 0).all(axis=None)


# ---- layers that are frozen or unfrozen ----------------------------------------------------------------------------


def test_a_layer_that_is_frozen_reads_zero_from_then_on(model: nn.Sequential) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
    watcher = wstrack.watch(model, every=1)
    for step in range(6):
        if step == 3:
            model[2].requires_grad_(False)
        train(model, optimizer)
    frame = watcher.run().series["rwc"]
    assert (frame["2.weight"] > 0).tolist() == [True] * 3 + [False] * 3
    assert (frame["2.weight"].iloc[3:] == 0).all()  # neither momentum nor weight decay moves it
    assert (frame[["0.weight", "4.weight"]] > 0).all(axis=None)


def gradual(model: nn.Sequential, watcher: wstrack.Watcher) -> pd.DataFrame:
    """Unfreeze the first layer after three steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(6):
        if step == 3:
            model[0].requires_grad_(True)
        train(model, optimizer)
    return watcher.run().series["rwc"]


def test_a_callable_watches_frozen_layers_from_the_start(
    model: nn.Sequential, caplog: pytest.LogCaptureFixture
) -> None:
    model[0].requires_grad_(False)
    oracle = Oracle([model[0].weight])
    frame = gradual(model, wstrack.watch(model, every=3, layers=lambda name, p: p.ndim >= 2))
    assert frame.loc[3].tolist()[0] == 0
    oracle.sample()
    assert frame.loc[6].tolist()[0] == pytest.approx(oracle.rows[0][0], rel=1e-6)
    assert "began to train" not in caplog.text
    assert len(select(nn.Linear(2, 2).requires_grad_(False), lambda name, p: p.ndim >= 2)) == 1


@pytest.mark.parametrize(("layers", "said"), [(None, True), ("weight", True), (r"^[24]\.", False)])
def test_a_layer_that_begins_to_train_unwatched_is_told_of_once(
    model: nn.Sequential, caplog: pytest.LogCaptureFixture, layers: str | None, said: bool
) -> None:
    model[0].requires_grad_(False)
    frame = gradual(model, wstrack.watch(model, every=1, layers=layers))
    assert "0.weight" not in frame
    assert caplog.text.count("0.weight began to train after watch() and are not measured") == said
    assert caplog.text.count("layers=lambda name, p: p.ndim >= 2") == said


def test_what_else_an_optimizer_holds_is_nothing_to_tell_of(
    model: nn.Sequential, caplog: pytest.LogCaptureFixture
) -> None:
    other = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.SGD([*model.parameters(), *other.parameters()], lr=0.1)
    watcher = wstrack.watch(model, every=1)
    for _ in range(3):
        train(model, optimizer)
        other.requires_grad_(True)
    assert watcher.steps == 3
    assert "began to train" not in caplog.text
    model.append(nn.Linear(3, 3))
    optimizer.add_param_group({"params": model[5].parameters()})
    train(model, optimizer)
    assert "5.weight began to train" in caplog.text


# ---- several models and several watches ----------------------------------------------------------------------------


def test_one_optimizer_over_two_models_and_a_watch_of_each_part() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 3)))
    apart = nn.Linear(6, 2)
    watched = [model[0], model[1], apart]
    optimizer = torch.optim.Adam([*model.parameters(), *apart.parameters()], lr=1e-2)
    watchers = [wstrack.watch(part, every=every) for part, every in zip(watched, (1, 2, 3), strict=True)]
    oracles = [Oracle(two_dimensional(part)) for part in watched]
    for step in range(1, 7):
        inputs = torch.randn(8, 6)
        (model(inputs).square().mean() + apart(inputs).square().mean()).backward()
        optimizer.step()
        for every, oracle in enumerate(oracles, start=1):
            if step % every == 0:
                oracle.sample()
    for watcher, oracle in zip(watchers, oracles, strict=True):
        assert watcher.steps == 6
        np.testing.assert_allclose(watcher.run().series["rwc"].to_numpy(), oracle.rows, rtol=1e-6)
    assert len({watcher.recording for watcher in watchers}) == 3


def test_copies_and_checkpoints_taken_during_a_watch_disturb_nothing(model: nn.Sequential, tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    watcher = wstrack.watch(model, every=1)
    oracle = Oracle(two_dimensional(model))
    for _ in range(4):
        train(model, optimizer)
        oracle.sample()
        twin, its_optimizer = copy.deepcopy((model, optimizer))
        train(twin, its_optimizer)
        torch.save({"model": model, "optimizer": optimizer}, tmp_path / "all.pt")
        back = torch.load(tmp_path / "all.pt", weights_only=False)
        train(back["model"], back["optimizer"])
        pickle.loads(pickle.dumps(torch.optim.swa_utils.AveragedModel(model)))
    assert watcher.steps == 4
    np.testing.assert_allclose(watcher.run().series["rwc"].to_numpy(), oracle.rows, rtol=1e-6)
