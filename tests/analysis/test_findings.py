from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.signal import lfilter

from wstrack.analysis import Clustering, Finding, Stability, collect_findings, comparable_steps, find_phases, prepare
from wstrack.analysis.findings.health import incomplete
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Completeness, Run

pytestmark = pytest.mark.slow


def one_cluster(series: pd.DataFrame) -> Clustering:
    return clusters(series, [1] * series.shape[1])


def clusters(series: pd.DataFrame, labels: list[int]) -> Clustering:
    k = len({label for label in labels if label > 0})
    return Clustering(pd.Series(labels, index=series.columns), k, pd.DataFrame(), 0.51234, "k-means", "as asked for")


def run(level: np.ndarray, course: np.ndarray, *, noise: float = 0.1, seed: int = 0) -> pd.DataFrame:
    """Layers x course, times lognormal noise, at every 50th step."""
    shape = (len(course), len(level))
    values = np.outer(course, level) * np.random.default_rng(seed).lognormal(sigma=noise, size=shape)
    return pd.DataFrame(values, index=np.arange(1, len(course) + 1) * 50, columns=[f"l{n}" for n in range(len(level))])


def all_found(series: pd.DataFrame, metric: str = "rwc", **more: object) -> list[Finding]:
    return collect_findings(series, one_cluster(series), None, metric=metric, **more)  # type: ignore[arg-type]


def by_kind(series: pd.DataFrame, metric: str = "rwc", **more: object) -> dict[str, Finding]:
    return {finding.kind: finding for finding in all_found(series, metric, **more)}


def test_depth_trend() -> None:
    series = run(np.geomspace(1e-4, 1e-2, 30), np.ones(20))
    depth = by_kind(series)["depth"]
    rho, p = stats.spearmanr(np.arange(30), series.median())
    assert depth.numbers == {"rho": rho, "p": p, "layers": 30}
    assert depth.text.startswith("The change grows with depth: the later a layer, the larger its median change")
    assert "p < 0.001" in depth.text
    assert depth.figure == "heatmap"
    falling = by_kind(series.iloc[:, ::-1], metric="norm")["depth"]
    assert falling.text.startswith("The value falls with depth: the later a layer, the smaller its median value")


def test_frozen_layers_make_no_trend_over_the_depth() -> None:
    series = run(np.array([0.0] * 6 + [3.0, 1.0, 2.0, 4.0, 1.0, 2.0]), np.ones(20))
    assert "depth" not in by_kind(series)
    rising = by_kind(run(np.array([0.0] * 6 + [*range(1, 11)]), np.ones(20), noise=0.01))["depth"]
    assert rising.numbers["layers"] == 10
    assert rising.text.startswith("The change grows with depth")


def test_a_loose_trend_is_a_tendency() -> None:
    two_first = np.concatenate([[3.0, 2.5], 0.01 * np.arange(40)])
    depth = by_kind(run(np.exp(two_first), np.ones(40), noise=0.01))["depth"]
    assert 0.3 < float(depth.numbers["rho"]) < 0.9
    assert depth.text.startswith("The change tends to grow with depth: later layers more often than not have a larger")


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_level_that_turns_over_the_depth_is_no_trend(sign: int) -> None:
    falls_then_grows = np.concatenate([np.linspace(2, 0, 12), np.linspace(0, 3, 24)])
    assert "depth" not in by_kind(run(np.exp(sign * falls_then_grows), np.ones(40)))


@pytest.mark.parametrize(
    ("layers", "order", "exact"), [(6, [0, 1, 2, 3, 4, 5], 2 / 720), (7, [0, 1, 2, 3, 5, 4, 6], 14 / 5040)]
)
def test_few_layers_take_the_exact_chance(layers: int, order: list[int], exact: float) -> None:
    series = run(10.0 ** np.array(order), np.ones(20))
    p = by_kind(series)["depth"].numbers["p"]
    assert isinstance(p, float)
    assert abs(p - exact) < 0.002
    assert "depth" not in by_kind(series.iloc[:, :4])


