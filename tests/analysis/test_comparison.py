from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

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
