"""What a report says of itself: its name, what was measured, what the layers are divided into, the verdict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wstrack.analysis.analysis import Analysis
from wstrack.analysis.clustering import NOISE
from wstrack.analysis.findings.saved import percent
from wstrack.analysis.findings.words import Finding, Kind, together
from wstrack.analysis.groups import GROUPINGS
from wstrack.metrics import METRICS
from wstrack.reporting.labels import title
from wstrack.runs.run import Run

__all__ = [
    "CHANGES",
    "division",
    "evidence",
    "heading",
    "measured",
    "two",
    "verdict",
]


CONTINUUM = "One continuous cloud of layers, in which nothing shows several clusters"
CHANGES = ("rwc", "rwc_l2", "rwc_elementwise")


def heading(analysis: Analysis, *, width: int = 120) -> str:
    """What the report is called, on one line: by its title, or by the names of its runs."""
    return title([analysis.title] if analysis.title else [run.name for run in analysis.runs], width=width)


def measured(analysis: Analysis) -> str:
    """What was measured, in one paragraph."""
    run = analysis.runs[0]
    formula = METRICS[analysis.metric].words if analysis.metric in METRICS else "as it was logged under this name"
    steps, layers = analysis.series.shape
    window = ""
    if analysis.metric in CHANGES and "window" in run.origin:
        window = "; of one optimizer step" if run.origin["window"] == "step" else f"; {_span(run)}"
    scale = " 0.01 is a change of 1 %." if analysis.metric in CHANGES else ""
    mean = f" The mean of {len(analysis.runs)} runs, step by step." if len(analysis.runs) > 1 else ""
    first, last = analysis.series.index[0], analysis.series.index[-1]
    by, each = analysis.settings["aggregate"], ""
    if by:
        what = f"a whole {by}" if by in GROUPINGS else f"all that {by!r} puts together"
        each = f", each of them {what} of the model, from the raw sums of what is in it"
    level = analysis.settings["parts"]
    whole = f" They are {level}." if level and level.startswith("whole") else ""
    each += f", among them {level}" if level and not whole else ""
    when = f"{steps:,} samples from step {first:,} to {last:,}" if steps > 1 else f"one sample, at step {first:,}"
    return f"{analysis.metric} – {formula}{window}.{scale} {layers:,} layers{each}, {when}.{whole}{mean}"


def _span(run: Run) -> str:
    """Over how many optimizer steps a change goes: it is not so many times that of one step."""
    if run.origin.get("counted"):
        return "from one checkpoint to the next"
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
    if len(analysis.series) == 1:
        return True, _one_sample(analysis, kinds)
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


def _one_sample(analysis: Analysis, kinds: Mapping[Kind, Finding]) -> str:
    """What there is to say where nothing has a course."""
    if "unrelated" in kinds:
        return "The two sets of weights are unrelated, as two trainings from different seeds."
    if (changes := kinds.get("changes")) is not None:
        if changes.numbers["still"] == changes.numbers["layers"]:
            return changes.text
        median, still = float(changes.numbers["median"]), changes.numbers["still"]
        rest = f"; {still:,} of {changes.numbers['layers']:,} did not change" if still else ""
        return f"In the median a layer{' that changed did so' if still else ' changed'} by {percent(median)}{rest}."
    return "One sample of each layer: it says how large each is, and nothing of how that came."


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
        return stability is None, f"{said} ({evidence(cut.agreement, cut.null_agreement)}).{apart}"
    if k == 1:
        if analysis.choice is None:
            return True, f"One cluster of layers, {analysis.clustering.chosen}.{apart}"
        return True, "One group of layers: nothing shows that they fall into several clusters."
    if stability is None:
        return False, f"{k} clusters; whether they hold could not be tested.{apart}"
    shown = evidence(stability.median, stability.null[0] if stability.null else np.nan)
    loose = [str(name) for name, row in stability.clusters.iterrows() if row["verdict"] == "dissolves"]
    falls = ""
    if loose:
        which = "None of them holds" if len(loose) == k > 1 else f"Cluster {loose[0]} does not hold"
        which = f"Clusters {', '.join(loose)} do not hold" if 1 < len(loose) < k else which
        falls = f" {which}: less than half comes back when the steps are drawn anew."
    said = {
        "stable": f"{k} clusters of layers, stable ({shown}).",
        "shaky": f"{k} clusters of layers, but shaky ({shown}): read their borders with care.",
        "not stable": f"The {k} clusters are not stable ({shown}): do not build on them.",
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


def evidence(agreement: float, null: float) -> str:
    """How well halves of the samples agree, and how well on data without clusters."""
    return f"agreement of random halves {two(agreement)}" + (
        f"; {two(null)} on data without clusters" if np.isfinite(null) else ""
    )


def division(analysis: Analysis) -> str:
    """What the layers are divided into."""
    cut = analysis.cut
    return {
        "clusters": "The clusters", "apart": "The branches that stand apart", "continuum": "The pieces of the cut",
        "whole": "All layers",
    }[cut.worth]  # fmt: skip


def two(value: float) -> str:
    """To two decimals."""
    return f"{round(value, 2) + 0.0:.2f}"  # the sum makes a negative zero positive
