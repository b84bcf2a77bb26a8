"""How large a report's page is and how long a browser takes to open it; prints Markdown.

Run it with `python benchmarks/report_speed.py` (two minutes, with playwright and an installed Chromium or Chrome). What
is timed is the page alone: the clusters are made with a given k, their stability is not looked at.
"""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from wstrack.reporting.report import Report, report
from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run

SIZES = ((100, 500), (1000, 1000), (2000, 2000))
REPEATS = 5
READY = "window.Bokeh?.documents.length && Bokeh.documents.every((document) => document.is_idle)"
CHOSEN = "document.getElementById('chosen').textContent"


def reported(layers: int, samples: int) -> Report:
    """A report on curves in three clusters, each falling."""
    rng = np.random.default_rng(0)
    third = np.arange(layers) * 3 // layers
    values = 10 ** (third - 4 - np.linspace(0, 1, samples)[:, None] + rng.normal(0, 0.1, (samples, layers)))
    names = tuple(Layer(f"blocks.{i // 10}.part{i % 10}.weight", "linear", (64, 64), 4096) for i in range(layers))
    run = Run.from_values(Manifest("speed", names, ("rwc",), 10), np.arange(samples) * 10, {"rwc": values})
    return report(run, cluster="kmedoids" if layers <= 100 else "ward", k=3)


def opened(browser: Any, path: Path) -> tuple[float, float]:
    """Seconds until everything is painted, and from the choice of a cluster until every view shows it."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_function(READY)
    painted = time.perf_counter()
    page.locator("#heatmap button[data-cluster='2']").click()
    page.wait_for_function(f"{CHOSEN} && {READY}")
    chosen = time.perf_counter()
    page.close()
    return painted - start, chosen - painted


def main() -> None:
    """Print the table."""
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for layers, samples in SIZES:
            report, path = reported(layers, samples), Path(folder) / f"{layers}.html"
            start = time.perf_counter()
            report.save(path)
            written = time.perf_counter() - start
            times = [opened(browser, path) for _ in range(REPEATS)]
            open_s, choose_s = (statistics.median(column) for column in zip(*times, strict=True))
            size = path.stat().st_size / 1e6
            seconds = f"{written:.1f} s | {open_s:.2f} s | {choose_s:.2f} s"
            rows.append(f"| {layers} x {samples} | {size:.1f} MB | {seconds} |")
        name = f"Chromium {browser.version}"
        browser.close()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {name}, bokeh {version('bokeh')}"
    print(f"{datetime.date.today()}, {machine}; medians of {REPEATS}\n")
    print("| layers x samples | page | written in | opens in | a cluster is chosen in |\n|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
