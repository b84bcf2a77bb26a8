"""Makes the pictures of the README, of `reports.md`, `live.md` and `sweeps.md`: `python docs/pictures.py` (minutes).

Takes pictures of the demo's page, of reports on ten more runs of its network, five that tell the ten digits and five
that tell odd from even, of TensorBoard while one more is trained, and of a sweep that is made up. Needs playwright and
an installed Chromium or Chrome.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from playwright.sync_api import sync_playwright
from sklearn.datasets import load_digits
from torch import nn

import wstrack
from wstrack.demo import SmallResNet, demo
from wstrack.runs.listed import Listed
from wstrack.runs.run import Run
from wstrack.sweeps.page import render_sweep
from wstrack.sweeps.summary import Summary
from wstrack.sweeps.summed import summed_up
from wstrack.training.watcher import Watcher

READY = "window.Bokeh?.documents.length && Bokeh.documents.every((document) => document.is_idle)"
TASKS = {"odd or even": 2, "ten digits": 10}
SEEDS, EPOCHS, EVERY = 5, 5, 2


def train(folder: Path, task: str, seed: int) -> Run:
    """The same network and images; only what is to be told apart differs."""
    for watcher in training(folder / f"{task} {seed}", task, seed):  # noqa: B007
        pass
    run = watcher.run()
    run.facts["name"] = f"{task}, seed {seed}"
    return run


def training(folder: Path, task: str, seed: int, epochs: int = EPOCHS) -> Iterator[Watcher]:
    """The same, step by step."""
    torch.manual_seed(seed)
    images, digits = load_digits(return_X_y=True)
    inputs = torch.from_numpy((images / 8 - 1).astype(np.float32).reshape(-1, 1, 8, 8))
    targets = torch.from_numpy(digits % TASKS[task])
    model = SmallResNet(TASKS[task])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with wstrack.watch(model, to=folder, every=EVERY, facts={"task": task}) as watcher:
        for _ in range(epochs):
            for batch in torch.split(torch.randperm(len(inputs)), 64):
                optimizer.zero_grad()
                torch.autograd.backward(nn.functional.cross_entropy(model(inputs[batch]), targets[batch]))
                optimizer.step()
                yield watcher


def picture(browser: Any, page_path: Path, out: Path, first: str, last: str, *, dark: bool = False) -> None:
    """The page 1280 wide, from the top of the element `first` to the bottom of `last`, as a PNG."""
    scheme = "dark" if dark else "light"
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page.goto(page_path.as_uri())
    page.wait_for_function(READY)
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": 1280, "height": height})  # all of it is painted at once, and nothing sticks
    page.wait_for_function(READY)
    top, bottom = (page.locator(selector).bounding_box() for selector in (first, last))
    start, end = max(top["y"] - 40, 0), bottom["y"] + bottom["height"] + 24
    page.screenshot(path=out, clip={"x": 0, "y": start, "width": 1280, "height": end - start})
    page.close()


def swept() -> str:
    """The page of 48 made-up runs over lr and width, of 20 layers one of which goes as the root of lr; two are odd."""
    rng = np.random.default_rng(5)
    blocks = [f"blocks.{block}.{part}.weight" for block in range(6) for part in ("attn", "fc", "proj")]
    layers = ("embed.weight", *blocks, "head.weight")
    power, level = np.ones(20), rng.normal(-1.2, 0.25, 20)
    power[-1], level[-1] = 0.5, -2.6
    summaries, listed = [], []
    for run, (lr, width) in enumerate((lr, width) for lr in np.geomspace(1e-3, 1, 12) for width in (64, 128, 256, 512)):
        settings = {"lr": float(f"{lr:.2g}"), "width": width, "optimizer": "adamw", "batch_size": 256}
        levels = power * np.log10(lr) + level + 0.15 * np.log10(width / 64) + rng.normal(0, 0.06, 20)
        levels += {19: 1.1, 30: -0.9}.get(run, 0.0)
        name, reference = f"lr {settings['lr']:g}, width {width}", f"mlflow:{rng.bytes(16).hex()}"
        loss = 0.4 + 0.3 * (np.log10(lr) + 1.5) ** 2 + rng.uniform(0, 0.05) - 0.05 * np.log2(width / 64)
        still = (("still", "1 layer does not change at all: embed.weight"),) if lr < 0.0015 else ()
        listed.append(Listed(reference, name, "finished", settings=settings, results={"val_loss": round(loss, 3)}))
        summaries.append(
            Summary(
                reference, name=name, metric="rwc", samples=500, first=50, last=25_000, expected=10_000,
                received=10_000, layers=layers, kinds=("linear",) * 20, blocks=("",) * 20, findings=still,
                levels=(None if still else float(levels[0]), *map(float, levels[1:])), settings=settings,
            )
        )  # fmt: skip
    sweep = summed_up(summaries, listed, title="Learning rate and width of a small transformer")
    return render_sweep(sweep, pages={one.reference: f"runs/{place}.html" for place, one in enumerate(summaries)})


@contextmanager
def tensorboard(logs: Path) -> Iterator[str]:
    """The address of a TensorBoard."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while server.poll() is None:
            try:
                urllib.request.urlopen(f"http://localhost:{port}/")
                break
            except OSError:
                continue
        yield f"http://localhost:{port}/"
    finally:
        server.terminate()
        server.wait()


