from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import wstrack
from wstrack.reporting.markdown import render_markdown
from wstrack.runs.run import Run

MakeRun = Callable[..., Run]


def test_the_verdict_is_the_sentence_of_the_page(make_run: MakeRun) -> None:
    assert wstrack.report(make_run(), k=3).verdict.startswith("3 clusters of layers, stable (agreement")


def test_a_summary_is_a_few_plain_lines(make_run: MakeRun) -> None:
    report = wstrack.report([make_run(name="a"), make_run(name="b", seed=1)], k=3)
    first, verdict, *found, whole = report.summary().splitlines()
    assert first == "a, b"
    assert verdict == report.verdict
    assert found == [f"- {finding.text.splitlines()[0]}" for finding in report.findings[:3]]
    assert whole == "Complete: all 360 values in each of the 2 runs."


def test_a_notebook_shows_the_verdict_and_the_heat_map_and_loads_nothing(make_run: MakeRun) -> None:
    report = wstrack.report(make_run(name="my run"), k=3)
    shown = report._repr_html_()
    assert "my run" in shown
    assert html.escape(report.verdict) in shown
    (image,) = re.findall(r'src="data:image/png;base64,([^"]+)"', shown)
    assert base64.b64decode(image).startswith(b"\x89PNG")
    assert len(shown) < 300_000
    assert "<script" not in shown


def test_hostile_names_stay_text_in_short_too(hostile_run: Run) -> None:
    for title in ("", '</h3><script>alert("title")</script>\x1b[31m'):
        report = wstrack.report(hostile_run, k=3, title=title)
        tags = set(re.findall(r"<\s*/?\s*([a-z0-9]+)", report._repr_html_()))
        assert tags == {"div", "h3", "p", "b", "bdi", "ul", "li", "img"}
        assert report.summary().isprintable() or "\n" in report.summary()
        assert "\x1b" not in report.summary() + report._repr_html_()
        assert "\u202e" not in report.summary() + report._repr_html_()


def test_a_title_stands_in_the_place_of_the_names(make_run: MakeRun, tmp_path: Path) -> None:
    report = wstrack.report(make_run(name="run-4711"), k=3, title="  Digits & <b>depth</b> ")
    for ending in ("html", "md", "json", "svg"):
        report.save(tmp_path / f"r.{ending}")
    page = (tmp_path / "r.html").read_text()
    assert "<title>Digits &amp; &lt;b&gt;depth&lt;/b&gt; · wstrack</title>" in page
    assert re.search(r"<h1[^>]*><bdi>Digits &amp; &lt;b&gt;depth&lt;/b&gt;</bdi>", page)
    assert (tmp_path / "r.md").read_text().startswith("# Digits &amp; &lt;b&gt;depth&lt;/b&gt;\n")
    assert "run-4711" in render_markdown(report)  # which runs they are is said all the same
    assert json.loads((tmp_path / "r.json").read_text())["title"] == "Digits & <b>depth</b>"
    assert "Digits &amp; &lt;b&gt;depth&lt;/b&gt;: rwc" in (tmp_path / "r.svg").read_text()
    assert report.summary().startswith("Digits & <b>depth</b>\n")
    assert wstrack.report(make_run(name="run-4711"), k=3, title=" ").summary().startswith("run-4711\n")
    with pytest.raises(TypeError, match=r"title=7 is no text; pass title= \(--title\)"):
        wstrack.report(make_run(), title=7)  # type: ignore[arg-type]


def test_show_opens_a_page_of_ones_own(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = wstrack.report(make_run(), k=3).show()
    assert opened == [path.as_uri()]
    assert "<html" in path.read_text()
    assert path.parent.stat().st_mode & 0o077 == 0
