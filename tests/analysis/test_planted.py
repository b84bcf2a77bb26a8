"""What is planted is found, whatever is in the way; in noise nothing is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from wstrack.analysis import (
    Procedure,
    agreement,
    choose,
    cluster,
    collect_findings,
    find_phases,
    measure_stability,
    prepare,
    reduce,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.analysis.conftest import Planted  # type: ignore[import-not-found]
    from wstrack.analysis import Finding

pytestmark = pytest.mark.slow

EVERY = 50


def analysed(series: pd.DataFrame) -> tuple[pd.Series, str | None, list[Finding]]:
    """The labels, the verdict and the findings that a report has."""
    values = prepare(series).values
    choice = choose(values)
    clustering = cluster(reduce(values).points, k=choice.k)
    held = measure_stability(values, Procedure(k=choice.k), resampling=choice.resampling)
    spans = pd.Series(EVERY, index=series.index)
    found = collect_findings(series, clustering, held, metric="rwc", intervals=spans, phases=find_phases(values))
    return clustering.labels, held.verdict if held else None, found


@pytest.mark.parametrize("seed", range(3))
def test_planted_clusters_phases_and_spikes_are_recovered(plant: Callable[..., Planted], seed: int) -> None:
    run = plant(seed=seed)
    labels, verdict, found = analysed(run.series)
    assert agreement(labels, run.labels) >= 0.95
    assert verdict == "stable"
    kinds = {finding.kind: finding for finding in found}
    assert len(kinds["phases"].steps) == len(run.breaks)
    assert np.abs(np.subtract(kinds["phases"].steps, run.breaks)).max() <= EVERY
    assert kinds["spikes"].steps == run.spikes
    assert "stopped" not in kinds


@pytest.mark.parametrize("seed", range(2))
def test_planted_frozen_layers_are_recovered(plant: Callable[..., Planted], seed: int) -> None:
    run = plant(seed=seed, frozen=True, spikes=False)
    _, _, found = analysed(run.series)
    (stopped,) = (finding for finding in found if finding.kind == "stopped")
    assert set(stopped.layers) == set(run.frozen)
    for layer, step in zip(stopped.layers, stopped.steps, strict=True):
        assert abs(step - run.frozen[layer]) <= EVERY


def noise(kind: str, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    shape = (40, 30)
    logs = rng.normal(size=shape)
    if kind == "autocorrelated":
        logs = lfilter([1.0], [1.0, -0.6], rng.normal(size=(90, 30)), axis=0)[50:]
    if kind == "heavy":
        logs = rng.standard_t(4, size=shape)
    values = 10 ** (-3 + 0.1 * logs)
    values[rng.random(shape) < 0.005] = np.nan
    return pd.DataFrame(values, index=np.arange(1, 41) * EVERY, columns=[f"l{n}" for n in range(30)])


@pytest.mark.parametrize("kind", ["white", "autocorrelated", "heavy"])
def test_noise_has_no_findings_and_no_clusters(kind: str) -> None:
    """Each with a chance of 5 % at most, so in 6 or 24 runs hardly ever as often as here (p < 0.01)."""
    clustered = [analysed(noise(kind, seed)) for seed in range(6)]
    assert sum(len(set(labels)) > 1 for labels, _, _ in clustered) <= 2
    assert not any(verdict == "stable" for _, verdict, _ in clustered)
    spoken = 0
    for seed in range(24):
        series = noise(kind, seed)
        values = prepare(series).values
        one = cluster(values, k=1)
        spans = pd.Series(EVERY, index=series.index)
        spoken += bool(collect_findings(series, one, None, metric="rwc", intervals=spans, phases=find_phases(values)))
    assert spoken <= 4


@pytest.mark.parametrize("bent", [0.0, 1.0])
def test_a_gradient_is_not_clusters(bent: float) -> None:
    """Layers spread evenly along a line, straight or bent, are one cloud however long it is."""
    chosen = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        place, time = rng.uniform(size=40), np.linspace(-0.5, 0.5, 30)
        curves = 3 * place[:, None] + bent * 18 * (place * (place - 1))[:, None] * time
        chosen += choose(pd.DataFrame(curves + 0.1 * rng.normal(size=(40, 30)))).k > 1
    assert chosen <= 1


def test_a_k_that_was_forced_on_one_cloud_is_called_so() -> None:
    rng = np.random.default_rng(0)
    cloud = pd.DataFrame(3 * rng.uniform(size=(40, 1)) + 0.1 * rng.normal(size=(40, 30)))
    found = measure_stability(cloud, Procedure(k=2))
    assert found is not None
    assert found.median > 0.8
    assert found.verdict == "continuous"
    assert found.null is not None
    assert found.null[0] > 0.8
