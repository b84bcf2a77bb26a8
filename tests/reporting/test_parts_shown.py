"""The section on parts of layers: its views, its table, and what Markdown, JSON and the terminal have of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wstrack.analysis.parts import Parts, parts_of
from wstrack.reporting.parts import views_of
from wstrack.reporting.report import report
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run


@pytest.fixture
def cut_run() -> Callable[..., Run]:
    """Stacked experts of several blocks, one of which stops half way, with a router beside each."""

    def make(
        *, blocks: int = 2, experts: int = 4, samples: int = 24, weight: str = "experts.down_proj", parts: str = "each"
    ) -> Run:
        layers: list[Layer] = []
        for block in range(blocks):
            stacked = f"model.layers.{block}.mlp.{weight}"
            labels = ("least", "median", "largest") if parts == "summarised" else map(str, range(experts))
            layers += [Layer(stacked, "linear", (experts, 4, 4), 16 * experts)]
            layers += [Layer(f"{stacked}[{label}]", "linear", (4, 4), 16, of=stacked) for label in labels]
            layers += [Layer(f"model.layers.{block}.mlp.gate.weight", "linear", (4, 4), 16)]
        rng = np.random.default_rng(0)
        values = 10 ** (-3 + rng.normal(0, 0.3, len(layers)) + rng.normal(0, 0.05, (samples, len(layers))))
        if parts == "each":
            values[samples // 2 :, [place for place, layer in enumerate(layers) if layer.name.endswith("0.mlp."
                                    f"{weight}[2]")]] = 0.0  # fmt: skip
        manifest = Manifest("cut", tuple(layers), ("rwc",), 10, origin={"parts": parts})
        return Run.from_values(manifest, np.arange(1, samples + 1) * 10, {"rwc": values}, intervals=[10] * samples)

    return make


def parts_in(run: Run) -> Parts:
    found = parts_of([run], "rwc")
    assert found is not None
    return found


def test_few_parts_of_one_name_are_seen_together_and_many_one_layer_at_a_time(cut_run: Callable[..., Run]) -> None:
    (together,) = views_of(parts_in(cut_run()))
    assert together.title == "model.layers.*.mlp.experts.down_proj (2 layers)"
    assert len(together.parts) == len(set(together.labels)) == 8
    parts = parts_in(cut_run(experts=40))
    alone = views_of(parts)
    assert [view.labels for view in alone] == [[str(label) for label in range(40)]] * 2
    unequal = [parts.table.loc[view.title, "gini"] for view in alone]
    assert unequal == sorted(unequal, reverse=True)


def test_a_page_of_many_parts_stays_small(cut_run: Callable[..., Run], tmp_path: Path) -> None:
    """With 2,560 parts and 500 samples: they would be five megabytes, and the page without them has 2.6."""
    report(cut_run(blocks=20, experts=128, samples=500), k=1, group=None).save(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 5.5e6


def test_the_page_has_a_row_for_each_layer(cut_run: Callable[..., Run], tmp_path: Path) -> None:
    report(cut_run(), k=1).save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    section = page[page.index('<section id="parts"') : page.index('<section id="layers"')]
    assert "2 layers are cut into parts, 8 in all (experts). They stand in place of their layers" in section
    rows = re.findall(r"<tr><td><bdi>(.*?)</bdi></td><td class=\"number\">4</td>", section)
    assert sorted(rows) == [f"model.layers.{block}.mlp.experts.down_proj" for block in range(2)]
    assert 'href="#term-gini-coefficient"' in section
    assert "Expert 2 of layer 0 has not changed since step 120" in page
    assert re.search(r'<a href="#parts"[^>]* data-view="0">see the parts</a>', page)


def test_markdown_and_json_have_the_table(cut_run: Callable[..., Run], tmp_path: Path) -> None:
    found = report(cut_run(blocks=23), k=1)
    found.save(tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text()
    section = text[text.index("## Parts of layers") :]
    assert section.count("down\\_proj | 4 |") == 20
    assert "And 3 more layers." in section
    written = found.to_dict()["parts"]
    assert written["each"]
    assert len(written["layers"]) == 23
    assert set(written["layers"][0]) == {"layer", "parts", "least", "median", "largest", "gini", "unmoved", "never"}
    assert found.to_dict()["settings"]["parts"] == "92 parts in place of 23 layers"


def test_a_summary_is_a_table_without_a_figure(cut_run: Callable[..., Run], tmp_path: Path) -> None:
    found = report(cut_run(parts="summarised"), k=1)
    found.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    section = page[page.index('<section id="parts"') : page.index('<section id="layers"')]
    assert section.count("the recording has each part") == 1
    assert "<figure" not in section
    assert "gini" not in section.lower()
    assert set(found.to_dict()["parts"]["layers"][0]) == {"layer", "least", "median", "largest", "unmoved"}


def test_without_parts_there_is_no_section(make_run: Callable[..., Run], tmp_path: Path) -> None:
    found = report(make_run(), k=1)
    found.save(tmp_path / "report.html")
    assert '<section id="parts"' not in (tmp_path / "report.html").read_text()
    assert found.to_dict()["parts"] is None


@pytest.mark.slow
def test_a_layer_is_chosen_in_the_list_in_the_table_or_by_a_finding(
    opened: Callable[..., Any], cut_run: Callable[..., Run]
) -> None:
    run = cut_run(blocks=3, experts=20)
    page = opened(run, k=1)
    views = views_of(parts_in(run))
    chooser = page.locator("#view")
    assert chooser.input_value() == "0"
    chooser.select_option("2")
    for place in (1, 0):
        page.locator(f"#parts button[data-view='{place}']").click()
        assert chooser.input_value() == str(place)
    stopped = next(place for place, view in enumerate(views) if "layers.0." in view.title)
    page.locator("#findings a[data-view]").first.click()
    assert chooser.input_value() == str(stopped)
