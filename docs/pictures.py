"""Renders the top of a saved report for the README: `python docs/pictures.py REPORT.html OUT.png [--dark]`.

Needs playwright and an installed Chromium or Chrome.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

READY = "window.Bokeh?.documents.length && Bokeh.documents.every((document) => document.is_idle)"


def picture(report: Path, out: Path, *, dark: bool = False, height: int = 1500) -> None:
    """The first `height` pixels of the page, 1280 wide, as a PNG."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser_path = next((path for path in map(shutil.which, names) if path), None)
    if browser_path is None:
        raise SystemExit(f"no browser here; install one of: {', '.join(names)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": height}, color_scheme="dark" if dark else "light")
        page.goto(report.resolve().as_uri())
        page.wait_for_function(READY)
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--height", type=int, default=1500)
    options = parser.parse_args()
    picture(options.report, options.out, dark=options.dark, height=options.height)
