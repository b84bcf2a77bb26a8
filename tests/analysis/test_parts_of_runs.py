"""Runs whose layers are cut into parts: which of both are analysed, and what is known of the parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from wstrack.analysis import Procedure, analyse, group_layers
from wstrack.analysis.parts import gini, on_one_level, parts_of
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run

STACKED = [f"model.layers.{block}.mlp.experts.down_proj" for block in range(2)]
OTHERS = [f"model.layers.{block}.self_attn.o_proj.weight" for block in range(2)]


@pytest.fixture
def cut_run() -> Callable[..., Run]:
    """Two blocks of a stacked weight with three experts each, and an attention weight beside each."""

    def make(*, experts: int = 3, samples: int = 20, seed: int = 0, parts: str = "each") -> Run:
        layers: list[Layer] = []
        for stacked, other in zip(STACKED, OTHERS, strict=True):
            labels = ("least", "median", "largest", "zero") if parts == "summarised" else map(str, range(experts))
            layers += [Layer(stacked, "linear", (experts, 4, 4), 16 * experts)]
            layers += [Layer(f"{stacked}[{label}]", "linear", (4, 4), 16, of=stacked) for label in labels]
            layers += [Layer(other, "attention", (4, 4), 16)]
        values = 10 ** np.random.default_rng(seed).normal(-3, 0.1, (samples, len(layers)))
        metrics = {"rwc": values}
        if parts == "summarised":
            values[:, [layer.name.endswith("[zero]") for layer in layers]] = 0.25
        manifest = Manifest("cut", tuple(layers), tuple(metrics), 10, origin={"parts": parts})
        sums = {"abs_change": values, "abs_previous": np.ones_like(values)}
        return Run.from_values(
            manifest, np.arange(1, samples + 1) * 10, metrics, intervals=[10] * samples, sums=sums,
        )  # fmt: skip

    return make


def analysed(run: Run, **options: object) -> list[str]:
    return list(analyse(run, Procedure(k=1), **options).series.columns)  # type: ignore[arg-type]


def test_parts_stand_in_place_of_their_layer(cut_run: Callable[..., Run]) -> None:
    run = cut_run()
    found = analyse(run, Procedure(k=1))
    assert list(found.series.columns) == [name for name in run.layers.index if name not in STACKED]
    assert found.table["depth"].tolist() == list(range(8))
    assert found.settings["parts"] == "6 parts in place of 2 layers"
    assert list(found.runs[0].sums["abs_change"].columns) == list(found.series.columns)
    assert found.parts is not None
    assert list(found.parts.table.index) == STACKED


def test_whole_layers_where_there_would_be_too_many(cut_run: Callable[..., Run]) -> None:
    run = cut_run(experts=1001)
    found = analyse(run, Procedure(k=1))
    assert list(found.series.columns) == [STACKED[0], OTHERS[0], STACKED[1], OTHERS[1]]
    assert "2,002 parts of 2 of them there would be 2,004, and more than 2,000" in found.settings["parts"]
    assert found.parts is not None
    assert found.parts.series.shape == (20, 2002)


def test_the_rows_of_a_summary_are_no_layers(cut_run: Callable[..., Run]) -> None:
    found = analyse(cut_run(parts="summarised"), Procedure(k=1))
    assert list(found.series.columns) == [STACKED[0], OTHERS[0], STACKED[1], OTHERS[1]]
    assert found.settings["parts"].endswith("the recording has each part")
    assert found.parts is not None
    assert not found.parts.each
    assert found.parts.table["unmoved"].tolist() == [0.25, 0.25]
    assert found.parts.table.loc[STACKED[0], "least"] == pytest.approx(
        found.parts.series[f"{STACKED[0]}[least]"].mean()
    )


def test_runs_that_do_not_have_the_same_parts_are_compared_by_their_layers(cut_run: Callable[..., Run]) -> None:
    runs = [cut_run(experts=3), cut_run(experts=4)]
    (one, other), why = on_one_level(runs)
    assert list(one.layers.index) == list(other.layers.index) == [STACKED[0], OTHERS[0], STACKED[1], OTHERS[1]]
    assert why == "whole layers: the runs do not have the same parts"
    assert parts_of(runs, "rwc") is None


def test_the_mean_of_several_runs(cut_run: Callable[..., Run]) -> None:
    runs = [cut_run(seed=seed) for seed in range(3)]
    parts = parts_of(runs, "rwc")
    assert parts is not None
    expected = np.mean([run.series["rwc"][list(parts.of.index)] for run in runs], axis=0)
    np.testing.assert_allclose(parts.series, expected, rtol=1e-12)


def test_blocks_are_put_together_from_whole_layers(cut_run: Callable[..., Run]) -> None:
    run = cut_run()
    found = analyse(run, Procedure(k=1), aggregate="block")
    change, previous = (run.sums[name][[STACKED[0], OTHERS[0]]].sum(axis=1) for name in ("abs_change", "abs_previous"))
    np.testing.assert_allclose(found.series["model.layers.0"], change / previous, rtol=1e-12)


def test_a_run_without_parts_is_as_it_was(cut_run: Callable[..., Run]) -> None:
    (run,), _ = on_one_level([cut_run()], whole=True)
    (same,), why = on_one_level([run])
    assert same is run
    assert why == ""
    assert analyse(run, Procedure(k=1)).parts is None


def test_what_is_known_of_the_parts_of_each_layer(cut_run: Callable[..., Run]) -> None:
    run = cut_run(experts=4)
    values = run.series["rwc"]
    values[f"{STACKED[0]}[1]"] = 0.0
    values.iloc[:5, list(values.columns).index(f"{STACKED[0]}[2]")] = 0.0
    values.iloc[3, list(values.columns).index(f"{STACKED[0]}[3]")] = np.nan
    parts = parts_of([run], "rwc")
    assert parts is not None
    row = parts.table.loc[STACKED[0]]
    means = values[[f"{STACKED[0]}[{label}]" for label in range(4)]].mean().to_numpy()
    assert row["parts"] == 4
    assert row[["least", "median", "largest"]].tolist() == pytest.approx([0.0, np.median(means), means.max()])
    pairs = np.abs(means[:, None] - means[None, :]).sum() / (4 * 3)
    assert row["gini"] == pytest.approx(pairs / 2 / means.mean())
    assert row["unmoved"] == pytest.approx((1 + 5 / 20) / 4)
    assert row["never"] == 1


@pytest.mark.parametrize("size", [2, 3, 17])
def test_gini_goes_from_0_to_1_and_has_no_unit(size: int) -> None:
    alone = np.zeros(size)
    alone[-1] = 1e-3
    assert gini(alone) == pytest.approx(1.0)
    assert gini(np.full(size, 0.3)) == pytest.approx(0.0, abs=1e-12)
    values = np.random.default_rng(size).random(size)
    assert gini(1000 * values) == pytest.approx(gini(values))
    assert np.isnan(gini(np.zeros(size)))


def test_parts_are_grouped_by_their_layer_and_are_of_its_kind(cut_run: Callable[..., Run]) -> None:
    run = cut_run()
    (levelled,), _ = on_one_level([run])
    parents = group_layers(levelled.layers, "parent")
    assert parents[f"{STACKED[1]}[2]"] == STACKED[1]
    assert parents[OTHERS[0]] == "whole layers"
    for by, expected in (("kind", "MLP"), ("block", "model.layers.1"), ("stage", "model.layers")):
        assert group_layers(levelled.layers, by)[f"{STACKED[1]}[2]"] == expected, by
    (whole,), _ = on_one_level([run], whole=True)
    with pytest.raises(ValueError, match=r"'parent' needs layers that are cut into parts.* watch\(parts=\.\.\.\)"):
        group_layers(whole.layers, "parent")
    assert analysed(run, group="parent") == list(levelled.layers.index)


def test_a_trend_over_depth_counts_a_layer_once(cut_run: Callable[..., Run]) -> None:
    """Parts of one layer are as deep as each other: sixteen of two layers show no trend over sixteen layers."""
    run = cut_run(experts=8)
    deep = [name for name in run.layers.index if "layers.1." in name]
    run.series["rwc"][deep] *= 30
    assert "depth" not in {finding.kind for finding in analyse(run, Procedure(k=1)).findings}
