from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import DBSCAN

import wstrack
from wstrack.errors import WstrackError
from wstrack.metrics import sums_needed
from wstrack.reporting.page import render_page
from wstrack.reporting.pictures import pictures
from wstrack.reporting.report import Report, report
from wstrack.reporting.words import verdict
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.recorder import Recorder
from wstrack.runs.recording import FOLDER
from wstrack.runs.run import Run

MakeRun = Callable[..., Run]


def test_json_holds_what_was_found(make_run: MakeRun) -> None:
    run = make_run(data="easy").with_origin(reference="runs/a")
    found = report(run, k=3).to_dict()
    names = list(run.series["rwc"].columns)
    assert [cluster["layers"] for cluster in found["clusters"]] == [names[:4], names[4:8], names[8:]]
    assert [cluster["id"] for cluster in found["clusters"]] == [1, 2, 3]
    assert found["runs"][0]["name"] == "a run"
    assert found["runs"][0]["reference"] == found["runs"][0]["origin"]["reference"] == "runs/a"
    assert found["runs"][0]["facts"] == {"data": "easy"}
    assert found["runs"][0]["completeness"] == {"expected": 360, "received": 360, "missing": 0, "notes": []}
    assert [layer["layer"] for layer in found["layers"]] == names
    assert found["layers"][0]["shape"] == [8, 4, 3, 3]
    assert found["settings"]["k"] == 3
    assert found["settings"]["scale"] == "log10"
    assert found["stability"]["verdict"] == "stable"
    assert {finding["kind"] for finding in found["findings"]} >= {"depth", "clusters"}
    assert found["versions"]["wstrack"] == wstrack.__version__