def live(browser: Any, logs: Path, out: Path) -> None:
    """TensorBoard's tab while a network is trained, light and dark."""
    steps = training(logs / "ten digits, going on", "ten digits", SEEDS, epochs=10)
    report = "#frames iframe:not(.next)"
    for dark, count in ((False, 110), (True, 130)):
        for _ in range(count):
            watcher = next(steps)
        watcher.flush()
        with tensorboard(logs) as address:
            viewport = {"width": 1280, "height": 860}
            page = browser.new_page(viewport=viewport, color_scheme="dark" if dark else "light")
            page.goto(f"{address}#wstrack")
            tab = page.frame_locator("iframe")
            tab.frame_locator(report).locator("html[data-ready]").wait_for(timeout=120_000)
            for _ in range(6):  # which come before there is another report
                watcher = next(steps)
            watcher.flush()
            tab.locator("#said", has_text="up to step").wait_for(timeout=120_000)
            page.wait_for_timeout(500)
            page.screenshot(path=out / f"live{'-dark' * dark}.png")
            page.close()
    steps.close()


def main(out: Path) -> None:
    """Train, report, and take the pictures."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser_path = next((path for path in map(shutil.which, names) if path), None)
    if browser_path is None:
        raise SystemExit(f"no browser here; install one of: {', '.join(names)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        runs = {task: [train(folder, task, seed) for seed in range(SEEDS)] for task in TASKS}
        digits = runs["ten digits"]
        reports = {
            "demo": demo(folder / "demo").report,
            "seeds": wstrack.report(digits),
            "tasks": wstrack.report([*runs["odd or even"], *digits], compare="task"),
        }
        for name, report in reports.items():
            report.save(folder / f"{name}.html")
            logging.info("%s: %s", name, report)
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        picture(browser, folder / "demo.html", out / "report.png", "header", "#summary")
        picture(browser, folder / "demo.html", out / "report-tree.png", "#tree", "#tree")
        picture(browser, folder / "seeds.html", out / "report-seeds.png", "#curves", "#plane")
        picture(browser, folder / "tasks.html", out / "report-tasks.png", "#compare", "#compare")
        (folder / "sweep.html").write_text(swept(), encoding="utf-8")
        picture(browser, folder / "sweep.html", out / "sweep.png", "header", "#by-0")
        live(browser, folder, out)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="a folder [default: docs/]")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(parser.parse_args().out)
