"""A report as Markdown, for the places that show it: trackers, issues, notes."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import pandas as pd

from wstrack.analysis.analysis import Analysis
from wstrack.messages import printable
from wstrack.reporting import captions, words
from wstrack.reporting.labels import chance, concise, number, share, shorten
from wstrack.reporting.marks import mark_clusters, returns
from wstrack.reporting.parts import about_parts, parts_table
from wstrack.reporting.slopes import about_slopes, slope_words
from wstrack.reporting.tree import branches_of

__all__ = ["render_markdown"]

_MOST_LAYERS = 20  # with parts, of which there is a row


def render_markdown(analysis: Analysis) -> str:
    """What was measured and how completely, what was found, and each cluster and group with its layers.

    Every name in it is text from outside and stays text.
    """
    lines = [
        f"# {_text(words.heading(analysis))}",
        "",
        f"**{_text(words.verdict(analysis)[1])}**",
        "",
    ]
    lines += [_text(words.measured(analysis)), ""]
    for run in analysis.runs:
        lines += [f"- {_text(run.name)}: {_text(str(run.completeness))}"]
        lines += [f"    - {_text(note)}" for note in run.completeness.notes]
    for layer, reason in analysis.prepared.dropped.items():
        lines += [f"- Left out of the clusters: {_text(layer)} ({reason})"]
    lines += ["", "## What was found", ""]
    lines += [f"{place}. {_text(finding.text)}" for place, finding in enumerate(analysis.findings, 1)] or [
        "Nothing that stands out from chance."
    ]
    noun = analysis.cut.noun
    lines += ["", f"## {words.division(analysis)}", "", _text(captions.about_stability(analysis)), ""]
    lines += [
        f"| {noun} | layers | what marks it | comes back? | median | late / early |",
        "|---|---|---|---|---|---|",
    ]
    marks = mark_clusters(analysis)
    for mark in marks:
        numbers = f"{number(mark.level)} | {number(mark.ratio)}"
        lines.append(f"| {mark.title} | {len(mark.layers)} | {mark.words} | {returns(mark)} | {numbers} |")
    if returned := captions.about_return(analysis):
        lines += ["", _text(returned)]
    if analysis.comparison is not None:
        comparison = analysis.comparison
        rows = pd.concat([comparison.overall.assign(layers="all").reset_index(), comparison.thirds])
        lines += ["", "## Side by side", "", _text(captions.about_comparison(analysis)), ""]
        lines += ["| setting | layers | ratio | 95 % interval | p |", "|---|---|---|---|---|"]
        for row in rows[rows["setting"] != comparison.settings[0]].to_dict("records"):
            interval = f"{number(row['low'])} to {number(row['high'])}"
            ratio = f"{number(row['ratio'])} | {interval} | {chance(row['p'])}"
            lines.append(f"| {_text(str(row['setting']))} | {row['layers']} | {ratio} |")
    if analysis.slopes is not None:
        lines += ["", f"## By {_text(analysis.slopes.by)}", "", _text(about_slopes(analysis.slopes)), ""]
        lines += ["| layers | how many | slope | 95 % interval | p |", "|---|---|---|---|---|"]
        for name, count, slope, interval, p in slope_words(analysis.slopes):
            lines.append(f"| {_text(name)} | {count} | {slope} | {interval} | {chance(p)} |")
        lines += [""] * bool(analysis.odd)
        lines += [f"- {_text(name)}: {_text(what)}" for name, what in analysis.odd.items()]
    if analysis.groups is not None:
        lines += ["", f"## Groups of layers (by {_text(analysis.groups.by)})", ""]
        inside = "k" in analysis.groups.table
        lines += [f"| group | layers | median | late / early |{' clusters inside | verdict |' if inside else ''}"]
        lines += ["|---" * (6 if inside else 4) + "|"]
        for row in analysis.groups.table.reset_index().to_dict("records"):
            numbers = f"{row['layers']} | {number(row['median'])} | {number(row['late_early_ratio'])}"
            more = f" {row['k']} | {row['verdict'] or '–'} |" if inside else ""
            lines.append(f"| {_text(str(row['group']))} | {numbers} |{more}")
        for group in analysis.groups.table.index:
            for label, layers in analysis.groups.inside(str(group)).items():
                lines += ["", f"**{_text(str(group))}, {_inside(label)}**: {_names(layers)}"]
    lines += _parts(analysis)
    if analysis.methods is not None:
        lines += ["", "## Other methods on the same data", ""]
        lines += [f"| method | {' | '.join(name.replace('_', ' ') for name in analysis.methods.columns)} |"]
        lines += ["|---" * (1 + analysis.methods.shape[1]) + "|"]
        for method, values in analysis.methods.iterrows():
            lines.append(f"| {method} | {' | '.join(number(float(value)) for value in values)} |")
    branches = branches_of(analysis)
    if branches:
        lines += ["", "## The tree of the layers", "", _text(captions.about_branches(analysis)), ""]
        lines += ["| layers | of them | comes back in | gap | p | stands apart |", "|---|---|---|---|---|---|"]
        for branch in branches:
            names, apart = branch["names"], "yes" if branch["apart"] else "no"
            numbers = f"{share(branch['support'])} | {number(branch['gap'])} | {_text(chance(branch['p']))}"
            lines.append(f"| {len(names)} | {_text(concise(branch['words']))} | {numbers} | {apart} |")
    lines += ["", "## All layers" if len(marks) == 1 else f"## The layers of each {noun}"]
    for mark in marks:
        lines += ["", f"**{mark.title}**: {_names(mark.layers)}"]
    return "\n".join([*lines, ""])


def _parts(analysis: Analysis) -> list[str]:
    """The layers that are cut, those with the most unequal parts first."""
    if analysis.parts is None:
        return []
    rows = parts_table(analysis.parts)
    lines = ["", "## Parts of layers", "", _text(about_parts(analysis)), ""]
    lines += ["| layer | parts | least | median | largest | Gini coefficient | did not move | never moved |"]
    lines += ["|---" * 8 + "|"]
    for row in rows[:_MOST_LAYERS]:
        values = " | ".join(number(row[which]) for which in ("least", "median", "largest", "gini"))
        count, never = (f"{row[which]:,.0f}" if analysis.parts.each else "–" for which in ("parts", "never"))
        name = _text(shorten(row["layer"], width=120))
        lines.append(f"| {name} | {count} | {values} | {share(row['unmoved'])} | {never} |")
    return lines if len(rows) <= _MOST_LAYERS else [*lines, "", f"And {len(rows) - _MOST_LAYERS} more layers."]


def _names(layers: Sequence[str]) -> str:
    return ", ".join(_text(shorten(layer, width=120)) for layer in layers)


def _inside(label: int) -> str:
    return "noise" if label < 0 else f"cluster {label}"


def _text(text: str) -> str:
    r"""`text` without anything that Markdown or HTML would obey, on one line.

    Example:
        >>> _text("w_1|<b>*x*</b>")
        'w\\_1\\|&lt;b&gt;\\*x\\*&lt;/b&gt;'
    """
    escaped = re.sub(r"([\\`*_{}\[\]()#|$~])", r"\\\1", printable(" ".join(text.split())))
    return html.escape(escaped, quote=False)