def test_spread() -> None:
    series = run(np.array([3.0, 1.0, 9.0, 2.0, 5.0]), np.ones(20), noise=0.01)
    spread = by_kind(series)["spread"]
    assert (spread.numbers["most"], spread.numbers["least"]) == ("l2", "l1")
    median = series.median()
    assert spread.numbers["ratio"] == pytest.approx(median["l2"] / median["l1"])
    assert f"{median['l2'] / median['l1']:.3g} times apart" in spread.text
    frozen = by_kind(series.assign(frozen=0.0))["spread"]
    assert frozen.numbers["least"] == "frozen"
    assert "times apart" not in frozen.text


def test_layers_far_from_most_others_are_named_though_they_are_not_the_farthest() -> None:
    series = run(np.array([0.1, 0.3, 0.6, *[1.0] * 6, 1.5, 3.0]), np.geomspace(1, 0.01, 60), noise=0.01)
    spread = by_kind(series.assign(still=0.0))["spread"]
    assert spread.layers == ("l0", "l1", "l10")
    assert ", in three samples of four: l0 (9.97 times smaller), l1 (3.32 times" in spread.text
    two_kinds = by_kind(run(np.array([1.0] * 5 + [9.0] * 5), np.ones(60), noise=0.01))["spread"]
    assert two_kinds.numbers["far"] == 0


def test_a_difference_in_level_is_seen_through_a_course_that_all_share() -> None:
    series = run(np.array([0.3] + [1.0] * 9), np.geomspace(1, 0.01, 60))
    spread = by_kind(series)["spread"]
    assert spread.numbers["least"] == "l0"
    assert "Friedman test over stretches of samples, p < 0.001" in spread.text
    assert "spread" not in by_kind(run(np.ones(10), np.geomspace(1, 0.01, 60)))


def test_a_layer_far_from_the_others_is_seen_though_the_others_change_places_slowly() -> None:
    """As layers of a transformer do under warm-up and a cosine: of such courses there are few stretches to count."""
    time = np.linspace(0, 1, 100)[:, None]
    series = run(np.array([0.05] + [1.0] * 9), np.ones(100), noise=0.03)
    series.iloc[:, 1:] *= np.exp(np.sin(3 * time + np.arange(9)))
    spread = by_kind(series)["spread"]
    assert spread.numbers["least"] == "l0"
    assert "the two against noise that remembers 98 % from sample to sample, p < 0.001" in spread.text


@pytest.mark.parametrize(("layers", "samples"), [(10, 12), (60, 12), (60, 40)])
def test_slow_noise_is_no_difference_in_level(layers: int, samples: int) -> None:
    wrong = 0
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=(samples + 50, layers))
        for at in range(1, len(noise)):
            noise[at] += 0.6 * noise[at - 1]
        wrong += "spread" in by_kind(pd.DataFrame(10 ** (0.3 * noise[50:])))
    assert wrong <= 2


def test_course() -> None:
    series = run(np.geomspace(1, 9, 12), np.linspace(4, 1, 30))
    course = by_kind(series)["course"]
    ratio = (series[-10:].median() / series[:10].median()).median()
    assert course.numbers["late_to_early"] == pytest.approx(ratio)
    assert course.numbers["layers_with_it"] == course.numbers["layers"] == 12
    assert f"it is {1 / ratio:.3g} times smaller than in the first" in course.text
    assert "12 of 12 layers went down" in course.text
    assert course.figure == "curves"
    rising = by_kind(series.iloc[::-1].set_axis(series.index), metric="distance")["course"]
    assert rising.text.startswith("The value grows in the course of training")
    assert "went up" in rising.text


def sampled(spans: list[int]) -> tuple[pd.DataFrame, pd.Series]:
    """A steady training, sampled at these intervals: what changes is how far the layers get in one."""
    series = run(np.geomspace(1e-4, 1e-3, 16), np.array(spans) ** 0.7, noise=0.1)
    series.index = pd.Index(np.cumsum(spans), name="step")
    return series, pd.Series(spans, index=series.index)


def test_a_fall_after_a_rise_is_a_course() -> None:
    """As after a warm-up: of a slow course there are five stretches, which here are in no one order."""
    warm_up_and_cosine = np.concatenate([np.linspace(0.1, 1, 40), 0.51 + 0.49 * np.cos(np.linspace(0, np.pi, 160))])
    assert by_kind(run(np.ones(12), warm_up_and_cosine, noise=0.03))["course"].numbers["late_to_early"] < 0.5
    there_and_back = np.concatenate([warm_up_and_cosine[:40], np.ones(120), warm_up_and_cosine[:40][::-1]])
    assert "course" not in by_kind(run(np.ones(12), there_and_back, noise=0.03))


