"""Runs to report on: three groups of layers that differ in level and course, with names of every sort."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wstrack.reporting.report import report
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Completeness, Run

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><script>alert(3)</script>",
    "two\nlines\r\n",
    "\u202eturned",
    "x" * 5000,
    "🔥.weight",
    "<!-- <script>",
    r"$$\alpha$$ \(x\)",
    "@{layer}{safe}",
    "' onmouseover='alert(4)",
    "{{ 7 * 7 }} <%= 7 * 7 %>",
    "&lt;b&gt;",
    "ends with \\",
]

READY = "window.Bokeh?.documents.length && Bokeh.documents.every((document) => document.is_idle)"
NOTE = "</script><img src=x onerror=alert(5)> and half a pair \ud800"


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """A run of noisy curves: the later a layer's third, the larger its values and the slower they fall."""

    def make(
        layers: int | Sequence[str] = 12, samples: int = 30, *, name: str = "a run", seed: int = 0, **facts: object
    ) -> Run:
        names = [f"block.{i}.weight" for i in range(layers)] if isinstance(layers, int) else list(layers)
        rng = np.random.default_rng(seed)
        third = np.arange(len(names)) * 3 // len(names)
        time = np.linspace(0, 1, samples)[:, None]
        values = 10 ** (-4 + third - time * (2 - third) + rng.normal(0, 0.05, (samples, len(names))))
        manifest = Manifest(
            name, tuple(Layer(n, "conv", (8, 4, 3, 3), 288) for n in names), ("rwc",), every=10, facts=facts
        )
        return Run.from_values(manifest, np.arange(1, samples + 1) * 10, {"rwc": values})

    return make


@pytest.fixture
def hostile_run(make_run: Callable[..., Run]) -> Run:
    run = make_run(HOSTILE, name="</title><script>alert('run')</script>", note=NOTE)
    run.layers["kind"] = "<b>kind</b>"
    run.origin["reference"] = "tensorboard:<script>alert(6)</script>"
    size = run.series["rwc"].size
    return replace(run, completeness=Completeness(size + 1, size, ("<script>alert('note')</script>",)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium or Chrome is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page of a run; at the end of the test nothing may have gone wrong in it or asked for the network."""
    trouble: list[str] = []
    contexts = []

    def refuse(dialog: Any) -> None:
        trouble.append(dialog.message)
        dialog.dismiss()

    def heed(message: Any) -> None:
        if message.type in ("error", "warning") and "getImageData" not in message.text:  # which is how PAINTED looks
            trouble.append(message.text)

    def open_page(run: Run | list[Run], *, width: int = 1280, dark: bool = False, **options: Any) -> Any:
        path = tmp_path / "report.html"
        report(run, **{"k": 3, **options}).save(path)
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", heed)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", refuse)
        page.on("request", lambda asked: trouble.append(asked.url) if asked.url != path.as_uri() else None)
        page.goto(path.as_uri())
        page.wait_for_function(READY)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []
