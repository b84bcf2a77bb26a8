"""The page for those who cannot see it, or have no pointer: axe's rules, and what the keyboard alone can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from wstrack.runs.manifest import Layer, Manifest
from wstrack.runs.run import Run

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
pytestmark = pytest.mark.slow

FOCUSED = """() => {
  let one = document.activeElement
  while (one.shadowRoot?.activeElement) one = one.shadowRoot.activeElement
  const name = one.ariaLabel || one.title || one.placeholder || one.textContent
  return [one.localName, one.id, name.trim(), Boolean(one.closest("summary") || one.checkVisibility())]
}"""


def with_parts(run: Run) -> Run:
    """The run with twenty parts of each of its layers, so that the section on parts has a chooser."""
    layers, values, whole = [], [], run.series["rwc"]
    for name in whole.columns:
        layers += [Layer(name), *(Layer(f"{name}[{part}]", of=name) for part in range(20))]
        values += [whole[name], *(whole[name] * (1 + part) for part in range(20))]
    manifest = Manifest("parts", tuple(layers), ("rwc",), every=10, origin={"parts": "each"})
    return Run.from_values(manifest, run.steps, {"rwc": np.array(values).T})


def report_of(kind: str, make_run: Callable[..., Run], hostile_run: Run) -> tuple[Run | list[Run], dict[str, Any]]:
    if kind == "groups and phases":
        run = make_run(samples=60)
        run.series["rwc"].iloc[30:, :4] *= 1e4
        return run, {"group": r"block\.(\d)$|block\.\d", "k": "auto", "methods": True}
    if kind == "diverged":
        run = make_run()
        run.series["rwc"].iloc[15:] = np.nan
        return run, {}
    if kind == "compared":
        runs = [make_run(name=f"{task} {seed}", seed=seed, task=task) for task in ("easy", "hard") for seed in (0, 1)]
        return runs, {"compare": "task"}
    if kind == "parts":
        return with_parts(make_run(3)), {"k": 1}
    return {"hostile": hostile_run, "two layers": make_run(2)}[kind], {"k": 1 if kind == "two layers" else 3}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", ["groups and phases", "diverged", "compared", "hostile", "two layers", "parts"])
def test_axe_finds_nothing(
    opened: Callable[..., Any], make_run: Callable[..., Run], hostile_run: Run, kind: str, dark: bool
) -> None:
    run, options = report_of(kind, make_run, hostile_run)
    page = opened(run, dark=dark, **options)
    # What is folded is looked at too; and with all that a choice of layers paints.
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    page.locator("#search").fill("e")
    page.wait_for_function("document.querySelector('#chosen').textContent")
    for width in (1280, 320):
        page.set_viewport_size({"width": width, "height": 900})
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def focused(page: Any) -> Iterator[tuple[str, str, str]]:
    """What the Tab key comes to, one after the other, until it leaves the page."""
    for _ in range(300):
        page.keyboard.press("Tab")
        element, identity, name, visible = page.evaluate(FOCUSED)
        if element == "body":
            return
        assert visible, name
        yield element, identity, name
    raise AssertionError("the Tab key does not get through the page")


def test_the_tab_key_gets_through_the_page_and_all_that_it_comes_to_has_a_name(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = opened(make_run(200))
    stops = list(focused(page))
    assert [stop for stop in stops if not stop[2]] == []
    links = page.evaluate("[...document.querySelectorAll('nav a')].map((link) => link.textContent)")
    assert [name for _, _, name in stops[: len(links)]] == links
    assert {"search", "cluster", "scale", "from", "to", "copy"} <= {identity for _, identity, _ in stops}
    names = [name for _, _, name in stops]
    figures = page.evaluate("[...document.querySelectorAll('figure')].map((figure) => figure.ariaLabel)")
    assert len(set(figures)) == len(figures) == 5
    assert set(figures) - set(names) == {"What each number of clusters would have given"}  # which is folded
    assert "Sort by median" in names


def test_the_table_is_sorted_by_the_keyboard(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run())
    deep = """() => {
      const walk = (node) => [...node.querySelectorAll(".slick-cell.l0"),
        ...[...node.querySelectorAll("*")].flatMap((child) => child.shadowRoot ? walk(child.shadowRoot) : [])]
      return walk(document).sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y)[0].textContent
    }"""
    assert page.evaluate(deep) == "0"
    assert any(name == "Sort by median" for _, _, name in focused(page))  # and there the Tab key stays
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_function(f"({deep})() !== '0'")


def test_landmarks_hold_the_page_and_each_has_its_heading(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = opened(make_run())
    for landmark in ("header", "nav", "main", "footer"):
        assert page.locator(landmark).count() == 1
    assert page.locator("h1").count() == 1
    assert page.evaluate("[...document.querySelectorAll('main section')].every((one) => one.querySelector('h2'))")
    targets = page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.hash.slice(1))")
    missing = [target for target in targets if page.locator(f'[id="{target}"]').count() != 1]
    assert missing == []
