"""The layers as a tree: which are alike, how surely, and which of its branches stand apart from all other layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from wstrack.analysis.cutoffs import CLUSTERS_P, HOLDS_FROM, LEAST_OF_A_GROUP
from wstrack.analysis.estimators import one_thread
from wstrack.analysis.reduction import Planes, planes
from wstrack.analysis.resampling import block_bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Tree", "grow"]

_MOST_COMPONENTS = 8
_RECURS_FROM = 0.5  # correlation between halves of the samples; a component below it is mostly noise
_NEIGHBOURS = 5
_MANY, _FEWER = 2000, 5  # layers, and bootstraps of more: a tree takes the square of their number
_MOST_SHOWN = 100  # branches, the highest of a large tree: nobody looks at more


@dataclass(frozen=True)
class Tree:
    """Layers joined step by step into larger branches, the most alike first.

    Attributes:
        layers: names in model order.
        merges: as `scipy.cluster.hierarchy.linkage` gives them, of shape (layers - 1, 4); the branch that lies nearer
            to the input stands first.
        order: the positions of the layers from one end of the tree to the other.
        branches: by row of `merges`, of branches with three or more layers inside and outside (of more than a hundred
            the highest, and those of small p): their number of `layers`; `support`, the share of bootstraps in which it
            is there again (to a Jaccard index of 0.75); `gap`, the distance to the nearest other layer, as the root
            mean square over the samples; `p`, of a gap so wide beside the distances on both sides of it; `apart`,
            whether it stands apart: by p at most 0.05, support from 0.75 on and a gap worth telling.
        components: in how many components of the curves the layers were compared: those that recur in both halves of
            the samples, at least two.
    """

    layers: pd.Index
    merges: NDArray[np.float64]
    order: NDArray[np.int64]
    branches: pd.DataFrame
    components: int

    def members(self, branch: int) -> list[str]:
        """The layers of a branch (a row of `merges`), in model order."""
        return [str(name) for name in self.layers[np.sort(_leaves(self.merges, branch))]]

    def inside(self) -> NDArray[np.bool_]:
        """By row of `merges`, which layers are in the branch; of shape (layers - 1, layers)."""
        return _inside(self.merges)

    def groups(self) -> pd.Series[int]:
        """By layer, the innermost branch that stands apart and holds at most half of all layers; -1 for the rest."""
        labels = pd.Series(-1, index=self.layers, name="branch")
        found = self.branches[self.branches["apart"] & (self.branches["layers"] <= len(self.layers) / 2)]
        inside = self.inside()
        for branch in found.sort_values("layers", ascending=False, kind="stable").index:
            labels[inside[branch]] = branch
        return labels


def grow(values: pd.DataFrame, *, bootstraps: int = 30, least: float = 0.0) -> Tree:
    """Join layers by how alike their curves are (Ward's method), and see which branches are more than chance.

    A branch stands apart where the gap around it is too wide for one cloud of layers. In a cloud that thins out from
    its middle the distances between neighbours grow from the middle on; a gap that is wide beside the distances on both
    of its sides shows that there is no such middle. With neighbours' distances to the power of the dimension
    (Levina and Bickel 2005) exponential, as those of points without order are, the chance of a gap g beside m distances
    d is (1 + g / sum d) ** -m. The larger of both sides counts, times the number of branches that do not hold one
    another. `python benchmarks/tree.py` says how far that holds on clouds without groups, and what is found in others.

    Args:
        values: rows = layers in model order, columns = steps, finite (`Prepared.values`).
        bootstraps: how many times blocks of steps are drawn for `support`, at most five times with more than 2,000
            layers; 0 = none, or with fewer than four steps: support is NaN, and nothing stands apart.
        least: the smallest gap worth telling, in the unit of `values`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> level = np.repeat([0.0, 3.0], [24, 6])[:, None] + rng.normal(size=(30, 1)) / 5
        >>> tree = grow(pd.DataFrame(level + rng.normal(size=(30, 40)) / 10))
        >>> found = tree.groups()
        >>> found.index[found >= 0].tolist()
        [24, 25, 26, 27, 28, 29]
    """
    matrix = values.to_numpy(dtype=np.float64)
    layers, steps = matrix.shape
    every = np.arange(steps)
    bootstraps = bootstraps if layers <= _MANY else min(bootstraps, _FEWER)
    with one_thread():
        at = planes(matrix, components=_MOST_COMPONENTS)
        points = at(every)
        components = _recurring(points, at, steps)
        points = points[:, :components]
        merges = _nearer_first(linkage(pdist(points), "ward"))
        inside = _inside(merges)
        sizes = inside.sum(axis=1)
        tested = np.flatnonzero((sizes >= LEAST_OF_A_GROUP) & (sizes <= layers - LEAST_OF_A_GROUP))
        gap, p = _gaps(points, inside[tested])
        shown = (p <= CLUSTERS_P) | (np.arange(len(tested)) >= len(tested) - _MOST_SHOWN)
        tested, gap, p = tested[shown], gap[shown], p[shown]
        support = np.full(len(tested), np.nan)
        if bootstraps and steps >= 4 and len(tested):
            rng = np.random.default_rng(0)
            drawn = (at(block_bootstrap(steps, rng))[:, :components] for _ in range(bootstraps))
            ours = _smaller_sides(inside[tested])
            overlaps = [_overlaps(ours, linkage(pdist(one), "ward")) for one in drawn]
            support = np.mean(np.array(overlaps) >= HOLDS_FROM, axis=0)
    gap = gap / np.sqrt(steps)
    branches = pd.DataFrame(
        {
            "layers": sizes[tested],
            "support": support,
            "gap": gap,
            "p": p,
            "apart": (p <= CLUSTERS_P) & (support >= HOLDS_FROM) & (gap >= least),
        },
        index=pd.Index(tested, name="branch"),
    )
    return Tree(values.index, merges, _leaves(merges), branches, components)


def _recurring(points: NDArray[np.float64], at: Planes, steps: int) -> int:
    """How many leading components have about the same coordinates in the even and in the odd steps; at least two."""
    even, odd = (at(np.arange(first, steps, 2)) for first in (0, 1))
    for place in range(points.shape[1]):
        # Seen along the component of all steps, for halves may turn or swap theirs.
        along = points[:, place]
        first, second = (half @ (half.T @ along) for half in (even, odd))
        spread = first.std() * second.std()
        shared = float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 0 else 0.0
        if shared < _RECURS_FROM:
            return max(2, place)
    return int(points.shape[1])


def _nearer_first(merges: NDArray[np.float64]) -> NDArray[np.float64]:
    """With the branch whose layers lie nearer to the input first."""
    layers = len(merges) + 1
    middle = np.arange(2 * layers - 1, dtype=np.float64)
    size = np.ones(2 * layers - 1)
    ordered = merges.copy()
    for row, (first, second) in enumerate(merges[:, :2].astype(np.int64)):
        if middle[first] > middle[second]:
            ordered[row, :2] = second, first
        size[layers + row] = size[first] + size[second]
        middle[layers + row] = (middle[first] * size[first] + middle[second] * size[second]) / size[layers + row]
    return ordered


def _leaves(merges: NDArray[np.float64], branch: int = -1) -> NDArray[np.int64]:
    """The layers of a branch (of the last, which holds all) from one end of it to the other."""
    layers = len(merges) + 1
    order, waiting = [], [layers + branch % len(merges)]
    while waiting:
        node = waiting.pop()
        if node < layers:
            order.append(node)
        else:
            first, second = merges[node - layers, :2].astype(np.int64)
            waiting += [int(second), int(first)]
    return np.array(order, dtype=np.int64)


def _inside(merges: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which layers are in which branch, of shape (layers - 1, layers)."""
    layers = len(merges) + 1
    inside = np.zeros((2 * layers - 1, layers), dtype=bool)
    inside[np.arange(layers), np.arange(layers)] = True
    for row, (first, second) in enumerate(merges[:, :2].astype(np.int64)):
        np.logical_or(inside[first], inside[second], out=inside[layers + row])
    return inside[layers:]


def _gaps(points: NDArray[np.float64], branches: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How wide the gap around each branch is, and the chance of that.

    The distances between neighbours are the edges of the minimum spanning tree of all layers; a gap is its shortest
    edge that leads out of the branch, which is the shortest of all ways out.
    """
    first, second, length = _spanning_tree(points)
    there, here = branches[:, first], branches[:, second]
    out = np.where(there != here, length, np.inf).min(axis=1, initial=np.inf)
    longest = float(length.max(initial=0.0))
    if not len(branches) or longest == 0.0:
        return np.zeros(len(branches)), np.ones(len(branches))
    dimension = min(max(_dimension(points), 1.0), points.shape[1])
    volume = (length / longest) ** dimension
    gap = (out / longest) ** dimension
    chance = np.zeros(len(branches))
    for side in (there & here, ~there & ~here):
        total = np.maximum(side @ volume, 1e-300)
        chance = np.maximum(chance, (1 + gap / total) ** -side.sum(axis=1).astype(np.float64))
    return out, np.minimum(chance * _chains(branches), 1.0)


def _chains(branches: NDArray[np.bool_]) -> int:
    """How many branches hold no other: each stands for the chain of those around it."""
    sizes = branches.sum(axis=1)
    shared = branches.astype(np.float32) @ branches.T.astype(np.float32)
    holds = (shared == sizes) & (sizes < sizes[:, None])  # (outer, inner)
    return int((~holds.any(axis=1)).sum())


def _spanning_tree(points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Both ends and the length of each edge of the minimum spanning tree (Prim's algorithm)."""
    count = len(points)
    nearest = np.full(count, np.inf)
    via = np.zeros(count, dtype=np.int64)
    outside = np.ones(count, dtype=bool)
    ends, lengths, last = [], [], 0
    for _ in range(count - 1):
        outside[last] = False
        squares = ((points - points[last]) ** 2).sum(axis=1)
        closer = squares < nearest
        nearest = np.where(closer, squares, nearest)
        via[closer] = last
        last = int(np.where(outside, nearest, np.inf).argmin())
        ends.append((via[last], last))
        lengths.append(nearest[last])
    first, second = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    return first, second, np.sqrt(np.array(lengths))


def _dimension(points: NDArray[np.float64]) -> float:
    """How the number of neighbours grows with distance (Levina and Bickel 2005), the mean over inverses."""
    neighbours = min(_NEIGHBOURS, len(points) - 1)
    if neighbours < 3:
        return 1.0
    distances = np.asarray(cKDTree(points).query(points, neighbours + 1)[0])[:, 1:]
    distances = np.maximum(distances, 1e-9 * max(float(distances.max()), 1e-300))
    inverse = np.log(distances[:, -1:] / distances[:, :-1]).mean() * (neighbours - 1) / (neighbours - 2)
    return 1 / max(float(inverse), 1e-9)


def _smaller_sides(branches: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The layers of the smaller of both sides of each division, (layers, branches).

    Of two branches that hold nearly all layers both are alike whatever is missing.
    """
    few = branches.sum(axis=1, keepdims=True) <= branches.shape[1] / 2
    return np.ascontiguousarray(np.where(few, branches, ~branches).T)


def _overlaps(ours: NDArray[np.bool_], merges: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each of our `_smaller_sides` is in another tree: the Jaccard index with its best match there."""
    layers = len(ours)
    # Each branch is a stretch of the order of the leaves: what it shares is how many there are up to both its ends.
    counted = np.zeros((layers + 1, ours.shape[1]), dtype=np.int32)
    np.cumsum(ours[leaves_list(merges)], axis=0, out=counted[1:])
    starts, sizes = _stretches(merges)
    size, shared = counted[-1], counted[starts + sizes] - counted[starts]
    sizes = sizes[:, None]
    inside, outside = shared / (size + sizes - shared), (size - shared) / (layers - sizes + shared)
    return np.asarray(np.maximum(inside, outside).max(axis=0), dtype=np.float64)


def _stretches(merges: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By branch, its first place in the order of the leaves, and how many leaves it has."""
    layers = len(merges) + 1
    sizes = [1] * layers + merges[:, 3].astype(np.int64).tolist()
    starts = [0] * len(sizes)
    firsts, seconds = merges[::-1, :2].T.astype(np.int64).tolist()
    for row, first, second in zip(range(layers - 2, -1, -1), firsts, seconds, strict=True):
        starts[first] = starts[layers + row]
        starts[second] = starts[layers + row] + sizes[first]
    return np.array(starts[layers:]), np.array(sizes[layers:])
