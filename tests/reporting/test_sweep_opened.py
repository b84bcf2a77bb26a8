"""The page of a sweep in a browser: what its controls do, hostile names, and axe's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.conftest import HOSTILE, READY
from tests.reporting.fake_sweeps import fake_sweep
from tests.reporting.test_accessible import focused
from wstrack.messages import printable
from wstrack.sweeps.page import render_sweep
from wstrack.sweeps.summed import Summed

pytestmark = pytest.mark.slow

NAMED = """(name) => Bokeh.documents[0].roots().flatMap((root) => [...root.references()])
  .find((model) => model.name === name)"""
RUNS, LAYERS, ORDER, LEVELS = (f"({NAMED})('{name}')" for name in ("runs", "layers", "order", "levels"))
CELLS = """(column) => {
  const walk = (node) => [...node.querySelectorAll(`.slick-cell.l${column}`),
    ...[...node.querySelectorAll("*")].flatMap((child) => child.shadowRoot ? walk(child.shadowRoot) : [])]
  return walk(document).sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y)
    .map((cell) => cell.textContent.trim())
}"""
DEEP = """(selector) => {
  const walk = (node) => [...node.querySelectorAll(selector),
    ...[...node.querySelectorAll("*")].flatMap((child) => child.shadowRoot ? walk(child.shadowRoot) : [])]
  return walk(document).map((node) => node.textContent)
}"""


@pytest.fixture
def shown(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page of a sweep; at the end of the test nothing may have gone wrong or asked for the network."""
    trouble: list[str] = []
    contexts = []

    def refuse(dialog: Any) -> None:
        trouble.append(dialog.message)
        dialog.dismiss()

    def heed(message: Any) -> None:
        if message.type in ("error", "warning") and "getImageData" not in message.text:  # which is how `pixel` looks
            trouble.append(message.text)

    def show(sweep: Summed, *, pages: dict[str, str] | None = None, width: int = 1280, dark: bool = False) -> Any:
        path = tmp_path / "index.html"
        path.write_text(render_sweep(sweep, pages=pages or {}), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
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

    yield show
    for context in contexts:
        context.close()
    assert trouble == []


def at(page: Any, row: int, place: int) -> tuple[float, float]:
    """Where in the window a cell of the heat map is."""
    page.locator("#heatmap figure").scroll_into_view_if_needed()
    x, y = page.evaluate(
        """([row, place]) => {
          const plots = [...Bokeh.index].flatMap((view) => view.child_views ?? [])
            .filter((view) => view.frame && view.model.renderers.some((one) => one.glyph.type === "Image"))
          const box = plots[0].canvas_view.el.getBoundingClientRect()
          return [box.x + plots[0].frame.x_scale.compute(place), box.y + plots[0].frame.y_scale.compute(row)]
        }""",
        [row, place],
    )
    return x, y


def pixel(page: Any, row: int, place: int) -> list[int]:
    """The colour of a cell of the heat map, as it is painted."""
    found: list[int] = page.evaluate(
        """([row, place]) => {
          const view = [...Bokeh.index].flatMap((view) => view.child_views ?? [])
            .find((view) => view.frame && view.model.renderers.some((one) => one.glyph.type === "Image"))
          const canvas = view.canvas_view.primary.el, ratio = canvas.width / canvas.clientWidth
          const [x, y] = [view.frame.x_scale.compute(place), view.frame.y_scale.compute(row)]
          return [...canvas.getContext("2d").getImageData(x * ratio, y * ratio, 1, 1).data].slice(0, 3)
        }""",
        [row, place],
    )
    return found


def test_the_table_has_a_row_a_run_and_is_sorted_by_a_heading(shown: Callable[..., Any]) -> None:
    sweep = fake_sweep(30, names={3: "run 100"})
    page = shown(sweep)
    assert page.evaluate(CELLS, 0)[:4] == ["run 0", "run 1", "run 2", "run 100"]
    page.get_by_text("lr", exact=True).last.click()
    smallest = f"{sweep.table['lr'].min():.5g}"
    page.wait_for_function(f"({CELLS})(5)[0] === '{smallest}'")
    numbers = [float(value) for value in page.evaluate(CELLS, 5)]
    assert numbers == sorted(numbers)


def test_names_are_sorted_by_the_numbers_in_them_also_under_a_filter(shown: Callable[..., Any]) -> None:
    page = shown(fake_sweep(30))
    heading = page.get_by_role("button", name="Sort by run")
    heading.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"({CELLS})(0)[2] === 'run 2'")
    page.locator("#search").fill("run 1")
    page.wait_for_function(f"({CELLS})(0).length === 11")
    assert page.evaluate(CELLS, 0) == ["run 1", *(f"run {place}" for place in range(10, 20))]


