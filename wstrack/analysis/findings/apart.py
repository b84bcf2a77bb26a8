"""The finding on branches of the tree that stand apart from all other layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wstrack.analysis.cutoffs import HOLDS_FROM, SMALLEST_RATIO
from wstrack.analysis.findings.words import MOST_NAMED, Finding, Numbers, chance, number, times, together
from wstrack.analysis.medians import medians

if TYPE_CHECKING:
    import pandas as pd

    from wstrack.analysis.cut import Cut
    from wstrack.analysis.tree import Tree

__all__ = ["apart"]


def apart(values: pd.DataFrame, tree: Tree, cut: Cut, noun: str) -> Finding | None:
    """Which branches stand apart, and how they differ from the others; none that a cluster tells of already."""
    groups = tree.groups()
    everyone = [str(name) for name in tree.layers]
    level = medians(values)
    known = [] if cut.worth != "clusters" else [set(named.index) for _, named in cut.labels.groupby(cut.labels)]
    numbers: Numbers = {}
    lines: list[str] = []
    layers: list[str] = []
    for branch in dict.fromkeys(label for label in groups if label >= 0):
        members = tree.members(int(branch))
        if any(len(one & set(members)) >= HOLDS_FROM * len(one | set(members)) for one in known):
            continue
        others = [name for name in everyone if name not in set(members)]
        p, support = tree.branches.loc[[branch], ["p", "support"]].to_numpy()[0]
        place = len(lines) + 1
        ratio = float(level[members].median() / level[others].median())
        numbers |= {f"branch_{place}_layers": len(members), f"branch_{place}_p": float(p)}
        line = f"{together(members, everyone)}, median {noun} {number(float(level[members].median()))}"
        if 1 / SMALLEST_RATIO < ratio < SMALLEST_RATIO:
            line += ", about that of the others, but another course"
        elif ratio > 0:
            numbers[f"branch_{place}_to_others"] = ratio
            line += f", {times(ratio)} than that of the {len(others):,} others"
        lines.append(f"{line} ({chance(float(p))}; back in {float(support):.0%} of bootstraps).")
        layers += [name for name in members if name not in layers]
    if not lines:
        return None
    count = len(lines)
    head = "A branch of the tree of layers stands" if count == 1 else f"{count} branches of the tree of layers stand"
    said = lines if count <= MOST_NAMED else [*lines[:MOST_NAMED], f"And {count - MOST_NAMED} more."]
    text = f"{head} apart from all others: {said[0]}" if count == 1 else "\n".join([f"{head} apart:", *said])
    order = {name: place for place, name in enumerate(everyone)}
    numbers["branches"] = count
    return Finding("apart", text, "tree", numbers, layers=tuple(sorted(layers, key=order.__getitem__)))
