"""A report in a few lines: as text for a chat or a terminal, and as HTML for a notebook."""

from __future__ import annotations

import base64
import html

from wstrack.analysis.analysis import Analysis
from wstrack.messages import printable
from wstrack.reporting import facts, words
from wstrack.reporting.labels import concise

__all__ = ["findings_in_brief", "render_notebook", "render_summary"]


def findings_in_brief(analysis: Analysis, *, most: int = 3) -> list[str]:
    """The first findings, without the lines of detail that the page has."""
    return [finding.text.splitlines()[0] for finding in analysis.findings[:most]]


def render_summary(analysis: Analysis) -> str:
    """Title, verdict, the first findings, and how whole the runs are: a line each."""
    whole = f"{facts.complete(analysis)[1]}."
    found = [f"- {text}" for text in findings_in_brief(analysis)]
    lines = [words.heading(analysis), words.verdict(analysis)[1], *found, whole]
    return "\n".join(printable(concise(" ".join(line.split()))) for line in lines)


def render_notebook(analysis: Analysis) -> str:
    """Title, verdict, the first findings and the heat map. Every name in it is text from outside and stays text."""
    from wstrack.reporting.pictures import picture  # matplotlib takes longer than a terminal has for all of this

    image = base64.b64encode(picture(analysis, "heatmap")).decode()
    found = "".join(f"<li>{_text(text)}</li>" for text in findings_in_brief(analysis))
    # Notebooks typeset what stands between dollars, unless they are told not to.
    return (
        f'<div class="tex2jax_ignore mathjax_ignore"><h3>{_text(words.heading(analysis))}</h3>'
        f"<p><b>{_text(words.verdict(analysis)[1])}</b></p><ul>{found}</ul>"
        f'<img src="data:image/png;base64,{image}" alt="layers over steps" style="max-width: 100%; width: 760px"></div>'
    )


def _text(text: str) -> str:
    return f"<bdi>{html.escape(printable(concise(text)))}</bdi>"
