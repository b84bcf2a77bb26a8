"""Parts that do not learn: planted in weights that are trained in NumPy, under decay, momentum and a sparse router."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from wstrack.analysis import Procedure, analyse
from wstrack.analysis.findings import Finding, collect_of_parts
from wstrack.analysis.findings.idle import idle
from wstrack.analysis.parts import Parts, parts_of
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run

WEIGHTS = ("gate_up_proj", "down_proj")
RATE, K = 1e-3, 10
Router = Callable[[int, np.random.Generator], NDArray[np.bool_]]


def trained(
    chosen: Router, *, experts: int = 8, samples: int = 40, decay: float = 0.0, momentum: float = 0.0,
    window: str = "interval", schedule: Callable[[int], float] = lambda step: 1.0, seed: int = 0,
) -> Run:  # fmt: skip
    """A run of two stacked weights of one block and a dense layer, trained by noise.

    Args:
        chosen: by step, which experts get a gradient.
        decay: as of AdamW: a weight loses this share of itself, times the learning rate, at each step.
        momentum: how much of the last update goes on in the next.
    """
    rng = np.random.default_rng(seed)
    names = [f"model.layers.7.mlp.experts.{weight}" for weight in WEIGHTS]
    layers = [Layer("dense.weight")]
    for name in names:
        layers += [Layer(name), *(Layer(f"{name}[{expert}]", of=name) for expert in range(experts))]
    dense, stacks = rng.normal(size=(1, 64)), [rng.normal(size=(experts, 64)) for _ in names]
    weights = [dense, *stacks]
    updates = [np.zeros_like(weight) for weight in weights]
    sums: dict[str, list[NDArray[np.float64]]] = {"abs_change": [], "abs_previous": []}
    before = [weight.copy() for weight in weights]
    for step in range(1, samples * K + 1):
        lr = RATE * schedule(step)
        just = [weight.copy() for weight in weights]
        takes = chosen(step, rng)
        for place, weight in enumerate(weights):
            gradient = rng.normal(size=weight.shape) * (takes[:, None] if place else 1)
            updates[place] = momentum * updates[place] + gradient
            weight -= lr * (updates[place] + decay * weight)
        if step % K == 0:
            old = just if window == "step" else before
            for name, of in (("abs_change", [w - p for w, p in zip(weights, old, strict=True)]), ("abs_previous", old)):
                each = [np.abs(one).sum(axis=1) for one in of]
                sums[name].append(np.concatenate([each[0], *(np.append(one.sum(), one) for one in each[1:])]))
            before = [weight.copy() for weight in weights]
    change, previous = (np.array(sums[name]) for name in ("abs_change", "abs_previous"))
    manifest = Manifest("experts", tuple(layers), ("rwc",), K, window, origin={"parts": "each"})
    return Run.from_values(
        manifest, np.arange(1, samples + 1) * K, {"rwc": change / previous},
        intervals=[1 if window == "step" else K] * samples, sums={"abs_change": change, "abs_previous": previous},
    )  # fmt: skip


def always(*, but: int | None = None, until: int = 0, experts: int = 8) -> Router:
    """All experts at every step, one of them until a step only."""

    def chosen(step: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        takes = np.ones(experts, dtype=bool)
        if but is not None and step > until:
            takes[but] = False
        return takes

    return chosen


def seldom(shares: NDArray[np.float64], *, but: int | None = None, until: int = 0) -> Router:
    """Each expert at so many of the steps."""

    def chosen(step: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        takes = rng.random(len(shares)) < shares
        if but is not None and step > until:
            takes[but] = False
        return takes

    return chosen


def said(run: Run) -> list[Finding]:
    parts = parts_of([run], "rwc")
    assert isinstance(parts, Parts)
    return idle(parts)


@pytest.mark.parametrize("window", ["interval", "step"])
def test_an_expert_that_stops(window: str) -> None:
    (found,) = said(trained(always(but=3, until=200), window=window))
    text = "Expert 3 of layer 7 has not changed since step 200, while others of its layer went on"
    assert found.text == text + (", as far as the sampled steps show." if window == "step" else ".")
    assert found.kind == "frozen"
    assert found.layers == tuple(f"model.layers.7.mlp.experts.{weight}[3]" for weight in WEIGHTS)
    assert found.steps == (200, 200)
    assert found.numbers["first_step"] == 200


@pytest.mark.parametrize("window", ["interval", "step"])
def test_an_expert_that_only_decays_from_some_step_on(window: str) -> None:
    (found,) = said(trained(always(but=3, until=200), decay=0.1, window=window))
    assert found.text.startswith("Expert 3 of layer 7 has done nothing but decay since step 200, while")
    assert found.numbers["decays"] == 2


@pytest.mark.parametrize(
    ("decay", "text"),
    [
        (0.0, "Expert 5 of layer 7 did not change in any of the 40 samples, while others of its layer did."),
        (
            0.1,
            "Expert 5 of layer 7 does nothing but decay in all 40 samples, as weights do that get no gradient.",
        ),
    ],
)
def test_an_expert_that_never_learns(decay: float, text: str) -> None:
    (found,) = said(trained(always(but=5), decay=decay))
    assert found.kind == "dead"
    assert found.text == text


def test_the_learning_rate_may_fall_meanwhile() -> None:
    run = trained(always(but=5), decay=0.1, schedule=lambda step: 0.5 + 0.5 * np.cos(np.pi * step / 400))
    assert [found.kind for found in said(run)] == ["dead"]


def test_momentum_that_fades_is_no_learning() -> None:
    (found,) = said(trained(always(but=3, until=200), momentum=0.9))
    assert found.text.startswith("Expert 3 of layer 7 has ")
    assert 200 < min(found.steps) <= 300  # 0.9 ** 70 is below a thousandth


def test_many_are_one_finding() -> None:
    def chosen(step: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        return np.arange(8) >= (6 if step > 200 else 0)

    (found,) = said(trained(chosen))
    assert found.text.startswith(
        "6 parts no longer learn, while others of their layer go on (they do not change): expert 0"
    )
    assert found.text.count("(since step 200)") == 6


def test_nothing_is_said_of_a_layer_that_stops_as_a_whole() -> None:
    def chosen(step: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        return np.full(8, step <= 200)

    assert said(trained(chosen)) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("window", ["interval", "step"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_experts_that_are_seldom_chosen_are_no_dead_ones(seed: int, window: str, decay: float) -> None:
    shares = np.geomspace(0.5, 0.005, 8)
    assert said(trained(seldom(shares), decay=decay, window=window, seed=seed)) == []
    assert said(trained(seldom(shares), samples=5, decay=decay, window=window, seed=seed)) == []


def test_a_seldom_chosen_expert_that_stops_all_the_same() -> None:
    (found,) = said(trained(seldom(np.full(8, 0.2), but=3, until=200)))
    assert found.layers == tuple(f"model.layers.7.mlp.experts.{weight}[3]" for weight in WEIGHTS)


@pytest.mark.parametrize("decay", [10.0, 100.0])
def test_decay_that_is_most_of_every_change_shows_nothing(decay: float) -> None:
    assert said(trained(seldom(np.geomspace(0.5, 0.02, 8)), decay=decay)) == []


def test_what_is_told_of_parts_is_not_told_of_layers_again() -> None:
    for run in (trained(always(but=5)), trained(always(but=5), decay=0.1), trained(always(but=3, until=200))):
        found = analyse(run, Procedure(k=1)).findings
        about = [finding for finding in found if finding.kind in ("dead", "frozen", "still", "stopped", "decay")]
        assert [finding.figure for finding in about] == ["parts"], [finding.text for finding in about]


def test_the_mean_of_several_runs_has_no_sums() -> None:
    runs = [trained(always(but=5), seed=seed) for seed in range(2)]
    parts = parts_of(runs, "rwc")
    assert parts is not None
    assert not len(parts.change)
    assert [finding.kind for finding in collect_of_parts(parts)] == ["dead"]


@pytest.mark.parametrize("window", ["interval", "step"])
def test_nothing_else_is_made_of_experts_that_are_seldom_chosen(window: str) -> None:
    run = trained(seldom(np.geomspace(0.9, 0.005, 16)), experts=16, samples=60, window=window)
    found = {finding.kind for finding in analyse(run, Procedure(k=1)).findings}
    assert not found & {"still", "stopped", "decay", "rule"}


def test_layers_that_do_not_learn_as_a_whole_are_named_once() -> None:
    def chosen(step: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        return np.zeros(8, dtype=bool)

    (still,) = (found for found in analyse(trained(chosen), Procedure(k=1)).findings if found.kind == "still")
    assert still.layers == tuple(f"model.layers.7.mlp.experts.{weight}" for weight in WEIGHTS)
