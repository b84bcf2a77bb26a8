"""One procedure from the arguments to the last number: settings, groups and phases are clustered as the whole is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import wstrack
from wstrack.analysis import Procedure, agreement, analyse, cluster_layers
from wstrack.analysis.clustering import CLUSTERINGS
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run

pytestmark = pytest.mark.slow

# Any two values of two arguments meet in one of these; "spikes" with a preset is what a procedure refuses.
HOW = [
    {"cluster_on": on, "outliers": outliers, "preset": preset}
    for on, outliers, preset in (
        ("plane", None, "weightscale"),
        ("plane", "2sd", None),
        ("plane", "spikes", None),
        ("curves", "2sd", "weightscale"),
        ("curves", "spikes", None),
        ("curves", None, None),
    )
]
SLOW = ("gmm", "spectral", "meanshift")  # these share them
GRID = [
    pytest.param(method, how, id="-".join([method, *map(str, how.values())]))
    for method in CLUSTERINGS
    for how in (HOW[SLOW.index(method) :: len(SLOW)] if method in SLOW else HOW)
]


def planted(name: str, *, seed: int = 0, shift: float = 0.0, layers: int = 18, samples: int = 16) -> Run:
    """Two kinds of layers in three levels, the first and the last layer apart."""
    rng = np.random.default_rng(seed)
    level = np.arange(layers) * 3 // layers
    logs = -4 + level + shift * (level == 2) - np.linspace(0, 1, samples)[:, None] * (level == 0)
    values = 10 ** (logs + rng.normal(0, 0.08, (samples, layers)))
    kinds = ["conv" if i % 2 else "linear" for i in range(layers)]
    manifest = Manifest(name, tuple(Layer(f"l.{i}.weight", kind) for i, kind in enumerate(kinds)), ("rwc",), every=10)
    return Run.from_values(manifest, np.arange(1, samples + 1) * 10, {"rwc": values})


@pytest.mark.parametrize(("method", "how"), GRID)
def test_settings_and_groups_are_clustered_as_a_report_on_them_alone_is(method: str, how: dict[str, Any]) -> None:
    runs = [planted("a", seed=1), planted("b", seed=2, shift=0.5)]
    k: Any = 2 if Procedure(cluster=method).takes_k else "auto"
    found = wstrack.report(runs, compare="run", group="kind", cluster=method, k=k, **how)
    assert found.comparison is not None
    assert found.groups is not None
    procedure = found.procedure
    for run in runs:
        alone = cluster_layers(procedure.prepare(run.series["rwc"]).values, procedure).clustering.labels
        there = found.comparison.clusters[run.name].dropna()
        assert list(there.index) == list(alone.index)
        assert agreement(there, alone) == 1.0
    for group in ("conv", "linear"):
        members = found.groups.labels.index[found.groups.labels == group]
        part = cluster_layers(found.prepared.values.loc[members], procedure).clustering
        assert agreement(found.groups.clusters[members], part.labels) == 1.0
        assert found.groups.table.loc[group, "k"] == part.k


@pytest.mark.parametrize("method", ["kmeans", "ward", "dbscan"])
def test_a_setting_has_the_clusters_that_a_report_on_it_has(method: str) -> None:
    runs = [planted("a", seed=1), planted("b", seed=2, shift=0.5)]
    k: Any = 3 if Procedure(cluster=method).takes_k else "auto"
    found = wstrack.report(runs, compare="run", cluster=method, k=k, cluster_on="curves", preset="weightscale")
    assert found.comparison is not None
    for run in runs:
        alone = wstrack.report(run, cluster=method, k=k, cluster_on="curves", preset="weightscale").clustering.labels
        assert agreement(found.comparison.clusters[run.name].dropna(), alone) == 1.0


@pytest.mark.parametrize("on", ["plane", "curves"])
def test_runs_that_are_one_have_the_clusters_of_their_mean(on: Any) -> None:
    found = wstrack.report([planted("a"), planted("b")], compare="run", cluster_on=on)
    assert found.comparison is not None
    assert found.clustering.k == 3
    for name in ("a", "b"):
        assert agreement(found.comparison.clusters[name], found.clustering.labels) == 1.0


@pytest.mark.parametrize("method", ["kmeans", "kmedoids", "dbscan", "hdbscan"])
def test_phases_are_clustered_with_every_method(method: str) -> None:
    run = planted("a", samples=40)
    run.series["rwc"].iloc[20:] *= 1e3
    takes_k = Procedure(cluster=method).takes_k
    found = wstrack.report(run, cluster=method, k=3 if takes_k else "auto")
    assert found.phases is not None
    assert found.phases.breaks == (210,)
    assert list(found.phase_clusters) == list(found.phase_agreement.index) == ["phase 1", "phase 2"]
    first = wstrack.report(
        Run.from_values(
            Manifest("half", tuple(Layer(name) for name in run.layers.index), ("rwc",), every=10),
            run.series["rwc"].index[:20].to_numpy(),
            {"rwc": run.series["rwc"].iloc[:20].to_numpy()},
        ),
        cluster=method,
        k=3 if takes_k else "auto",
    )
    assert agreement(found.phase_clusters["phase 1"], first.clustering.labels) == 1.0


def test_a_callable_setting_has_its_courses() -> None:
    runs = [planted(name, seed=seed) for seed, name in enumerate("abcd")]
    by_name = analyse(runs, Procedure(k=3), compare="run")
    by_function = analyse(runs, Procedure(k=3), compare=lambda run: run.name)
    assert by_name.comparison is not None
    assert by_function.comparison is not None
    pd.testing.assert_frame_equal(by_name.comparison.courses, by_function.comparison.courses)
    course = by_name.comparison.courses.set_index(["setting", "step"])["mean"]
    logs = np.log10(runs[2].series["rwc"].to_numpy()).mean(axis=1)
    np.testing.assert_allclose(course["c"], 10**logs, rtol=1e-12)


def test_late_over_early_is_one_number_wherever_it_is_told() -> None:
    """From the samples that span as many steps: here the first ten span a tenth of the others' steps."""
    steps = [*range(5, 55, 5), *range(100, 2100, 50)]
    rng = np.random.default_rng(0)
    values = 10 ** (rng.normal(0, 0.02, (len(steps), 12)) - np.linspace(2, 3, len(steps))[:, None])
    values[:10] *= 1e-3
    run = Run.from_values(
        Manifest("a", tuple(Layer(f"l{i}.weight") for i in range(12)), ("rwc",), every=50),
        steps,
        {"rwc": values},
        intervals=np.diff([0, *steps]),
    )
    found = wstrack.report(run)
    comparable = values[11:]  # the tenth of the longer ones spans fifty steps as well
    comparable = values[10:] if np.diff([0, *steps])[10] == 50 else comparable
    third = len(comparable) // 3
    expected = np.median(comparable[-third:], axis=0) / np.median(comparable[:third], axis=0)
    np.testing.assert_allclose(found.table["late_early_ratio"], expected, rtol=1e-12)
    (course,) = (one for one in found.findings if one.kind == "course")
    np.testing.assert_allclose(course.numbers["late_to_early"], np.median(expected), rtol=1e-12)
