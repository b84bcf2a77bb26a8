"""The findings on what differs between settings, what goes with a setting that has numbers, and odd runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wstrack.analysis.cutoffs import FINDING_P
from wstrack.analysis.findings.words import Finding, Numbers, chance, names, number, times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wstrack.analysis.comparison import Comparison
    from wstrack.analysis.slopes import Slopes

__all__ = ["differences", "trends", "unlike_others"]


def differences(comparison: Comparison, noun: str) -> list[Finding]:
    """For each setting but the first: how it differs from the first, as a whole and in which layers."""
    found = []
    reference = comparison.settings[0]
    for setting in comparison.settings[1:]:
        rows = comparison.layers[comparison.layers["setting"] == setting].set_index("layer")
        differing = rows[rows["differs"]]
        whole = {name: float(column[setting]) for name, column in comparison.overall.items()}
        if not len(differing) and not whole["p"] < FINDING_P:
            continue
        numbers: Numbers = {"setting": setting, "reference": reference}
        text = f"In {setting} against {reference}"
        if whole["p"] < FINDING_P:
            text += (
                f", the {noun} is {times(whole['ratio'])} over all layers (95 % interval of the ratio "
                f"{number(whole['low'])} to {number(whole['high'])}, {chance(whole['p'])})"
            )
            numbers |= {"ratio": whole["ratio"], "low": whole["low"], "high": whole["high"]}
            numbers["p"] = whole["p"]
        largest = differing.iloc[np.argsort(-np.abs(np.log(differing["ratio"].to_numpy())))]
        named = [
            f"{name} (ratio {number(row['ratio'])}, {number(row['low'])} to {number(row['high'])})"
            for name, row in largest.iterrows()
        ]
        text += f"; {len(differing)} of {len(rows)} layers differ (false discovery rate 5 %)"
        text += f", most in {names(named[:3])}" if named else ""
        numbers |= {"layers_differing": len(differing), "layers": len(rows)}
        layers = tuple(str(name) for name in differing.index)
        found.append(
            Finding("differences", f"{text}. Intervals are over {comparison.basis}.", "curves", numbers, layers)
        )
    return found


def trends(slopes: Slopes, noun: str) -> list[Finding]:
    """Which layers go with the setting, and which do so unlike the others."""
    found = []
    goes = slopes.layers[slopes.layers["goes"]]
    unlike = slopes.layers[slopes.layers["unlike"]]
    slope, low, high = (float(slopes.groups[column].loc["all"]) for column in ("slope", "lower", "upper"))
    if len(goes) or len(unlike):
        if slopes.crossed:
            one, other = slopes.by.split(" * ")
            text = (
                f"What {one} does depends on {other} for {len(goes)} of {len(slopes.layers)} layers (false discovery "
                f"rate 5 %): with ten times {other}, or a unit of it, the slope over all layers changes by"
            )
        else:
            per = f"as {slopes.by} to the power of" if slopes.logarithmic else f"per unit of {slopes.by} by decades:"
            text = (
                f"Over {slopes.runs} runs with {slopes.by} from {number(slopes.low)} to {number(slopes.high)}, the "
                f"{noun} of {len(goes)} of {len(slopes.layers)} layers goes with it (false discovery rate 5 %), over "
                f"all layers {per}"
            )
        text += f" {number(slope)} (95 % interval {number(low)} to {number(high)})"
        largest = unlike.iloc[np.argsort(-np.abs(unlike["beside"].to_numpy()))]
        named = [f"{name} ({number(its)})" for name, its in largest["slope"].items()]
        if named:
            verb = "goes" if len(named) == 1 else "go"
            text += f"; {len(named)} {verb} with it unlike the median layer: {names(named)}"
        numbers: Numbers = {"by": slopes.by, "slope": slope, "low": low, "high": high}
        numbers |= {"layers_going": len(goes), "layers_unlike": len(unlike)}
        layers = tuple(map(str, unlike.index if len(unlike) else goes.index))
        found.append(Finding("trend", f"{text}.", "curves", numbers, layers))
    return found


def unlike_others(odd: Mapping[str, str]) -> Finding:
    """Which runs are unlike all others, and what is odd about them."""
    said = "; ".join(f"in {name} {what}" for name, what in list(odd.items())[:3])
    more = f", and {len(odd) - 3} more" if len(odd) > 3 else ""
    runs = "1 run is" if len(odd) == 1 else f"{len(odd)} runs are"
    return Finding("odd", f"{runs} unlike all others: {said}{more}.", "curves", {"runs": len(odd)}, ())
