"""What a sweep says in sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wstrack.analysis.findings.runs import trends, unlike_others
from wstrack.analysis.findings.words import names
from wstrack.analysis.slopes import Slopes
from wstrack.reporting.labels import number
from wstrack.sweeps.columns import KINDS, settings_of
from wstrack.sweeps.summed import Summed

__all__ = ["Sentence", "heading", "sentences", "verdict"]

_MOST = 4  # settings that a sentence names


@dataclass(frozen=True)
class Sentence:
    """One thing that was found.

    Attributes:
        text: plain text, with names as they are.
        place: the section that shows it.
        layers: what it is about; empty where it is about all.
    """

    text: str
    place: str
    layers: tuple[str, ...] = ()


def heading(sweep: Summed) -> str:
    """What the page is called."""
    return sweep.title or f"{len(sweep.table):,} runs{_over(sweep)}"


def _over(sweep: Summed) -> str:
    settings = settings_of(sweep)
    return f" over {names(settings, most=_MOST)}" if settings else ""


def verdict(sweep: Summed) -> str:
    """The whole sweep in one sentence."""
    count, unread, odd = len(sweep.table), len(sweep.unread), len(sweep.odd)
    settings = settings_of(sweep)
    over = f"over {names(settings, most=_MOST)}" if settings else "that differ in no setting" if count > 1 else ""
    said = f"{count:,} run{'s' if count != 1 else ''} {over}".strip()
    aside = [f"{unread:,} could not be read"] if unread else []
    aside += [f"{odd:,} {'is' if odd == 1 else 'are'} unlike all others"] if odd else []
    said += f" ({', '.join(aside)})" if aside else ""
    main = _main(sweep)
    return f"{said}{': ' + _does(main, sweep.noun) if main else ''}."


def _main(sweep: Summed) -> Slopes | None:
    """The setting with which most layers go."""
    alone = [one for by, one in sweep.slopes.items() if " * " not in by]
    return max(alone, key=lambda one: int(one.layers["goes"].sum()), default=None)


def _does(slopes: Slopes, noun: str) -> str:
    goes, unlike = slopes.layers[slopes.layers["goes"]], slopes.layers[slopes.layers["unlike"]]
    where = f"with {slopes.by} from {number(slopes.low)} to {number(slopes.high)}"
    if not len(goes):
        said = f"{where} the {noun} of no layer goes beyond chance"
    else:
        slope = float(slopes.groups["slope"].loc["all"])
        as_ = f"as {slopes.by}^{_two(slope)}" if slopes.logarithmic else f"by {number(slope)} decades per unit"
        said = f"{where} the {noun} goes {as_}"
    if len(unlike):
        largest = unlike.iloc[np.argsort(-np.abs(unlike["beside"].to_numpy()))]
        named = names((f"{name} ({_two(its)})" for name, its in largest["slope"].items()), most=3)
        verb = "is" if len(unlike) == 1 else "are"
        said += f"; {len(unlike):,} of {len(slopes.layers):,} layers {verb} unlike: {named}"
    return said


def _two(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # the sum makes a negative zero positive


def sentences(sweep: Summed) -> list[Sentence]:
    """What was found, the settings first, then the runs that are unlike all others, then what runs say themselves."""
    found: list[Sentence] = []
    without: list[tuple[str, Slopes]] = []
    for place, slopes in enumerate(sweep.slopes.values()):
        trend = _trend(slopes, sweep.noun, f"by-{place}")
        found += [trend] if trend else []
        without += [] if trend else [(f"by-{place}", slopes)]
    if without:
        found.append(Sentence(_no_trend([slopes for _, slopes in without], sweep.noun), without[0][0]))
    labels = sweep.labels
    if sweep.odd:
        text = unlike_others({labels[reference]: what for reference, what in sweep.odd.items()}).text
        found.append(Sentence(text, "odd"))
    if sweep.unread:
        reference, why = next(iter(sweep.unread.items()))
        text = f"{len(sweep.unread):,} of {len(sweep.table):,} runs could not be read; {labels[reference]}: {why}"
        found.append(Sentence(text.rstrip(".") + ".", "unread"))
    told: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for one in sweep.runs:
        for kind, text in dict(reversed(one.findings)).items():
            told[kind].append((one.reference, text))
    for kind, those in sorted(told.items(), key=lambda each: -len(each[1])):
        reference, text = those[0]
        said = f"{KINDS.get(kind, kind.replace('_', ' '))}: {_runs(those)}, such as {labels[reference]}: {_first(text)}"
        found.append(Sentence(said[0].upper() + said[1:], "runs"))
    return found


def _runs(those: Sequence[object]) -> str:
    return f"{len(those):,} run{'s' if len(those) != 1 else ''}"


def _first(text: str) -> str:
    return (text.splitlines() or [""])[0]


def _no_trend(those: Sequence[Slopes], noun: str) -> str:
    """That nothing is to be said of some settings."""
    chance = "beyond chance (false discovery rate 5 %)"
    if len(those) > 1:
        return f"The {noun} of no layer goes with one of these settings {chance}: {names(one.by for one in those)}."
    (one,) = those
    return (
        f"Over {one.runs:,} runs with {one.by} from {number(one.low)} to {number(one.high)}, the {noun} of no layer "
        f"goes with it {chance}."
    )


def _trend(slopes: Slopes, noun: str, place: str) -> Sentence | None:
    """How the layers go with a setting; None if they do not."""
    one, _, other = slopes.by.partition(" * ")
    goes, unlike = slopes.layers[slopes.layers["goes"]], slopes.layers[slopes.layers["unlike"]]
    layers = tuple(map(str, unlike.index if len(unlike) else goes.index))
    layers = layers if len(layers) < len(slopes.layers) else ()
    found = trends(slopes, noun)
    if not found and other:
        return Sentence(f"What {one} does is the same at each {other}, as far as {slopes.runs} runs can tell.", place)
    return Sentence(found[0].text, place, layers) if found else None
