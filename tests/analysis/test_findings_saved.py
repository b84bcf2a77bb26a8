"""What is said of checkpoints: planted faults are found and named with their step, sound series say nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import wstrack
from wstrack.analysis.findings.saved import of_checkpoints, off_path, same, unrelated
from wstrack.checkpoints.diff import diff
from wstrack.checkpoints.measuring import measure_opened
from wstrack.checkpoints.stored import Checkpoint, InMemory
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run

State = dict[str, torch.Tensor]
EVERY, SAVED = 10, 9


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.Linear(32, 40)
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (2, 4, 4)), nn.Conv2d(2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 40),
    )  # fmt: skip


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (1, 32)), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(32, 40))


Schedule = Callable[[int], float]


def cosine(step: int) -> float:
    return min(1.0, step / 20) * 0.5 * (1 + np.cos(np.pi * step / (EVERY * (SAVED - 1))))


KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[..., torch.optim.Optimizer], Schedule]] = {
    "MLP, SGD with momentum": (mlp, lambda p: torch.optim.SGD(p, 0.05, momentum=0.9), lambda step: 1.0),
    "MLP, AdamW, warm-up and cosine": (mlp, lambda p: torch.optim.AdamW(p, 3e-3, weight_decay=0.1), cosine),
    "CNN, Adam, drops": (cnn, lambda p: torch.optim.Adam(p, 1e-2), lambda step: 0.1 ** (step // 30)),
    "transformer, AdamW": (transformer, lambda p: torch.optim.AdamW(p, 1e-3), lambda step: 1.0),
    "MLP, Adam, restarts": (mlp, lambda p: torch.optim.Adam(p, 1e-2), lambda step: 0.02 + (1 - step % 40 / 40)),
}


def trained(kind: str, seed: int) -> list[State]:
    """The weights at every tenth step, the start among them."""
    make, optimizer_of, schedule = KINDS[kind]
    torch.manual_seed(seed)
    model = make()
    optimizer = optimizer_of(model.parameters())
    rate = optimizer.param_groups[0]["lr"]
    inputs, targets = torch.randn(512, 32), torch.randint(40, (512,))
    states = []
    for step in range(EVERY * (SAVED - 1) + 1):
        if step % EVERY == 0:
            states.append({name: value.clone() for name, value in model.state_dict().items()})
        optimizer.param_groups[0]["lr"] = rate * schedule(step)
        batch = torch.randint(512, (32,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
        optimizer.step()
    return states


def run_of(states: list[State], every: int = EVERY) -> Run:
    opened = [
        Checkpoint(
            Path(f"step_{every * place}"),
            {name: InMemory(name, tuple(one.shape), one.dtype, one.clone) for name, one in state.items()},
            ordered=True,
        )
        for place, state in enumerate(states)
    ]
    return measure_opened(
        opened, "planted", "planted", as_given=False, metrics=("rwc", "distance"), to=None,
        progress=lambda done, whole: None,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """More threads only wait for each other in networks as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sound() -> list[State]:
    return trained("transformer, AdamW", 0)


@pytest.mark.parametrize("kind", KINDS)
def test_sound_series_say_nothing(kind: str) -> None:
    for seed in range(20):
        found = [finding for finding in of_checkpoints([run_of(trained(kind, seed))]) if finding]
        assert not found, found[0].text


def test_a_shard_of_the_last_step_under_an_earlier_one_is_named(sound: list[State]) -> None:
    states = [dict(state) for state in sound]
    shard = [name for name in states[3] if ".layers.1." in name]
    states[3].update({name: states[-1][name] for name in shard})
    found = same(run_of(states))
    assert found is not None
    assert found.steps == (30, 80)
    assert set(found.layers) == {name for name in shard if states[3][name].ndim > 1}
    assert found.text.startswith('The checkpoint of step 80 has all 4 layers with "layers.1" in their name in common')


def test_the_end_under_the_first_step_is_named(sound: list[State]) -> None:
    found = same(run_of([sound[-1], *sound[1:]]))
    assert found is not None
    assert found.steps == (0, 80)
    assert "all its weights" in found.text


def test_a_repeated_checkpoint_is_named(sound: list[State]) -> None:
    found = same(run_of([*sound[:5], sound[4], *sound[5:]]))
    assert found is not None
    assert found.steps == (40, 50)
    assert found.text.startswith("The checkpoint of step 50 has all its weights in common with that of step 40")


def test_weights_of_one_size_are_not_the_same_weights(sound: list[State]) -> None:
    name = next(name for name in sound[0] if sound[0][name].ndim > 1)
    states = [dict(state) for state in sound]
    states[6][name] = -sound[3][name]
    assert same(run_of(states)) is None


def test_layers_that_are_frozen_for_a_while_are_not_meant(sound: list[State]) -> None:
    name = next(name for name in sound[0] if sound[0][name].ndim > 1)
    thawed = [{**state, name: sound[0][name]} for state in sound[:4]] + sound[4:]
    stopped = sound[:5] + [{**state, name: sound[4][name]} for state in sound[5:]]
    assert same(run_of(thawed)) is None
    assert same(run_of(stopped)) is None


def test_a_shard_of_another_run_is_off_the_path(sound: list[State]) -> None:
    other = trained("transformer, AdamW", 7)
    states = [dict(state) for state in sound]
    shard = [name for name in states[4] if ".layers.0." in name]
    states[4].update({name: other[4][name] for name in shard})
    found = off_path(run_of(states))
    assert found is not None
    assert found.steps == (40,)
    assert set(found.layers) == {name for name in shard if states[4][name].ndim > 1}
    assert 'all 4 layers with "layers.0" in their name do not lie on the path' in found.text


def test_a_whole_checkpoint_of_another_run_is_off_the_path(sound: list[State]) -> None:
    found = off_path(run_of([*sound[:5], trained("transformer, AdamW", 3)[5], *sound[6:]]))
    assert found is not None
    assert found.steps == (50,)


def test_the_start_of_another_seed_is_unrelated(sound: list[State]) -> None:
    found = unrelated(run_of([trained("transformer, AdamW", 9)[0], *sound[1:]]))
    assert found is not None
    assert found.steps == (0, 10)
    assert "steps 0 and 10 (relative distance 1." in found.text


def test_two_seeds_are_unrelated_and_a_run_and_its_end_are_not(sound: list[State]) -> None:
    other = trained("transformer, AdamW", 5)[-1]
    text = wstrack.report(diff(sound[-1], other)).verdict
    assert text == "The two sets of weights are unrelated, as two trainings from different seeds."
    assert unrelated(diff(sound[0], sound[-1])) is None


def test_one_comparison_says_what_changed_most_and_what_not_at_all(sound: list[State]) -> None:
    frozen = {name: (sound[0][name] if ".layers.0." in name else value) for name, value in sound[-1].items()}
    found = wstrack.report(diff(sound[0], frozen))
    changes = found.findings[0]
    assert changes.kind == "changes"
    assert (
        '4 of 9 layers are the same before and after, bit for bit: all 4 layers with "layers.0" in their name.'
        in changes.text
    )
    row = found.series.iloc[0]
    assert row.idxmax() in changes.text.partition(",")[0]
    assert found.verdict.endswith("; 4 of 9 did not change.")


def test_a_run_that_was_watched_is_not_asked() -> None:
    manifest = Manifest("watched", (Layer("a.weight", numel=2000),), ("rwc",), every=1)
    assert of_checkpoints([Run.from_values(manifest, [1, 2], {"rwc": np.zeros((2, 1))})]) == [None, None, None]
