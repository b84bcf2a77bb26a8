"""How each cluster, branch or piece looks and what it is called, the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from bokeh.palettes import Plasma256

from wstrack.analysis.analysis import Analysis
from wstrack.analysis.clustering import NOISE
from wstrack.analysis.cut import REST
from wstrack.analysis.cutoffs import SMALLEST_RATIO
from wstrack.reporting.labels import number

__all__ = ["GREY", "Mark", "clusters_of", "layer_colours", "mark_clusters", "returns"]

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
_REST_COLOUR = "#7f8fa0"


@dataclass(frozen=True)
class Mark:
    """One cluster, branch or piece (`Cut`) for people.

    Attributes:
        label: 1, 2, ..., or -1 for noise, -2 for the rest that branches stand apart from.
        title: "cluster 1", "branch 1", "piece 1", "the rest", "noise", or "all layers" where nothing is divided.
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


def mark_clusters(analysis: Analysis) -> list[Mark]:
    """What the layers are divided into, in order; the rest and noise last."""
    table, cut = analysis.table, analysis.cut
    # A branch stands apart only if it comes back; how often, the table of branches says.
    words = _words(table)
    held = pd.DataFrame({"verdict": "holds", "jaccard": np.nan}, index=[label for label in words if label > 0])
    if cut.worth != "apart":
        held = analysis.stability.clusters if analysis.stability is not None else held[:0]
    marks = []
    for label, named in words.items():
        members = table["cut"].eq(label).fillna(False)
        other = {NOISE: ("noise", "x", "✕", GREY), REST: ("the rest", "circle", "○", _REST_COLOUR)}.get(label)
        shape, sign = other[1:3] if other else _SHAPES[(label - 1) % len(_SHAPES)]
        marks.append(
            Mark(
                label=label,
                title=other[0] if other else "all layers" if list(words) == [1] else f"{cut.noun} {label}",
                words=named,
                colour=other[3] if other else _COLOURS[(label - 1) % len(_COLOURS)],
                shape=shape,
                sign=sign,
                layers=list(table.index[members]),
                level=float(table.loc[members, "median"].median()),
                ratio=float(table.loc[members, "late_early_ratio"].dropna().median()),
                verdict=str(held["verdict"].get(label, "")),
                jaccard=float(held["jaccard"].get(label, np.nan)),
            )
        )
    return marks


def clusters_of(marks: Sequence[Mark]) -> list[Mark]:
    """Those that have a course of their own: all but noise, unless there is nothing else."""
    return [mark for mark in marks if mark.label != NOISE] or list(marks)


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
    """By label, the rest and noise last, what marks it; no two have the same words if their levels differ."""
    labels = sorted((int(label) for label in table["cut"].dropna().unique()), key=lambda label: (label < 0, label))
    depth = table["depth"] / max(int(table["depth"].max()), 1)
    of = {label: table["cut"].eq(label).fillna(False) for label in labels}
    levels = pd.Series({label: table.loc[of[label], "median"].median() for label in labels if label != NOISE})
    ratios = pd.Series({label: table.loc[of[label], "late_early_ratio"].dropna().median() for label in labels})
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
    lower, higher = ratios[label] * SMALLEST_RATIO < others.min(), ratios[label] > others.max() * SMALLEST_RATIO
    most, least = (lower, higher) if course == "falling" else (higher, lower)
    return f"{course} most" if most else f"{course} least" if least else course


def returns(mark: Mark) -> str:
    """Whether the cluster comes back when blocks of steps are drawn anew, with the Jaccard index of a cluster."""
    word = {"holds": "yes", "shaky": "partly", "dissolves": "no"}.get(mark.verdict)
    index = f" ({number(mark.jaccard)})" if np.isfinite(mark.jaccard) else ""
    return f"{word}{index}" if word else "–"