def test_json_is_strict_whatever_the_values(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    frame = run.series["rwc"]
    frame.iloc[:, 3] = np.nan
    frame.iloc[5, 4] = np.inf
    frame.iloc[7, 5] = np.nan
    odd = {"loss": float("nan"), "lr": np.float32(0.5), "when": pd.Timestamp("2024-01-01"), "betas": (0.9, np.inf)}
    run.facts.update(odd)
    found = report(run)
    found.save(tmp_path / "a.json")
    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert read == json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["runs"][0]["facts"]["loss"] is None
    assert read["runs"][0]["facts"]["lr"] == 0.5
    assert read["runs"][0]["facts"]["betas"] == [0.9, None]
    assert read["dropped"] == {"block.3.weight": "no finite value"}
    assert read["replaced"]["block.4.weight"]["non_finite"] == 1
    assert set(read["replaced"]) == {"block.4.weight", "block.5.weight"}
    assert read["layers"][3]["cluster"] is None
    assert read["layers"][3]["left_out"] == "no finite value"


def test_csv_has_a_row_a_layer(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    run.series["rwc"].iloc[2, 1] = np.inf
    found = report(run, k=3)
    found.save(tmp_path / "a.csv")
    table = pd.read_csv(tmp_path / "a.csv", index_col="layer")
    values = run.series["rwc"].to_numpy()
    assert list(table.index) == list(run.series["rwc"].columns)
    assert table["cluster"].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    finite = np.where(np.isfinite(values), values, np.nan)
    np.testing.assert_allclose(table["median"], np.nanmedian(finite, axis=0), rtol=1e-12)
    late_early = np.nanmedian(finite[20:], axis=0) / np.nanmedian(finite[:10], axis=0)
    np.testing.assert_allclose(table["late_early_ratio"], late_early, rtol=1e-12)
    np.testing.assert_allclose(table["component_1"], found.reduction.points["component_1"], rtol=1e-9)
    assert set(table["kind"]) == {"conv"}
    assert set(table["numel"]) == {288}


def test_noise_is_a_group_of_its_own(make_run: MakeRun) -> None:
    run = make_run()
    run.series["rwc"].iloc[:, 11] *= 1e6
    found = report(run, cluster=DBSCAN(eps=2.0, min_samples=2)).to_dict()
    assert found["clusters"][0] == {"id": -1, "layers": ["block.11.weight"]}


def test_runs_are_averaged_step_by_step(make_run: MakeRun) -> None:
    runs = [make_run(seed=seed) for seed in range(3)]
    runs[1].series["rwc"].iloc[4, 2] = np.nan
    runs[2].series["rwc"] = runs[2].series["rwc"].iloc[:20]
    series = report(runs, k=3).series
    a, b, c = (run.series["rwc"].to_numpy() for run in runs)
    expected = np.vstack([(a[:20] + b[:20] + c) / 3, (a[20:] + b[20:]) / 2])
    expected[4, 2] = (a[4, 2] + c[4, 2]) / 2
    np.testing.assert_allclose(series.to_numpy(), expected, rtol=1e-12)


def cut(run: Run, samples: int) -> Run:
    run.series["rwc"] = run.series["rwc"].iloc[:samples]
    return run


@pytest.mark.parametrize(("samples", "why"), [(0, "there is no sample"), (1, "at least 2 samples")])
def test_a_run_too_short_to_stand_alone_is_in_the_mean(make_run: MakeRun, samples: int, why: str) -> None:
    runs = [make_run(name=name, seed=seed) for seed, name in enumerate("abc")]
    found = report([cut(make_run(name="new"), samples), *runs], k=3)
    assert len(found.series) == 30
    assert found.stability
    assert found.stability.perturbations.loc["runs", "many"] == 3  # of a, b and c
    with pytest.raises(WstrackError, match=f"'new' cannot be compared: {why}"):
        report([*runs, cut(make_run(name="new"), samples)], k=3, compare="run")


def test_what_is_too_little_names_its_run(make_run: MakeRun) -> None:
    with pytest.raises(WstrackError, match=r"^no samples of rwc in short"):
        report(cut(make_run(name="short"), 0))
    frozen = make_run(name="frozen")
    frozen.series["rwc"] *= 0
    with pytest.raises(WstrackError, match=r"^frozen: every value is zero"):
        report(frozen, scale="log10")


def test_runs_of_other_layers_are_refused(make_run: MakeRun) -> None:
    with pytest.raises(WstrackError, match=r"'block.1.weight' in 'a run' against 'other' in 'b'"):
        report([make_run(3), make_run(["block.0.weight", "other", "block.2.weight"], name="b")])
    with pytest.raises(WstrackError, match=r"'block.3.weight' in 'a run' against None in 'b'"):
        report([make_run(4), make_run(3, name="b")])


def test_metric_is_rwc_or_the_first_there_is(make_run: MakeRun) -> None:
    run = make_run()
    run = replace(run, series={"norm": run.series["rwc"] * 2, "rwc": run.series["rwc"]})
    assert report(run, k=2).metric == "rwc"
    assert report(run, k=2, metric="norm").metric == "norm"
    del run.series["rwc"]
    assert report(run, k=2).metric == "norm"
    with pytest.raises(ValueError, match=r"metric='rwc' is not in the run 'a run'; pass metric= \(--metric\) of: norm"):
        report(run, metric="rwc")
    run = replace(run, series={})
    with pytest.raises(WstrackError, match="holds no metric"):
        report(run)


@pytest.mark.parametrize(("metric", "shift"), [("cosine", 0.0), ("mine", 1.0)])
def test_scale_is_linear_where_a_logarithm_has_no_meaning(make_run: MakeRun, metric: str, shift: float) -> None:
    run = make_run()
    run = replace(run, series={metric: run.series["rwc"] - shift})
    assert report(run, k=2).settings["scale"] == "linear"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cluster_on": "space"}, r"unknown cluster_on 'space'; .*--cluster-on"),
        ({"k": 99}, "k=99"),
        ({"preset": "paper"}, r"unknown preset 'paper'; .*--preset"),
        ({"reduce": "lda"}, r"unknown reduction 'lda'; .*--reduce"),
        ({"cluster": "kmedians"}, r"unknown clustering 'kmedians'; .*--cluster"),
        ({"scale": "log2"}, r"unknown scale 'log2'; .*--scale"),
        ({"outliers": "3sd"}, r"unknown outliers '3sd'; .*--outliers"),
    ],
)
def test_a_wrong_argument_is_named(make_run: MakeRun, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        report(make_run(), **wrong)


def test_no_run_is_no_report() -> None:
    with pytest.raises(ValueError, match=r"runs=\[\]"):
        report([])


def test_an_unknown_ending_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.pdf'; let the path \(-o\) end in \.html, \.json, \.csv"):
        report(make_run(), k=2).save(tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["html", "json", "csv"])
def test_a_path_that_cannot_be_written_leaves_nothing(make_run: MakeRun, tmp_path: Path, ending: str) -> None:
    (tmp_path / f"folder.{ending}").mkdir()
    with pytest.raises(WstrackError, match="cannot write"):
        report(make_run(), k=2).save(tmp_path / f"folder.{ending}")
    with pytest.raises(WstrackError, match="cannot write"):
        report(make_run(), k=2).save(tmp_path / "nowhere" / f"a.{ending}")
    assert [path.name for path in tmp_path.iterdir()] == [f"folder.{ending}"]


def test_the_same_seed_gives_the_same_report(make_run: MakeRun) -> None:
    assert report(make_run()).to_dict() == report(make_run()).to_dict()


def test_odd_names_survive_in_json_and_csv(hostile_run: Run, tmp_path: Path) -> None:
    found = report(hostile_run, k=3)
    found.save(tmp_path / "a.json")
    found.save(tmp_path / "a.csv")
    read = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert [layer["layer"] for layer in read["layers"]] == list(hostile_run.series["rwc"].columns)
    assert len(pd.read_csv(tmp_path / "a.csv")) == len(read["layers"])


def test_half_a_surrogate_pair_in_any_name_stops_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    names = ["\ud800.0.weight", *(f"b.{i}.weight" for i in range(7))]
    runs = [make_run(names, name=f"{seed}\ud801", seed=seed, task=f"\udc00{seed}") for seed in (0, 1)]
    runs[0].layers["kind"] = pd.Series("\udfff", index=runs[0].layers.index, dtype=object)
    found = report(runs, k=2, group="block", compare="task")
    for ending in ("html", "json", "csv", "md", "png", "svg"):
        found.save(tmp_path / f"a.{ending}")
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["layers"][0]["layer"] == r"\ud800.0.weight"
    assert pd.read_csv(tmp_path / "a.csv")["layer"][0] == r"\ud800.0.weight"
    assert runs[0].series["rwc"].columns[0] == names[0]


@pytest.mark.parametrize("argument", ["group", "aggregate"])
def test_a_function_is_no_group(make_run: MakeRun, argument: str) -> None:
    with pytest.raises(TypeError, match=rf"{argument}=<function .* is no text; pass {argument}= \(--{argument}\) kind"):
        report(make_run(), **{argument: lambda name: name[0]})  # type: ignore[arg-type]


def test_one_cloud_is_one_cluster_and_the_report_says_so(make_run: MakeRun) -> None:
    run = make_run(30)
    shape = run.series["rwc"].shape
    run.series["rwc"].iloc[:] = 10 ** (np.random.default_rng(0).normal(-3, 0.1, shape))
    found = report(run)
    assert found.clustering.k == 1
    assert found.findings == []
    assert found.to_dict()["choice"]["words"].startswith("no k from 2 to 10 stands out from one cloud")


def test_groups_phases_and_stability_are_in_the_json(make_run: MakeRun) -> None:
    run = make_run(24)
    run.series["rwc"].iloc[15:] *= 10
    found = json.loads(json.dumps(report(run, k=3, group=r"block\.(1|2)").to_dict(), allow_nan=False))
    assert {row["group"] for row in found["groups"]["table"]} == {"1", "2", "other"}
    assert found["phases"]["breaks"] == [160]
    assert set(found["phases"]["agreement"]) == {"phase 1", "phase 2"}
    assert [row["verdict"] for row in found["stability"]["clusters"]] == ["holds"] * 3
    assert {row["perturbation"] for row in found["stability"]["perturbations"]} >= {
        "random halves",
        "bootstrap of blocks",
        "starts",
    }
    assert found["layers"][0]["stays"] > 0.9
    assert len(found["reduction"]["components"]) == 2


class InTurn(ClusterMixin, BaseEstimator):
    """Clusters that nothing in the data suggests."""

    def __init__(self, n_clusters: int = 2) -> None:
        self.n_clusters = n_clusters

    def fit_predict(self, values: np.ndarray, labels: object = None) -> np.ndarray:
        return np.arange(len(values)) % self.n_clusters


def test_phases_are_clustered_as_the_whole_is(make_run: MakeRun) -> None:
    run = make_run(samples=60)
    run.series["rwc"].iloc[30:, :4] *= 1e4
    found = report(run, k=3, cluster=InTurn())
    assert found.phases
    assert found.phases.breaks == (310,)
    assert found.phase_clusters.shape == (12, 2)
    for phase in found.phase_clusters:
        assert found.phase_clusters[phase].tolist() == found.clustering.labels.tolist()


def test_settings_are_held_against_each_other(make_run: MakeRun) -> None:
    runs = [make_run(seed=seed, task="easy" if seed < 3 else "hard") for seed in range(6)]
    for run in runs[3:]:
        run.series["rwc"] = run.series["rwc"] * 2
        run.series["rwc"]["extra.weight"] = 1.0
    found = report(runs, k=3, compare="task")
    assert found.comparison is not None
    assert found.comparison.settings == ("easy", "hard")
    assert found.comparison.overall.loc["hard", "ratio"] == pytest.approx(2, rel=0.05)
    assert found.comparison.unmatched == ("extra.weight",)
    assert "differences" in {finding.kind for finding in found.findings}
    assert found.stability is not None
    assert "runs" in found.stability.perturbations.index
    assert found.bands is not None
    assert found.bands.runs.to_numpy().max() == 6
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(ValueError, match=r"compare='model' is no setting of 'a run'; pass compare= \(--compare\)"):
        report(runs, compare="model")
    with pytest.raises(ValueError, match="puts all 3 runs into one setting"):
        report(runs[:3], compare="task")


def test_runs_of_other_lengths_are_stretched(make_run: MakeRun) -> None:
    found = report([make_run(samples=30), make_run(samples=20, seed=1)], k=3, align="share")
    assert found.bands is not None
    assert (found.bands.runs == 2).all(axis=None)


def test_blocks_of_a_run_that_was_watched_again_differently(tmp_path: Path) -> None:
    """First with two classes and rwc alone, then with four and the elementwise metric, too."""
    for first, metrics, classes in ((0, ("rwc", "norm"), 2), (4, ("rwc", "norm", "rwc_elementwise"), 4)):
        layers = (Layer("a.0.weight", numel=8), Layer("a.1.weight", numel=8), Layer("head.weight", numel=classes))
        manifest, needed = Manifest("grown", layers, metrics, every=1), sums_needed(metrics)
        recorder = Recorder(tmp_path / FOLDER, manifest, needed)
        recorder.append(range(first, first + 4), [1] * 4, [0.0] * 4, np.full((4, 3, len(needed)), 2.0))
        recorder.close()
    run = wstrack.pull(tmp_path)
    assert "head.weight had another size before it was watched again" in run.completeness.notes
    norm = report(run, metric="norm", aggregate="block", k=1).series["head"]
    assert norm.isna().tolist() == [True] * 4 + [False] * 4  # it is not known, and surely not 2 / 4
    assert norm.iloc[-1] == 0.5
    elementwise = report(run, metric="rwc_elementwise", aggregate="block", k=1).series["a"]
    assert elementwise.to_dict() == {4: 1.0, 5: 1.0, 6: 1.0, 7: 1.0}
    assert report(run, aggregate="block", k=1).series["head"].tolist() == [1.0] * 8


def test_blocks_are_added_up_from_the_raw_sums_of_a_recording(make_run: MakeRun, tmp_path: Path) -> None:
    names = [f"{stage}.{block}.conv{conv}.weight" for stage in ("a", "b") for block in range(4) for conv in (1, 2)]
    manifest = Manifest("blocks", tuple(Layer(name, "conv", (2,), 2) for name in names), ("rwc", "norm"), every=1)
    needed = ("abs_change", "abs_previous", "abs_current")
    sums = np.random.default_rng(0).random((12, len(names), 3)) * np.geomspace(1, 1e3, len(names))[:, None]
    for first in (0, 4):  # watched twice, and four steps done again
        recorder = Recorder(tmp_path / FOLDER, manifest, needed)
        recorder.append(range(first, first + 8), [1] * 8, [0.0] * 8, sums[first : first + 8])
        recorder.close()
    run = wstrack.pull(tmp_path)
    changed, before, current = (sums[:, :, place].reshape(12, 8, 2).sum(axis=2) for place in range(3))
    for metric, expected in (("rwc", changed / before), ("norm", current / 4)):
        found = wstrack.report([run, run], metric=metric, aggregate="block")
        np.testing.assert_allclose(found.series.to_numpy(), expected, rtol=1e-14)
        assert found.series.columns.tolist() == [f"{stage}.{block}" for stage in ("a", "b") for block in range(4)]
        assert found.table["numel"].tolist() == [4] * 8
        assert found.table["kind"].tolist() == ["conv"] * 8
    found.save(tmp_path / "blocks.html")
    assert "8 layers, each of them a whole block of the model" in (tmp_path / "blocks.html").read_text()
    assert wstrack.report(run, aggregate=r"\.conv(\d)").series.columns.tolist() == ["1", "2"]
    with pytest.raises(
        ValueError, match=r"aggregate='block' adds up the raw sums .* has none; pull the run's recording"
    ):
        wstrack.report(make_run(), aggregate="block")
    with pytest.raises(ValueError, match=r"aggregate='conv' puts all 16 layers of 'blocks' into one"):
        wstrack.report(run, aggregate="conv")


def test_phases_are_of_samples_that_span_as_many_steps(make_run: MakeRun) -> None:
    def sampled(spans: list[int]) -> Report:
        run = make_run(samples=len(spans))
        run.series["rwc"] = run.series["rwc"].mul(np.array(spans) ** 0.7, axis="index")
        run = replace(run, intervals=pd.Series(spans, index=run.series["rwc"].index))
        return report(run, k=1)

    finer_at_first = sampled([10] * 6 + [50] * 34)
    assert finer_at_first.phases
    assert finer_at_first.phases.table["samples"].tolist() == [34]
    half_and_half = sampled([50] * 15 + [500] * 15)
    assert half_and_half.phases is None
    assert half_and_half.to_dict()["phases"] is None
    assert "break off" not in render_page(half_and_half)


def test_a_run_that_diverged_is_told_before_all_else_and_drawn_as_far_as_it_goes(
    make_run: MakeRun, tmp_path: Path
) -> None:
    whole = make_run()
    steps = whole.series["rwc"].index
    end = steps[len(steps) // 2]
    series = whole.series["rwc"][steps < end].reindex(steps)
    found = report(replace(whole, series={"rwc": series}))
    assert verdict(found)[1].startswith(f"No layer has a finite value from step {end:,} on. Before: ")
    assert not verdict(found)[0]
    assert found.findings[0].kind == "not_finite"
    assert found.curves.columns[-1] < end
    for ending in ("html", "png", "md", "json", "csv"):
        found.save(tmp_path / f"report.{ending}")
    page = (tmp_path / "report.html").read_text()
    assert f"from step {end:,} on" in page


def test_a_run_that_learns_nothing_and_a_layer_without_values_are_named(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    still = report(replace(run, series={"rwc": run.series["rwc"] * 0}))
    assert verdict(still) == (False, "Nothing learns: no weight of any layer changed.")
    decaying = run.series["rwc"].copy()
    end = decaying.index[-15]
    decaying.loc[end:] = np.linspace(1, 1.01, decaying.shape[1]) * 1e-5
    found = verdict(report(replace(run, series={"rwc": decaying})))
    assert not found[0]
    assert found[1].startswith(f"Nothing is learnt any more from step {end:,} on: all layers only decay. Over all samp")
    decaying.iloc[:, 0] = run.series["rwc"].iloc[:, 0]
    assert "learnt" not in verdict(report(replace(run, series={"rwc": decaying})))[1]
    series = run.series["rwc"].copy()
    lost = series.columns[1]
    series[lost] = np.nan
    found = report(replace(run, series={"rwc": series}))
    assert found.findings[0].text == f"{lost} has no finite value in any sample."
    found.save(tmp_path / "report.md")
    assert "- Left out of the clusters: " in (tmp_path / "report.md").read_text()


def test_clusters_inside_groups_and_other_methods_are_written_down(make_run: MakeRun, tmp_path: Path) -> None:
    found = report(make_run(24), group=r"block\.1|block", methods=True)
    assert found.groups is not None
    inside = {group: found.groups.inside(group) for group in found.groups.table.index}
    assert any(inside.values())
    for ending in ("md", "html"):
        found.save(tmp_path / f"report.{ending}")
    text, page = ((tmp_path / f"report.{ending}").read_text() for ending in ("md", "html"))
    for group, clusters in inside.items():
        for label, layers in clusters.items():
            assert f"**{group}, cluster {label}**: {', '.join(layers)}" in text
            assert ", ".join(layers) in page
    assert "| hdbscan | " in text


def test_values_that_should_be_there_are_told_of_by_run(make_run: MakeRun) -> None:
    lacking, whole = make_run(name="a"), make_run(name="b", seed=1)
    expected = lacking.completeness.expected
    lacking = replace(lacking, completeness=replace(lacking.completeness, expected=expected + 12))
    alone = report(lacking).findings[0]
    assert alone.text == f"The run lacks 12 of {expected + 12:,} values that should be there."
    of_two = report([whole, lacking]).findings[0]
    assert of_two.text == f"1 of 2 runs lack 12 of {expected + 12:,} values that should be there: a (12)."
    assert report(whole).findings[0].kind != "incomplete"


def test_one_sample_is_bars(make_run: MakeRun, tmp_path: Path) -> None:
    found = report(cut(make_run(name="two checkpoints"), 1))
    assert (found.clustering.k, found.stability, found.cut.worth) == (1, None, "whole")
    assert found.verdict.startswith("In the median a layer changed by ")
    assert [finding.kind for finding in found.findings] == ["changes", "depth"]
    for ending in ("html", "json", "md", "csv", "png", "svg"):
        found.save(tmp_path / f"report.{ending}")
    page = (tmp_path / "report.html").read_text()
    assert "A bar is a layer" in page
    assert 'id="curves"' not in page
    assert "see the bars" in page
    assert list(pictures(found)) == ["overview"]
    assert "12 layers, one sample, at step 10." in (tmp_path / "report.md").read_text()
