"""What stands under each figure and above each table of a report."""

from __future__ import annotations

import numpy as np

from wstrack.analysis.analysis import Analysis
from wstrack.analysis.clustering import NOISE
from wstrack.analysis.cutoffs import HOLDS_FROM, SHAKY_FROM
from wstrack.analysis.findings.words import at_steps
from wstrack.reporting.bars import base
from wstrack.reporting.figures import FEW
from wstrack.reporting.labels import chance, concise, number
from wstrack.reporting.named import about_named
from wstrack.reporting.rates import MOST
from wstrack.reporting.thin import Tiles
from wstrack.reporting.words import CHANGES, evidence, two

__all__ = [
    "about_branches",
    "about_comparison",
    "about_curves",
    "about_groups",
    "about_heatmap",
    "about_plane",
    "about_return",
    "about_scan",
    "about_stability",
    "about_tree",
]


def about_heatmap(analysis: Analysis, tiles: Tiles) -> str:
    """How to read the heat map, and what in it is not a value."""
    if len(analysis.series) == 1:
        begin = base(analysis)
        where = f"bars begin at {number(begin)}" if begin else "bars begin at zero"
        return f"A bar is a layer, from the input at the top to the output at the bottom, at its one sample; {where}."
    more = "changed more" if analysis.metric in CHANGES else "have larger values"
    text = [f"A row is a layer, from the input at the top to the output at the bottom; bright cells {more}."]
    cut = analysis.cut
    if cut.worth != "whole":
        text.append(f"The strip on the left shows each layer's {cut.noun}.")
    elif cut.k:
        text.append("The strip on the left gives each layer the colour that it has in the figures below.")
    if analysis.phases and analysis.phases.breaks:
        text.append(f"Dashed lines: the courses of the layers break off at {at_steps(analysis.phases.breaks)}.")
    text += filter(None, [about_named(analysis)])
    missing = int(analysis.series.isna().to_numpy().sum())
    infinite = int(np.isinf(analysis.series.to_numpy()).sum())
    if missing:
        values = f"{missing:,} values that were" if missing > 1 else "one value that was"
        text.append(f"Grey: {values} not logged, or not a number.")
    if infinite:
        text.append(f"White: {infinite:,} infinite values." if infinite > 1 else "White: one infinite value.")
    if tiles.samples_per_column > 1:
        text.append(f"Each column is drawn as the mean of up to {tiles.samples_per_column} samples.")
    if tiles.rows[0][1] > 1:
        text.append(f"Each row is drawn as the mean of {tiles.rows[0][1]} neighbouring layers.")
    return " ".join(text)


def about_curves(analysis: Analysis) -> str:
    """How to read the curves."""
    count = len(analysis.prepared.values)
    several = analysis.cut.worth != "whole"
    whose = f"a {analysis.cut.noun}'s layers" if several else "the layers"
    text = [f"The line is the median of {whose}, the band holds the middle 80 % of them."]
    if bool((analysis.clustering.labels == NOISE).any()):
        text.append("Layers in no cluster (noise) have no line.")
    if analysis.bands is not None and analysis.logarithmic:
        text.append(
            f"The darker band is one standard deviation over the {len(analysis.runs)} runs, of the median layer."
        )
    if count <= 12 or (not several and count <= FEW):
        text.append(
            "The thin curves are the layers" + ("." if several else ", from the input (purple) to the output (orange).")
        )
    else:
        text.append("A layer's own curve shows under the pointer, or once it is chosen.")
    if analysis.equilibrium is not None:
        theirs = len(analysis.equilibrium.layers)
        whose = "" if theirs == len(analysis.series.columns) else f" of {theirs} layers"
        text.append(
            f"The black dotted line is the change at which gradients and weight decay{whose} balance: layers that a "
            "normalisation follows come to it, others need not. It is drawn where a steady learning rate has had the "
            "time for that."
        )
    if analysis.schedule is not None:
        courses = len(analysis.schedule.layers)
        most = f", those of the most layers are {MOST} of {courses}" if courses > MOST else ""
        each = "a line for each course that layers have" if courses > 1 else "all layers have the same"
        text.append(f"Below them the learning rate: {each}{most}.")
    return " ".join(text)


def about_plane(analysis: Analysis) -> str:
    """What the axes of the plane mean, as far as a plain quantity explains them."""
    text = ["A point is a layer; layers whose curves are alike lie near each other."]
    for place, component in enumerate(analysis.components, 1):
        if component.meaning:
            text.append(
                f"Component {place} follows the {component.meaning} (rank correlation {two(component.correlation)})."
            )
    text.append("Click a point, or draw a loop around several, to choose layers.")
    return " ".join(text)


