"""What is printed on a page of the documentation: its code and its commands."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def page(name: str) -> str:
    """A page, by its path in the repository."""
    return (ROOT / name).read_text("utf-8")


def blocks(language: str, name: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page(name), re.DOTALL | re.MULTILINE)


def commands(name: str) -> list[str]:
    """Each command without what is said of it behind it, and what goes on in the next line put together."""
    whole = "\n".join(blocks("console", name)).replace("\\\n", " ")
    return [line[2:].split("   #")[0].strip() for line in whole.splitlines() if line.startswith("$ ")]
