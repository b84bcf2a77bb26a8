"""From runs to a report that can be saved, and put on the runs in their trackers."""

from __future__ import annotations

import json
import tempfile
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from wstrack.analysis.alignment import Align
from wstrack.analysis.analysis import Analysis, analyse
from wstrack.analysis.cut import REST
from wstrack.analysis.preparation import Outliers, Preset, Scale
from wstrack.analysis.procedure import ChooseK, Procedure, Space
from wstrack.collecting import importing, paused
from wstrack.runs.files import write_whole
from wstrack.runs.run import Run

__all__ = ["Report", "report"]

_ENDINGS = (".html", ".json", ".csv", ".md", ".png", ".svg")


def report(
    runs: Run | Sequence[Run],
    *,
    metric: str | None = None,
    reduce: Any = "pca",
    cluster: Any = "kmeans",
    k: int | ChooseK = "auto",
    cluster_on: Space = "plane",
    group: str | None = "auto",
    aggregate: str | None = None,
    compare: str | Callable[[Run], str] | None = None,
    by: str | None = None,
    align: Align = "step",
    scale: Scale | None = None,
    outliers: Outliers | None = None,
    preset: Preset | None = None,
    methods: bool = False,
    seed: int = 0,
    title: str = "",
) -> Report:
    """Which layers of a run move together, and how sure one can be of it.

    Args:
        runs: one run, or several, which are averaged step by step (as the paper averages seeds).
        metric: what to report on; by default `rwc`, or the first metric of the run where there is no `rwc`.
        reduce: "pca", "svd", "nmf", "isomap", "tsne", "umap" or a scikit-learn transformer: how a layer's curve becomes
            a point on the plane.
        cluster: "kmeans", "kmedoids", "ward", "gmm", "spectral", "dbscan", "hdbscan", "meanshift", or a scikit-learn
            clusterer.
        k: the number of clusters. "auto" is that of a clusterer made with one other than its default, and else
            "stability": the largest k that stands out from data without clusters and at which halves of the samples
            agree best, or one cluster if there is none; or "gap", or "silhouette" (`wstrack.analysis.choose`).
        cluster_on: "plane" clusters the two components, "curves" the whole curves.
        group: also look at the layers by "kind", "block", "stage", "parent" (the layer that parts are of) or a regular
            expression, and cluster inside each group with the same settings (`wstrack.analysis.group_layers`). "auto"
            looks at them by kind where there are several, without clusters inside; None at no groups.
        aggregate: report on blocks instead of layers: likewise "block", "stage", "kind" or a regular expression. What
            changed in all layers of a block over what they all were, exactly, from the raw sums of the recording;
            runs without one are refused.
        compare: also hold the runs against each other: by the name of a setting (`Run.settings`), as a data set, or of
            something in `Run.origin`; by "run", each by itself; or by a function of the run that names its setting. The
            first run's setting is the reference; runs of one setting are its seeds. Layers that not all runs have are
            left out, and named.
        by: a setting that has numbers, such as "lr": how the level of each layer goes with it over the runs, as a power
            of it where its values are apart enough, with intervals over runs (`wstrack.analysis.slopes`).
        align: "step", or "share" stretches runs of different length onto the longest (`wstrack.analysis.align`).
        scale: "log10" or "linear"; by default log10 where the metric allows it and no preset is asked for.
        outliers: "2sd" replaces what is further than two standard deviations from its layer's mean, "spikes" single
            samples far from their neighbours.
        preset: "weightscale" is the published procedure of WeightScale (arXiv 2107.07005).
        methods: also compare every clustering method on the same data, which takes its time.
        seed: of everything that is random; the same seed gives the same report.
        title: stands over page, picture, Markdown and summary; by default the names of the runs.

    Raises:
        TypeError: a `group`, `aggregate` or `title` that is no text.
        ValueError: an argument that cannot be; the message names the remedy.
        WstrackError: the runs do not fit together, or hold too little to report on.

    Example:
        >>> import numpy as np
        >>> from wstrack.runs.manifest import Layer, Manifest
        >>> from wstrack.runs.run import Run
        >>> layers = tuple(Layer(f"{name}.weight") for name in "abcdef")
        >>> values = np.geomspace(1e-3, 1e-1, 6) * np.linspace(2, 1, 20)[:, None]
        >>> run = Run.from_values(Manifest("demo", layers, ("rwc",), every=10), range(10, 210, 10), {"rwc": values})
        >>> found = report(run, k=2)
        >>> [cluster["layers"] for cluster in found.to_dict()["clusters"]]
        [['a.weight', 'b.weight', 'c.weight'], ['d.weight', 'e.weight', 'f.weight']]
    """
    if not isinstance(title, str):
        raise TypeError(f"title={title!r} is no text; pass title= (--title) some, or leave it out")
    procedure = Procedure(
        reduce=reduce, cluster=cluster, k=k, cluster_on=cluster_on, scale=scale, outliers=outliers, preset=preset,
        seed=seed,
    )  # fmt: skip
    with paused():
        found = analyse(
            runs,
            procedure,
            metric=metric,
            group=group,
            aggregate=aggregate,
            compare=compare,
            by=by,
            align=align,
            methods=methods,
        )
    return Report(**{field.name: getattr(found, field.name) for field in fields(found)} | {"title": title.strip()})


