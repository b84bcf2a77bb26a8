from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from bokeh.document import Document
from bokeh.embed import components
from sklearn.cluster import DBSCAN, AgglomerativeClustering

from wstrack.reporting import page
from wstrack.reporting.page import render_page
from wstrack.reporting.report import report
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Completeness, Run

MakeRun = Callable[..., Run]


class Parsed(HTMLParser):
    """The elements of a page and the text between them; what a script holds is not text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._skipped = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._skipped = tag in ("script", "style")
        self.text += " " if tag in ("br", "td", "p") else ""

    def handle_endtag(self, tag: str) -> None:
        self._skipped = False

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.text += data


def text(html: str) -> str:
    return " ".join(Parsed(html).text.split())


def test_the_page_loads_nothing_from_elsewhere(make_run: MakeRun) -> None:
    html = render_page(report(make_run(), k=3))
    for tag, attributes in Parsed(html).elements:
        assert "src" not in attributes, tag
        assert (attributes.get("href") or "#").startswith("#"), tag
    style = re.search(r"<style>.*?</style>", html, re.DOTALL)
    assert style
    assert not re.search(r"url\(|@import", style[0])


def test_the_page_is_read_from_findings_to_settings(make_run: MakeRun) -> None:
    found = report(make_run(), k=3)
    parsed = Parsed(render_page(found))
    shown = " ".join(parsed.text.split())
    sections = [attributes["id"] for tag, attributes in parsed.elements if tag == "section"]
    assert sections == ["heatmap", "findings", "clusters", "curves", "plane", "tree", "layers", "k", "settings",
                        "terms"]  # fmt: skip
    contents = [attributes["href"] for tag, attributes in parsed.elements if tag == "a"][: len(sections)]
    assert contents == [f"#{section}" for section in sections]
    assert "3 clusters of layers, stable (agreement of random halves 1.00" in shown
    links = [attributes["href"] for tag, attributes in parsed.elements if tag == "a" and "class" not in attributes]
    assert links[len(sections) :] == [f"#{finding.figure}" for finding in found.findings]
    assert all(line in shown for finding in found.findings for line in finding.text.splitlines())
    assert "the sum of |new − old| over a layer's weights" in shown
    assert "12 layers, 30 samples from step 10 to 300" in shown
    assert "Complete: all 360 values" in shown
    assert found.stability
    assert f"Agreement {found.stability.median:.2f}: {found.stability.verdict}" in shown
    assert "cluster 1: early, lowest, falling" in shown
    assert "yes (1)" in shown


def test_what_is_missing_is_said(make_run: MakeRun) -> None:
    run = make_run()
    run.series["rwc"].iloc[3:5, 2] = np.nan
    run.series["rwc"].iloc[9, 4] = np.inf
    run.series["rwc"].iloc[:, 7] = np.nan
    run = replace(run, completeness=Completeness(360, 328, ("events.1: corrupt record at byte 77",)))
    shown = text(render_page(report(run, k=3)))
    assert "Incomplete: 328 of 360 values (32 missing). events.1: corrupt record at byte 77" in shown
    assert "Grey: 32 values that were not logged" in shown
    assert "White: one infinite value" in shown
    assert "left out: block.7.weight no finite value" in shown
    assert "replaced: missing 2: block.2.weight (2)" in shown
    assert "replaced: non-finite 1: block.4.weight (1)" in shown


@pytest.mark.slow
def test_bokeh_finds_nothing_wrong_in_the_figures(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr(page, "components", lambda models: drawn.append(models) or components(models))
    render_page(report(make_run()))
    document = next(iter(drawn[0].values())).document
    Document.validate(document)
    assert len(document.roots) == len(drawn[0])
    assert not caplog.records


def test_names_from_outside_are_never_markup(hostile_run: Run, make_run: MakeRun) -> None:
    hostile = Parsed(render_page(report(hostile_run, k=3)))
    lacking = replace(make_run(len(hostile_run.layers), note="", reference=""), completeness=hostile_run.completeness)
    tame = Parsed(render_page(report(lacking, k=3)))

    def skeleton(parsed: Parsed) -> list[str]:
        # Names change neither the elements nor their attributes; the findings may be more or fewer.
        return [tag for tag, _ in parsed.elements if tag not in ("li", "a", "bdi", "br", "tr", "th", "td")]

    assert skeleton(hostile) == skeleton(tame)
    assert all(not name.startswith("on") for _, attributes in hostile.elements for name in attributes)
    assert "</title><script>alert('run')</script>" in hostile.text
    assert "\u202e" not in hostile.text
    assert "x" * 200 not in hostile.text
    assert "{{ 7 * 7 }}" in render_page(report(hostile_run, k=3))


@pytest.mark.slow
def test_large_runs_make_pages_under_ten_megabytes() -> None:
    names = [f"transformer.h.{i // 10}.part{i % 10}.weight" for i in range(1000)]
    values = 10 ** np.random.default_rng(0).normal(-3, 1, (1000, 1000))
    run = Run.from_values(Manifest("large", tuple(map(Layer, names)), ("rwc",), 1), range(1000), {"rwc": values})
    html = render_page(report(run, k=3, cluster=AgglomerativeClustering()))
    assert len(html.encode()) < 10e6
    assert "Each column is drawn as the mean of up to 2 samples." in text(html)


@pytest.mark.parametrize("samples", [2, 3, 30])
@pytest.mark.parametrize("layers", [2, 3])
def test_small_runs_have_a_page(make_run: MakeRun, layers: int, samples: int) -> None:
    html = render_page(report(make_run(layers, samples), k=1))
    shown = text(html)
    assert "What each number of clusters" not in html  # nothing was tried that a figure could show
    assert "all layers" in shown
    assert "throughout, falling" in shown
    assert ("could not be tested" in shown) != ("Agreement" in shown)
    assert "Agreement" not in shown or samples >= 4


def test_layers_without_a_cluster_are_noise(make_run: MakeRun) -> None:
    run = make_run()
    run.series["rwc"].iloc[:, 11] *= 1e6
    shown = text(render_page(report(run, cluster=DBSCAN(eps=2.0, min_samples=2))))
    assert "noise: late, steady" in shown
    assert "inertia" not in shown
    assert "One layer belongs to none" in shown
    assert "One cluster of layers, by DBSCAN, as it is set." in text(render_page(report(run, cluster=DBSCAN(eps=1e9))))
    shown = text(render_page(report(run, cluster=DBSCAN(eps=1e-9))))
    assert "the method calls every layer noise" in shown
    assert "One cluster" not in shown


@pytest.mark.slow
def test_many_clusters_differ_in_colour_or_shape(make_run: MakeRun) -> None:
    from wstrack.reporting.marks import mark_clusters

    marks = mark_clusters(report(make_run(60), k=40))
    assert len({(mark.colour, mark.shape) for mark in marks}) == 40
    assert (
        render_page(report(make_run(60), k=40)).count("cluster 40:") == 4
    )  # the legends of three figures, and the chooser


def test_the_authors_procedure_has_a_page(make_run: MakeRun) -> None:
    shown = text(render_page(report(make_run(), preset="weightscale", k=3)))
    assert "preset weightscale" in shown
    assert "left out: block.0.weight first layer (preset weightscale)" in shown
    assert "left out: block.11.weight last layer (preset weightscale)" in shown


def test_constant_layers_have_a_page(make_run: MakeRun) -> None:
    run = make_run(4)
    run.series["rwc"].iloc[:, :] = 0.5
    assert "throughout, steady" in text(render_page(report(run, k=1)))


def test_several_runs_have_one_page(make_run: MakeRun) -> None:
    shown = text(render_page(report([make_run(name="a"), make_run(name="b", seed=1)], k=3)))
    assert "a, b" in shown
    assert "The mean of 2 runs, step by step." in shown
    assert "Complete: all 360 values in each of the 2 runs." in shown


def test_the_page_says_over_how_many_steps_a_change_goes() -> None:
    manifest = Manifest("spans", tuple(Layer(f"{name}.weight") for name in "abcd"), ("rwc",), every=5)
    values = {"rwc": np.random.default_rng(0).random((6, 4)) + 0.1}
    steps = [5, 10, 15, 20, 25, 30]
    even = Run.from_values(manifest, steps, values, intervals=[5] * 6)
    uneven = Run.from_values(manifest, steps, values, intervals=[5, 5, 5, 5, 5, 1])
    assert "from one sample to the next, 5 optimizer steps later." in render_page(report(even))
    assert "from one sample to the next, 1 to 5 optimizer steps later." in render_page(report(uneven))


def test_what_does_not_hold_is_said_first(make_run: MakeRun) -> None:
    run = make_run()
    run.series["rwc"].iloc[:] = 10 ** np.random.default_rng(0).normal(-3, 0.3, run.series["rwc"].shape)
    shown = text(render_page(report(run, k=4)))
    verdict = shown.index("The 4 clusters are not stable (agreement of random halves")
    assert verdict < shown.index("What was found")
    assert "no (" in shown
    assert "a piece of one cloud may come back" in shown
    found = report(run)
    shown = text(render_page(found))
    assert "One continuous cloud of layers, in which nothing shows several clusters, cut into" in shown
    assert found.choice
    assert all(
        f"{row['silhouette']:.3g} ({row['silhouette_null']:.3g})" in shown for _, row in found.choice.table.iterrows()
    )


@pytest.mark.slow
def test_other_methods_are_shown_where_they_were_asked_for(make_run: MakeRun) -> None:
    found = report(make_run(), k=3)
    assert "Other methods" not in render_page(found)
    assert found.to_dict()["methods"] is None
    found = report(make_run(), k=3, methods=True)
    tried = found.methods
    assert tried is not None
    shown = text(render_page(found))
    assert "Other methods on the same data" in shown
    assert all(f"{method} {row['k']:.3g}" in shown for method, row in tried.iterrows())
    assert [row["method"] for row in found.to_dict()["methods"]] == tried.index.tolist()


def test_phases_have_a_row_each_and_the_layers_that_change_place(make_run: MakeRun) -> None:
    run = make_run(samples=60)
    run.series["rwc"].iloc[30:, :4] *= 1e4
    found = report(run, k=3)
    assert found.phases
    assert found.phases.breaks == (310,)
    shown = text(render_page(found))
    assert "Dashed lines: the courses of the layers break off at step 310." in shown
    assert "10 to 300 30 –" in shown
    assert "310 to 600 30" in shown


def test_names_of_groups_and_settings_are_never_markup(make_run: MakeRun) -> None:
    names = [f"<b>group{i // 4}</b>.{i}" for i in range(12)]
    tasks = ["<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>"]
    runs = [make_run(names, name=f"{task} {seed}", seed=seed, task=task) for task in tasks for seed in (0, 1)]
    parsed = Parsed(render_page(report(runs, k=3, compare="task", group=r"^[^.]+")))
    assert not [tag for tag, _ in parsed.elements if tag in ("b", "img")]
    shown = " ".join(parsed.text.split())
    assert f"{tasks[0]} (2 runs), {tasks[1]} (2 runs)" in shown
    assert "<b>group2</b>" in shown


def test_clusters_alike_in_words_are_told_apart_by_their_level(make_run: MakeRun) -> None:
    from wstrack.reporting.marks import mark_clusters

    run = make_run(20)
    run.series["rwc"].iloc[:] = np.tile([1e-3, 2e-3, 4e-3, 8e-3], 5)
    run.series["rwc"] *= 10 ** np.random.default_rng(0).normal(0, 0.01, run.series["rwc"].shape)
    words = [mark.words for mark in mark_clusters(report(run, k=4))]
    assert len(set(words)) == 4
    assert sum("median" in one for one in words) == 2


@pytest.mark.parametrize(
    ("late", "words"),
    [
        ([0.202, 0.201], ["falling", "falling"]),
        ([0.1, 0.3], ["falling most", "falling least"]),
        ([5.0, 2.0], ["rising most", "rising least"]),
        ([0.1, 0.101, 0.5], ["falling", "falling", "falling least"]),
        ([0.1, 1.0], ["falling", "steady"]),
    ],
)
def test_clusters_go_furthest_only_where_they_clearly_do(
    make_run: MakeRun, late: list[float], words: list[str]
) -> None:
    from wstrack.reporting.marks import mark_clusters

    run = make_run(4 * len(late))
    levels = np.repeat(10.0 ** np.arange(len(late)), 4)
    run.series["rwc"].iloc[:] = levels * np.where(np.arange(30)[:, None] < 20, 1, np.repeat(late, 4))
    marks = mark_clusters(report(run, k=len(late)))
    assert [mark.words.rpartition(", ")[2] for mark in marks] == words


def test_what_may_be_negative_has_no_ratio_of_late_to_early(make_run: MakeRun) -> None:
    run = make_run()
    run = replace(run, series={"cosine": run.series["rwc"] - 0.2})
    found = report(run, k=3, group=r"block\.(1|2)")
    assert found.table["late_early_ratio"].isna().all()
    assert found.groups
    assert found.groups.table["late_early_ratio"].isna().all()
    assert "early, lowest –" not in text(render_page(found))
    assert "early, lowest" in text(render_page(found))


def test_one_value_is_one_value(make_run: MakeRun) -> None:
    run = make_run()
    run.series["rwc"].iloc[3, 2] = np.nan
    assert "Grey: one value that was not logged" in text(render_page(report(run, k=3)))


def test_equal_values_are_drawn_at_one_height(make_run: MakeRun) -> None:
    from bokeh.models import Range1d

    from wstrack.reporting import figures, layers
    from wstrack.reporting.marks import mark_clusters
    from wstrack.reporting.thin import tile

    run = make_run(4)
    run.series["rwc"].iloc[:] = 0.01
    found = report(run, k=1)
    marks = mark_clusters(found)
    source = layers.layer_source(found, marks, tile(run.series["rwc"].to_numpy(), run.steps))
    plot = figures.curves(found, source, marks, Range1d(0, 300), ["log"])["log"]
    assert plot.y_range.start < 0.009 < 0.011 < plot.y_range.end


def test_a_component_of_the_rest_is_not_named(make_run: MakeRun) -> None:
    run = make_run(samples=4)
    slopes = np.array([5, 0, 9, 3, 11, 1, 8, 2, 10, 4, 7, 6])
    run.series["rwc"].iloc[:] = 10 ** (np.arange(12) + 0.01 * slopes * np.array([[0], [0], [1], [1]]))
    found = report(run, k=3)
    assert max(map(abs, found.components[1].correlations.values())) > 0.7
    assert (found.components[0].meaning, found.components[1].meaning) == ("level", "")
    assert "component 2 (less than 1 % of the variance)" in render_page(found)
