"""The page's sentences: what was measured, and what each figure shows."""

from __future__ import annotations

import numpy as np

from wstrack.analysis.analysis import Analysis
from wstrack.analysis.clustering import NOISE
from wstrack.analysis.cutoffs import HOLDS_FROM, SHAKY_FROM
from wstrack.analysis.findings.words import at_steps, together
from wstrack.analysis.groups import GROUPINGS
from wstrack.metrics import METRICS
from wstrack.reporting.figures import FEW
from wstrack.reporting.labels import chance, concise, title
from wstrack.reporting.thin import Tiles
from wstrack.runs.run import Run

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
    "division",
    "heading",
    "measured",
    "verdict",
]


CONTINUUM = "One continuous cloud of layers, in which nothing shows several clusters"
_CHANGES = ("rwc", "rwc_l2", "rwc_elementwise")


def heading(analysis: Analysis, *, width: int = 120) -> str:
    """What the report is called, on one line: by its title, or by the names of its runs."""
    return title([analysis.title] if analysis.title else [run.name for run in analysis.runs], width=width)


def measured(analysis: Analysis) -> str:
    """What was measured, in one paragraph."""
    run = analysis.runs[0]
    formula = METRICS[analysis.metric].words if analysis.metric in METRICS else "as it was logged under this name"
    steps, layers = analysis.series.shape
    window = ""
    if analysis.metric in _CHANGES and "window" in run.origin:
        window = "; of one optimizer step" if run.origin["window"] == "step" else f"; {_span(run)}"
    scale = " 0.01 is a change of 1 %." if analysis.metric in _CHANGES else ""
    mean = f" The mean of {len(analysis.runs)} runs, step by step." if len(analysis.runs) > 1 else ""
    first, last = analysis.series.index[0], analysis.series.index[-1]
    by, each = analysis.settings["aggregate"], ""
    if by:
        what = f"a whole {by}" if by in GROUPINGS else f"all that {by!r} puts together"
        each = f", each of them {what} of the model, from the raw sums of what is in it"
    return (
        f"{analysis.metric} – {formula}{window}.{scale} {layers:,} layers{each}, {steps:,} samples from step {first:,} "
        f"to {last:,}.{mean}"
    )


def _span(run: Run) -> str:
    """Over how many optimizer steps a change goes: it is not so many times that of one step."""
    spans = sorted(set(run.intervals))
    if not spans:
        return "from one sample to the next"
    steps = str(spans[0]) if len(spans) == 1 else f"{spans[0]} to {spans[-1]}"
    return f"from one sample to the next, {steps} optimizer step{'' if steps == '1' else 's'} later"


def verdict(analysis: Analysis) -> tuple[bool, str]:
    """Whether there is something to build on, and the sentences that say so: what a reader must not miss."""
    kinds = {finding.kind: finding for finding in analysis.findings}
    still = kinds.get("still")
    if still is not None and still.numbers["still"] == still.numbers["layers"]:
        return False, "Nothing learns: no weight of any layer changed."
    well, said = _clusters(analysis)
    decay = kinds.get("decay")
    if decay is not None and decay.numbers["layers_alike"] == decay.numbers["layers"]:
        since = max(decay.steps)
        well = False
        said = (
            f"Nothing is learnt any more from step {since:,} on: all layers only decay. "
            f"Over all samples: {said[0].lower()}{said[1:]}"
        )
    finite = np.isfinite(analysis.series.to_numpy(dtype=np.float64)).any(axis=1)
    if not finite[-1]:  # and there are finite ones before, or nothing could be analysed
        end = analysis.series.index[len(finite) - int(finite[::-1].argmax())]
        return False, f"No layer has a finite value from step {end:,} on. Before: {said[0].lower()}{said[1:]}"
    return well, said