def test_course_needs_comparable_intervals() -> None:
    series = run(np.geomspace(1, 9, 12), np.linspace(4, 1, 30))
    same = pd.Series(50, index=series.index)
    changed = same.where(same.index < 700, 10)
    assert "course" in by_kind(series, intervals=same)
    assert "course" not in by_kind(series, intervals=changed)
    assert "course" in by_kind(series, metric="norm", intervals=changed)


@pytest.mark.parametrize(
    "spans",
    [
        [10] * 6 + [50] * 44,
        [50] * 44 + [10] * 6,
        [50] * 24 + [200] + [50] * 25,
        [1] + [50] * 49,
        [50] * 25 + [500] * 25,
        [1] * 30 + [50] * 20,
    ],
    ids=["finer at first", "finer at last", "a long one", "the first", "half and half", "from one on"],
)
def test_a_change_of_the_sampling_is_none_of_the_training(spans: list[int]) -> None:
    series, intervals = sampled(spans)
    kept = comparable_steps(series.index, "rwc", intervals)
    breaks = find_phases(prepare(series).values[kept]) if len(kept) else None
    found = by_kind(series, intervals=intervals, phases=breaks)
    assert not {"course", "against", "phases", "stopped", "spikes"} & set(found)


def test_a_spike_and_a_stop_are_seen_beside_a_change_of_the_sampling() -> None:
    series, intervals = sampled([10] * 6 + [50] * 44)
    series.iloc[20] *= 3
    series.iloc[30:, 3] = 0
    found = by_kind(series, intervals=intervals)
    assert found["spikes"].steps == (series.index[20],)
    assert found["stopped"].steps == (series.index[30],)


def test_stopped_layers() -> None:
    series = run(np.ones(9), np.ones(30))
    series.iloc[12:, 2] *= 1e-4
    series.iloc[19:, 5] = 0
    series.iloc[12:, 7] *= 1e-4
    series.iloc[-1, 7] = 1
    stopped = by_kind(series)["stopped"]
    assert stopped.numbers == {"stopped": 2, "layers": 9, "first_step": 650}
    assert stopped.text.endswith("l2 (since step 650), l5 (since step 1,000).")
    assert stopped.text.startswith("2 of 9 layers all but stopped")
    assert "of the layer's own median in the first third of the samples, and of what others have left" in stopped.text


def test_what_a_schedule_slows_in_all_layers_did_not_stop() -> None:
    drops = np.repeat([1.0, 0.1, 1e-3], 20)
    assert "stopped" not in by_kind(run(np.ones(9), drops))
    series = run(np.ones(9), drops)
    series.iloc[30:, 2] *= 1e-4
    assert by_kind(series)["stopped"].text.endswith("left of theirs: l2 (since step 1,550).")
    series.iloc[40:] = 0
    assert by_kind(series)["stopped"].text.startswith("9 of 9 layers all but stopped")


def test_layers_that_never_moved_did_not_stop() -> None:
    series = run(np.ones(9), np.ones(30))
    series.iloc[:, :2] = 0
    frozen = by_kind(series)["still"]
    assert frozen.text == "2 of 9 layers did not change at all, from the first sample to the last: l0, l1."
    assert (frozen.layers, frozen.figure, frozen.numbers) == (("l0", "l1"), "curves", {"still": 2, "layers": 9})
    series.iloc[19:, 5] = 0
    found = by_kind(series)
    assert found["still"] == frozen
    assert found["stopped"].layers == ("l5",)
    assert found["stopped"].text.endswith("left of theirs: l5 (since step 1,000).")
    assert "still" not in by_kind(series, metric="norm")
    assert by_kind(series, metric="norm")["stopped"].layers == ("l5",)


