"""Layers that are cut into parts: which of both are analysed, and what the parts of each layer do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wstrack.analysis.alignment import Align, align, average
from wstrack.runs.run import Run

__all__ = ["MOST", "SUMMARY", "Parts", "family_of", "gini", "of_parts", "on_one_level", "parts_of"]

MOST = 2000  # layers: of more an analysis would take minutes
SUMMARY = ("least", "median", "largest")  # what a tracker has of a layer's parts; and "zero", the share that is 0


@dataclass(frozen=True)
class Parts:
    """The parts of the layers that are cut.

    Attributes:
        series: index = step, columns = parts in model order, those of a layer side by side; the mean of several runs.
        of: by part, its layer.
        each: whether there is every part, or the three rows by which a tracker sums up those of a layer.
        table: by layer in model order: how many `parts` (0 where a tracker did not say); the `least`, `median` and
            `largest` of their means over the samples; `gini`, how unequal those are (0 = all alike, 1 = one alone
            changes); `unmoved`, the share of the parts that did not move in a sample, the mean of all; `never`, how
            many did in none.
        change, previous: the raw sums behind the change, as `series`; empty where a run has none, or there are several.
        intervals: by step, how many optimizer steps a sample spans; empty where nobody knows.
    """

    series: pd.DataFrame
    of: pd.Series[str]
    each: bool
    table: pd.DataFrame
    change: pd.DataFrame
    previous: pd.DataFrame
    intervals: pd.Series[int]

    def label(self, part: str) -> str:
        """What a part is called inside its layer: of `h.0.attn.c_attn.weight[q]`, `q`."""
        return part.removeprefix(f"{self.of[part]}[").removesuffix("]")

    def inside(self, layer: str) -> list[str]:
        """The parts of a layer, in their order."""
        return [str(name) for name in self.of.index[self.of == layer]]


def of_parts(run: Run) -> pd.Series[str]:
    """Of the layers of a run that are parts, which layer they are of.

    Example:
        >>> from wstrack.runs.manifest import Layer, Manifest
        >>> manifest = Manifest("demo", (Layer("a"), Layer("a[0]", of="a"), Layer("a[1]", of="a")), ("rwc",), every=1)
        >>> of_parts(Run.from_values(manifest, [1], {"rwc": np.ones((1, 3))})).to_dict()
        {'a[0]': 'a', 'a[1]': 'a'}
    """
    of = run.layers["of"] if "of" in run.layers else pd.Series("", index=run.layers.index, dtype=object)
    of = of.fillna("")
    return of[of != ""]


def family_of(layer: str) -> str:
    """What layers of one name have in common, whichever block they are in.

    Example:
        >>> family_of("model.layers.7.mlp.experts.down_proj")
        'model.layers.*.mlp.experts.down_proj'
    """
    return re.sub(r"\d+", "*", layer)


def on_one_level(runs: Sequence[Run], *, whole: bool = False, most: int = MOST) -> tuple[tuple[Run, ...], str]:
    """The runs with the parts in place of their layers, or with whole layers only, and which of both in words.

    A layer beside its own parts would be counted twice. Whole layers are taken where a tracker has a summary of the
    parts, where the runs do not have the same ones, and where there would be too many layers to analyse.

    Args:
        runs: at least one.
        whole: whether to take whole layers in any case, as for blocks of them.
        most: layers.

    Returns:
        The runs; and "" where none has parts.

    Example:
        >>> from wstrack.runs.manifest import Layer, Manifest
        >>> layers = (Layer("a"), Layer("a[q]", of="a"), Layer("a[k]", of="a"), Layer("b"))
        >>> run = Run.from_values(Manifest("demo", layers, ("rwc",), every=1), [1], {"rwc": np.ones((1, 4))})
        >>> (parts,), _ = on_one_level([run])
        >>> (whole,), why = on_one_level([run], most=2)
        >>> list(parts.layers.index), list(whole.layers.index)
        (['a[q]', 'a[k]', 'b'], ['a', 'b'])
        >>> why
        'whole layers: with the 2 parts of 1 of them there would be 3, and more than 2 take too long'
    """
    of = [of_parts(run) for run in runs]
    if not any(map(len, of)):
        return tuple(runs), ""
    count, cut = max((len(parts), parts.nunique()) for parts in of)
    wholes = tuple(_without(run, parts.index) for run, parts in zip(runs, of, strict=True))
    if whole:
        return wholes, "whole layers: they are what is put together"
    if any(_summed_up(run) for run in runs):
        return wholes, f"whole layers: of the parts of {cut:,} the tracker has a summary; the recording has each part"
    if not all(parts.equals(of[0]) for parts in of[1:]):
        return wholes, "whole layers: the runs do not have the same parts"
    total = len(wholes[0].layers) - cut + count
    if total > most:
        return wholes, (
            f"whole layers: with the {count:,} parts of {cut:,} of them there would be {total:,}, and more than "
            f"{most:,} take too long"
        )
    return tuple(_without(run, set(of[0])) for run in runs), f"{count:,} parts in place of {cut:,} layers"


def _summed_up(run: Run) -> bool:
    return bool(run.origin.get("parts") == "summarised")


def _without(run: Run, names: Any) -> Run:
    """The run without some layers."""
    kept = run.layers.index[~run.layers.index.isin(list(names))]
    layers = run.layers.loc[kept]
    return replace(
        run,
        layers=layers.assign(depth=np.arange(len(layers), dtype=np.int64)),
        series={metric: _of(frame, kept) for metric, frame in run.series.items()},
        sums={name: _of(frame, kept) for name, frame in run.sums.items()},
    )


def _of(frame: pd.DataFrame, names: pd.Index[Any]) -> pd.DataFrame:
    return frame[[name for name in names if name in frame]]


def parts_of(runs: Sequence[Run], metric: str, align_by: Align = "step") -> Parts | None:
    """The parts of one run, or of several that have the same ones; None where there are none.

    Args:
        runs: as they were read, with layers and parts.
        metric: which of their series.
        align_by: as `align` of `wstrack.report`.

    Example:
        >>> from wstrack.runs.manifest import Layer, Manifest
        >>> layers = (Layer("a"), Layer("a[0]", of="a"), Layer("a[1]", of="a"))
        >>> values = {"rwc": np.array([[1.0, 2.0, 0.0], [1.0, 4.0, 0.0]])}
        >>> found = parts_of([Run.from_values(Manifest("demo", layers, ("rwc",), every=1), [1, 2], values)], "rwc")
        >>> found.table.loc["a", ["least", "largest", "gini", "unmoved", "never"]].tolist()
        [0.0, 3.0, 1.0, 0.5, 1.0]
    """
    of = of_parts(runs[0])
    frames = [run.series[metric] for run in runs]
    alike = all(of_parts(run).equals(of) for run in runs[1:])
    if not len(of) or not alike or not all(of.index.isin(frame.columns).all() for frame in frames):
        return None
    frames = align([frame[of.index] for frame in frames], align_by)
    series = average(frames).mean if len(frames) > 1 else frames[0]
    if not len(series):
        return None
    if any(_summed_up(run) for run in runs):
        values = of[[not name.endswith("[zero]") for name in of.index]]
        table, nothing = _summary(series, of), pd.DataFrame()
        return Parts(series[values.index], values, False, table, nothing, nothing, runs[0].intervals)
    sums = runs[0].sums if len(runs) == 1 and metric == "rwc" else {}
    known = "abs_change" in sums and "abs_previous" in sums
    change, previous = (
        sums[name].reindex(series.index)[of.index] if known else pd.DataFrame()
        for name in ("abs_change", "abs_previous")
    )
    return Parts(series, of, True, _table(series, of), change, previous, runs[0].intervals)


def _table(series: pd.DataFrame, of: pd.Series[str]) -> pd.DataFrame:
    values = series.to_numpy(dtype=np.float64)
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    means = np.where(count > 0, np.where(finite, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
    still = np.where(count > 0, ((values == 0) & finite).sum(axis=0) / np.maximum(count, 1), np.nan)
    rows = {}
    for layer, places in of.reset_index(drop=True).groupby(of.to_numpy(), sort=False).groups.items():
        here, at = means[places], still[places]
        known = here[np.isfinite(here)]
        rows[layer] = {
            "parts": len(here),
            "least": known.min() if len(known) else np.nan,
            "median": float(np.median(known)) if len(known) else np.nan,
            "largest": known.max() if len(known) else np.nan,
            "gini": gini(known),
            "unmoved": float(at[np.isfinite(at)].mean()) if len(known) else np.nan,
            "never": int((at == 1).sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def _summary(series: pd.DataFrame, of: pd.Series[str]) -> pd.DataFrame:
    """The same from what a tracker has: the means of the least, the median and the largest part of each sample."""
    means = series.where(np.isfinite(series)).mean()
    rows = {}
    for layer in dict.fromkeys(of):
        rows[layer] = {
            "parts": 0,
            **{which: float(means.get(f"{layer}[{which}]", np.nan)) for which in SUMMARY},
            "gini": np.nan,
            "unmoved": float(means.get(f"{layer}[zero]", np.nan)),
            "never": 0,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def gini(values: NDArray[np.floating[Any]]) -> float:
    """How unequal some numbers are: 0 = all alike, 1 = one of them is all there is; NaN of one, or of nothing but 0.

    Half the mean difference of two of them, over their mean (Gini 1912), times n / (n - 1), so that it comes to 1.

    Example:
        >>> gini(np.array([2.0, 2.0, 2.0])), gini(np.array([0.0, 0.0, 5.0])), round(gini(np.array([1.0, 3.0])), 3)
        (0.0, 1.0, 0.5)
    """
    count, total = len(values), float(values.sum())
    if count < 2 or not total > 0:
        return float("nan")
    ranks = np.arange(1, count + 1)
    unequal = float(((2 * ranks - count - 1) * np.sort(values)).sum()) / (count - 1) / total
    return min(max(unequal, 0.0), 1.0)
