"""How each cluster looks and what it is called, the same everywhere; and how a name from outside becomes a label."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from bokeh.palettes import Plasma256

if TYPE_CHECKING:
    from wstrack.reporting.result import Report

__all__ = [
    "GREY",
    "Mark",
    "chance",
    "clusters_of",
    "concise",
    "labels",
    "layer_colours",
    "mark_clusters",
    "number",
    "printable",
    "returns",
    "shorten",
    "title",
]

# Okabe and Ito's colours without their black, which a dark page would swallow; the palest come last.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
# Eight shapes on seven colours: the pairs repeat after 56 clusters only.
_SHAPES = (
    ("circle", "●"),
    ("square", "■"),
    ("triangle", "▲"),
    ("diamond", "◆"),
    ("inverted_triangle", "▼"),
    ("hex", "⬢"),
    ("star", "★"),
    ("plus", "✚"),
)
GREY = "#8c8c8c"
# Control and direction characters, and halves of surrogate pairs.
_UNRULY = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CLEARLY = 1.2  # times as far: the smallest ratio that a comparison calls a difference, too
_USUAL = 0.8  # of the names that go through a module: it tells hardly any of them apart
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Mark:
    """One cluster for people.

    Attributes:
        label: 1, 2, ... or -1 for noise.
        title: "cluster 1", "noise", or "all layers" where there is one cluster.
        words: what marks it: where its layers sit and how they went, such as "early, lowest, falling".
        colour, shape, sign: its colour, its marker in figures, and that marker as a character.
        layers: its members in model order.
        level: the median over the members of a layer's median value.
        ratio: likewise of late over early.
        verdict: "holds", "shaky" or "dissolves"; "" where that was not tested.
        jaccard: the median over bootstraps of its overlap with the cluster most like it; NaN where not tested.
    """

    label: int
    title: str
    words: str
    colour: str
    shape: str
    sign: str
    layers: list[str]
    level: float
    ratio: float
    verdict: str
    jaccard: float


def mark_clusters(report: Report) -> list[Mark]:
    """The clusters of a report, in order; noise last."""
    table = report.table
    held = report.stability.clusters if report.stability is not None else pd.DataFrame()
    words = _words(table)
    marks = []
    for label, named in words.items():
        members = table["cluster"].eq(label).fillna(False)
        noise = label < 0
        shape, sign = ("x", "✕") if noise else _SHAPES[(label - 1) % len(_SHAPES)]
        marks.append(
            Mark(
                label=label,
                title="noise" if noise else "all layers" if list(words) == [1] else f"cluster {label}",
                words=named,
                colour=GREY if noise else _COLOURS[(label - 1) % len(_COLOURS)],
                shape=shape,
                sign=sign,
                layers=list(table.index[members]),
                level=float(table.loc[members, "median"].median()),
                ratio=float(table.loc[members, "late_early_ratio"].median()),
                verdict=str(held.loc[label, "verdict"]) if label in held.index else "",
                jaccard=float(held["jaccard"].get(label, np.nan)) if len(held) else np.nan,
            )
        )
    return marks


def clusters_of(marks: Sequence[Mark]) -> list[Mark]:
    """Those that have a course of their own: all but noise, unless there is nothing else."""
    return [mark for mark in marks if mark.label > 0] or list(marks)


def layer_colours(marks: Sequence[Mark]) -> dict[str, str]:
    """By layer, the colour of its cluster; where there is one cluster, from the input (purple) to the output (orange).

    The ends of the palette are left out: a dark or a light page would swallow them.
    """
    if len(marks) == 1 and marks[0].label == 1:
        layers = marks[0].layers
        ramp = Plasma256[60:210]
        return {layer: ramp[place * (len(ramp) - 1) // max(len(layers) - 1, 1)] for place, layer in enumerate(layers)}
    return {layer: mark.colour for mark in marks for layer in mark.layers}


def _words(table: pd.DataFrame) -> dict[int, str]:
    """By cluster, noise last, what marks it; no two have the same words if their levels differ."""
    labels = sorted((int(label) for label in table["cluster"].dropna().unique()), key=lambda label: (label < 0, label))
    depth = table["depth"] / max(int(table["depth"].max()), 1)
    of = {label: table["cluster"].eq(label).fillna(False) for label in labels}
    levels = pd.Series({label: table.loc[of[label], "median"].median() for label in labels if label > 0})
    ratios = pd.Series({label: table.loc[of[label], "late_early_ratio"].median() for label in labels})
    courses = {label: _course(ratios[label]) for label in labels}
    plain = {
        label: [_place(depth[of[label]]), _rank(levels, label), _among(courses, ratios, label)] for label in labels
    }
    words = {label: ", ".join(filter(None, parts)) for label, parts in plain.items()}
    alike = [label for label in labels if list(words.values()).count(words[label]) > 1]
    return words | {
        label: f"{words[label]}, median {number(float(table.loc[of[label], 'median'].median()))}" for label in alike
    }


def _place(depth: pd.Series[float]) -> str:
    """Where the middle half of a cluster lies between the input (0) and the output (1)."""
    low, middle, high = np.quantile(depth, [0.25, 0.5, 0.75])
    if high - low > 0.4:
        return "throughout"
    return "early" if middle < 1 / 3 else "middle" if middle < 2 / 3 else "late"


def _rank(levels: pd.Series[float], label: int) -> str:
    """Whether the cluster has the lowest or the highest level of all."""
    if len(levels) < 2 or label not in levels.index:
        return ""
    return "lowest" if levels.idxmin() == label else "highest" if levels.idxmax() == label else ""


def _course(ratio: float) -> str:
    """In a word, what a late over early ratio says, if there is one."""
    if np.isnan(ratio):
        return ""
    return "falling" if ratio < 2 / 3 else "rising" if ratio > 3 / 2 else "steady"


def _among(courses: dict[int, str], ratios: pd.Series[float], label: int) -> str:
    """The course of a cluster; where all go the same way, whether it does so clearly most or least of them."""
    course = courses[label]
    if len(courses) < 2 or set(courses.values()) not in ({"falling"}, {"rising"}):
        return course
    others = ratios.drop(label)
    lower, higher = ratios[label] * _CLEARLY < others.min(), ratios[label] > others.max() * _CLEARLY
    most, least = (lower, higher) if course == "falling" else (higher, lower)
    return f"{course} most" if most else f"{course} least" if least else course


def returns(mark: Mark) -> str:
    """Whether the cluster comes back when blocks of steps are drawn anew, with its Jaccard index."""
    word = {"holds": "yes", "shaky": "partly", "dissolves": "no"}.get(mark.verdict)
    return f"{word} ({number(mark.jaccard)})" if word else "–"


def number(value: float) -> str:
    """`value` to three significant digits.

    Example:
        >>> number(0.0123456), number(1234567.0), number(2.0), number(float("nan"))
        ('0.0123', '1.23e+06', '2', '–')
    """
    return f"{value:.3g}" if np.isfinite(value) else "–"


def chance(p: float) -> str:
    """A p-value of a table.

    Example:
        >>> chance(0.0254), chance(1e-9), chance(float("nan"))
        ('0.025', '< 0.001', '–')
    """
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if np.isfinite(p) else "–"


def printable(text: str) -> str:
    r"""`text` without characters that would move or reverse what stands around them; line ends stay.

    Example:
        >>> printable("two\nlines, \u202eone turned")
        'two\nlines, �one turned'
    """
    return _UNRULY.sub("\ufffd", text)


def concise(text: str, *, width: int = 120) -> str:
    """`text` with the middle left out of every word longer than `width`."""
    return re.sub(rf"\S{{{width + 1},}}", lambda word: _middle_out(word[0], width), text)


def shorten(name: str, *, width: int) -> str:
    r"""`name` as a label of one line: its middle left out if it is long, nothing in it that a renderer would obey.

    Example:
        >>> shorten("transformer.h.11.attention.query.weight", width=24)
        'transformer.…uery.weight'
        >>> shorten("two\nlines", width=24)
        'two�lines'
    """
    name = _middle_out(re.sub(r"[\n\t]", "\ufffd", printable(name)), width)
    # Delimiters of formulas would make Bokeh fetch a typesetter from the network; a word joiner inside disarms them.
    return re.sub(r"\$\$|\\[()\[\]]", lambda found: "\u2060".join(found[0]), name)


def title(names: Sequence[str], *, width: int = 120) -> str:
    """The runs by name; of many the first two, and how many more there are.

    Example:
        >>> title(["a", "b", "c", "d", "e"])
        'a, b and 3 more runs'
    """
    if len(names) <= 3:
        return shorten(", ".join(names), width=width)
    return f"{shorten(', '.join(names[:2]), width=width)} and {len(names) - 2} more runs"


def _middle_out(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width // 2]}…{text[len(text) - (width - 1) // 2 :]}"


def labels(names: Sequence[str], *, width: int = 24) -> list[str]:
    """Short labels for the layers of one model, no two alike, that keep what tells a name from the others.

    What all names begin or end with is left out. Where that is too long still, so are the modules that most names go
    through, and then the middle of words, the most common first; never a number.

    Example:
        >>> labels(["model.conv1.weight", "model.fc.weight"])
        ['conv1', 'fc']
        >>> labels([*(f"model.layers.{i}.self_attn.q_proj.weight" for i in range(9)), "lm_head.weight"])[7:]
        ['7', '8', 'lm_head']
    """
    short = _trimmed(names)
    if max(map(len, short)) > width:
        modules = Counter(part for name in short for part in set(name.split(".")))
        usual = {part for part, count in modules.items() if count >= _USUAL * len(names) and not part.isdecimal()}
        without = [".".join(part for part in name.split(".") if part not in usual) for name in short]
        times = Counter(without)
        short = [new if new and times[new] == 1 else old for old, new in zip(short, without, strict=True)]
    common = Counter(word for name in short for word in set(_WORD.findall(name)))
    found = [shorten(_abbreviated(name, width, common), width=width) for name in short]
    times = Counter(found)
    nth: Counter[str] = Counter()
    for place, label in enumerate(found):
        if times[label] > 1:
            nth[label] += 1
            number = f" ({nth[label]})"
            found[place] = shorten(label, width=width - len(number)) + number
    return found


def _trimmed(names: Sequence[str]) -> list[str]:
    """The names without the modules that all of them begin or end with."""
    first, last = min(names), max(names)
    beginning = first[: _shared(first, last)].rpartition(".")[0]
    turned = [name[::-1] for name in names]
    ending = min(turned)[: _shared(min(turned), max(turned))].rpartition(".")[0][::-1]
    beginning, ending = beginning and f"{beginning}.", ending and f".{ending}"
    return [name.removeprefix(beginning).removesuffix(ending) or name for name in names]


def _abbreviated(name: str, width: int, common: Mapping[str, int]) -> str:
    """`name` with the middle left out of as many of its words as it takes, those that most names have first."""
    words = sorted(set(_WORD.findall(name)), key=lambda word: (common[word], len(word)), reverse=True)
    for word in words:
        if len(name) <= width:
            break
        brief = _middle_out(word, max(2, len(word) - (len(name) - width)))
        name = re.sub(rf"(?<![^\W\d_]){word}(?![^\W\d_])", brief, name)
    return name


def _shared(a: str, b: str) -> int:
    """How many characters `a` and `b` begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