def test_the_filter_narrows_the_table_and_the_heat_map(shown: Callable[..., Any]) -> None:
    sweep = fake_sweep(24)
    page = shown(sweep)
    page.locator("#search").fill("Width=64")
    runs = [place for place, width in enumerate(sweep.table["width"]) if width == 64]
    page.wait_for_function(f"{ORDER}.data.run.length === {len(runs)}")
    assert sorted(page.evaluate(f"[...{ORDER}.data.run]")) == runs
    assert page.evaluate(CELLS, 0) == [f"run {run}" for run in runs]
    assert page.locator("#chosen").text_content() == f"{len(runs)} of 24 runs fit"
    page.locator("#search").fill("nothing is called so")
    page.wait_for_function(f"({CELLS})(0).length === 0")
    assert page.locator("#chosen").text_content() == "no run fits"
    page.keyboard.press("Escape")
    page.wait_for_function(f"({CELLS})(0).length > 10")


def test_the_heat_map_is_in_the_order_of_the_first_setting_and_of_another_that_is_chosen(
    shown: Callable[..., Any],
) -> None:
    sweep = fake_sweep(24, unread=1)
    page = shown(sweep)
    order = page.evaluate(f"[...{ORDER}.data.run]")
    assert sweep.table["lr"].iloc[order].is_monotonic_increasing
    stock = page.evaluate(f"[...{LEVELS}.data.stock[0]]")
    cells = page.evaluate(f"[...{LEVELS}.data.image[0]]")
    for row, run in enumerate(order):
        assert cells[6 * row : 6 * row + 6] == stock[6 * run : 6 * run + 6]
    page.locator("#order").select_option(label="val_loss")
    page.wait_for_function(f"{ORDER}.data.run[0] === {int(sweep.table['val_loss'].argmin())}")
    assert sweep.table["val_loss"].iloc[page.evaluate(f"[...{ORDER}.data.run]")].is_monotonic_increasing


def test_beside_the_median_each_layer_has_as_many_runs_above_as_below(shown: Callable[..., Any]) -> None:
    page = shown(fake_sweep(25))
    page.locator("#colour").select_option("beside")
    page.wait_for_function(f"{LEVELS}.data.median")
    cells = page.evaluate(f"[...{LEVELS}.data.image[0]]")
    for place in range(6):
        its = cells[place::6]
        assert sum(code > 32767 for code in its) == sum(code < 32767 for code in its) == 12
    page.mouse.move(0, 0)
    red, _, blue = pixel(page, 0, 0)
    assert blue > red  # the run with the least lr
    red, _, blue = pixel(page, 24, 0)
    assert red > blue
    page.locator("#colour").select_option("level")
    page.wait_for_function(f"!{LEVELS}.data.median")
    assert page.evaluate(f"[...{LEVELS}.data.image[0]].slice(0, 6)") != cells[:6]


def test_a_cell_chooses_its_run_and_its_layer_and_the_run_says_what_makes_its_report(
    shown: Callable[..., Any],
) -> None:
    page = shown(fake_sweep(24), pages={"runs/5": "runs/5.html"})
    page.mouse.click(*at(page, 3, 5))
    page.wait_for_function(f"{RUNS}.selected.indices.length === 1")
    run = page.evaluate(f"{ORDER}.data.run[3]")
    assert page.evaluate(f"{RUNS}.selected.indices") == [run]
    assert page.evaluate(f"{LAYERS}.selected.indices") == [5]
    assert page.locator("#run h3").text_content() == f"run {run}"
    assert page.locator("#run code").text_content() == f"wstrack report runs/{run}"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_label("Copy the command").click()
    page.wait_for_function("document.querySelector('#run output').textContent === 'copied'")
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelector('#run').hidden")
    page.locator("#search").fill("runs/5")
    page.wait_for_function(f"{RUNS}.selected.indices[0] === 5")
    assert page.locator("#run a").get_attribute("href") == "runs/5.html"


def test_points_show_the_chosen_layer(shown: Callable[..., Any]) -> None:
    sweep = fake_sweep(24)
    page = shown(sweep)
    usual = page.evaluate(f"[...{RUNS}.data.level]")
    assert usual == pytest.approx(list(10 ** sweep.levels.median(axis=1)))
    page.locator("#findings a[data-layers]").first.click()
    page.wait_for_function(f"{LAYERS}.selected.indices.length === 1")
    assert page.evaluate(f"[...{RUNS}.data.level]") == pytest.approx(list(10 ** sweep.levels.iloc[:, 5]), rel=1e-3)
    page.keyboard.press("Escape")
    page.wait_for_function(f"{LAYERS}.selected.indices.length === 0")
    assert page.evaluate(f"[...{RUNS}.data.level]") == usual


