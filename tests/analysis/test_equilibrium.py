"""The line of expected change: drawn where it is known to hold, and there layers that are normalised come to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

import wstrack
from wstrack.analysis.equilibrium import equilibrium_of
from wstrack.metrics import METRICS
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run

METRICS_ASKED = ("rwc_l2", "rwc", "lr", "equilibrium")


def run_of(rates: np.ndarray, decays: list[float], *, interval: int = 1) -> Run:
    """Samples each 1,000 steps of AdamW, with the rate that all layers have and a decay for each."""
    shape = len(rates), len(decays)
    sums = {"lr": np.tile(rates[:, None], len(decays)), "weight_decay": np.tile(decays, (len(rates), 1))}
    sums |= {"momentum": np.full(shape, 0.9), "gain": np.ones(shape), "told": np.ones(shape)}
    line = METRICS["equilibrium"].value(sums, np.ones(len(decays)))
    layers = tuple(Layer(f"{at}.weight") for at in range(len(decays)))
    manifest = Manifest("made", layers, METRICS_ASKED, every=1000)
    values = {"rwc_l2": np.full(shape, 0.01), "rwc": np.full(shape, 0.01), "lr": sums["lr"], "equilibrium": line}
    steps = np.arange(1, len(rates) + 1) * 1000
    return Run.from_values(manifest, steps, values, intervals=[interval] * len(rates), sums=sums)


def line_of(run: Run, metric: str = "rwc_l2") -> np.ndarray | None:
    found = equilibrium_of([run], metric, run.series[metric].index)
    return None if found is None else found.line.to_numpy()


def test_it_begins_where_the_start_is_forgotten_and_anew_after_each_change_of_the_rate() -> None:
    # Decay takes 2 x 0.005 x 0.1 of the squared norm in a step, so 1 in 1,000 steps and 3 in three samples.
    rates = np.r_[np.full(6, 0.005), np.full(2, 0.02), np.full(4, 0.005)]
    line = line_of(run_of(rates, [0.1]))
    assert line is not None
    expected = np.sqrt(2 * rates * 0.1 * 0.1 / 1.9)
    known = ~np.isnan(line)
    assert known.tolist() == [False] * 3 + [True] * 3 + [False, True] + [False] * 3 + [True]
    np.testing.assert_allclose(line[known], expected[known])


def test_a_rate_that_falls_faster_than_it_is_forgotten_has_no_line() -> None:
    assert line_of(run_of(np.geomspace(0.01, 1e-4, 50), [0.02])) is None


def test_of_several_decays_the_most_layers_that_have_one_count() -> None:
    run = run_of(np.full(8, 0.005), [0.0, 0.1, 0.0, 0.1, 0.2, 0.0])
    found = equilibrium_of([run], "rwc_l2", run.series["rwc_l2"].index)
    assert found is not None
    assert found.layers == ("1.weight", "3.weight")


@pytest.mark.parametrize(
    ("run", "metric"),
    [
        (run_of(np.full(8, 0.005), [0.1], interval=50), "rwc_l2"),
        (run_of(np.full(8, 0.005), [0.1]), "rwc"),
        (run_of(np.full(8, 0.005), [0.0]), "rwc_l2"),
        (run_of(np.full(8, np.nan), [0.1]), "rwc_l2"),
    ],
    ids=["several steps", "another metric", "no decay", "unknown"],
)
def test_there_is_no_line_where_it_is_not_known_to_hold(run: Run, metric: str) -> None:
    assert line_of(run, metric) is None


def test_runs_that_differ_have_no_line_and_a_run_without_the_metric_has_none() -> None:
    one, other = run_of(np.full(8, 0.005), [0.1]), run_of(np.full(8, 0.006), [0.1])
    steps = one.series["rwc_l2"].index
    assert equilibrium_of([one, one], "rwc_l2", steps) is not None
    assert equilibrium_of([one, other], "rwc_l2", steps) is None
    del other.series["equilibrium"]
    assert equilibrium_of([other], "rwc_l2", steps) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer_of",
    [
        lambda parameters: AdamW(parameters, 1e-2, weight_decay=0.2),
        lambda parameters: SGD(parameters, 0.05, momentum=0.9, weight_decay=4e-3),
    ],
    ids=["AdamW", "SGD with momentum"],
)
def test_layers_that_are_normalised_come_to_it(tmp_path: Path, optimizer_of: Callable[[object], Optimizer]) -> None:
    torch.manual_seed(0)
    body: list[nn.Module] = []
    for _ in range(3):
        body += [nn.Linear(48, 48, bias=False), nn.BatchNorm1d(48), nn.ReLU()]
    model, teacher = nn.Sequential(*body, nn.Linear(48, 8)), torch.randn(48, 8)
    optimizer = optimizer_of(model.parameters())
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with wstrack.watch(model, to=tmp_path, every=10, window="step", metrics=METRICS_ASKED) as watcher:
        for _ in range(2000):
            inputs = torch.randn(32, 48)
            # Of labels that are all noise nothing would be learnt, and no gradient would be left to balance the decay.
            labels = torch.where(torch.rand(32) < 0.3, torch.randint(8, (32,)), (inputs @ teacher).argmax(1))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        watcher.flush()
        run = watcher.run()
    torch.set_num_threads(before)
    change = run.series["rwc_l2"]
    found = equilibrium_of([run], "rwc_l2", change.index)
    assert found is not None
    assert found.line.notna().sum() > 20
    assert change.div(found.line, axis="index").median().iloc[:3].to_numpy() == pytest.approx(1.0, abs=0.08)
