"""What a report holds, and how it is written down as a page, as JSON and as a table."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import wstrack
from wstrack.analysis import Clustering, Finding, Prepared, Reduction, Stability
from wstrack.files import write_whole
from wstrack.run import Run

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
    def table(self) -> pd.DataFrame:
        """A row a layer, in model order.

        `cluster` is -1 for noise and missing for a layer that was not clustered (`left_out` says why); `median` is over
        the finite values; `late_early_ratio` is the median of the last third of the samples over that of the first.
        """
        known = self.runs[0].layers.reindex(self.series.columns)
        table = known[["kind", "shape", "numel", "depth", "block"]].rename_axis("layer")
        table["cluster"] = self.clustering.labels.reindex(table.index).astype("Int64")
        table[["component_1", "component_2"]] = self.reduction.points[["component_1", "component_2"]]
        finite = self.series.where(np.isfinite(self.series))
        third = max(1, len(finite) // 3)
        table["median"] = finite.median()
        table["late_early_ratio"] = finite.tail(third).median() / finite.head(third).median()
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
            "reduction": {"method": self.reduction.method, "explained": self.reduction.explained},
            "clustering": {
                "method": self.clustering.method,
                "k": self.clustering.k,
                "chosen": self.clustering.chosen,
                "silhouette": self.clustering.silhouette,
                "curve": self.clustering.curve.rename_axis("k").reset_index().to_dict("records"),
            },
            "stability": asdict(self.stability) if self.stability else None,
            "findings": [asdict(finding) for finding in self.findings],
            "settings": self.settings,
            "replaced": replaced[replaced.any(axis="columns")].to_dict("index"),
            "dropped": self.prepared.dropped,
            "versions": self.versions,
        }
        plain: dict[str, Any] = _plain(whole)
        return plain

    @property
    def versions(self) -> dict[str, str]:
        """The software behind the numbers."""
        libraries = ("numpy", "pandas", "scikit-learn", "scipy", "bokeh")
        return {
            "wstrack": wstrack.__version__,
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
        from wstrack.report.markdown import markdown
        from wstrack.report.page import page
        from wstrack.report.pictures import overview

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
        from wstrack.references import homes_of
        from wstrack.report.markdown import markdown
        from wstrack.report.page import page
        from wstrack.report.pictures import pictures
        from wstrack.trackers import Attachment, tracker

        homes = dict.fromkeys(home for run in self.runs for home in homes_of(run))
        attachment = Attachment(page(self), markdown(self), self.table, pictures(self))
        return [tracker(scheme).attach(address, attachment) for scheme, address in homes]


def _plain(value: Any) -> Any:
    """`value` in the types that JSON has; what is none of them becomes its text."""
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
