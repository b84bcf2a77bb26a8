"""How each cluster looks and what it is called, the same everywhere; and how a name from outside becomes a label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = ["GREY", "Mark", "concise", "labels", "mark_clusters", "number", "printable", "shorten"]

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


@dataclass(frozen=True)
class Mark:
    """One cluster for people.

    Attributes:
        label: 1, 2, ... or -1 for noise.
        title: "cluster 1", or "noise".
        words: what marks it: where its layers sit and how they went, such as "early, lowest, falling".
        colour, shape, sign: its colour, its marker in figures, and that marker as a character.
        layers: its members in model order.
        level: the median over the members of a layer's median value.
        ratio: likewise of late over early.
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


def mark_clusters(table: pd.DataFrame) -> list[Mark]:
    """The clusters of `Report.table`, in order; noise last."""
    depth = table["depth"] / max(int(table["depth"].max()), 1)
    levels = table.groupby("cluster")["median"].median().drop(-1, errors="ignore")
    marks = []
    for label in sorted(table["cluster"].dropna().unique(), key=lambda label: (label < 0, label)):
        members = table["cluster"].eq(label).fillna(False)
        ratio = float(table.loc[members, "late_early_ratio"].median())
        noise = label < 0
        shape, sign = ("x", "✕") if noise else _SHAPES[(label - 1) % len(_SHAPES)]
        marks.append(
            Mark(
                label=int(label),
                title="noise" if noise else f"cluster {label}",
                words=", ".join(filter(None, [_place(depth[members]), _rank(levels, label), _course(ratio)])),
                colour=GREY if noise else _COLOURS[(label - 1) % len(_COLOURS)],
                shape=shape,
                sign=sign,
                layers=list(table.index[members]),
                level=float(table.loc[members, "median"].median()),
                ratio=ratio,
            )
        )
    return marks


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
    """In a word, what a late over early ratio says."""
    if not np.isfinite(ratio) or ratio < 0:
        return "changing"
    return "falling" if ratio < 2 / 3 else "rising" if ratio > 3 / 2 else "steady"


def number(value: float) -> str:
    """`value` to three significant digits.

    Example:
        >>> number(0.0123456), number(1234567.0), number(2.0), number(float("nan"))
        ('0.0123', '1.23e+06', '2', '–')
    """
    return f"{value:.3g}" if np.isfinite(value) else "–"


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


def _middle_out(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width // 2]}…{text[len(text) - (width - 1) // 2 :]}"


def labels(names: Sequence[str], *, width: int = 24) -> list[str]:
    """Short labels for the layers of one model: without the modules that all of them begin or end with.

    Example:
        >>> labels(["model.conv1.weight", "model.fc.weight"])
        ['conv1', 'fc']
    """
    first, last = min(names), max(names)
    beginning = first[: _shared(first, last)].rpartition(".")[0]
    turned = [name[::-1] for name in names]
    ending = min(turned)[: _shared(min(turned), max(turned))].rpartition(".")[0][::-1]
    beginning, ending = beginning and f"{beginning}.", ending and f".{ending}"
    return [shorten(name.removeprefix(beginning).removesuffix(ending) or name, width=width) for name in names]


def _shared(a: str, b: str) -> int:
    """How many characters `a` and `b` begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
