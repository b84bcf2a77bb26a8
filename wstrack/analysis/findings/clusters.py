"""The finding on the clusters: how far to trust them, and what marks each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wstrack.analysis.clustering import NOISE, Clustering
from wstrack.analysis.findings.words import MOST_NAMED, Finding, Numbers, chance, number, times, together
from wstrack.analysis.medians import medians

if TYPE_CHECKING:
    from wstrack.analysis.stability import Stability

__all__ = ["clusters"]

_VERDICTS = {
    "stable": ", and they are stable",
    "shaky": ", but they are shaky",
    "not stable": ", but they are not stable",
}


def _null(stability: Stability) -> str:
    if stability.null is None or stability.p is None:
        return ""
    return f"; on data without clusters {number(stability.null[0])}, {chance(stability.p)}"


def clusters(
    values: pd.DataFrame, thirds: pd.DataFrame | None, clustering: Clustering, stability: Stability | None, noun: str
) -> Finding | None:
    """How many clusters there are, how far to trust them, and what marks each."""
    if clustering.k < 2:
        return None
    numbers: Numbers = {"k": clustering.k}
    part = "piece" if stability and stability.verdict == "continuous" else "cluster"
    lines = [f"The layers form {clustering.k} clusters; how stable they are could not be tested."]
    if stability:
        numbers |= {"agreement": stability.median, "verdict": stability.verdict}
        what = (
            f"The layers are one continuous cloud, cut into {clustering.k} pieces where the method put the borders "
            "(data without clusters stand out as far)"
            if stability.verdict == "continuous"
            else f"The layers form {clustering.k} clusters{_VERDICTS[stability.verdict]}"
        )
        lines[0] = (
            f"{what}: clustered anew from two random "
            f"halves of the samples, they agree to {number(stability.median)} "
            f"(adjusted Rand index: 1 = the same clusters, 0 = chance{_null(stability)})."
        )
        held: dict[int, str] = dict(stability.clusters["verdict"]) if len(stability.clusters) else {}
        loose = [name for name, verdict in held.items() if verdict == "dissolves"]
        if len(loose):
            those = ", ".join(str(one) for one in loose)
            numbers["do_not_hold"] = len(loose)
            lines[0] += (
                f" {part.capitalize()} {those} does not hold: in most bootstraps of the samples fewer than half of "
                "its layers stay together."
                if len(loose) == 1
                else f" {part.capitalize()}s {those} do not hold: in most bootstraps of the samples fewer than half of "
                "their layers stay together."
            )
    if np.isfinite(clustering.silhouette):
        numbers["silhouette"] = clustering.silhouette
        lines[0] += f" Silhouette {number(clustering.silhouette)} (1 = far apart, 0 = touching)."
    level = medians(values)
    everyone = [str(name) for name in clustering.labels.index]
    for cluster in range(1, min(clustering.k, MOST_NAMED) + 1):
        members = clustering.labels.index[clustering.labels == cluster]
        median = float(level[members].median())
        numbers |= {f"cluster_{cluster}_layers": len(members), f"cluster_{cluster}_median": median}
        line = f"{part.capitalize()} {cluster}: {together(list(map(str, members)), everyone)}"
        line += f", median {noun} {number(median)}"
        ratio = float(thirds["ratio"][members].dropna().median()) if thirds is not None else np.nan
        if 0 < ratio < np.inf:
            numbers[f"cluster_{cluster}_late_to_early"] = ratio
            line += ", about the same late as early" if 0.9 < ratio < 1.1 else f", {times(ratio)} late than early"
        elif thirds is not None and ratio == 0:
            line += f", {number(float(thirds['early'][members].median()))} early and 0 late"
        lines.append(f"{line}.")
    if clustering.k > MOST_NAMED:
        more = clustering.k - MOST_NAMED
        lines.append(f"And {more} {part}{'' if more == 1 else 's'} more.")
    noise = int((clustering.labels == NOISE).sum())
    if noise:
        numbers["noise_layers"] = noise
        lines.append(f"{noise} layers belong to none (noise)." if noise > 1 else "One layer belongs to none (noise).")
    return Finding("clusters", "\n".join(lines), "plane", numbers)
