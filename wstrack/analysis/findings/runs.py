"""The finding on what differs between settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wstrack.analysis.cutoffs import FINDING_P
from wstrack.analysis.findings.words import Finding, Numbers, chance, names, number, times

if TYPE_CHECKING:
    from wstrack.analysis.comparison import Comparison

__all__ = ["differences"]


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
