"""What the curves of a run's layers have in common: arrays and frames in, frames out.

`prepare` -> `reduce` -> `cluster` -> `stability` and `findings`. Nothing here knows torch or a tracker.
"""

from wstrack.analysis.choose import Choice, choose, compare_clusterings
from wstrack.analysis.cluster import Clustering, agreement, cluster
from wstrack.analysis.findings import Finding, findings
from wstrack.analysis.prepare import Prepared, prepare
from wstrack.analysis.reduce import Reduction, reduce
from wstrack.analysis.stability import Stability, stability

__all__ = [
    "Choice",
    "Clustering",
    "Finding",
    "Prepared",
    "Reduction",
    "Stability",
    "agreement",
    "choose",
    "cluster",
    "compare_clusterings",
    "findings",
    "prepare",
    "reduce",
    "stability",
]
