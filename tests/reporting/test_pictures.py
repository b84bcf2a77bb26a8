from __future__ import annotations

import struct
import warnings
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.cluster import DBSCAN

import wstrack
from tests.reporting.conftest import HOSTILE
from wstrack.reporting.markdown import render_markdown
from wstrack.reporting.pictures import overview, pictures

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wstrack.runs.run import Run


def sizes(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack_from(">II", png, 16)
    return width, height


def test_one_of_each_and_all_together(make_run: Callable[..., Run]) -> None:
    drawn = pictures(wstrack.report(make_run(), k=3))
    assert list(drawn) == ["overview", "heatmap", "curves", "plane", "tree"]
    for png in drawn.values():
        width, height = sizes(png)
        assert 1000 < width < 2000
        assert 600 < height < 1500


def test_the_same_report_gives_the_same_picture(make_run: Callable[..., Run]) -> None:
    report = wstrack.report(make_run(), k=3)
    for kind in ("png", "svg"):
        assert overview(report, kind=kind) == overview(report, kind=kind)


def test_hostile_names_stay_text(hostile_run: Run, tmp_path: Path) -> None:
    report = wstrack.report(hostile_run, k=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.save(tmp_path / "r.svg")
        report.save(tmp_path / "r.png")
    tags = {element.tag.rpartition("}")[2] for element in ET.parse(tmp_path / "r.svg").iter()}
    assert "text" in tags
    assert not tags & {"script", "img", "a", "foreignObject", "iframe"}
    assert render_markdown(report).count("<") == 0
    report.save(tmp_path / "r.md")
    assert "| cluster 1 |" in (tmp_path / "r.md").read_text()


def test_markdown_shows_names_as_they_are(make_run: Callable[..., Run]) -> None:
    html = pytest.importorskip("markdown").markdown(
        render_markdown(wstrack.report(make_run(["w_1_.weight", "*b*.weight", "[c](d).weight", *"efghijkl"]), k=2))
    )
    for name in ("w_1_.weight", "*b*.weight", "[c](d).weight"):
        assert name in html
    assert "<em>" not in html
    assert "<a " not in html


@pytest.mark.parametrize("layers", [2, 3, 1500])
def test_few_and_many_layers(make_run: Callable[..., Run], layers: int) -> None:
    sizes(overview(wstrack.report(make_run(layers, samples=12), k=2)))


def test_noise_missing_infinite_and_negative_values(make_run: Callable[..., Run]) -> None:
    run = make_run(20)
    run.series["rwc"].iloc[3, 2] = np.inf
    run.series["rwc"].iloc[:, 5] = np.nan
    run.series["rwc"].iloc[0, :] = 0.0
    sizes(overview(wstrack.report(run, cluster=DBSCAN(eps=0.2))))
    run.series["mine"] = -run.series["rwc"].replace(np.inf, 1.0)
    sizes(overview(wstrack.report(run, metric="mine", k=2)))


def test_every_name_is_drawn_as_text(make_run: Callable[..., Run], tmp_path: Path) -> None:
    names = [name for name in HOSTILE if len(name) < 20 and name.isprintable()]
    report = wstrack.report(make_run([*names, *"abcdefgh"]), k=2)
    report.save(tmp_path / "r.svg")
    shown = {element.text for element in ET.parse(tmp_path / "r.svg").iter() if element.text}
    assert {"&lt;b&gt;", "@{layer}{safe}"} <= shown


@pytest.mark.parametrize("scale", [1e303, 1e-303])
def test_values_that_float32_has_no_room_for(make_run: Callable[..., Run], tmp_path: Path, scale: float) -> None:
    run = make_run()
    run.series["rwc"] *= scale
    report = wstrack.report(run, k=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sizes(overview(report))
        report.save(tmp_path / "r.html")
