"""What the site has beside the files of docs/, and where its links lead; MkDocs calls this (mkdocs.yml).

The README, the changelog, the benchmarks and the examples lie where people look for them in a repository, which is
outside of docs/. They become pages when the site is built, without a copy that could fall behind. Links are written as
the repository has them, so that they work there; here they are turned to the pages of the site. What the site does not
have, as a test, is left as its name: the repository has no address that all readers know.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = "examples.md"
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
}

# A link, its words and where it leads; or code, in which nothing is a link.
LINK = re.compile(
    r"(?P<code>^```.*?^```|(?<!`)(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<picture>!?)\[(?P<words>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)",
    re.DOTALL | re.MULTILINE,
)

# What docs/architecture.py draws. The script that would show it comes from another server.
DRAWING = re.compile(r"^```mermaid\n(?P<rooms>.*?)^```$", re.DOTALL | re.MULTILINE)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are made of what lies outside of docs/."""
    for source, place in PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text("utf-8")))
    scripts = examples()
    for script in scripts:
        files.append(File.generated(config, page_of(script), content=as_page(script)))
    files.append(File.generated(config, EXAMPLES, content=contents(scripts)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of the repository to those of the site."""
    origins = {place: source for source, place in PAGES.items()}
    if page.file.src_uri not in origins and page.file.generated_by:
        return markdown  # an example, whose links are written here
    origin = origins.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    markdown = DRAWING.sub(lambda drawing: told(drawing["rooms"]), markdown)
    return LINK.sub(lambda link: turned(link, origin, page.file.src_uri), markdown)


def told(drawing: str) -> str:
    """The rooms of the drawing, from the top, and what each imports, as a table."""
    imported: dict[str, list[str]] = {}
    for room, other in re.findall(r"^ *(\w+) --> (\w+)$", drawing, re.MULTILINE):
        imported.setdefault(room, []).append(f"`{other}`")
    rows = []
    for number, floor in enumerate(drawing.split("subgraph")[1:], start=1):
        rooms = re.findall(r"^    (\w+)$", floor, re.MULTILINE)
        rows += [f"| {number} | `{room}` | {', '.join(imported.get(room, []))} |" for room in rooms]
    return "\n".join(["| floor | room | imports, beside what these import |", "|---|---|---|", *rows])


def turned(link: re.Match[str], origin: str, place: str) -> str:
    """A link of the file `origin` of the repository, as the page at `place` of the site has it."""
    target, mark, anchor = (link["target"] or "").partition("#")
    if link["code"] or not target or re.match(r"\w+:", target):
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    there = shown_at(path)
    if there is not None:
        way = posixpath.relpath(there, posixpath.dirname(place) or ".")
        return f"{link['picture']}[{link['words']}]({way}{mark}{anchor})"
    # What is nowhere at all stays, for MkDocs to complain of.
    return link["words"] if (ROOT / path).exists() else link[0]


def shown_at(path: str) -> str | None:
    """Where the site has this file of the repository."""
    if path in PAGES:
        return PAGES[path]
    if path == "examples" or path.startswith("examples/"):
        return page_of(path) if path.endswith(".py") else EXAMPLES
    inside = path.removeprefix("docs/")
    return inside if inside != path and not inside.endswith(".py") else None


def examples() -> list[str]:
    """The scripts, as paths in the repository: those directly in the folder first."""
    found = [path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.py")]
    return sorted(found, key=lambda path: (path.count("/"), path))


def page_of(script: str) -> str:
    """The page of an example."""
    return script.removesuffix(".py") + ".md"


def as_page(script: str) -> str:
    """An example under its name, whole."""
    return f"# {Path(script).name}\n\n```python\n{(ROOT / script).read_text('utf-8').rstrip()}\n```\n"


def contents(scripts: list[str]) -> str:
    """All examples, with what each says of itself first."""
    rows = []
    for script in scripts:
        said = ast.get_docstring(ast.parse((ROOT / script).read_text("utf-8"))) or ""
        name = script.removeprefix("examples/")
        rows.append(f"| [{name}]({page_of(script)}) | {said.splitlines()[0]} |")
    return "\n".join(
        ["# Examples", "", "Whole scripts, which the tests run.", "", "| script | |", "|---|---|", *rows, ""]
    )
