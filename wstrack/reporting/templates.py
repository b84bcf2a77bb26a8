"""The files that pages are made of: their templates, styles and scripts."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from wstrack.messages import printable

__all__ = ["template", "text_of"]

_HERE = "wstrack.reporting"


def text_of(name: str, *, room: str = _HERE) -> str:
    """A file of a package.

    Example:
        >>> text_of("page.css").startswith(":root")
        True
    """
    return files(room).joinpath(name).read_text("utf-8")


@cache
def template(name: str, *, room: str = _HERE) -> Template:
    """A template, which escapes whatever it is given; those that it imports are of this room."""
    environment = Environment(
        autoescape=True, extensions=["jinja2.ext.do"], undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value, loader=FunctionLoader(text_of),
    )  # fmt: skip
    return environment.from_string(text_of(name, room=room))
