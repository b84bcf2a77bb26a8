"""How large a sweep's page is and how long a browser takes to open, filter and order it; prints Markdown.

Run it with `python benchmarks/sweep_page.py` (a minute, with playwright and an installed Chromium or Chrome). The runs
are made up as they come of reading: what is timed is the page alone.
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

from wstrack.runs.listed import Listed
from wstrack.sweeps.page import render_sweep
from wstrack.sweeps.summary import Summary
from wstrack.sweeps.summed import Summed, summed_up

SIZES = ((200, 50, 5), (1000, 200, 30), (5000, 200, 30), (5000, 2000, 30))
REPEATS = 5
READY = "window.Bokeh?.documents.length && Bokeh.documents.every((document) => document.is_idle)"


def made_up(runs: int, layers: int, settings: int) -> Summed:
    """Runs over settings with numbers and with names, six of which are looked at; each with a finding."""
    rng = np.random.default_rng(0)
    names = tuple(f"blocks.{place // 10}.part{place % 10}.weight" for place in range(layers))
    empty = ("",) * layers
    summaries, listed = [], []
    for run in range(runs):
        lr = float(10 ** rng.uniform(-4, 0))
        told: dict[str, Any] = {"lr": lr} | {
            f"group.setting_{place}": f"choice {rng.integers(20)}" if place % 2 else float(rng.uniform())
            for place in range(settings - 1)
        }
        levels = np.log10(lr) - 2 + rng.normal(0, 0.1, layers)
        reference, name = f"mlflow:{run:032x}", f"wandering-cloud-{run}"
        finding = ("still", f"1 layer did not change: {names[run % layers]}, from step {run} on")
        result = {"val/loss": float(rng.uniform()), "val/accuracy": float(rng.uniform())}
        listed.append(Listed(reference, name, "finished", samples=500, settings=told, results=result))
        summaries.append(
            Summary(
                reference, name=name, metric="rwc", samples=500, first=1, last=500, expected=500, received=500,
                layers=names, kinds=empty, blocks=empty, levels=tuple(map(float, levels)), findings=(finding,),
                settings=told,
            )
        )  # fmt: skip
    return summed_up(summaries, listed)


def opened(browser: Any, path: Path) -> tuple[float, float, float]:
    """Seconds until everything is painted; from a filter, and from another order, until every view shows it."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    times = [time.perf_counter()]
    page.goto(path.as_uri())
    page.wait_for_function(READY)
    times.append(time.perf_counter())
    page.locator("#search").fill("cloud-1")
    page.wait_for_function(f"document.getElementById('chosen').textContent && {READY}")
    times.append(time.perf_counter())
    page.locator("#order").select_option(label="val/loss")
    page.wait_for_function(READY)
    times.append(time.perf_counter())
    page.close()
    return times[1] - times[0], times[2] - times[1], times[3] - times[2]


def main() -> None:
    """Print the table."""
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for runs, layers, settings in SIZES:
            sweep, path = made_up(runs, layers, settings), Path(folder) / f"{runs}-{layers}.html"
            pages = {str(reference): f"runs/{place}.html" for place, reference in enumerate(sweep.table.index)}
            start = time.perf_counter()
            path.write_text(render_sweep(sweep, pages=pages), encoding="utf-8")
            written = time.perf_counter() - start
            times = [opened(browser, path) for _ in range(REPEATS)]
            open_s, filter_s, order_s = (statistics.median(column) for column in zip(*times, strict=True))
            size = path.stat().st_size / 1e6
            seconds = f"{written:.1f} s | {open_s:.2f} s | {filter_s:.2f} s | {order_s:.2f} s"
            rows.append(f"| {runs:,} x {layers:,} x {settings} | {size:.1f} MB | {seconds} |")
        name = f"Chromium {browser.version}"
        browser.close()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {name}, bokeh {version('bokeh')}"
    print(f"{datetime.date.today()}, {machine}; medians of {REPEATS}\n")
    print("| runs x layers x settings | page | written in | opens in | is filtered in | is reordered in |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
