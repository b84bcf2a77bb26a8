"""What is said of the version in several places is one thing, and the classifiers claim what was run."""

from __future__ import annotations

import re
from pathlib import Path

import wstrack

ROOT = Path(__file__).resolve().parents[1]
RELEASED = wstrack.__version__.partition(".dev")[0]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_changelog_has_the_version_with_its_day() -> None:
    if ".dev" in wstrack.__version__:
        assert "## [Unreleased]" in text_of("CHANGELOG.md")
    else:
        assert re.search(rf"^## \[{re.escape(RELEASED)}\] - \d{{4}}-\d\d-\d\d$", text_of("CHANGELOG.md"), re.MULTILINE)


def test_a_citation_names_a_version_that_was_released() -> None:
    cited = re.search(r"^version: (.*)$", text_of("CITATION.cff"), re.MULTILINE)
    assert cited
    assert f"## [{cited[1]}] - " in text_of("CHANGELOG.md")


def test_each_python_that_is_claimed_was_run() -> None:
    claimed = re.findall(r"Python :: (3\.\d+)", text_of("pyproject.toml"))
    assert claimed
    page = text_of("docs/versions.md")
    assert [version for version in claimed if f"| {version}." not in page] == []


def test_each_python_that_is_claimed_is_in_the_matrix() -> None:
    workflow = text_of(".github/workflows/tests.yml")
    claimed = re.findall(r"Python :: (3\.\d+)", text_of("pyproject.toml"))
    assert [version for version in claimed if f'"{version}"' not in workflow] == []