def hostile() -> Summed:
    """Names of every sort wherever one comes from outside."""
    names = list(HOSTILE)
    sweep = fake_sweep(
        len(names) + 6, names, settings=["<img src=x onerror=alert(7)>", '"width"', "'><script>alert(8)</script>"],
        names=dict(enumerate(names)), odd=1, unread=2, more={"<b>same</b>": "</script><script>alert(9)</script>"},
    )  # fmt: skip
    return replace(sweep, title="</title><script>alert(11)</script> half a pair \ud800")


def test_hostile_names_stay_text(shown: Callable[..., Any]) -> None:
    sweep = hostile()
    page = shown(sweep, pages={"runs/0": "runs/a\"><img src=x onerror='alert(10)'>.html"})
    cells = page.evaluate(CELLS, 0)
    assert "<script>alert(1)</script>" in cells
    assert "{{ 7 * 7 }} <%= 7 * 7 %>" in cells
    assert page.evaluate(DEEP, "img, b, section script, td script") == []
    page.mouse.move(*at(page, 2, 0))
    page.wait_for_function(f"(name) => ({DEEP})('[data-value]').includes(name)", arg=printable(HOSTILE[0]))
    assert page.evaluate(DEEP, ".bk-tooltip-row-label")[:4] == ["run: ", "layer: ", "level: ", "settings: "]
    for place in range(len(HOSTILE)):
        page.evaluate(f"{RUNS}.selected.indices = [{place}]")
        assert page.locator("#run h3").text_content().removesuffix(" …") == printable(HOSTILE[place])[:300]
    assert page.evaluate(DEEP, "img, b, section script, td script, [data-value] *") == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", ["usual", "hostile", "nothing differs"])
def test_axe_finds_nothing(shown: Callable[..., Any], kind: str, dark: bool) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    sweep = {
        "usual": lambda: fake_sweep(40, 30, odd=2, unread=1, by=["lr", "width", "lr * width"], more={"seed": 1}),
        "hostile": hostile,
        "nothing differs": lambda: fake_sweep(5, 2, settings=[]),
    }[kind]()
    page = shown(sweep, pages={"runs/1": "runs/1.html"}, dark=dark)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    page.evaluate(f"{RUNS}.selected.indices = [2]")
    page.locator("#colour").select_option("beside")
    for width in (1280, 320):
        page.set_viewport_size({"width": width, "height": 900})
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def test_the_tab_key_gets_through_the_page_and_all_that_it_comes_to_has_a_name(shown: Callable[..., Any]) -> None:
    page = shown(fake_sweep(40, 30, odd=2, unread=1), pages={"runs/1": "runs/1.html"})
    stops = list(focused(page))
    assert [stop for stop in stops if not stop[2]] == []
    assert {"search", "order", "colour", "copy"} <= {identity for _, identity, _ in stops}
    names = [name for _, _, name in stops]
    assert {"Sort by lr", "The rows of the table", "run 20", "run 39"} <= set(names)
    figures = page.evaluate("[...document.querySelectorAll('figure')].map((figure) => figure.ariaLabel)")
    assert len(set(figures)) == len(figures) == 5


@pytest.mark.parametrize("make", [lambda: fake_sweep(40, 30, odd=2), hostile], ids=["usual", "hostile"])
def test_no_width_needs_scrolling_sideways(shown: Callable[..., Any], make: Callable[[], Summed]) -> None:
    page = shown(make())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    page.evaluate(f"{RUNS}.selected.indices = [5]")
    for width in (3840, 1100, 768, 360, 320):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(f"{READY} && document.documentElement.scrollWidth === {width}")


@pytest.mark.parametrize(("runs", "layers"), [(1, 1), (5, 2), (8, 2000)])
def test_few_runs_and_many_layers_are_painted(shown: Callable[..., Any], runs: int, layers: int) -> None:
    page = shown(fake_sweep(runs, layers))
    assert len(page.evaluate(CELLS, 0)) == runs
    assert page.evaluate(f"{LEVELS}.data.image[0].length") == runs * layers
    page.mouse.click(*at(page, 0, 0))
    page.wait_for_function(f"{RUNS}.selected.indices.length === 1")
    assert page.evaluate(f"{LAYERS}.selected.indices") == [0]
