from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from wstrack import WstrackError
from wstrack.analysis import Procedure, agreement, compare, match_clusters


def seeds(scale: object, *, many: int = 4, layers: int = 12, seed: int = 0, spread: float = 0.05) -> list[pd.DataFrame]:
    """Runs whose layers differ from seed to seed, and from sample to sample."""
    rng = np.random.default_rng(seed)
    names = [f"l{n}" for n in range(layers)]
    shape = (30, layers)
    return [
        pd.DataFrame(scale * rng.lognormal(0, spread, layers) * rng.lognormal(0, 0.2, shape), columns=names)
        for _ in range(many)
    ]


def test_a_difference_is_found_with_its_size_and_its_layers() -> None:
    factor = np.where(np.arange(12) >= 8, 2.0, 1.0)
    found = compare({"easy": seeds(1), "hard": seeds(factor, seed=1)})
    rows = found.layers.set_index("layer")
    assert rows.index[rows["differs"]].tolist() == ["l8", "l9", "l10", "l11"]
    assert rows.loc["l8":, "ratio"].between(1.6, 2.5).all()
    assert (rows["low"] <= rows["ratio"]).all()
    assert (rows["ratio"] <= rows["high"]).all()
    late = found.thirds.set_index(["setting", "layers"]).loc[("hard", "late")]
    assert late["low"] < 2 < late["high"]
    assert found.basis == "runs"


def test_thirds_have_their_columns() -> None:
    found = compare({"a": seeds(1), "b": seeds(2, seed=1)})
    assert found.thirds.columns.tolist() == ["setting", "layers", "value", "ratio", "low", "high", "p"]


def test_equal_settings_do_not_differ() -> None:
    wrong = [
        compare({"a": seeds(1, seed=2 * n), "b": seeds(1, seed=2 * n + 1)}).layers["differs"].any() for n in range(20)
    ]
    assert sum(wrong) <= 2


def test_intervals_cover_the_truth() -> None:
    covered = 0
    for n in range(40):
        row = compare({"a": seeds(1, seed=100 + 2 * n), "b": seeds(1.5, seed=101 + 2 * n)}).overall.loc["b"]
        covered += row["low"] <= 1.5 <= row["high"]
    assert covered >= 34


def test_single_runs_are_compared_by_stretches() -> None:
    found = compare({"a": seeds(1, many=1, spread=0), "b": seeds(2, many=1, seed=1, spread=0)})
    assert found.basis.startswith("6 stretches")
    assert found.layers["differs"].all()
    assert 1.8 < found.overall.loc["b", "ratio"] < 2.2
    few = compare({"a": [run[:5] for run in seeds(1, many=1)], "b": [run[:5] for run in seeds(2, many=1)]})
    assert few.layers["q"].isna().all()
    assert not few.layers["differs"].any()


def test_clusters_are_matched_and_layers_too() -> None:
    level = np.repeat([1.0, 30.0, 1000.0], 4)
    other = seeds(level[::-1], seed=1)
    for run in other:
        run["extra"] = 1.0
    found = compare({"a": seeds(level), "b": other}, Procedure(k=3))
    assert found.unmatched == ("extra",)
    assert found.agreement["agreement"].tolist() == [1.0]
    assert (found.clusters["a"] == found.clusters["b"]).all()
    with pytest.raises(WstrackError, match="1 layers in common"):
        compare({"a": [run[["l0"]] for run in seeds(1)], "b": seeds(1)})
    with pytest.raises(ValueError, match="two or more"):
        compare({"a": seeds(1)})


def test_matching_keeps_the_partition() -> None:
    labels = pd.Series([1, 1, 2, 2, 3, -1, 4])
    matched = match_clusters(labels, pd.Series([2, 2, 1, 1, 1, 1, 3]))
    assert matched.tolist()[:4] == [2, 2, 1, 1]
    assert matched[5] == -1
    assert agreement(labels, matched) == 1


def flat(*levels: float, steps: int = 12) -> list[pd.DataFrame]:
    """Runs of two layers that stay where they are."""
    return [pd.DataFrame(np.full((steps, 2), level), columns=["l0", "l1"]) for level in levels]


@pytest.mark.parametrize("ours", [(1.0, 1.1), (1.0, 1.1, 1.05, 1.02)])
def test_runs_are_held_against_each_other_as_welch_does(ours: tuple[float, ...]) -> None:
    """Welch (1947), worked out by hand: settings differ in how far their runs lie apart, and in how many there are."""
    theirs = (1.0, 1.5, 3.0)
    row = compare({"a": flat(*ours), "b": flat(*theirs)}).overall.loc["b"]
    a, b = np.log10(ours), np.log10(theirs)
    of_a, of_b = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    error = np.sqrt(of_a + of_b)
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    apart = b.mean() - a.mean()
    margin = stats.t.ppf(0.975, freedom) * error
    assert row["ratio"] == pytest.approx(10**apart)
    assert row["low"] == pytest.approx(10 ** (apart - margin))
    assert row["high"] == pytest.approx(10 ** (apart + margin))
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(apart) / error, freedom))


