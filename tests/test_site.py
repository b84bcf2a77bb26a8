"""The site: built without a warning and without network, then walked in a real browser, page by page."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest

from tests.reporting.conftest import browser  # noqa: F401  a fixture

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PHONE, DESK = 390, 1280
# Nothing listens there: whatever the build would fetch fails, and is a warning.
NOWHERE = "http://127.0.0.1:9"
SEEN = """() => ({
  ids: [...document.querySelectorAll("[id]")].map((one) => one.id),
  links: [...document.querySelectorAll("a[href]")].map((one) => one.href),
  tags: [...new Set([...document.querySelectorAll("article *")].map((one) => one.localName))],
  pictures: [...document.querySelectorAll("article img")].map((one) => [one.src, one.alt, one.naturalWidth]),
  quotes: document.querySelectorAll("blockquote").length,
  text: document.querySelector("article").innerText,
  width: document.documentElement.scrollWidth,
})"""

# Whatever else a page has was meant as text, as in <layer>, which browsers take for a tag of old.
TAGS = {
    "a", "b", "blockquote", "button", "code", "details", "div", "em", "form", "h1", "h2", "h3", "h4", "h5", "img", "li",
    "nav", "ol", "p", "path", "pre", "small", "span", "strong", "summary", "svg", "table", "tbody", "td", "th", "thead",
    "tr", "ul",
}  # fmt: skip


@dataclass(frozen=True)
class Walked:
    """What each page has, by its path, and what went wrong on the way."""

    pages: dict[str, dict[str, Any]]
    trouble: list[str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("mkdocs", "material", "mkdocstrings_handlers"):
        if importlib.util.find_spec(module) is None:
            pytest.skip("the extra wstrack[docs] is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, env={**os.environ, "http_proxy": NOWHERE, "https_proxy": NOWHERE},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Callable[..., Any]]:  # noqa: F811
    """Opens a page of the site; at the end of the test nothing may have gone wrong in any."""
    trouble: list[str] = []
    contexts = []

    def open_page(place: str, *, width: int = DESK, scheme: str = "light") -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        heed(page, address, trouble)
        page.goto(address + place)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


def heed(page: Any, address: str, trouble: list[str]) -> None:
    """Note what a page complains of, and what it asks of other servers."""
    page.on("console", lambda said: trouble.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith((address, "data:")) else trouble.append(asked.url))
    page.on("response", lambda got: trouble.append(f"{got.status} {got.url}") if got.status >= 400 else None)


@pytest.fixture(scope="module")
def walked(browser: Any, site: Path, address: str) -> Walked:  # noqa: F811
    found = Walked({}, [])
    context = browser.new_context(viewport={"width": PHONE, "height": 900})
    page = context.new_page()
    heed(page, address, found.trouble)
    for path in sorted(site.rglob("*.html")):
        place = path.relative_to(site).as_posix()
        if place != "404.html":
            page.goto(address + place)
            found.pages[place] = page.evaluate(SEEN)
    context.close()
    return found


def test_no_page_complains_or_asks_another_server(walked: Walked) -> None:
    assert walked.trouble == []
    assert {"index.html", "papers/index.html", "examples/plain_loop.html", "changelog.html"} <= set(walked.pages)


def test_each_link_leads_to_a_place_that_is_there(walked: Walked, site: Path, address: str) -> None:
    lost = []
    for place, page in walked.pages.items():
        for link in page["links"]:
            if not link.startswith(address):
                assert link.startswith("https://"), f"{place}: {link}"
                continue
            target, anchor = urldefrag(link.removeprefix(address))
            target = unquote(target) or "index.html"
            there = walked.pages.get(target)
            if there is None and not (site / target).is_file():
                lost.append(f"{place}: {link}")
            elif anchor and (there is None or unquote(anchor) not in there["ids"]):
                lost.append(f"{place}: {link} (no such place on the page)")
    assert lost == []


def test_links_that_leave_the_docs_lead_to_the_site_or_are_plain_text(walked: Walked, address: str) -> None:
    links = {link for page in walked.pages.values() for link in page["links"]}
    assert address + "benchmarks.html#many-runs" in links
    assert address + "examples/first_difference.html" in links
    assert address + "examples.html" in links
    assert not [link for link in links if link.startswith(address) and re.search(r"\.(md|py|cpp)\b", link)]
    assert "floor.cpp" in walked.pages["benchmarks.html"]["text"]


def test_pictures_are_there_and_say_what_they_show(walked: Walked) -> None:
    pictures = [(place, *picture) for place, page in walked.pages.items() for picture in page["pictures"]]
    assert len(pictures) >= 10
    assert [one for one in pictures if not (one[2].strip() and one[3])] == []


def test_no_word_is_taken_for_html(walked: Walked) -> None:
    assert set().union(*(page["tags"] for page in walked.pages.values())) <= TAGS
    assert [place for place, page in walked.pages.items() if place.startswith("reference/") and page["quotes"]] == []


def test_nothing_is_wider_than_a_phone(walked: Walked) -> None:
    assert {place: page["width"] for place, page in walked.pages.items() if page["width"] > PHONE} == {}


@pytest.mark.parametrize(
    ("module", "place"),
    [
        ("wstrack", "wstrack"),
        ("wstrack.rules", "rules"),
        ("wstrack.analysis", "analysis"),
        ("wstrack.trackers.contract", "trackers"),
    ],
)
def test_each_public_name_has_its_text(walked: Walked, module: str, place: str) -> None:
    page = walked.pages[f"reference/{place}.html"]
    for name in importlib.import_module(module).__all__:
        assert f"{module}.{name}" in page["ids"]
    assert ">>> " in page["text"] or place == "trackers"


@pytest.mark.parametrize("words", ["relative weight change", "relative_weight_change", "checkpoints"])
def test_the_search_finds(opened: Callable[..., Any], words: str) -> None:
    page = opened("index.html")
    page.locator("[data-md-component=search-query]").click()
    page.keyboard.type(words)
    page.locator(".md-search-result__link").first.wait_for()
    found = page.locator(".md-search-result__item").all_inner_texts()
    assert any(words in text.lower() for text in found)
    page.locator(".md-search-result__link").first.click()
    page.wait_for_url(lambda url: "index.html" not in url or "h=" in url)


def test_pages_opened_as_files_search_as_well(browser: Any, site: Path) -> None:  # noqa: F811
    trouble: list[str] = []
    context = browser.new_context()
    page = context.new_page()
    heed(page, site.as_uri(), trouble)
    page.goto((site / "reference" / "wstrack.html").as_uri())
    page.locator("[data-md-component=search-query]").click()
    page.keyboard.type("relative weight change")
    page.locator(".md-search-result__link").first.wait_for()
    context.close()
    assert trouble == []


def test_the_drawing_of_the_rooms_is_a_table(walked: Walked) -> None:
    text = walked.pages["design.html"]["text"]
    assert re.search(r"\d\s+cli\s+checkpoints, demo, ", text)
    assert "flowchart" not in text


COLOUR = "getComputedStyle(document.body).backgroundColor"


def test_light_and_dark_follow_the_system_and_the_toggle(opened: Callable[..., Any]) -> None:
    light, dark = (opened("index.html", scheme=scheme).evaluate(COLOUR) for scheme in ("light", "dark"))
    assert light != dark
    page = opened("index.html")
    seen = []
    for _ in range(3):
        page.locator("[data-md-component=palette] label:visible").click()
        seen.append(page.evaluate(COLOUR))
    assert seen == [light, dark, light]


def test_the_drawings_are_made_anew(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "drawings.py", "--out", tmp_path], check=False)
    assert done.returncode == 0
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == sorted(path.name for path in (ROOT / "docs").glob("concept-*.png"))