def test_layers_that_only_decay_change_by_the_same() -> None:
    series = run(np.geomspace(1, 2, 40), np.ones(50))
    series["l3"] = np.geomspace(1e-3, 1e-4, 50)
    series["l20"] = series["l3"] * 1.0001
    series.loc[series.index[30:], "l7"] = series["l3"] * 1.0005
    found = by_kind(series)["decay"]
    assert found.layers == ("l3", "l7", "l20")
    assert found.steps == (50, 1550, 50)
    assert (found.figure, found.numbers) == ("curves", {"layers_alike": 3, "layers": 40, "first_step": 50})
    assert found.text == (
        "3 of 40 layers change by the same, to 0.1 %, up to the last sample, as weights do that get no gradient and "
        "only decay: l3 (from step 50 on), l7 (from step 1,550 on), l20 (from step 50 on)."
    )
    assert "decay" not in by_kind(series, metric="norm")
    series.iloc[-12:] = np.linspace(1, 1.01, 40) * 1e-5
    assert by_kind(series)["decay"].text.endswith(" Nothing is learnt any more.")
    series.iloc[:-11] = run(np.geomspace(1, 2, 40), np.ones(50)).iloc[:-11]
    assert "decay" not in by_kind(series)
    series["l20"] = series["l3"]
    assert "decay" not in by_kind(series)


@pytest.mark.parametrize("samples", [2, 30])
def test_a_run_that_learns_nothing_says_so_first(samples: int) -> None:
    first, *others = all_found(run(np.ones(9), np.zeros(samples)))
    assert not others
    assert first.text.startswith(f"Nothing learns: no weight of any layer changed in any of the {samples} samples.")
    assert first.numbers == {"still": 9, "layers": 9}


def test_a_run_that_diverged_says_so_first_and_is_judged_by_what_was_before() -> None:
    series = run(np.geomspace(1e-3, 1e-2, 9), np.ones(40))
    before = all_found(series[:24])
    series.iloc[24:] = np.nan
    first, *others = all_found(series)
    assert first.text.startswith("No layer has a finite value from step 1,250 on, in 16 of 40 samples: the training")
    assert first.numbers == {"values": 16 * 9, "layers": 0, "first_step": 1250}
    assert others == before
    assert {"depth", "spread"} <= {finding.kind for finding in others}


def test_layers_without_finite_values_are_named() -> None:
    series = run(np.ones(9), np.ones(30))
    series.iloc[::3, 1] = np.nan  # logged more rarely than the others, to the end
    series.iloc[1::4, 2] = np.inf
    assert "not_finite" not in by_kind(series)
    series["l5"] = np.nan
    assert by_kind(series)["not_finite"].text == "l5 has no finite value in any sample."
    series.iloc[20:, 7] = -np.inf
    found = by_kind(series)["not_finite"]
    assert found.text.split("\n")[1] == "l7 has no finite value from step 1,050 on."
    assert (found.layers, found.steps) == (("l5", "l7"), (1050,))
    assert found.numbers == {"values": 40, "layers": 2, "first_step": 1050}
    series["l6"], series.iloc[12:, 8] = np.inf, np.nan
    assert by_kind(series)["not_finite"].text.split("\n") == [
        "2 layers (l5, l6) have no finite value in any sample.",
        "2 layers have no finite value from some step on: l7 (step 1,050), l8 (step 650).",
    ]


def test_of_several_runs_the_one_that_diverged_is_named() -> None:
    whole = run(np.ones(9), np.ones(30))
    broken = whole[whole.index < 500].reindex(whole.index)
    found = by_kind(whole, runs=[("a", whole), ("b", broken)])["not_finite"]
    assert found.text == (
        "In b, no layer has a finite value from step 500 on, in 21 of 30 samples: the training diverged, or its values "
        "were lost."
    )
    assert (found.numbers, found.figure) == ({"values": 21 * 9, "layers": 0, "first_step": 500}, "heatmap")


def test_clusters_say_what_marks_them() -> None:
    series = run(np.array([1.0, 1, 1, 5, 5, 9]), np.linspace(4, 1, 30), noise=0.0)
    found = collect_findings(series, clusters(series, [1, 1, 1, 2, 2, -1]), None, metric="rwc")
    (text,) = (finding for finding in found if finding.kind == "clusters")
    lines = text.text.split("\n")
    assert lines[0].startswith("The layers form 2 clusters; how stable they are could not be tested. Silhouette 0.512")
    ratio = series["l0"][-10:].median() / series["l0"][:10].median()
    level = f"median change {series['l0'].median():.3g}, {1 / ratio:.3g} times smaller late than early."
    assert lines[1] == f"Cluster 1: 3 layers from l0 to l2, {level}"
    assert lines[3] == "One layer belongs to none (noise)."
    assert text.numbers["cluster_2_layers"] == 2
    assert text.numbers["cluster_2_median"] == pytest.approx(series["l3"].median())


