"""Docstrings as the site shows them; Griffe, which reads them, calls this (mkdocs.yml).

`Example:` is how this package heads a doctest, once for each; Griffe knows the plural only, and would show the doctest
as quoted text. A page that is named as it lies in the repository (`docs/rules.md`) becomes a link to it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from griffe import Extension

if TYPE_CHECKING:
    from griffe import Object


class Docstrings(Extension):
    """Heads doctests as Griffe knows them, and links pages of docs/ that are named."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called with everything that has been read."""
        if obj.docstring is not None:
            text = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r"\bdocs/([\w-]+)\.md\b", r"[\1](../\1.md)", text)
