"""The tree of the layers: what it joins, what comes back, and what stands apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import is_valid_linkage
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

import wstrack
from wstrack.analysis import Procedure, choose, cluster_layers, cut_layers, grow, measure_stability
from wstrack.analysis.cut import Cut
from wstrack.analysis.findings.kin import kin
from wstrack.analysis.tree import _spanning_tree


def cloud(layers: int, seed: int = 0, *, apart: int = 0, below: float = 0.7, steps: int = 40) -> pd.DataFrame:
    """Curves of one cloud of layers, the last `apart` of them so far below its lowest."""
    rng = np.random.default_rng(seed)
    level = rng.normal(size=layers) / 10
    if apart:
        level[-apart:] = level[:-apart].min() - below + rng.normal(size=apart) / 40
    return pd.DataFrame(level[:, None] + rng.normal(size=(layers, steps)) / 10, index=[f"l{i}" for i in range(layers)])


def test_eight_of_160_layers_five_times_below_stand_apart() -> None:
    tree = grow(cloud(160, apart=8))
    found = tree.groups()
    assert found.index[found >= 0].tolist() == [f"l{i}" for i in range(152, 160)]
    branch = tree.branches.loc[found.iloc[-1]]
    assert branch["support"] == 1.0
    assert branch["p"] < 0.05


@pytest.mark.parametrize("layers", [12, 60])
def test_of_one_cloud_nothing_stands_apart(layers: int) -> None:
    alarms = sum(bool(grow(cloud(layers, seed), bootstraps=5).branches["apart"].any()) for seed in range(20))
    assert alarms <= 1


def test_what_stands_apart_by_less_than_is_worth_telling_does_not() -> None:
    curves = cloud(40, apart=6)
    assert grow(curves).branches["apart"].any()
    assert not grow(curves, least=2.0).branches["apart"].any()


def test_a_branch_that_only_some_samples_show_does_not_come_back() -> None:
    curves = cloud(40)
    curves.iloc[:6, 20] -= 20.0  # one sample of forty
    tree = grow(curves)
    assert (tree.branches["p"] < 0.001).any()
    assert not tree.branches["apart"].any()


def test_the_tree_is_whole_ordered_and_the_same_each_time() -> None:
    curves = cloud(50, apart=5)
    tree = grow(curves)
    assert is_valid_linkage(tree.merges)
    assert sorted(tree.order) == list(range(50))
    assert tree.branches.equals(grow(curves).branches)
    places = {name: place for place, name in enumerate(tree.layers[tree.order])}
    for branch in tree.branches.index:  # the layers of a branch are neighbours
        at = sorted(places[name] for name in tree.members(branch))
        assert at == list(range(at[0], at[0] + len(at)))


def test_of_two_branches_the_nearer_to_the_input_comes_first() -> None:
    level = np.repeat([0.0, 5.0], 6)[::-1]
    tree = grow(pd.DataFrame(level[:, None] + np.random.default_rng(0).normal(size=(12, 30)) / 10))
    assert sorted(tree.order[:6]) == list(range(6))


def test_layers_are_compared_in_the_components_that_recur() -> None:
    rng = np.random.default_rng(0)
    time = np.linspace(-1, 1, 40)
    courses = np.array([1 + 0 * time, time, time**2 - 1 / 3, time**3 - 0.6 * time])
    rough = rng.normal(size=(30, 40)) / 20
    for real in (1, 3):
        curves = (rng.normal(size=(30, real)) * [4, 3, 2, 1][:real]) @ courses[:real] + rough
        assert grow(pd.DataFrame(curves), bootstraps=0).components == max(real, 2)


def test_the_spanning_tree_is_the_shortest() -> None:
    points = np.random.default_rng(0).normal(size=(30, 3))
    first, second, length = _spanning_tree(points)
    distances = squareform(pdist(points))
    np.testing.assert_allclose(length.sum(), minimum_spanning_tree(distances).sum())
    np.testing.assert_allclose(distances[first, second], length)


@pytest.mark.parametrize(
    "curves",
    [
        pd.DataFrame(np.zeros((6, 8))),
        pd.DataFrame([[0.0, 1.0], [1.0, 0.0]]),
        cloud(5, steps=2),
        cloud(7, steps=3),
        pd.DataFrame(np.repeat(np.random.default_rng(0).normal(size=(2, 9)), 4, axis=0)),
    ],
)
def test_too_little_to_say_anything_is_said_as_that(curves: pd.DataFrame) -> None:
    tree = grow(curves)
    assert len(tree.order) == len(curves)
    assert np.isfinite(tree.branches["p"]).all()
    if curves.shape[1] < 4:
        assert not tree.branches["apart"].any()


def test_a_large_tree_keeps_its_highest_branches_and_what_stands_apart() -> None:
    tree = grow(cloud(400, apart=5, below=1.0), bootstraps=3)
    assert len(tree.branches) <= 110
    assert tree.branches["layers"][tree.branches["apart"]].min() == 5


def cut(curves: pd.DataFrame, procedure: Procedure) -> tuple[str, list[int]]:
    clustered = cluster_layers(curves, procedure)
    fixed = procedure.with_k(clustered.clustering.k)
    found = cut_layers(curves, procedure, clustered, measure_stability(curves, fixed), grow(curves))
    return found.worth, found.labels.tolist()


def test_each_division_is_called_what_it_is() -> None:
    clear = pd.DataFrame(np.repeat([0.0, 3.0], 12)[:, None] + np.random.default_rng(0).normal(size=(24, 40)))
    assert cut(clear, Procedure()) == ("clusters", [1] * 12 + [2] * 12)
    worth, pieces = cut(cloud(60), Procedure())
    assert (worth, min(pieces)) == ("continuum", 1)
    assert len(set(pieces)) > 1
    asked = Procedure(k=2)
    held = measure_stability(cloud(60), asked)
    assert held is not None
    assert held.verdict == "continuous"
    assert cut(cloud(60), asked)[0] == "continuum"
    assert cut(cloud(3), Procedure()) == ("whole", [1, 1, 1])
    assert cut(cloud(60, apart=4), Procedure(k=1)) == ("whole", [1] * 60)


def test_where_no_number_of_clusters_holds_the_branches_that_stand_apart_are_the_cut() -> None:
    curves = cloud(60, apart=4)
    one = cluster_layers(curves, Procedure(k=1))
    choice = replace(choose(cloud(60)), k=1, best=3)
    found = cut_layers(curves, Procedure(), replace(one, choice=choice), None, grow(curves))
    assert (found.worth, found.noun, found.k) == ("apart", "branch", 1)
    assert found.labels.tolist() == [-2] * 56 + [1] * 4


def test_the_deepest_depthwise_layers_of_efficientnet_stand_apart_on_cifar_10(weightscale: Path) -> None:
    found = wstrack.report(wstrack.pull(str(weightscale / "efficientnet_b4-cifar10.csv")))
    layers = found.cut.labels.index[found.cut.labels == 1]
    assert found.cut.worth == "apart"
    assert len(layers) == 8
    assert all(name.startswith(("blocks.5.", "blocks.6.")) and "conv_dw" in name for name in layers)
    (finding,) = (finding for finding in found.findings if finding.kind == "apart")
    assert '8 of the 32 layers with "conv_dw" in their name' in finding.text
    assert finding.layers == tuple(layers)


@pytest.mark.parametrize("name", ["efficientnet_b4-cifar100", "resnet50-cifar10", "resnet50-cifar100"])
def test_the_authors_other_series_are_cut_as_a_continuum(weightscale: Path, name: str) -> None:
    found = wstrack.report(wstrack.pull(str(weightscale / f"{name}.csv")))
    assert found.cut.worth == "continuum"
    assert found.cut.k > 1
    assert 0 < found.cut.null_agreement < found.cut.agreement < 1
    assert not found.tree.branches["apart"].any()


def test_how_many_clusters_there_are_does_not_follow_the_seed(weightscale: Path) -> None:
    run = wstrack.pull(str(weightscale / "efficientnet_b4-cifar10.csv"))
    assert len({wstrack.report(run, seed=seed).clustering.k for seed in range(4)}) == 1


BLOCKS = [f"h.{block}.{part}" for block in range(6) for part in ("qkv", "out", "up", "down")]


def kin_of(names: list[str], seed: int = 0) -> str:
    """What is said of layers of which the fourth of each block lie a little above the others."""
    rng = np.random.default_rng(seed)
    level = rng.normal(size=24) / 10 + np.tile([0.0, 0.0, 0.0, 0.3], 6)
    curves = pd.DataFrame(level[:, None] + rng.normal(size=(24, 40)) / 20, index=names)
    tree = grow(curves)
    cut = Cut("whole", pd.Series(1, index=curves.index))
    found = kin((10**curves).T, tree, cut, "change")
    return found.text if found else ""


def test_layers_of_one_name_that_go_together_are_told() -> None:
    text = kin_of(BLOCKS)
    assert text.startswith('Layers of one name go together in the tree: all 6 layers with "down" in their name (median')
    assert "times larger than others" in text
    shuffled = np.random.default_rng(1)
    assert sum(bool(kin_of(list(shuffled.permutation(BLOCKS)), seed)) for seed in range(40)) <= 1


def test_names_of_three_layers_are_told_only_beyond_chance() -> None:
    rng, told = np.random.default_rng(0), 0
    for seed in range(60):
        names = [f"h.{block}.{part}" for block in range(3) for part in ("qkv", "out", "up")]
        curves = cloud(9, seed).set_axis(list(rng.permutation(names)))
        told += kin((10**curves).T, grow(curves), Cut("whole", pd.Series(1, index=curves.index)), "change") is not None
    assert told <= 2


def test_what_a_cluster_tells_is_not_told_again_by_name() -> None:
    curves = pd.DataFrame(np.tile([0.0, 0.0, 0.0, 3.0], 6)[:, None] + cloud(24).to_numpy(), index=BLOCKS)
    labels = pd.Series(np.tile([1, 1, 1, 2], 6), index=curves.index)
    assert kin((10**curves).T, grow(curves), Cut("whole", labels * 0 + 1), "change")
    assert kin((10**curves).T, grow(curves), Cut("clusters", labels), "change") is None