def test_a_cluster_that_was_frozen_on_the_way_is_told_from_one_that_never_moved() -> None:
    series = run(np.array([0.0, 0, 5, 5]), np.ones(30), noise=0.0)
    series.iloc[12:, 2:] = 0
    (text,) = (one for one in collect_findings(series, clusters(series, [1, 1, 2, 2]), None, metric="rwc")
               if one.kind == "clusters")  # fmt: skip
    assert text.text.split("\n")[1:] == [
        "Cluster 1: 2 layers from l0 to l1, median change 0.",
        "Cluster 2: 2 layers from l2 to l3, median change 0, 5 early and 0 late.",
    ]


@pytest.mark.parametrize(
    ("median", "verdict", "words"),
    [
        (0.33, "not stable", "but they are not stable"),
        (0.6, "shaky", "but they are shaky"),
        (1.0, "stable", "and they are stable"),
    ],
)
def test_clusters_say_how_stable_they_are(median: float, verdict: str, words: str) -> None:
    series = run(np.ones(6), np.ones(30))
    measured = Stability("split-half over steps", (median,), median, median, median, verdict)  # type: ignore[arg-type]
    (found,) = collect_findings(series, clusters(series, [1, 1, 1, 2, 2, 2]), measured, metric="rwc")
    assert words in found.text.split("\n")[0]
    assert f"agree to {median:.3g}" in found.text
    assert found.numbers["verdict"] == verdict


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("layers", "samples", "sigma"), [(7, 30, 1.0), (12, 12, 2.0), (40, 20, 1.0)])
def test_noise_says_nothing(layers: int, samples: int, sigma: float) -> None:
    spoken = sum(
        bool(
            {"depth", "course", "stopped"}
            & set(by_kind(run(np.ones(layers), np.ones(samples), noise=sigma, seed=seed)))
        )
        for seed in range(200)
    )
    assert spoken <= 10


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "series",
    [
        pd.DataFrame(),
        pd.DataFrame({"a": [np.nan, np.inf]}),
        pd.DataFrame(np.ones((30, 30))),
        pd.DataFrame(-np.ones((30, 30))),
        pd.DataFrame(np.full((30, 30), np.nan)),
    ],
)
def test_nothing_to_say(series: pd.DataFrame) -> None:
    assert by_kind(series) == {}


def test_one_sample_says_how_much_the_layers_changed() -> None:
    found = by_kind(pd.DataFrame({"a": [0.5], "b": [2.0], "c": [0.0]}))
    assert found["changes"].text == (
        "The median layer of those that changed changed by 1.25 times its size.\n"
        "1 of 3 layers is the same before and after, bit for bit: c."
    )
    assert set(found) == {"changes"}


def test_holes_do_not_matter() -> None:
    series = run(np.geomspace(1e-4, 1e-2, 30), np.linspace(4, 1, 30))
    series = series.mask(np.random.default_rng(0).random(series.shape) < 0.2)
    series.iloc[3, 3], series["l5"] = np.inf, np.nan
    found = by_kind(series)
    assert set(found) == {"not_finite", "depth", "spread", "course", "missing"}
    assert found["depth"].numbers["layers"] == 29
    assert all(math.isfinite(n) for f in found.values() for n in f.numbers.values() if not isinstance(n, str))


def test_signed_metrics_have_no_course() -> None:
    cosine = run(np.linspace(-0.9, 0.9, 30), np.linspace(1, 0.1, 30))
    assert set(by_kind(cosine, metric="cosine")) == {"depth", "spread"}


def test_the_rule_of_thumb_is_for_single_steps() -> None:
    level = np.array([1e-3] * 8 + [5e-2, 1e-6])
    series = run(level, np.ones(40))
    steps = pd.Series(1, index=series.index)
    kinds = [
        f
        for f in collect_findings(series, one_cluster(series), None, metric="rwc", intervals=steps)
        if f.kind == "rule"
    ]
    assert [(f.numbers["too"], f.layers) for f in kinds] == [("much", ("l8",)), ("little", ("l9",))]
    many = pd.Series(50, index=series.index)
    assert not [
        f for f in collect_findings(series, one_cluster(series), None, metric="rwc", intervals=many) if f.kind == "rule"
    ]
    (much,) = [
        f
        for f in collect_findings(series * 50, one_cluster(series), None, metric="rwc", intervals=many)
        if f.kind == "rule"
    ]
    assert much.layers == ("l8",)
    assert "rule" not in by_kind(series)


