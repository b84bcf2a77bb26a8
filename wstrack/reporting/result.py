"""What a report holds, and how it is written down as a page, as JSON and as a table.

What `Report` carries beside its first fields, for who draws it (each is documented at its class in `wstrack.analysis`):

- `choice` (Choice or None): by k from 2, `choice.table` has agreement, separation, silhouette, gap and p, each beside
  what data without clusters give; `choice.words` says why this k. `clustering.k` may be 1: nothing shows that there is
  more than one cluster; `choice.best` is then the k at which halves agree best.
- `stability` (or None with one cluster): `verdict` "stable", "shaky", "not stable" or "continuous" (one cloud cut into
  pieces), `null` and `p`; `ways` (a row a way of changing something), `clusters` (a row a cluster: jaccard and verdict
  "holds", "shaky", "dissolves"), `layers` (share of bootstraps in which a layer stays), `consensus` labels.
- `components` (two of Component): `meaning` in words, or "".
- `phases` (Phases): `breaks` are the first steps of later phases; `phase_clusters` are the clusters of each phase.
- `groups` (Groups or None), with `group=`: `labels` by layer, `table` a row a group, `clusters` inside them.
- `comparison` (Comparison or None), with `compare=`: `overall`, `thirds`, `layers`, `clusters`, `agreement`.
- `bands` (Bands or None), with several runs: `mean`, `deviation` (in decades, over runs) and `runs` by step and layer.
- `methods` (a frame, computed when first asked for): every clustering method on the same data. What is written after
  that holds it too.
- a Finding also has `layers` and `steps`: what to mark in a figure.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wstrack import analysis
from wstrack._version import __version__
from wstrack.analysis import (
    Bands,
    Choice,
    Clustering,
    Comparison,
    Component,
    Finding,
    Groups,
    Phases,
    Prepared,
    Reduction,
    Stability,
)
from wstrack.analysis.groups import late_early_ratio
from wstrack.analysis.resampling import Procedure
from wstrack.runs.files import write_whole
from wstrack.runs.run import Run

__all__ = ["Report"]


@dataclass(repr=False)
class Report:
    """The outcome of `wstrack.report`: what was analysed, what was found, and how to write it down.

    Attributes:
        runs: what was reported on; several are averaged.
        metric: the metric of `series`.
        series: what was analysed, before preparation: index = step, columns = layers in model order.
        prepared, reduction, clustering, stability, findings: what each stage of the analysis gave.
        settings: every choice behind the report, for people.
        procedure: how curves became clusters, with any estimators that the user passed.
        choice, phases, groups, comparison, bands: see the head of this file.
    """

    runs: tuple[Run, ...]
    metric: str
    series: pd.DataFrame
    prepared: Prepared
    reduction: Reduction
    clustering: Clustering
    stability: Stability | None
    findings: list[Finding]
    settings: dict[str, Any]
    procedure: Procedure
    choice: Choice | None = None
    phases: Phases | None = None
    groups: Groups | None = None
    comparison: Comparison | None = None
    bands: Bands | None = None

    def __repr__(self) -> str:
        return f"<Report on {self.name!r}: {self.metric}, {self.series.shape[1]} layers, {self.clustering.k} clusters>"

    @property
    def name(self) -> str:
        """The names of the runs, for people."""
        return ", ".join(run.name for run in self.runs)

    @property
    def logarithmic(self) -> bool:
        """Whether figures show the metric on a log scale."""
        published = self.settings["preset"] is not None and bool((self.prepared.values > 0).all(axis=None))
        return self.settings["scale"] == "log10" or published

    @cached_property
    def components(self) -> list[Component]:
        """What each component of the plane means."""
        return analysis.components(self.prepared.values, self.reduction.points, explained=self.reduction.explained)

    @cached_property
    def methods(self) -> pd.DataFrame:
        """Every clustering method on the same data (`wstrack.analysis.compare_clusterings`); takes its time."""
        how = self.procedure
        return analysis.compare_clusterings(
            self.prepared.values, on=how.on, reduce=how.reduce, k=max(self.clustering.k, 2), seed=how.seed
        )

    @cached_property
    def phase_clusters(self) -> pd.DataFrame:
        """By layer, a column a phase: its cluster there, with numbers matched to the clusters of the whole.

        Empty with one phase or one cluster, or where a method finds its own number.
        """
        one = self.clustering.k < 2 or not analysis.takes_k(self.procedure.cluster)
        if one or self.phases is None or not self.phases.breaks:
            return pd.DataFrame(index=self.prepared.values.index)
        values, whole, how = self.prepared.values, self.clustering.labels, self.procedure
        found = {}
        for phase, row in self.phases.table.iterrows():
            part = values.loc[:, (values.columns >= row["first"]) & (values.columns <= row["last"])]
            points = analysis.reduce(part, how.reduce, seed=how.seed).points if how.on == "plane" else part
            labels = analysis.cluster(points, how.cluster, k=self.clustering.k, seed=how.seed).labels
            found[f"phase {phase}"] = analysis.match_clusters(labels, whole)
        return pd.DataFrame(found)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a layer, in model order.

        `cluster` is -1 for noise and missing for a layer that was not clustered (`left_out` says why); `median` is over
        the finite values; `late_early_ratio` is the median of the last third of the samples over that of the first,
        missing where values are negative.
        """
        known = self.runs[0].layers.reindex(self.series.columns)
        table = known[["kind", "shape", "numel", "depth", "block"]].rename_axis("layer")
        table["cluster"] = self.clustering.labels.reindex(table.index).astype("Int64")
        table[["component_1", "component_2"]] = self.reduction.points[["component_1", "component_2"]]
        finite = self.series.where(np.isfinite(self.series))
        table["median"] = finite.median()
        table["late_early_ratio"] = late_early_ratio(finite)
        if self.stability is not None:
            table["kept"] = self.stability.layers.reindex(table.index)
        if self.groups is not None:
            table["group"] = self.groups.labels.reindex(table.index)
            table["cluster_in_group"] = self.groups.clusters.reindex(table.index).astype("Int64")
        table["left_out"] = pd.Series(self.prepared.dropped, dtype=object).reindex(table.index).fillna("")
        return table

    def to_dict(self) -> dict[str, Any]:
        """The whole report as plain JSON; NaN and the infinities become null.

        Clusters are lists of layer names in model order; the id -1 is what a clusterer called noise.
        """
        members = self.clustering.labels.groupby(self.clustering.labels).groups
        replaced = self.prepared.replaced
        whole = {
            "runs": [
                {
                    "name": run.name,
                    "reference": run.facts.get("reference"),
                    "facts": run.facts,
                    "completeness": {**asdict(run.completeness), "missing": run.completeness.missing},
                }
                for run in self.runs
            ],
            "layers": self.table.reset_index().to_dict("records"),
            "clusters": [{"id": label, "layers": list(layers)} for label, layers in members.items()],
            "reduction": {
                "method": self.reduction.method,
                "explained": self.reduction.explained,
                "components": [asdict(component) for component in self.components],
            },
            "clustering": {
                "method": self.clustering.method,
                "k": self.clustering.k,
                "chosen": self.clustering.chosen,
                "silhouette": self.clustering.silhouette,
                "curve": _rows(self.clustering.curve.rename_axis("k")),
            },
            "methods": self.__dict__.get("methods"),
            "choice": asdict(replace(self.choice, trial=None)) if self.choice else None,
            "stability": asdict(self.stability) if self.stability else None,
            "findings": [asdict(finding) for finding in self.findings],
            "phases": asdict(self.phases) | {"agreement": self._phase_agreement()} if self.phases else None,
            "groups": asdict(self.groups) if self.groups else None,
            "comparison": asdict(self.comparison) if self.comparison else None,
            "settings": self.settings,
            "replaced": replaced[replaced.any(axis="columns")].to_dict("index"),
            "dropped": self.prepared.dropped,
            "versions": self.versions,
        }
        plain: dict[str, Any] = _plain(whole)
        return plain

    def _phase_agreement(self) -> dict[str, float]:
        """Of the clusters of each phase with those of the whole run."""
        labels = self.clustering.labels
        return {str(name): analysis.agreement(labels, column) for name, column in self.phase_clusters.items()}

    @property
    def versions(self) -> dict[str, str]:
        """The software behind the numbers."""
        libraries = ("numpy", "pandas", "scikit-learn", "scipy", "bokeh")
        return {
            "wstrack": __version__,
            "python": platform.python_version(),
            **{library: version(library) for library in libraries},
        }

    def save(self, path: str | Path) -> None:
        """Write the report, whole or not at all; the ending says as what.

        `.html` is the page, `.json` is `to_dict`, `.csv` is `table`, `.md` a summary, `.png` and `.svg` are pictures.

        Raises:
            ValueError: another ending.
            WstrackError: the file cannot be written.
        """
        from wstrack.reporting.markdown import markdown
        from wstrack.reporting.page import page
        from wstrack.reporting.pictures import overview

        writers: dict[str, Callable[[], str | bytes]] = {
            ".html": lambda: page(self),
            ".json": lambda: json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1),
            ".csv": lambda: self.table.to_csv(lineterminator="\n"),
            ".md": lambda: markdown(self),
            ".png": lambda: overview(self),
            ".svg": lambda: overview(self, kind="svg"),
        }
        ending = Path(path).suffix.lower()
        if ending not in writers:
            raise ValueError(f"cannot write a report as {str(path)!r}; let the path (-o) end in {', '.join(writers)}")
        content = writers[ending]()
        # A name may hold half a surrogate pair, which UTF-8 cannot.
        write_whole(path, content.encode(errors="backslashreplace") if isinstance(content, str) else content)

    def attach(self) -> list[str]:
        """Put the report on the runs that it is of, in their trackers, in place of one that was put there before.

        W&B gets an artifact and media panels, MLflow artifacts, TensorBoard images and a text: the page, its pictures,
        what was found, and the table of layers with their clusters. Runs that are over are fine.

        Returns:
            Where to look, a line for each run and tracker.

        Raises:
            WstrackError: a run is in no tracker, or one that cannot be reached or refuses, or that is going on
                elsewhere, in W&B.
        """
        from wstrack.reporting.markdown import markdown
        from wstrack.reporting.page import page
        from wstrack.reporting.pictures import pictures
        from wstrack.trackers.contract import Attachment
        from wstrack.trackers.references import homes_of
        from wstrack.trackers.registry import tracker

        homes = dict.fromkeys(home for run in self.runs for home in homes_of(run))
        attachment = Attachment(page(self), markdown(self), self.table, pictures(self))
        return [tracker(scheme).attach(address, attachment) for scheme, address in homes]


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A row an object, its index among the columns where that has a name."""
    named = frame.index.name is not None
    return [
        {str(key): value for key, value in row.items()} for row in frame.reset_index(drop=not named).to_dict("records")
    ]


def _plain(value: Any) -> Any:
    """`value` in the types that JSON has; what is none of them becomes its text."""
    if isinstance(value, pd.DataFrame):
        return _plain(_rows(value))
    if isinstance(value, pd.Series):
        return _plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_plain(item) for item in value]
    if value is pd.NA or value is None:
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return str(value)
