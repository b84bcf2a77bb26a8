"""Draws the rooms of the package and what they import, into docs/design.md: `python docs/architecture.py`.

The floors are those of the import contract in pyproject.toml, the arrows what the modules really import, also for
annotations and inside functions. An arrow is left out where others lead there anyway. `--check` changes nothing, and
fails if the drawing in the page is not that of the code.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import grimp

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "design.md"
BEGIN, END = "<!-- drawn by docs/architecture.py -->\n", "<!-- end of the drawing -->\n"
FRONT = "wstrack"  # the front door, which names the public functions of all rooms and imports them when asked


def floors() -> list[list[str]]:
    """The rooms by floor, from the top."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [re.split(r"\s*[|:]\s*", floor) for floor in layers]


def imports() -> dict[str, set[str]]:
    """By room, the rooms that it imports."""
    graph = grimp.build_graph(FRONT)
    rooms = {room for floor in floors() for room in floor}
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            ours, theirs = (name.split(".")[1] if "." in name else "" for name in (importer, imported))
            if ours and theirs and ours != theirs:
                found[ours].add(theirs)
    return found


def needed(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the arrows to what other arrows lead to."""

    def reached(room: str) -> set[str]:
        return arrows[room].union(*(reached(other) for other in arrows[room]))

    return {room: to - set().union(*(reached(other) for other in to)) for room, to in arrows.items()}


def drawing() -> str:
    """The rooms as a Mermaid flowchart."""
    lines = ["```mermaid", "flowchart TB"]
    for number, floor in enumerate(floors()):
        lines += [f"  subgraph floor{number}[ ]", "    direction LR", *(f"    {room}" for room in floor), "  end"]
    lines += [f"  {room} --> {other}" for room, to in sorted(needed(imports()).items()) for other in sorted(to)]
    return "\n".join([*lines, "```", ""])


def main(*, check: bool) -> int:
    """Put the drawing into the page, or see whether it is there."""
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    drawn = head + BEGIN + drawing() + END + tail
    if check:
        return int(drawn != page)
    PAGE.write_text(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv))
