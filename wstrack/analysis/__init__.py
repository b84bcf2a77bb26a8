"""What the curves of a run's layers have in common: arrays and frames in, frames out.

`align` and `average` -> `prepare` -> `reduce` -> `choose` and `cluster` -> `stability`, `grouped`, `phases`, `compare`
-> `findings`. Nothing here knows torch or a tracker.
"""

from wstrack.analysis.alignment import Bands, align, average
from wstrack.analysis.choice import Choice, choose, compare_clusterings
from wstrack.analysis.clustering import Clustering, agreement, cluster, takes_k
from wstrack.analysis.comparison import Comparison, compare, match_clusters
from wstrack.analysis.components import Component, components
from wstrack.analysis.findings import Finding, findings
from wstrack.analysis.groups import Groups, aggregate, group_layers, grouped
from wstrack.analysis.intervals import comparable_steps
from wstrack.analysis.phases import Phases, phases
from wstrack.analysis.preparation import Prepared, prepare
from wstrack.analysis.reduction import Reduction, reduce
from wstrack.analysis.stability import Stability, stability

__all__ = [
    "Bands",
    "Choice",
    "Clustering",
    "Comparison",
    "Component",
    "Finding",
    "Groups",
    "Phases",
    "Prepared",
    "Reduction",
    "Stability",
    "aggregate",
    "agreement",
    "align",
    "average",
    "choose",
    "cluster",
    "comparable_steps",
    "compare",
    "compare_clusterings",
    "components",
    "findings",
    "group_layers",
    "grouped",
    "match_clusters",
    "phases",
    "prepare",
    "reduce",
    "stability",
    "takes_k",
]
