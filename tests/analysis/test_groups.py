from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from wstrack.analysis import Procedure, aggregate, group_layers, grouped

NAMES = {
    "stem.conv.weight": ("conv", "conv", "stem", "stem"),
    "blocks.0.1.conv_dw.weight": ("depthwise", "depthwise", "blocks.0", "blocks.0"),
    "blocks.0.1.se.conv_reduce.weight": ("pointwise", "squeeze-excite", "blocks.0", "blocks.0"),
    "layer2.3.conv1.weight": ("conv", "conv", "layer2.3", "layer2"),
    "h.4.attn.c_attn.weight": ("attention", "attention", "h.4", "h"),
    "h.4.mlp.c_fc.weight": ("linear", "MLP", "h.4", "h"),
    "h.4.ln_1.weight": ("norm", "norm", "h.4", "h"),
    "wte.weight": ("embedding", "embedding", "wte", "wte"),
    "fc.weight": ("", "other", "fc", "fc"),
}


def test_kinds_blocks_and_stages() -> None:
    layers = pd.DataFrame({"kind": [kind for kind, *_ in NAMES.values()]}, index=list(NAMES))
    for place, by in enumerate(("kind", "block", "stage"), start=1):
        assert group_layers(layers, by).to_dict() == {name: row[place] for name, row in NAMES.items()}, by


def test_own_groups() -> None:
    layers = pd.DataFrame(index=["a.1.weight", "b.weight"])
    assert group_layers(layers, r"\.(\d)\.").tolist() == ["1", "other"]
    assert group_layers(layers, {"b.weight": "mine"}).tolist() == ["other", "mine"]
    assert group_layers(layers, str.upper).tolist() == ["A.1.WEIGHT", "B.WEIGHT"]
    with pytest.raises(ValueError, match=r"'\(' is neither .* nor a regular expression"):
        group_layers(layers, "(")
    with pytest.raises(ValueError, match=r"'zzz' matches no layer .* group= .--group. or aggregate="):
        group_layers(layers, "zzz")


def test_clusters_inside_groups() -> None:
    rng = np.random.default_rng(0)
    level = np.r_[np.repeat([0.0, 3.0], 8), np.zeros(8), 9.0]
    values = pd.DataFrame(level[:, None] + 0.3 * rng.normal(size=(25, 30)))
    found = grouped(values, pd.Series(["two"] * 16 + ["one"] * 8 + ["lone"]))
    assert found.table["k"].to_dict() == {"two": 2, "one": 1, "lone": 1}
    assert found.table.loc["two", "verdict"] == "stable"
    assert found.clusters.tolist() == [1] * 8 + [2] * 8 + [1] * 9


def test_a_block_is_the_ratio_of_sums() -> None:
    rng = np.random.default_rng(0)
    sums = {name: pd.DataFrame(rng.random((5, 4)), columns=list("abcd")) for name in ("abs_change", "abs_previous")}
    groups = pd.Series({"a": "x", "b": "y", "c": "x", "d": "y"})
    found = aggregate(sums, groups)
    changed, before = (sums[name].to_numpy() for name in ("abs_change", "abs_previous"))
    np.testing.assert_allclose(found["x"], changed[:, [0, 2]].sum(axis=1) / before[:, [0, 2]].sum(axis=1))
    with pytest.raises(ValueError, match=r"metric='cosine' cannot be had from these sums; .* rwc"):
        aggregate(sums, groups, metric="cosine")


def test_a_number_of_clusters_goes_for_each_group_as_far_as_it_has_layers_that_differ() -> None:
    rng = np.random.default_rng(0)
    level = np.r_[np.repeat([0.0, 3.0, 9.0], 4), np.repeat([0.0, 5.0], 4)]
    values = pd.DataFrame(level[:, None] + np.r_[np.full(12, 0.1), np.zeros(8)][:, None] * rng.normal(size=(20, 30)))
    found = grouped(values, pd.Series(["noisy"] * 12 + ["equal"] * 8), Procedure(k=3))
    assert found.table["k"].to_dict() == {"noisy": 3, "equal": 2}
    assert found.clusters.tolist() == [*np.repeat([1, 2, 3], 4), *np.repeat([1, 2], 4)]


def test_a_method_that_finds_its_own_number_does_so_in_each_group() -> None:
    rng = np.random.default_rng(0)
    level = np.r_[np.repeat([0.0, 5.0], 12), np.zeros(12)]
    values = pd.DataFrame(level[:, None] + 0.1 * rng.normal(size=(36, 30)))
    found = grouped(values, pd.Series(["two"] * 24 + ["one"] * 12), Procedure(cluster="dbscan"))
    assert found.table["k"].to_dict() == {"two": 2, "one": 1}
    assert found.table.loc["two", "verdict"] == "stable"