def _clusters(analysis: Analysis) -> tuple[bool, str]:
    """Whether there are clusters to build on, and the sentence that says so."""
    k, stability, cut = analysis.clustering.k, analysis.stability, analysis.cut
    noise = int((analysis.clustering.labels == NOISE).sum())
    apart = f" {noise} layers belong to none." if noise > 1 else " One layer belongs to none." if noise else ""
    if k < 1:
        return False, "No clusters: the method calls every layer noise."
    if cut.worth == "apart":
        return True, _apart(analysis)
    if cut.worth == "continuum":
        said = f"{CONTINUUM}, cut into {cut.k} pieces for the figures"
        return stability is None, f"{said} ({_evidence(cut.agreement, cut.null_agreement)}).{apart}"
    if k == 1:
        if analysis.choice is None:
            return True, f"One cluster of layers, {analysis.clustering.chosen}.{apart}"
        return True, "One group of layers: nothing shows that they fall into several clusters."
    if stability is None:
        return False, f"{k} clusters; whether they hold could not be tested.{apart}"
    evidence = _evidence(stability.median, stability.null[0] if stability.null else np.nan)
    loose = [str(name) for name, row in stability.clusters.iterrows() if row["verdict"] == "dissolves"]
    falls = ""
    if loose:
        which = "None of them holds" if len(loose) == k > 1 else f"Cluster {loose[0]} does not hold"
        which = f"Clusters {', '.join(loose)} do not hold" if 1 < len(loose) < k else which
        falls = f" {which}: less than half comes back when the steps are drawn anew."
    said = {
        "stable": f"{k} clusters of layers, stable ({evidence}).",
        "shaky": f"{k} clusters of layers, but shaky ({evidence}): read their borders with care.",
        "not stable": f"The {k} clusters are not stable ({evidence}): do not build on them.",
    }[stability.verdict]
    return stability.verdict == "stable" and not loose, said + falls + apart


def _apart(analysis: Analysis) -> str:
    """What stands apart from the one cloud of all other layers."""
    cut, everyone = analysis.cut, [str(name) for name in analysis.cut.labels.index]
    groups = [[str(name) for name in members.index] for _, members in cut.labels[cut.labels > 0].groupby(cut.labels)]
    one = len(groups) == 1
    which = "; ".join(together(members, everyone) for members in groups[:3])
    more = f"; and {len(groups) - 3} more" if len(groups) > 3 else ""
    return f"One cloud of layers, and {'a branch' if one else f'{len(groups)} branches'} apart from it: {which}{more}."


def _evidence(agreement: float, null: float) -> str:
    """How well halves of the samples agree, and how well on data without clusters."""
    return f"agreement of random halves {_two(agreement)}" + (
        f"; {_two(null)} on data without clusters" if np.isfinite(null) else ""
    )


def division(analysis: Analysis) -> str:
    """What the layers are divided into."""
    cut = analysis.cut
    return {
        "clusters": "The clusters", "apart": "The branches that stand apart", "continuum": "The pieces of the cut",
        "whole": "All layers",
    }[cut.worth]  # fmt: skip


def about_heatmap(analysis: Analysis, tiles: Tiles) -> str:
    """How to read the heat map, and what in it is not a value."""
    more = "changed more" if analysis.metric in _CHANGES else "have larger values"
    text = [f"A row is a layer, from the input at the top to the output at the bottom; bright cells {more}."]
    cut = analysis.cut
    if cut.worth != "whole":
        text.append(f"The strip on the left shows each layer's {cut.noun}.")
    elif cut.k:
        text.append("The strip on the left gives each layer the colour that it has in the figures below.")
    if analysis.phases and analysis.phases.breaks:
        text.append(f"Dashed lines: the courses of the layers break off at {at_steps(analysis.phases.breaks)}.")
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
    return " ".join(text)


def about_plane(analysis: Analysis) -> str:
    """What the axes of the plane mean, as far as a plain quantity explains them."""
    text = ["A point is a layer; layers whose curves are alike lie near each other."]
    for place, component in enumerate(analysis.components, 1):
        if component.meaning:
            text.append(
                f"Component {place} follows the {component.meaning} (rank correlation {_two(component.correlation)})."
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
                f"{_evidence(analysis.cut.agreement, analysis.cut.null_agreement)}."
            )
        return f"{chosen} What is one cannot fall apart, so that could not be tested."
    if stability is None:
        return "How stable the clusters are could not be tested: that takes more samples."
    null = ""
    if stability.null is not None and stability.p is not None:
        null = f" Data without clusters agree to {_two(stability.null[0])}; p = {stability.p:.2g}."
    return (
        f"Agreement {_two(stability.median)}: {stability.verdict}. The samples were split at random into halves "
        f"{len(stability.agreement)} times and each half was clustered alone; this is the median adjusted Rand index "
        f"between the halves (80 % of the splits: {_two(stability.low)} to {_two(stability.high)}; 1 is the same "
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


def _two(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # the sum makes a negative zero positive