def test_layers_against_the_trend() -> None:
    series = run(np.ones(24), np.linspace(4, 1, 60))
    series["l5"] = series["l5"].to_numpy()[::-1]
    against = by_kind(series)["against"]
    assert against.layers == ("l5",)
    assert against.text.startswith("Against the trend, the change grows in 1 of 24 layers: l5")


def test_unsteady_layers() -> None:
    series = run(np.ones(12), np.ones(60))
    series["l3"] = 10 ** (np.log10(series["l3"]) * 5)
    assert by_kind(series)["unstable"].layers == ("l3",)


def test_slopes_of_layers_that_are_equally_unsteady_are_no_unsteadiness() -> None:
    """Some fall with a little noise on a steep slope, so that each value is the median of those around it."""
    series = run(np.ones(12), np.ones(90), noise=0.05)
    series.iloc[:, :8] *= np.geomspace(1, 1e-8, 90)[:, None]
    assert "unstable" not in by_kind(series)


SCHEDULES = {
    "warm-up and cosine": np.concatenate([np.linspace(0.1, 1, 10), 0.525 + 0.475 * np.cos(np.linspace(0, np.pi, 50))]),
    "inverse square root": np.minimum(np.arange(1, 61) / 2, np.sqrt(2 / np.arange(1, 61))),
    "cyclic": np.exp(0.7 * np.sin(np.arange(60) * np.pi / 10)),
    "restarts": np.tile(0.55 + 0.45 * np.cos(np.arange(20) * np.pi / 20), 3),
}