def test_one_setting_whose_runs_are_all_alike_leaves_the_others_spread() -> None:
    row = compare({"a": flat(1.0, 1.0), "b": flat(1.5, 3.0)}).overall.loc["b"]
    assert row["low"] < row["ratio"] < row["high"]
    alike = compare({"a": flat(1.0, 1.0), "b": flat(2.0, 2.0)}).overall.loc["b"]
    assert alike["low"] == alike["ratio"] == alike["high"] == pytest.approx(2.0)


def test_one_run_against_several_is_told_by_stretches() -> None:
    several = seeds(1, many=3)
    found = compare({"a": several, "b": [run * 2 for run in several[:1]]})
    assert found.overall.loc["b", "low"] < found.overall.loc["b", "ratio"] < found.overall.loc["b", "high"]


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -1.0])
def test_a_value_without_a_logarithm_is_left_out(bad: float) -> None:
    """And neither stands for a tiny change nor makes its run, or its step, go away."""
    whole, holed = flat(2.0, 2.0, steps=20), flat(2.0, 2.0, steps=20)
    for run in holed:
        run.iloc[3, 0] = bad
    found = compare({"a": flat(1.0, 1.0, steps=20), "b": holed})
    assert found.overall.loc["b", "ratio"] == pytest.approx(2.0)
    assert found.layers["ratio"].tolist() == pytest.approx([2.0, 2.0])
    assert found.courses.query("setting == 'b'")["mean"].tolist() == pytest.approx([2.0] * 20)
    holed[0].iloc[:, :] = bad
    found = compare({"a": flat(1.0, 1.1, 1.2, steps=20), "b": [*holed, *whole]})
    assert found.overall.loc["b", "ratio"] == pytest.approx(2.0 / (1.0 * 1.1 * 1.2) ** (1 / 3))


def test_twelve_samples_are_the_fewest_to_tell_single_runs_apart() -> None:
    ours, theirs = seeds(1, many=1)[0], seeds(2, many=1, seed=1)[0]
    enough, few = ({"a": [ours[:many]], "b": [theirs[:many]]} for many in (12, 11))
    assert compare(enough).overall.loc["b"].notna().all()
    assert compare(few).overall.loc["b", ["low", "high", "p"]].isna().all()


def test_only_steps_that_both_have_tell_single_runs_apart() -> None:
    ours, theirs = seeds(1, many=1)[0], seeds(1, many=1)[0] * 2
    theirs.index = theirs.index + 10
    theirs.iloc[:20] = ours.iloc[10:].to_numpy() * 2
    row = compare({"a": [ours], "b": [theirs]}).overall.loc["b"]
    assert row[["ratio", "low", "high"]].tolist() == pytest.approx([2.0] * 3)


def test_single_runs_in_step_with_each_other_have_a_ratio_without_doubt() -> None:
    row = compare({"a": flat(1.0), "b": flat(2.0)}).overall.loc["b"]
    assert row[["ratio", "low", "high"]].tolist() == pytest.approx([2.0] * 3)
    same = compare({"a": flat(1.0), "b": flat(1.0)}).overall.loc["b"]
    assert same["p"] == 1


def test_a_change_that_is_half_as_large_differs_as_one_that_is_twice_as_large() -> None:
    found = compare({"hard": seeds(2), "easy": seeds(1, seed=1)})
    assert found.layers["differs"].all()


def test_the_course_of_a_setting_is_by_step_with_the_deviation_of_its_runs() -> None:
    low, high = flat(1.0, 4.0)
    low.index, high.index = pd.RangeIndex(10, 22), pd.RangeIndex(0, 12)
    courses = compare({"a": [low, high], "b": flat(1.0, 1.0)}).courses.query("setting == 'a'").set_index("step")
    assert courses.index.tolist() == list(range(22))
    assert courses.loc[10, "mean"] == pytest.approx(2.0)
    assert courses.loc[10, "deviation"] == pytest.approx(np.std(np.log10([1.0, 4.0]), ddof=1))
    assert courses.loc[[0, 21], "mean"].tolist() == pytest.approx([4.0, 1.0])


def test_a_number_that_a_matched_cluster_has_is_given_to_no_other() -> None:
    matched = match_clusters(pd.Series([1, 1, 1, 2, 3]), pd.Series([2, 2, 2, 2, 1]))
    assert matched.tolist() == [2, 2, 2, 3, 1]


def test_a_setting_in_which_fewer_layers_differ_than_there_are_clusters_has_fewer() -> None:
    curves = pd.DataFrame(np.random.default_rng(0).lognormal(size=(40, 6)), columns=list("abcdef"))
    frozen = curves.assign(**dict.fromkeys("abcd", 0.0))
    clusters = compare({"whole": [curves], "frozen": [frozen]}, Procedure(k=6)).clusters
    assert clusters.nunique().to_dict() == {"whole": 6, "frozen": 3}