def about_tree(analysis: Analysis) -> str:
    """How to read the tree."""
    return (
        "Layers join into branches from the right to the left, the most alike first; the rows beside them are in the "
        "same order. A dot is a branch of three or more layers: full and large if it stands apart, else a ring, faint "
        f"if it does not come back. {about_branches(analysis)} Click a dot to choose its layers."
    )


def about_branches(analysis: Analysis) -> str:
    """What is said of a branch of the tree, and of how many."""
    apart = int(analysis.tree.branches["apart"].sum())
    found = "No branch stands" if not apart else "One branch stands" if apart == 1 else f"{apart} branches stand"
    return (
        f"A branch comes back if most of it is there again (Jaccard index of {HOLDS_FROM}) when blocks of steps are "
        "drawn anew, in three of four cases or more. It stands apart if moreover the gap around it is too wide for "
        "one cloud of layers. "
        f"{found} apart here."
    )


def about_scan(analysis: Analysis) -> str:
    """How k was chosen."""
    clustering, choice = analysis.clustering, analysis.choice
    text = [f"k = {clustering.k}: {clustering.chosen}."]
    if np.isfinite(clustering.silhouette):
        text.append(
            f"The mean silhouette there is {clustering.silhouette:.2f} (above 0.5: clearly apart; below 0.25: hardly)."
        )
    if choice is not None and len(choice.table):
        text.append(
            "Dashed: what the same procedure gives on data without clusters. That halves agree shows clusters only "
            "where they agree better than there."
        )
    return " ".join(text)


def about_stability(analysis: Analysis) -> str:
    """How far the clusters can be trusted."""
    stability = analysis.stability
    if analysis.clustering.k < 1:
        return f"No cluster: {analysis.clustering.chosen}. Where there is none, nothing can hold or fall apart."
    if analysis.clustering.k == 1:
        chosen = f"One cluster: {analysis.clustering.chosen}."
        if analysis.cut.worth == "apart":
            return f"{chosen} But the tree of the layers has branches that stand apart from all others."
        if analysis.cut.worth == "continuum":
            return (
                f"{chosen} The pieces are the cut at which halves of the samples agree best, no clusters: "
                f"{evidence(analysis.cut.agreement, analysis.cut.null_agreement)}."
            )
        return f"{chosen} What is one cannot fall apart, so that could not be tested."
    if stability is None:
        return "How stable the clusters are could not be tested: that takes more samples."
    null = ""
    if stability.null is not None and stability.p is not None:
        null = f" Data without clusters agree to {two(stability.null[0])}; p = {stability.p:.2g}."
    return (
        f"Agreement {two(stability.median)}: {stability.verdict}. The samples were split at random into halves "
        f"{len(stability.agreement)} times and each half was clustered alone; this is the median adjusted Rand index "
        f"between the halves (80 % of the splits: {two(stability.low)} to {two(stability.high)}; 1 is the same "
        f"clusters, 0 is chance).{null}"
    )


def about_return(analysis: Analysis) -> str:
    """What it says of a cluster that it comes back, and what it does not."""
    stability = analysis.stability
    if stability is None or not len(stability.clusters):
        return ""
    text = (
        "A cluster comes back if most of it is there again when blocks of steps are drawn anew: in parentheses the "
        f"median Jaccard index (1 = all); yes from {HOLDS_FROM}, no below {SHAKY_FROM}."
    )
    if stability.verdict != "stable":
        text += (
            " That is easier than for halves to agree: a piece of one cloud may come back, and is no cluster for it."
        )
    return text


def about_comparison(analysis: Analysis) -> str:
    """What the comparison is of, and over what its intervals are."""
    comparison = analysis.comparison
    if comparison is None:
        return ""
    counts = ", ".join(
        f"{name} ({runs} run{'s' if runs > 1 else ''})"
        for name, runs in zip(comparison.settings, comparison.runs, strict=True)
    )
    text = [
        f"{counts}. Ratios are against {comparison.settings[0]}: 2 is twice as large.",
        f"Intervals hold 95 % and are over {comparison.basis}.",
    ]
    if comparison.unmatched:
        left = len(comparison.unmatched)
        text.append(f"Left out, for not all runs have the same: {left} layer{'s' if left > 1 else ''}.")
    return " ".join(text)


def about_groups(analysis: Analysis) -> str:
    """What the points and bars of the groups are, and whether the groups differ."""
    groups = analysis.groups
    if groups is None:
        return ""
    test = ""
    if np.isfinite(groups.p):
        test = f"; Kruskal-Wallis test over layers: p {'= ' if groups.p >= 0.001 else ''}{chance(groups.p)}"
    by = concise(groups.by, width=40)
    return f"A point is a layer at its median, a bar the median of a group (by {by}){test}."