@pytest.mark.parametrize("course", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_the_peaks_of_a_schedule_are_no_spikes(course: np.ndarray, noise: float) -> None:
    assert not any("spikes" in by_kind(run(np.geomspace(1, 9, 16), course, noise=noise, seed=s)) for s in range(3))


@pytest.mark.parametrize("kind", ["white", "AR(1), 0.8", "AR(1), 0.95", "heavy", "AR(1), 0.8, heavy"])
def test_noise_that_all_layers_share_has_no_spikes(kind: str) -> None:
    memory = 0.95 if "0.95" in kind else 0.8 if "AR" in kind else 0.0
    spoken = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        drawn = rng.standard_t(4, size=150) if "heavy" in kind else rng.normal(size=150)
        shared = lfilter([np.sqrt(1 - memory**2)], [1.0, -memory], drawn)[50:]
        spoken += "spikes" in by_kind(run(np.ones(16), np.exp(0.3 * shared), noise=0.1, seed=seed))
    assert spoken <= 2


@pytest.mark.parametrize("course", [np.ones(60), SCHEDULES["warm-up and cosine"]], ids=["flat", "warm-up and cosine"])
@pytest.mark.parametrize("length", [1, 2])
def test_a_spike_that_a_quarter_of_the_layers_share(course: np.ndarray, length: int) -> None:
    for seed in range(5):
        series = run(np.geomspace(1, 9, 16), course, seed=seed)
        at = int(np.random.default_rng(seed).integers(5, 50))
        series.iloc[at : at + length, 4:8] *= 3
        spikes = by_kind(series)["spikes"]
        assert spikes.steps == tuple(series.index[at : at + length])
        assert spikes.layers == ("l4", "l5", "l6", "l7")
        assert "(4 of 16 layers)" in spikes.text
        assert 2 < float(spikes.numbers["times"]) < 4


@pytest.mark.parametrize("length", [4, 7, 10])
@pytest.mark.parametrize("course", [np.ones(90), np.geomspace(1, 0.1, 90)], ids=["flat", "falling"])
def test_a_burst_is_told_by_its_first_and_last_step(course: np.ndarray, length: int) -> None:
    for seed in range(4):
        series = run(np.geomspace(1, 9, 16), course, seed=seed)
        at = int(np.random.default_rng(seed).integers(20, 55))
        series.iloc[at : at + length] *= np.geomspace(5, 2, length)[:, None]
        found = by_kind(series)["spikes"]
        assert (found.numbers["spikes"], found.numbers["bursts"]) == (0, 1)
        assert found.steps == (series.index[at],)
        assert f"between steps {series.index[at]:,} and {series.index[at + length - 1]:,} (up to " in found.text
        assert 3 < float(found.numbers["burst_times"]) < 7


def test_two_bursts_near_each_other_make_no_fall_of_what_is_between() -> None:
    series = run(np.geomspace(1, 9, 16), np.ones(120))
    for at in (40, 56):
        series.iloc[at : at + 5] *= 4
    series.iloc[90] *= 5
    found = by_kind(series)["spikes"]
    assert (found.numbers["spikes"], found.numbers["bursts"]) == (1, 2)
    assert found.steps == tuple(series.index[[40, 56, 90]])
    assert "spikes together" in found.text
    assert ", and bursts together" in found.text


def test_a_course_that_repeats_has_no_bursts() -> None:
    series = run(np.geomspace(1, 9, 16), np.tile([5.0, 4.0, 3.0, *[1.0] * 17], 7))
    found = by_kind(series)
    assert "period" in found
    assert not found.get("spikes", found["period"]).numbers.get("bursts")


def test_a_jump_that_stays_is_no_spike() -> None:
    assert "spikes" not in by_kind(run(np.ones(16), np.repeat([1.0, 5.0, 2.0], 20)))


def test_layers_with_gaps() -> None:
    series = run(np.ones(6), np.ones(20))
    series.iloc[2:6, 4] = np.nan
    missing = by_kind(series)["missing"]
    assert missing.layers == ("l4",)
    assert "l4 (20%)" in missing.text


def test_what_all_layers_lack_is_no_gap_of_a_layer() -> None:
    series = run(np.ones(12), np.ones(9))
    series.iloc[0] = np.nan  # the first cosine needs two changes
    assert "missing" not in by_kind(series, metric="cosine")
    series.iloc[2:4, 4] = np.nan
    assert "l4 (25%)" in by_kind(series, metric="cosine")["missing"].text


def test_a_layer_that_begins_later_is_named() -> None:
    series = run(np.ones(6), np.ones(20))
    series.iloc[:6, 4] = np.nan
    missing = by_kind(series)["missing"]
    assert missing.text == "1 of 6 layers has its first value later than the others: l4 (step 350)."
    assert missing.numbers == {"layers_with_gaps": 0, "layers_later": 1, "layers": 6, "share": 0.0}


def test_clusters_that_dissolve_are_named_in_the_first_line() -> None:
    series = run(np.ones(6), np.ones(30))
    held = pd.DataFrame({"layers": [3, 3], "jaccard": [0.9, 0.3], "low": [0.8, 0.2], "verdict": ["holds", "dissolves"]})
    loose = Stability(
        "split-half over steps", (0.9,), 0.9, 0.9, 0.9, "continuous", null=(0.88, 0.97), p=0.4,
        clusters=held.set_axis([1, 2]),
    )  # fmt: skip
    (found,) = collect_findings(series, clusters(series, [1, 1, 1, 2, 2, 2]), loose, metric="rwc")
    first = found.text.split("\n")[0]
    assert "one continuous cloud, cut into 2 pieces" in first
    assert "on data without clusters 0.88, p = 0.4" in first
    assert "Piece 2 does not hold" in first


def test_what_runs_lack_is_counted_over_those_that_lack_it() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=[1, 2])
    manifest = Manifest("r", (Layer("a"), Layer("b")), ("rwc",), every=1)
    values = frame.to_numpy()
    whole = Run.from_values(manifest, [1, 2], {"rwc": values})
    some = Run.from_values(replace(manifest, name="s"), [1, 2], {"rwc": values}, completeness=Completeness(1010, 4))
    few = Run.from_values(replace(manifest, name="t"), [1, 2], {"rwc": values}, completeness=Completeness(6, 4))
    assert incomplete([whole]) is None
    assert incomplete([some]) == Finding(
        "incomplete",
        "The run lacks 1,006 of 1,010 values that should be there.",
        "heatmap",
        {"missing": 1006, "expected": 1010, "runs": 1},
    )
    assert incomplete([whole, some, few]) == Finding(
        "incomplete",
        "2 of 3 runs lack 1,008 of 1,016 values that should be there: s (1,006), t (2).",
        "heatmap",
        {"missing": 1008, "expected": 1016, "runs": 2},
    )
