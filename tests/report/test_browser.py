from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wstrack.report import report
from wstrack.report.marks import printable
from wstrack.run import Run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed")

READY = "window.Bokeh?.documents.length && Bokeh.documents.every((document) => document.is_idle)"
SOURCE = "Bokeh.documents[0].roots().flatMap((root) => [...root.references()]).find((model) => model.data?.layer)"
# Every canvas of the page, through the shadow trees, and how many of its pixels are painted.
PAINTED = """() => {
  const found = []
  const walk = (node) => {
    for (const child of node.querySelectorAll("*")) {
      if (child.tagName === "CANVAS" && child.classList.contains("bk-layer") && child.width) found.push(child)
      if (child.shadowRoot) walk(child.shadowRoot)
    }
  }
  walk(document)
  return found.map((canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
    return pixels.filter((value, i) => i % 4 === 3 && value).length
  })
}"""
DEEP = """(selector) => {
  const walk = (node) => [...node.querySelectorAll(selector),
    ...[...node.querySelectorAll("*")].flatMap((child) => child.shadowRoot ? walk(child.shadowRoot) : [])]
  return walk(document).map((node) => node.textContent)
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
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

    def open_page(run: Run, *, width: int = 1280, dark: bool = False) -> Any:
        path = tmp_path / "report.html"
        report(run, k=3).save(path)
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on(
            "console", lambda message: trouble.append(message.text) if message.type in ("error", "warning") else None
        )
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


def test_every_figure_is_painted(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run())
    painted = [pixels for pixels in page.evaluate(PAINTED) if pixels]
    assert len(painted) == 6  # the heat map and its strip, the curves, the plane, inertia, silhouette
    assert all(pixels > 500 for pixels in painted)
    assert len(page.evaluate(DEEP, ".slick-row")) == 12


def point_of(page: Any, layer: int) -> tuple[float, float]:
    """Where in the window a layer stands on the plane."""
    page.locator("#plane figure").scroll_into_view_if_needed()
    x, y = page.evaluate(f"""() => {{
        const source = {SOURCE}
        const plane = [...Bokeh.index].find((view) => document.querySelector("#plane").contains(view.el))
        const box = plane.canvas_view.el.getBoundingClientRect()
        return [box.x + plane.frame.x_scale.compute(source.data.component_1[{layer}]),
                box.y + plane.frame.y_scale.compute(source.data.component_2[{layer}])]
    }}""")
    return x, y


def test_a_layer_chosen_on_the_plane_is_chosen_in_the_table(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = opened(make_run())
    page.mouse.click(*point_of(page, 7))
    page.wait_for_function(f"{SOURCE}.selected.indices.length")
    assert page.evaluate(f"{SOURCE}.selected.indices") == [7]
    assert page.evaluate(DEEP, ".slick-cell.selected.l1") == ["block.7.weight"]


def test_part_of_a_name_chooses_its_layers(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run())
    page.get_by_placeholder("part of a layer's name").fill("K.1")
    page.wait_for_function(f"JSON.stringify([...{SOURCE}.selected.indices]) === '[1,10,11]'")
    page.get_by_placeholder("part of a layer's name").fill("")
    page.wait_for_function(f"{SOURCE}.selected.indices.length === 0")


def test_hostile_names_stay_text(opened: Callable[..., Any], hostile_run: Run) -> None:
    names = list(hostile_run.layers.index)
    page = opened(hostile_run)
    cells = page.evaluate(DEEP, ".slick-cell.l1")
    assert "<script>alert(1)</script>" in cells
    assert "{{ 7 * 7 }} <%= 7 * 7 %>" in cells
    assert "<b>kind</b>" in page.evaluate(DEEP, ".slick-cell.l2")
    assert page.evaluate(DEEP, "img, b, section script") == []
    page.locator("#heatmap figure").scroll_into_view_if_needed()
    box = page.locator("#heatmap figure").bounding_box()
    # A name that became an element would not be among the text.
    shown = f"(name) => ({DEEP})('[data-value]').includes(name)"
    for layer, name in enumerate(names):
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 58 + 16 * layer + 8)
        page.wait_for_function(shown, arg=printable(name))
    page.mouse.move(*point_of(page, 1))
    page.wait_for_function(shown, arg=names[1])
    assert page.evaluate(DEEP, "img, b, section script, [data-value] *") == []


def test_the_page_follows_the_readers_scheme_and_prints_in_light(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = opened(make_run(), dark=True)
    colours = """() => {
      const axes = Bokeh.documents[0].roots().flatMap((root) => [...root.references()])
        .filter((model) => model.type.endsWith("Axis"))
      return [getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(document.body).color,
              ...new Set(axes.map((axis) => axis.major_label_text_color))]
    }"""
    light = ["rgb(255, 255, 255)", "rgb(28, 28, 28)", "#4a4a4a"]
    dark = ["rgb(21, 21, 21)", "rgb(230, 230, 230)", "#c4c4c4"]
    assert page.evaluate(colours) == dark
    page.emulate_media(media="print")
    page.wait_for_function(f"(expected) => JSON.stringify(({colours})()) === JSON.stringify(expected)", arg=light)
    page.emulate_media(media="screen", color_scheme="light")
    page.wait_for_function(f"(expected) => JSON.stringify(({colours})()) === JSON.stringify(expected)", arg=light)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"(expected) => JSON.stringify(({colours})()) === JSON.stringify(expected)", arg=dark)


@pytest.mark.parametrize("names", ["plain", "hostile"])
def test_a_phone_needs_no_scrolling_sideways(
    opened: Callable[..., Any], make_run: Callable[..., Run], hostile_run: Run, names: str
) -> None:
    page = opened(hostile_run if names == "hostile" else make_run(), width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
