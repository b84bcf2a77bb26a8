"""An analysis in the types that JSON has."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from wstrack._version import __version__
from wstrack.analysis.analysis import Analysis
from wstrack.analysis.choice import Choice
from wstrack.analysis.clustering import NOISE
from wstrack.analysis.cut import REST, Cut
from wstrack.analysis.parts import Parts
from wstrack.analysis.slopes import Slopes
from wstrack.analysis.tree import Tree

__all__ = ["as_dict", "versions"]


def as_dict(analysis: Analysis) -> dict[str, Any]:
    """All that was found, as `Report.to_dict` has it."""
    members = analysis.clustering.labels.groupby(analysis.clustering.labels).groups
    replaced = analysis.prepared.replaced
    whole = {
        "title": analysis.title or None,
        "runs": [
            {
                "name": run.name,
                "reference": run.origin.get("reference"),
                "facts": run.facts,
                "origin": run.origin,
                "completeness": {**asdict(run.completeness), "missing": run.completeness.missing},
            }
            for run in analysis.runs
        ],
        "layers": analysis.table.reset_index().to_dict("records"),
        "clusters": [{"id": label, "layers": list(layers)} for label, layers in members.items()],
        "reduction": {
            "method": analysis.reduction.method,
            "explained": analysis.reduction.explained,
            "components": [asdict(component) for component in analysis.components],
        },
        "clustering": {
            "method": analysis.clustering.method,
            "k": analysis.clustering.k,
            "chosen": analysis.clustering.chosen,
            "silhouette": analysis.clustering.silhouette,
            "curve": _rows(analysis.clustering.curve.rename_axis("k")),
        },
        "cut": _cut(analysis.cut),
        "tree": _tree(analysis.tree),
        "methods": analysis.methods,
        "choice": _choice(analysis.choice),
        "stability": asdict(analysis.stability) if analysis.stability else None,
        "findings": [asdict(finding) for finding in analysis.findings],
        "phases": asdict(analysis.phases) | {"agreement": analysis.phase_agreement} if analysis.phases else None,
        "groups": asdict(analysis.groups) if analysis.groups else None,
        "comparison": asdict(analysis.comparison) if analysis.comparison else None,
        "slopes": _slopes(analysis.slopes),
        "odd": analysis.odd,
        "parts": _parts(analysis.parts),
        "settings": analysis.settings,
        "replaced": replaced[replaced.any(axis="columns")].to_dict("index"),
        "dropped": analysis.prepared.dropped,
        "versions": versions(),
    }
    plain: dict[str, Any] = _plain(whole)
    return plain


def _slopes(slopes: Slopes | None) -> dict[str, Any] | None:
    if slopes is None:
        return None
    return asdict(slopes) | {"layers": _rows(slopes.layers), "groups": _rows(slopes.groups)}


def _cut(cut: Cut) -> dict[str, Any]:
    """Its parts as lists of layers in model order."""
    parts = {label: [str(name) for name in named.index] for label, named in cut.labels.groupby(cut.labels)}
    return {
        "worth": cut.worth,
        "called": cut.noun,
        "parts": [{"id": label, "layers": layers} for label, layers in parts.items() if label > 0],
        "rest": parts.get(REST, []),
        "noise": parts.get(NOISE, []),
        "agreement": cut.agreement,
        "agreement_null": cut.null_agreement,
    }


def _tree(tree: Tree) -> dict[str, Any]:
    """The order of the layers, how they join, and the branches with their layers."""
    return {
        "order": [str(tree.layers[place]) for place in tree.order],
        "merges": tree.merges,
        "components": tree.components,
        "branches": [
            {"branch": int(at), **tree.branches.loc[at].to_dict(), "layers": tree.members(int(at))}
            for at in tree.branches.index
        ],
    }


def _parts(parts: Parts | None) -> dict[str, Any] | None:
    """A row a layer that is cut; how many its parts are, and how unequal, a tracker with a summary does not know."""
    if parts is None:
        return None
    table = parts.table if parts.each else parts.table.drop(columns=["parts", "gini", "never"])
    return {"each": parts.each, "layers": table}


def _choice(choice: Choice | None) -> dict[str, Any] | None:
    """Without what it was resampled from, which nobody reads."""
    if choice is None:
        return None
    return {name: value for name, value in vars(choice).items() if name != "resampling"}


def versions() -> dict[str, str]:
    """The software behind the numbers."""
    libraries = ("numpy", "pandas", "scikit-learn", "scipy", "bokeh")
    return {
        "wstrack": __version__,
        "python": platform.python_version(),
        **{library: version(library) for library in libraries},
    }


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A row an object, its index among the columns where that has a name."""
    named = frame.index.name is not None
    return [
        {str(key): value for key, value in row.items()} for row in frame.reset_index(drop=not named).to_dict("records")
    ]


def _plain(value: Any) -> Any:
    """`value` in the types that JSON has; what is none of them becomes its text."""
    if isinstance(value, pd.DataFrame):
        return _plain(_rows(value))
    if isinstance(value, pd.Series):
        return _plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_plain(item) for item in value]
    if value is pd.NA or value is None:
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return str(value)
