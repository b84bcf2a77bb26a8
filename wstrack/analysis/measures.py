"""Numbers about labels: how far two clusterings agree, how tight clusters are, and how far apart."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wstrack.analysis.cutoffs import LEAST_OF_A_GROUP

__all__ = ["agreement", "rand_index", "separation", "silhouette", "within"]

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


def agreement(a: pd.Series[int], b: pd.Series[int]) -> float:
    """How far two clusterings agree on the layers that both have: the adjusted Rand index.

    1 = the same clusters, about 0 = no more than chance (Hubert and Arabie 1985). Noise counts as a cluster.

    Raises:
        ValueError: the two have no layer in common.

    Example:
        >>> first = pd.Series([1, 1, 2, 2], index=list("abcd"))
        >>> agreement(first, pd.Series([2, 2, 1, 1], index=list("abcd")))
        1.0
    """
    common = a.index.intersection(b.index)
    if not len(common):
        raise ValueError("the two clusterings have no layer in common")
    return rand_index(pd.factorize(a.loc[common])[0], pd.factorize(b.loc[common])[0])


def rand_index(a: Labels, b: Labels) -> float:
    """The adjusted Rand index of two labellings from -1 or 0; scikit-learn's takes a millisecond, and we need 10,000.

    Example:
        >>> rand_index(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
        1.0
    """
    a, b = a + 1, b + 1
    width = int(b.max()) + 1
    table = np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).reshape(-1, width).astype(np.float64)
    both, first, second = (float((n * (n - 1)).sum() / 2) for n in (table, table.sum(axis=1), table.sum(axis=0)))
    chance = first * second / (len(a) * (len(a) - 1) / 2) if len(a) > 1 else 0.0
    most = (first + second) / 2
    return 1.0 if most == chance else (both - chance) / (most - chance)


def within(matrix: Matrix, labels: Labels) -> float:
    """The sum of squared distances of the points to the mean of their cluster (noise left out)."""
    kept = labels >= 0
    names, numbers = np.unique(labels[kept], return_inverse=True)
    member = np.eye(len(names))[numbers]
    points = matrix[kept]
    middles = (member.T @ points) / member.sum(axis=0)[:, None]
    return float(((points - middles[numbers]) ** 2).sum())


def silhouette(distances: Matrix, labels: Labels) -> float:
    """The mean silhouette (Rousseeuw 1987) of what is not noise, from all distances; 0 with fewer than two clusters."""
    kept = labels >= 0
    names, numbers = np.unique(labels[kept], return_inverse=True)
    if len(names) < 2:
        return 0.0
    member = np.eye(len(names))[numbers]
    among = distances if kept.all() else distances[np.ix_(kept, kept)]
    sums, sizes, rows = among @ member, member.sum(axis=0), np.arange(len(numbers))
    inside = sums[rows, numbers] / np.maximum(sizes[numbers] - 1, 1)
    others = sums / sizes
    others[rows, numbers] = np.inf
    outside = others.min(axis=1)
    largest = np.maximum(inside, outside)
    values = np.divide(outside - inside, largest, out=np.zeros_like(largest), where=largest > 0)
    return float(np.where(sizes[numbers] > 1, values, 0.0).mean())


def separation(points: Matrix, labels: Labels) -> float:
    """How far apart the two least separate neighbours are: the log of distance / (spread + spread).

    Each cluster of three or more layers is held against each other one along the line through their middles; spread is
    the standard deviation along it. A cloud that is cut in two gives log 1.73 if it is uniform, less if it thins out
    towards its ends, bent or not; a gap gives more. 0 with fewer than two such clusters.
    """
    members = [points[labels == label] for label in np.unique(labels[labels >= 0])]
    members = [one for one in members if len(one) >= LEAST_OF_A_GROUP]
    if len(members) < 2:
        return 0.0
    middles = [one.sum(axis=0) / len(one) for one in members]
    around = [(one - middle) / np.sqrt(len(one) - 1) for one, middle in zip(members, middles, strict=True)]
    least = np.inf
    for one in range(len(members)):
        for other in range(one):
            line = middles[one] - middles[other]
            apart = math.sqrt(line @ line)
            first, second = around[one] @ line, around[other] @ line
            spread = (math.sqrt(first @ first) + math.sqrt(second @ second)) / max(apart, 1e-300)
            least = min(least, apart / max(spread, 1e-9 * apart, 1e-300))
    return float(np.log(max(least, 1e-3)))
