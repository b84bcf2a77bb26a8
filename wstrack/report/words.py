"""The page's sentences: what was measured, and what each figure shows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wstrack.report.result import Report
from wstrack.report.thin import Tiles
from wstrack.run import Run

__all__ = ["about_curves", "about_heatmap", "about_plane", "about_scan", "about_stability", "measured", "settings"]

_FORMULAS = {
    "rwc": "relative weight change: the sum of |new − old| over a layer's weights, divided by the sum of |old|",
    "rwc_l2": "relative weight change in the Euclidean norm: ‖new − old‖ of a layer's weights, divided by ‖old‖",
    "rwc_elementwise": "elementwise relative weight change: the mean of |new − old| / |old| over a layer's weights",
    "norm": "size: the mean of |weight| over a layer's weights",
    "cosine": "direction: the cosine of a layer's change with the one before: −1 turns, 1 keeps on",
    "distance": "distance from the start: the sum of |new − first| over a layer's weights, by the sum of |first|",
}
_CHANGES = ("rwc", "rwc_l2", "rwc_elementwise")


def measured(report: Report) -> str:
    """What was measured, in one paragraph."""
    run = report.runs[0]
    formula = _FORMULAS.get(report.metric, "as it was logged under this name")
    steps, layers = report.series.shape
    window = ""
    if report.metric in _CHANGES and "window" in run.facts:
        window = "; of one optimizer step" if run.facts["window"] == "step" else f"; {_span(run)}"
    scale = " 0.01 is a change of 1 %." if report.metric in _CHANGES else ""
    mean = f" The mean of {len(report.runs)} runs, step by step." if len(report.runs) > 1 else ""
    first, last = report.series.index[0], report.series.index[-1]
    return (
        f"{report.metric} – {formula}{window}.{scale} {layers:,} layers, {steps:,} samples from step {first:,} to "
        f"{last:,}.{mean}"
    )


def _span(run: Run) -> str:
    """Over how many optimizer steps a change goes: it is not so many times that of one step."""
    spans = sorted(set(run.intervals))
    if not spans:
        return "from one sample to the next"
    steps = str(spans[0]) if len(spans) == 1 else f"{spans[0]} to {spans[-1]}"
    return f"from one sample to the next, {steps} optimizer step{'' if steps == '1' else 's'} later"


def about_heatmap(report: Report, tiles: Tiles) -> str:
    """How to read the heat map, and what in it is not a value."""
    more = "changed more" if report.metric in _CHANGES else "have larger values"
    text = [f"A row is a layer, from the input at the top to the output at the bottom; bright cells {more}."]
    if report.clustering.k:
        text.append("The strip on the left shows each layer's cluster.")
    missing = int(report.series.isna().to_numpy().sum())
    infinite = int(np.isinf(report.series.to_numpy()).sum())
    if missing:
        text.append(f"Grey: {missing:,} values that were not logged, or not a number.")
    if infinite:
        text.append(f"White: {infinite:,} infinite values." if infinite > 1 else "White: one infinite value.")
    if tiles.samples_per_column > 1:
        text.append(f"Each column is drawn as the mean of up to {tiles.samples_per_column} samples.")
    if tiles.rows[0][1] > 1:
        text.append(f"Each row is drawn as the mean of {tiles.rows[0][1]} neighbouring layers.")
    return " ".join(text)


def about_curves(report: Report) -> str:
    """How to read the curves."""
    layers = "The thin curves are the layers." if len(report.prepared.values) <= 12 else (
        "A layer's own curve shows under the pointer, or once it is chosen on the plane or in the table."
    )  # fmt: skip
    return f"The line is the median of a cluster's layers, the band holds the middle 80 % of them. {layers}"


def about_plane(report: Report) -> str:
    """What the axes of the plane mean, as far as a plain quantity explains them."""
    values, points = report.prepared.values, report.reduction.points
    third = -(-values.shape[1] // 3)
    meanings = {
        "the overall level": values.mean(axis="columns"),
        "how a layer's course rises or falls": values.iloc[:, -third:].mean(axis="columns")
        - values.iloc[:, :third].mean(axis="columns"),
        "the depth": pd.Series(np.arange(len(values)), index=values.index),
    }
    text = ["A point is a layer; near points have alike curves."]
    for name, column in (("Component 1", "component_1"), ("Component 2", "component_2")):
        if points[column].std() > 0:
            fits = {
                meaning: points[column].corr(quantity) for meaning, quantity in meanings.items() if quantity.std() > 0
            }
            best = max(fits, key=lambda meaning: abs(fits[meaning]), default="")
            if best and abs(fits[best]) >= 0.7:
                text.append(f"{name} is mostly {best} (correlation {fits[best]:.2f}).")
    text.append("Click a point, or draw a loop around several, to see them in the curves and in the table.")
    return " ".join(text)


def about_scan(report: Report) -> str:
    """How k was chosen."""
    clustering = report.clustering
    quality = f" The mean silhouette there is {clustering.silhouette:.2f}" if np.isfinite(clustering.silhouette) else ""
    reading = " (above 0.5: clearly apart; below 0.25: hardly)." if quality else ""
    return f"k = {clustering.k}: {clustering.chosen}.{quality}{reading}"


def about_stability(report: Report) -> str:
    """How far the clusters can be trusted."""
    stability = report.stability
    if report.clustering.k < 2:
        return f"One cluster: {report.clustering.chosen}. What is one cannot fall apart, so that could not be tested."
    if stability is None:
        return "How stable the clusters are could not be tested: that takes more samples."
    return (
        f"Agreement {_two(stability.median)}: {stability.verdict}. The samples were split at random into halves "
        f"{len(stability.agreement)} times and each half was clustered alone; this is the median adjusted Rand index "
        f"between the halves (80 % of the splits: {_two(stability.low)} to {_two(stability.high)}; 1 is the same "
        "clusters, 0 is chance)."
    )


def _two(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # the sum makes a negative zero positive


def settings(report: Report) -> list[tuple[str, str]]:
    """Everything behind the page as rows: settings, software, completeness, what was replaced and dropped."""
    rows = [(name, "none" if value is None else str(value)) for name, value in report.settings.items()]
    rows += [("reduction", report.reduction.method), ("clustering", report.clustering.method)]
    for run in report.runs:
        rows += [("run", run.name), ("completeness", str(run.completeness))]
        rows += [("note", note) for note in run.completeness.notes]
        rows += [(f"run: {name}", str(value)) for name, value in run.facts.items() if name != "name"]
    replaced = report.prepared.replaced
    for what in replaced.columns:
        counts = replaced[what][replaced[what] > 0].sort_values(ascending=False, kind="stable")
        worst = ", ".join(f"{layer} ({count:,})" for layer, count in counts.head(5).items())
        others = f" and {len(counts) - 5:,} more layers" if len(counts) > 5 else ""
        rows.append(
            (f"replaced: {what.replace('_', '-')}", f"{counts.sum():,}: {worst}{others}" if len(counts) else "none")
        )
    rows += [(f"left out: {layer}", reason) for layer, reason in report.prepared.dropped.items()]
    rows += [(f"version: {name}", value) for name, value in report.versions.items()]
    return [(name, value if len(value) <= 600 else f"{value[:600]} …") for name, value in rows]
