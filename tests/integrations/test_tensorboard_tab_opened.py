"""The tab in a real TensorBoard behind a path prefix, and in a real browser."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from mlflow_servers import free_port

from tests.growing import add, record
from tests.reporting.conftest import HOSTILE, browser  # noqa: F401  a fixture

HOSTILE_RUN = "<img src=x onerror=alert(7)>"
HOSTILE_RUNS = ("nested/größe 🔥 a&run=b?c#d%20e+f", "\"'`${7}\u202eturned", "x" * 200)
WAIT = 120_000  # milliseconds: of a machine that does other things too


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def tensorboard(logdir: Path) -> Iterator[str]:
    """The address of a TensorBoard on `logdir`; it may warn of nothing about what it serves."""
    record(logdir / "first", 12).close()
    port = free_port()
    heard = logdir.parent / "tensorboard.log"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", str(port)]
    with heard.open("w") as log:
        server = subprocess.Popen([*command, "--path_prefix", "/behind/a/proxy"], stdout=log, stderr=log)
    url = f"http://localhost:{port}/behind/a/proxy/"
    try:
        while True:  # the test's own time limit ends it
            assert server.poll() is None, heard.read_text()
            try:
                urllib.request.urlopen(url, timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        yield url
        said = heard.read_text()
        assert "Content-Security-Policy" not in said
        assert "Traceback" not in said
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def opened(browser: Any, tensorboard: str) -> Iterator[tuple[Any, list[str]]]:  # noqa: F811
    """TensorBoard at the tab, opened once, and what went wrong there or was reported."""
    trouble: list[str] = []

    def heed(said: Any) -> None:
        # TensorBoard itself asks for its fonts at the root, where behind a path prefix they are not.
        font = said.location["url"].startswith(f"{urljoin(tensorboard, '/')}font-roboto/")
        if said.type == "error" and not font:
            trouble.append(f"{said.text} {said.location}")

    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light")
    context.set_default_timeout(WAIT)
    context.add_init_script(
        "addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective))"
    )
    page = context.new_page()
    page.on("console", heed)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    page.goto(f"{tensorboard}#wstrack")
    page.wait_for_selector("iframe")
    yield page, trouble
    context.close()


@pytest.fixture
def tab(opened: tuple[Any, list[str]]) -> Iterator[Any]:
    """The page of TensorBoard at the tab; nothing may have gone wrong there, nor been reported."""
    page, trouble = opened
    yield page
    assert trouble == []


def plugin(page: Any) -> Any:
    """The frame in which TensorBoard shows the plugin."""
    page.frame_locator("iframe").locator("#runs li").first.wait_for()
    return next(frame for frame in page.frames if "plugin_entry.html" in frame.url)


def choose(frame: Any, *names: str) -> None:
    """Choose these runs and no others, by the keyboard."""
    boxes = frame.locator("#runs input")
    frame.wait_for_function(
        """(names) => {
          const there = [...document.querySelectorAll("#runs input")].map((box) => box.value)
          return names.every((name) => there.includes(name))
        }""",
        arg=list(names),
    )
    for name in names:
        box = next(one for one in boxes.all() if one.input_value() == name)
        if not box.is_checked():
            box.focus()
            frame.page.keyboard.press("Space")
    for box in boxes.all():
        if box.input_value() not in names and box.is_checked():
            box.focus()
            frame.page.keyboard.press("Space")


def report_in(frame: Any, holds: str) -> Any:
    """The frame of the report, once what it holds makes `holds`, a JavaScript expression, true."""
    frame.wait_for_function(
        f"""() => {{
          const inner = document.querySelector("#frames iframe:not(.next)")?.contentWindow
          return inner?.Bokeh && inner.document.documentElement.dataset.ready !== undefined && inner.eval({holds!r})
        }}""",
    )
    return frame.locator("#frames iframe:not(.next)").element_handle().content_frame()


@pytest.mark.slow
def test_it_follows_a_run_past_a_restart_and_its_end(tab: Any, logdir: Path) -> None:
    recorder = record(logdir / "goes on", 12)
    frame = plugin(tab)
    choose(frame, "goes on")
    report = report_in(frame, "document.querySelector('h1').textContent === 'goes on'")
    assert report.locator("#heatmap, #curves, #plane, #findings, #settings").count() == 5
    report.locator("#search").fill("block.7")
    add(recorder, 9, range(13, 20))
    report = report_in(frame, "document.body.textContent.includes('all 171 values')")
    assert report.locator("#search").input_value() == "block.7"  # what the reader looks at stays
    assert report.locator("#chosen").text_content() == "1 of 9 layers chosen"
    assert "The run goes on" in frame.locator("#said").text_content()
    recorder.close()
    again = record(logdir / "goes on", 5, after=15)  # from an older checkpoint
    add(again, 9, range(21, 25))
    whole = "document.body.textContent.includes('all 216 values')"
    report_in(frame, whole)  # not the samples alone that came since a report
    again.close()
    frame.wait_for_function("document.querySelector('#said').value === ''")
    shutil.rmtree(logdir / "goes on")
    frame.wait_for_function("document.querySelector('#said').value.startsWith('Gone from the log directory: goes on')")
    report_in(frame, whole)


@pytest.mark.slow
def test_hostile_names_are_text_and_nothing_is_written(tab: Any, logdir: Path) -> None:
    record(logdir / HOSTILE_RUN, 12, HOSTILE).close()
    for name in HOSTILE_RUNS:
        record(logdir / name, 12).close()
    before = {path: path.stat().st_mtime_ns for path in logdir.rglob("*")}
    frame = plugin(tab)
    for name, part in ((HOSTILE_RUN, "onerror"), (HOSTILE_RUNS[0], "run=b")):
        choose(frame, name)
        report = report_in(frame, f"document.querySelector('h1').textContent.includes({part!r})")
        assert report.locator("img").count() == frame.locator("img").count() == 0
    assert {HOSTILE_RUN, *HOSTILE_RUNS} <= set(frame.locator("#runs bdi").all_text_contents())
    assert frame.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert {path: path.stat().st_mtime_ns for path in logdir.rglob("*")} == before


@pytest.mark.slow
def test_several_runs_side_by_side_by_the_keyboard(tab: Any, logdir: Path) -> None:
    record(logdir / "second", 12).close()
    frame = plugin(tab)
    choose(frame, "first", "second")
    report = report_in(frame, "document.querySelector('h1').title === 'first, second'")
    assert {"first", "second"} <= set(report.locator("#compare bdi").all_text_contents())
    frame.locator("#find").fill("seco")
    assert frame.locator("#runs li:visible").count() == 2  # a run that is chosen stays in sight
    reached = []
    for _ in range(5):
        tab.keyboard.press("Tab")
        reached.append(frame.evaluate("document.activeElement.localName + (document.activeElement.value ?? '')"))
    frame.locator("#find").fill("")
    assert reached == ["inputfirst", "inputsecond", "selectrwc", "summary", "iframe"]


@pytest.mark.slow
def test_it_is_as_dark_as_tensorboard(tab: Any) -> None:
    frame = plugin(tab)
    choose(frame, "first")
    report_in(frame, "document.querySelector('h1').textContent === 'first'")
    for dark, paper in ((True, "rgb(21, 21, 21)"), (False, "rgb(255, 255, 255)")):
        tab.evaluate("(dark) => document.body.classList.toggle('dark-mode', dark)", dark)
        report = report_in(frame, f"getComputedStyle(document.documentElement).backgroundColor === '{paper}'")
        assert frame.evaluate("getComputedStyle(document.body).backgroundColor") == paper
        inks = report.evaluate(
            "[...new Set(Bokeh.documents[0].roots().flatMap((root) => [...root.references()])"
            ".map((model) => model.axis_label_text_color).filter((ink) => ink))]"
        )
        assert inks == ["#c4c4c4" if dark else "#4a4a4a"]
