"""What is known of each layer after an analysis, a row a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from wstrack.analysis.medians import medians

if TYPE_CHECKING:
    from wstrack.analysis.choice import Clustered
    from wstrack.analysis.cut import Cut
    from wstrack.analysis.groups import Groups
    from wstrack.analysis.stability import Stability

__all__ = ["describe_layers"]


def describe_layers(
    known: pd.DataFrame,
    finite: pd.DataFrame,
    ratio: pd.Series[float],
    clustered: Clustered,
    cut: Cut,
    stability: Stability | None,
    groups: Groups | None,
    dropped: Mapping[str, str],
) -> pd.DataFrame:
    """The table of layers; its columns are those of `Analysis.table`.

    Args:
        known: `Run.layers`.
        finite: the series, index = step, columns = layers in model order; NaN where there is no finite value.
        ratio: by layer, late over early (`early_and_late`).
        clustered, cut, stability, groups: what was found.
        dropped: by layer, why it was not clustered.
    """
    table = known.reindex(finite.columns)[["kind", "shape", "numel", "depth", "block"]].rename_axis("layer")
    table["cluster"] = clustered.clustering.labels.reindex(table.index).astype("Int64")
    table["cut"] = cut.labels.reindex(table.index).astype("Int64")
    table[["component_1", "component_2"]] = clustered.reduction.points[["component_1", "component_2"]]
    table["median"] = medians(finite)
    table["late_early_ratio"] = ratio
    if stability is not None:
        table["stays"] = stability.layers.reindex(table.index)
    if groups is not None:
        table["group"] = groups.labels.reindex(table.index)
        if len(groups.clusters):
            table["cluster_in_group"] = groups.clusters.reindex(table.index).astype("Int64")
    table["left_out"] = pd.Series(dict(dropped), dtype=object).reindex(table.index).fillna("")
    return table
