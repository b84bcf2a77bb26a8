"""Samples as rules see them, from made series of changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wstrack.rules import Alert, Observed, Rule
from wstrack.runs.manifest import Layer

Array = NDArray[np.float64]


def samples(change: Array, rates: Array | float | None = None, *, parts: int = 0) -> list[Observed]:
    """A sample for each row; columns are layers, of which the last `parts` are parts of the layer before them."""
    whole = change.shape[1] - parts
    layers = [Layer(f"l{place}", numel=1) for place in range(whole)]
    layers += [Layer(f"l{whole - 1}[{place}]", numel=1, of=f"l{whole - 1}") for place in range(parts)]
    seen = []
    for step, row in enumerate(change, 1):
        sums = {"abs_change": row, "abs_previous": np.where(np.isnan(row), np.nan, 1.0)}
        if rates is not None:
            sums |= {"lr": np.broadcast_to(np.asarray(rates), change.shape)[step - 1], "told": np.ones(len(row))}
        seen.append(Observed(step, 1, tuple(layers), {}, sums))
    return seen


def noise(rng: np.random.Generator, count: int = 200, layers: int = 8) -> Array:
    """Logarithms of changes: Student's t of 3 degrees of freedom, a half of it shared by all layers."""
    return -7 + 0.07 * (rng.standard_t(3, (count, layers)) + rng.standard_t(3, (count, 1)))


def said(rules: Rule | list[Rule], seen: list[Observed]) -> list[Alert]:
    """All that rules say of samples."""
    asked = rules if isinstance(rules, list) else [rules]
    return [alert for sample in seen for rule in asked for alert in rule(sample)]
