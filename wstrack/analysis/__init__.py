"""What the curves of a run's layers have in common: arrays and frames in, frames out.

`align` and `average` -> `prepare` -> `reduce` -> `choose` and `cluster` -> `measure_stability`, `grouped`,
`find_phases`, `compare`, `grow` -> `collect_findings`; `analyse` does all of it. Nothing here knows torch or a tracker.
"""

# Before anything that imports it from deep down: a call that crosses the end of a piece of CPython 3.11's stack makes
# and frees that piece each time, and this import, which reads the help of hundreds of functions, took half as long
# again.
import scipy.stats  # noqa: F401

from wstrack.analysis.alignment import Bands, align, average
from wstrack.analysis.analysis import Analysis, analyse
from wstrack.analysis.choice import Choice, Clustered, choose, cluster_layers, compare_clusterings
from wstrack.analysis.clustering import Clustering, cluster, takes_k
from wstrack.analysis.comparison import Comparison, compare, match_clusters
from wstrack.analysis.components import Component, describe_components
from wstrack.analysis.cut import Cut, cut_layers
from wstrack.analysis.findings import Finding, collect_findings
from wstrack.analysis.groups import Groups, aggregate, group_layers, grouped
from wstrack.analysis.growth import Exponent, exponent, exponents
from wstrack.analysis.intervals import comparable_steps
from wstrack.analysis.measures import agreement
from wstrack.analysis.periods import Period, find_period
from wstrack.analysis.phases import Phases, cluster_phases, find_phases
from wstrack.analysis.preparation import Prepared, prepare
from wstrack.analysis.procedure import Procedure
from wstrack.analysis.reduction import Reduction, reduce
from wstrack.analysis.repeats import Repeat, find_epochs, find_repeat
from wstrack.analysis.schedule import Schedule, schedule_of
from wstrack.analysis.stability import Stability, measure_stability
from wstrack.analysis.thirds import early_and_late
from wstrack.analysis.tree import Tree, grow

__all__ = [
    "Analysis",
    "Bands",
    "Choice",
    "Clustered",
    "Clustering",
    "Comparison",
    "Component",
    "Cut",
    "Exponent",
    "Finding",
    "Groups",
    "Period",
    "Phases",
    "Prepared",
    "Procedure",
    "Reduction",
    "Repeat",
    "Schedule",
    "Stability",
    "Tree",
    "aggregate",
    "agreement",
    "align",
    "analyse",
    "average",
    "choose",
    "cluster",
    "cluster_layers",
    "cluster_phases",
    "collect_findings",
    "comparable_steps",
    "compare",
    "compare_clusterings",
    "cut_layers",
    "describe_components",
    "early_and_late",
    "exponent",
    "exponents",
    "find_epochs",
    "find_period",
    "find_phases",
    "find_repeat",
    "group_layers",
    "grouped",
    "grow",
    "match_clusters",
    "measure_stability",
    "prepare",
    "reduce",
    "schedule_of",
    "takes_k",
]