@dataclass(frozen=True, repr=False)
class Report(Analysis):
    """An analysis that can be written down: as a page, JSON, a table, Markdown or a picture, here or in a tracker.

    Its attributes are those of `wstrack.analysis.Analysis`.
    """

    def __repr__(self) -> str:
        return f"<Report on {self.name!r}: {self.metric}, {self.series.shape[1]} layers, {self.clustering.k} clusters>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, the first findings and the heat map."""
        from wstrack.reporting.brief import render_notebook

        return render_notebook(self)

    @property
    def verdict(self) -> str:
        """Whether there are clusters to build on, in the words under the page's title."""
        from wstrack.reporting.words import verdict

        return verdict(self)[1]

    def summary(self) -> str:
        """The report in a few lines of plain text, for a chat: verdict, three findings, how whole the runs are."""
        from wstrack.reporting.brief import render_summary

        return render_summary(self)

    def parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        """The clusters as parameter groups for a torch optimizer, so that each can have a learning rate of its own.

        Where there is one cluster, the branches or pieces of `cut`. A layer that is cut into parts is where most of
        them are.

        Args:
            model: the module that the run was of, wrapped or not.

        Returns:
            A group a cluster (branch, piece), in order, and a last one, "others", for all other trainable parameters
            (biases, norms, noise), each with `params`, `name` and `layers`. Every trainable parameter is in one of
            them, once.

        Raises:
            TypeError: `model` is no module.
            ValueError: no clustered layer is a trainable parameter of the model.

        Example:
            >>> import numpy as np
            >>> from torch import nn, optim
            >>> from wstrack.runs.manifest import Layer, Manifest
            >>> layers = tuple(Layer(f"{place}.weight") for place in range(4))
            >>> values = np.array([1e-3, 1e-3, 0.1, 0.1]) * np.linspace(2, 1, 20)[:, None]
            >>> run = Run.from_values(Manifest("demo", layers, ("rwc",), every=1), range(20), {"rwc": values})
            >>> model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
            >>> first, second, others = report(run, k=2).parameter_groups(model)
            >>> first["layers"], others["layers"]
            (['0.weight', '1.weight'], ['0.bias', '1.bias', '2.bias', '3.bias'])
            >>> optimizer = optim.SGD([{**first, "lr": 1e-4}, second, others], lr=1e-2)
        """
        from wstrack.reporting.parameters import group_parameters, of_parameters

        labels = self.cut.labels if self.parts is None else of_parameters(self.cut.labels, self.parts.of)
        members = {label: [str(layer) for layer in named.index] for label, named in labels.groupby(labels)}
        parts = {f"{self.cut.noun} {label}": layers for label, layers in members.items() if label > 0}
        if REST in members:
            parts["the rest"] = members[REST]
        return group_parameters(model, parts)

    def show(self) -> Path:
        """Open the page in the browser, from a temporary file that only you can read.

        Returns:
            Where the page is, to be opened by hand where there is no browser.
        """
        path = Path(tempfile.mkdtemp(prefix="wstrack-")) / "report.html"
        self.save(path)
        webbrowser.open(path.as_uri())
        return path

    def to_dict(self) -> dict[str, Any]:
        """The whole report as plain JSON; NaN and the infinities become null.

        Clusters are lists of layer names in model order; the id -1 is what a clusterer called noise. `cut` has the
        division that figures show, which where there is one cluster is the best that can be had.
        """
        from wstrack.reporting.plain import as_dict

        return as_dict(self)

    def save(self, path: str | Path) -> None:
        """Write the report, whole or not at all; the ending says as what.

        `.html` is the page, `.json` is `to_dict`, `.csv` is `table`, `.md` a summary, `.png` and `.svg` are pictures.

        Raises:
            ValueError: another ending.
            WstrackError: the file cannot be written.
        """
        ending = Path(path).suffix.lower()
        if ending not in _ENDINGS:
            raise ValueError(f"cannot write a report as {str(path)!r}; let the path (-o) end in {', '.join(_ENDINGS)}")
        with paused():
            content = self._written(ending)
        # A name may hold half a surrogate pair, which UTF-8 cannot.
        write_whole(path, content.encode(errors="backslashreplace") if isinstance(content, str) else content)

    def _written(self, ending: str) -> str | bytes:
        """Imported is what that alone needs: Bokeh and Matplotlib take as long as a small report does."""
        if ending == ".json":
            return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)
        if ending == ".csv":
            return str(self.table.to_csv(lineterminator="\n"))
        if ending == ".html":
            with importing():
                from wstrack.reporting.page import render_page
            return render_page(self)
        if ending == ".md":
            from wstrack.reporting.markdown import render_markdown

            return render_markdown(self)
        with importing():
            from wstrack.reporting.pictures import overview
        return overview(self, kind=ending[1:])

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
        from wstrack.reporting.markdown import render_markdown
        from wstrack.reporting.page import render_page
        from wstrack.reporting.pictures import pictures
        from wstrack.trackers.contract import Attachment
        from wstrack.trackers.references import homes_of
        from wstrack.trackers.registry import writer

        homes = dict.fromkeys(home for run in self.runs for home in homes_of(run))
        places = [(writer(scheme), address) for scheme, address in homes]
        attachment = Attachment(render_page(self), render_markdown(self), self.table, pictures(self))
        return [home.attach(address, attachment) for home, address in places]
