"""The division of the layers that every figure shows in colour, and what that division is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from wstrack.analysis.clustering import NOISE, by_depth, labels_of

if TYPE_CHECKING:
    from wstrack.analysis.choice import Clustered
    from wstrack.analysis.procedure import Procedure
    from wstrack.analysis.stability import Stability
    from wstrack.analysis.tree import Tree

__all__ = ["REST", "Cut", "Worth", "cut_layers"]

Worth = Literal["clusters", "apart", "continuum", "whole"]
REST = -2


@dataclass(frozen=True)
class Cut:
    """Layers in colours.

    Attributes:
        worth: what the division is: "clusters" that the method found or was asked for; "apart", one cloud of layers
            and the branches that stand apart from it (`Tree`); "continuum", pieces of one cloud, cut where nothing
            divides it; "whole", no division.
        labels: by layer, the number of its cluster, branch or piece from 1 in the order of depth; -2 is the rest
            of the cloud that branches stand apart from, and -1 noise.
        agreement: of a cut of a continuum, the median adjusted Rand index between random halves of the steps (as
            `Stability.median`); NaN of all other divisions.
        null_agreement: its mean on data without clusters (as in `Stability.null`).
    """

    worth: Worth
    labels: pd.Series[int]
    agreement: float = float("nan")
    null_agreement: float = float("nan")

    @property
    def k(self) -> int:
        """How many clusters, branches or pieces there are, the rest and noise not counted."""
        return len(set(self.labels) - {NOISE, REST})

    @property
    def noun(self) -> str:
        """What one of them is called."""
        return {"clusters": "cluster", "apart": "branch", "continuum": "piece", "whole": "cluster"}[self.worth]


def cut_layers(
    values: pd.DataFrame, procedure: Procedure, clustered: Clustered, stability: Stability | None, tree: Tree
) -> Cut:
    """The best division there is of layers, by what it is worth.

    Clusters where there are several. Else the branches of the tree that stand apart, where any does; else the cut at
    which halves of the steps agree best, which is where the method puts it and no more.

    Args:
        values: rows = layers, columns = steps, finite (`Prepared.values`).
        procedure, clustered, stability, tree: how they were clustered, and what that gave.

    Example:
        >>> from wstrack.analysis import Procedure, cluster_layers, grow
        >>> rng = np.random.default_rng(0)
        >>> level = rng.uniform(-1, 1, size=(24, 1)) - np.repeat([0.0, 9.0], [20, 4])[:, None]
        >>> curves = pd.DataFrame(level + rng.normal(size=(24, 40)) / 10)
        >>> procedure = Procedure(k=1)
        >>> cut = cut_layers(curves, procedure, cluster_layers(curves, procedure), None, grow(curves))
        >>> cut.worth, cut.labels.tolist()[18:]
        ('whole', [1, 1, 1, 1, 1, 1])
    """
    clustering, choice = clustered.clustering, clustered.choice
    if clustering.k > 1 or bool((clustering.labels == NOISE).any()):
        continuous = stability is not None and stability.verdict == "continuous"
        if not continuous or stability is None:
            return Cut("clusters", clustering.labels)
        null = stability.null[0] if stability.null else float("nan")
        return Cut("continuum", clustering.labels, stability.median, null)
    if choice is None:
        return Cut("whole", clustering.labels)
    groups = tree.groups()
    if (groups >= 0).any():
        numbers = {branch: place for place, branch in enumerate(_by_depth(groups[groups >= 0]), 1)}
        return Cut("apart", groups.map(lambda branch: numbers.get(branch, REST)).rename("cluster"))
    if choice.best < 2 or choice.resampling is None:
        return Cut("whole", clustering.labels)
    points = clustered.reduction.points if procedure.cluster_on == "plane" else values
    pieces = by_depth(labels_of(points, procedure.cluster, k=choice.best, seed=procedure.seed))
    tried = choice.resampling
    column = tried.ks.index(choice.best)
    agreement, null = np.median(tried.agreement[:, column]), tried.null_agreement[:, column].mean()
    return Cut("continuum", pd.Series(list(pieces), index=values.index, name="cluster"), float(agreement), float(null))


def _by_depth(branches: pd.Series[int]) -> list[int]:
    """The branches by how near their layers lie to the input."""
    place = pd.Series(np.arange(len(branches)), index=branches.index)
    return [int(branch) for branch in place.groupby(branches).mean().sort_values(kind="stable").index]
