"""The finding on layers of one name, or of one block, that go together in the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from wstrack.analysis.cutoffs import FINDING_P, HOLDS_FROM, LEAST_OF_A_GROUP, SMALLEST_RATIO
from wstrack.analysis.findings.words import MOST_NAMED, Finding, Numbers, chance, number, parts_of, times
from wstrack.analysis.medians import medians

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from wstrack.analysis.cut import Cut
    from wstrack.analysis.tree import Tree

__all__ = ["kin"]


def kin(values: pd.DataFrame, tree: Tree, cut: Cut, noun: str) -> Finding | None:
    """Which parts of names are those of a branch: nearly all layers with the part are in it, and hardly any other.

    Had the layers their names at random, a branch would hold as many of a part by a hypergeometric chance; it is
    multiplied by the number of parts, and of branches that are large and small enough. What a cluster or a branch that
    stands apart tells is no news.
    """
    everyone = [str(name) for name in tree.layers]
    parts = _parts(everyone)
    held = tree.branches[tree.branches["support"] >= HOLDS_FROM]
    if not parts or not len(held):
        return None
    inside = tree.inside()[held.index]
    told = [np.asarray(cut.labels == label) for label in set(cut.labels) if cut.worth in ("clusters", "apart")]
    level, sizes = medians(values).reindex(everyone), inside.sum(axis=1)
    found: dict[int, tuple[float, float, str, float]] = {}  # by branch its best part: likeness, p, words, ratio
    for part, those in parts.items():
        shared = (inside & those).sum(axis=1)
        alike = shared / (inside | those).sum(axis=1)
        best = int(alike.argmax())
        size, of_part = int(sizes[best]), int(those.sum())
        fitting = int(((sizes >= HOLDS_FROM * of_part) & (sizes <= of_part / HOLDS_FROM)).sum())
        p = float(stats.hypergeom.sf(shared[best] - 1, len(everyone), of_part, size)) * fitting * len(parts)
        known = any((one & those).sum() >= HOLDS_FROM * (one | those).sum() for one in told)
        if known or alike[best] < HOLDS_FROM or p >= FINDING_P or alike[best] <= found.get(best, (0.0,))[0]:
            continue
        ratio = float(level[those].median() / level[~those].median())
        count = f"all {of_part:,}" if shared[best] == of_part else f"{int(shared[best]):,} of the {of_part:,}"
        others = size - int(shared[best])
        with_others = f", and {others:,} other{'s' if others > 1 else ''} with them" if others else ""
        size_of = (
            "" if not ratio > 0 or 1 / SMALLEST_RATIO < ratio < SMALLEST_RATIO else f", {times(ratio)} than others"
        )
        median = number(float(level[those].median()))
        words = f'{count} layers with "{part}" in their name{with_others} (median {noun} {median}{size_of})'
        found[best] = (float(alike[best]), p, words, ratio)
    if not found:
        return None
    kept = sorted(found.items(), key=lambda one: int(inside[one[0]].argmax()))
    p = max(one[1] for _, one in kept)
    more = f"; and {len(kept) - MOST_NAMED} more" if len(kept) > MOST_NAMED else ""
    numbers: Numbers = {"branches": len(kept), "p": p}
    numbers |= {f"part_{place}_to_others": one[3] for place, (_, one) in enumerate(kept, 1)}
    return Finding(
        "kin",
        f"Layers of one name go together in the tree: {'; '.join(one[2] for _, one in kept[:MOST_NAMED])}{more} "
        f"(against names at random, Bonferroni over branches and parts of names, {chance(p)} at most).",
        "tree",
        numbers,
    )


def _parts(names: list[str]) -> dict[str, NDArray[np.bool_]]:
    """By part of a name, which layers have it; of parts of the same layers the shortest."""
    having: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        for part in parts_of(name):
            having.setdefault(part, []).append(place)
    found: dict[tuple[int, ...], str] = {}
    for part in sorted(having, key=lambda part: (len(part), part)):
        if LEAST_OF_A_GROUP <= len(having[part]) <= len(names) / 2:
            found.setdefault(tuple(having[part]), part)
    every = np.arange(len(names))
    return {part: np.isin(every, those) for those, part in found.items()}
