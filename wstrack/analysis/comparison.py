"""Runs against runs: tasks, models or settings side by side."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import linear_sum_assignment

from wstrack.analysis.alignment import average
from wstrack.analysis.choice import cluster_layers
from wstrack.analysis.cutoffs import FALSE_DISCOVERIES, SMALLEST_RATIO
from wstrack.analysis.measures import agreement
from wstrack.analysis.procedure import Procedure
from wstrack.errors import WstrackError

__all__ = ["Comparison", "compare", "match_clusters"]

THIRDS = ("early", "middle", "late")
_FEWEST_STEPS = 12
_BATCHES = 6  # of neighbouring samples; their means are nearly independent


@dataclass(frozen=True)
class Comparison:
    """What differs between settings, the first of which is the reference.

    Ratios are of geometric means over the steps: 2 = twice as large as in the reference. Intervals hold 95 %.

    Attributes:
        settings: their names; `runs` how many runs each has.
        layers: a row a layer and setting: `layer`, `setting`, `ratio`, `low`, `high`, `q` (its p after
            Benjamini-Hochberg over all rows) and `differs` (q at most 0.05 and a ratio of at least 1.2 either way).
        thirds: a row a setting and third of the depth: `setting`, `layers` ("early", "middle", "late"), `value` (the
            geometric mean over its layers and steps), and `ratio`, `low`, `high`, `p` against the reference.
        overall: likewise over all layers, a row a setting other than the reference: `ratio`, `low`, `high`, `p`.
        courses: a row a setting and step: `setting`, `step`, `mean` (the geometric mean over its layers and runs) and
            `deviation` (the standard deviation over its runs, in decades; NaN with one run).
        clusters: by layer, a column a setting: its cluster there, with numbers matched to the reference's; missing for
            a layer that the procedure leaves out; no column where layers were not clustered.
        agreement: between the clusters of each two settings, adjusted Rand index: `first`, `second`, `agreement`.
        unmatched: layers that are not in every setting.
        basis: what the intervals are over, for people: runs, or stretches of single runs.
    """

    settings: tuple[str, ...]
    runs: tuple[int, ...]
    layers: pd.DataFrame
    thirds: pd.DataFrame
    overall: pd.DataFrame
    courses: pd.DataFrame
    clusters: pd.DataFrame
    agreement: pd.DataFrame
    unmatched: tuple[str, ...]
    basis: str


def compare(settings: Mapping[str, Sequence[pd.DataFrame]], procedure: Procedure | None = None) -> Comparison:
    """Hold settings against the first of them, layer by layer.

    With two or more runs in each of two settings the intervals and tests are over runs (Welch's t, of the mean log10 of
    each run). With one run on a side they are over six stretches of neighbouring samples (batch means), which tells
    whether these runs differ, not whether others would.

    Args:
        settings: by name, the series of its runs (index = step, columns = layers), on one axis (`align`).
        procedure: how the layers of each setting are clustered; None = they are not.

    Raises:
        ValueError: fewer than two settings, or one without runs.
        WstrackError: the settings have fewer than two layers in common, or one holds too little to cluster.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> def run(scale):
        ...     return pd.DataFrame(scale * rng.lognormal(sigma=0.1, size=(20, 3)), columns=["a", "b", "c"])
        >>> found = compare({"easy": [run(1), run(1), run(1)], "hard": [run(1), run(1), run(1)]})
        >>> bool(found.layers["differs"].any())
        False
        >>> found = compare({"easy": [run(1), run(1), run(1)], "hard": [run(2), run(2), run(2)]})
        >>> bool(1.9 < found.overall.loc["hard", "ratio"] < 2.1), bool(found.layers["differs"].all())
        (True, True)
    """
    names = list(settings)
    if len(names) < 2 or not all(len(runs) for runs in settings.values()):
        raise ValueError(f"there is nothing to compare in settings {names}; pass two or more, each with a run")
    columns = [frame.columns for runs in settings.values() for frame in runs]
    common = [name for name in columns[0] if all(name in other for other in columns[1:])]
    unmatched = dict.fromkeys(str(name) for other in columns for name in other if name not in set(common))
    if len(common) < 2:
        raise WstrackError(f"the runs to compare have {len(common)} layers in common; two or more are needed")
    logs = {name: [_logs(frame[common]) for frame in runs] for name, runs in settings.items()}
    depth = np.arange(len(common)) * 3 // len(common)
    several = all(len(runs) > 1 for runs in settings.values())

    layers, thirds, overall = [], [], {}
    for name in names:
        values = [10 ** _mean(np.array([_mean(run[:, depth == third]) for run in logs[name]])) for third in range(3)]
        for third, label in enumerate(THIRDS):
            if not (depth == third).any():
                continue
            against = _against(logs[names[0]], logs[name], settings[names[0]], settings[name], depth == third)
            row = against if name != names[0] else (1.0, 1.0, 1.0, np.nan)
            thirds.append((name, label, values[third], *row))
        if name == names[0]:
            continue
        overall[name] = _against(
            logs[names[0]], logs[name], settings[names[0]], settings[name], np.ones(len(common), dtype=bool)
        )
        for place, layer in enumerate(common):
            one = np.arange(len(common)) == place
            layers.append((layer, name, *_against(logs[names[0]], logs[name], settings[names[0]], settings[name], one)))
    table = pd.DataFrame(layers, columns=["layer", "setting", "ratio", "low", "high", "p"])
    known = table["p"].notna()
    table["q"] = np.nan
    if known.any():
        table.loc[known, "q"] = stats.false_discovery_control(table.loc[known, "p"])
    large = np.maximum(table["ratio"], 1 / table["ratio"]) >= SMALLEST_RATIO
    table["differs"] = (table["q"] <= FALSE_DISCOVERIES) & large
    clusters = _clusters(settings, common, procedure)
    return Comparison(
        settings=tuple(names),
        runs=tuple(len(runs) for runs in settings.values()),
        layers=table.drop(columns="p"),
        thirds=pd.DataFrame(thirds, columns=["setting", "layers", "value", "ratio", "low", "high", "p"]),
        overall=pd.DataFrame.from_dict(overall, orient="index", columns=["ratio", "low", "high", "p"]).rename_axis(
            "setting"
        ),
        courses=pd.concat([_course_of(name, logs[name], settings[name]) for name in names], ignore_index=True),
        clusters=clusters,
        agreement=pd.DataFrame(
            [
                (a, b, agreement(clusters[a].dropna(), clusters[b].dropna()))
                for a, b in combinations(clusters.columns, 2)
            ],
            columns=["first", "second", "agreement"],
        ),
        unmatched=tuple(unmatched),
        basis="runs" if several else f"{_BATCHES} stretches of single runs; other runs may differ by more",
    )


def match_clusters(labels: pd.Series[int], reference: pd.Series[int]) -> pd.Series[int]:
    """The labels, numbered so that as many layers as can be have the number that they have in the reference.

    Example:
        >>> match_clusters(pd.Series([2, 2, 1]), pd.Series([1, 1, 2])).tolist()
        [1, 1, 2]
    """
    ours = [name for name in np.unique(labels) if name > 0]
    theirs = [name for name in np.unique(reference) if name > 0]
    common = np.array([[((labels == a) & (reference == b)).sum() for b in theirs] for a in ours])
    if not common.size:
        return labels
    number = {ours[a]: theirs[b] for a, b in zip(*linear_sum_assignment(-common), strict=True)}
    free = iter(n for n in range(1, len(ours) + len(theirs) + 1) if n not in number.values())
    return labels.map({-1: -1, **{a: number[a] if a in number else next(free) for a in ours}})


def _logs(frame: pd.DataFrame) -> NDArray[np.float64]:
    """log10 of what is finite and above zero, NaN for the rest."""
    values = frame.to_numpy(dtype=np.float64)
    logs: NDArray[np.float64] = np.full_like(values, np.nan)
    np.log10(values, out=logs, where=np.isfinite(values) & (values > 0))
    return logs


def _against(
    ours: list[NDArray[np.float64]],
    theirs: list[NDArray[np.float64]],
    our_frames: Sequence[pd.DataFrame],
    their_frames: Sequence[pd.DataFrame],
    layers: NDArray[np.bool_],
) -> tuple[float, float, float, float]:
    """(ratio, low, high, p) of theirs against ours over some layers."""
    first = np.array([_mean(run[:, layers]) for run in ours])
    second = np.array([_mean(run[:, layers]) for run in theirs])
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    if not len(first) or not len(second):
        return np.nan, np.nan, np.nan, np.nan
    apart = second.mean() - first.mean()
    if len(first) > 1 and len(second) > 1:
        if max(np.ptp(first), np.ptp(second)) < 1e-12:
            return (float(10**apart),) * 3 + (0.0 if abs(apart) > 1e-12 else 1.0,)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the runs of one of them may be alike to the last bit
            test = stats.ttest_ind(second, first, equal_var=False)
        interval = test.confidence_interval(0.95)
        return float(10**apart), float(10**interval.low), float(10**interval.high), float(test.pvalue)
    course = _course(theirs, their_frames, layers).sub(_course(ours, our_frames, layers)).dropna().to_numpy()
    if len(course) < _FEWEST_STEPS:
        return float(10**apart), np.nan, np.nan, np.nan
    batches = np.array([batch.mean() for batch in np.array_split(course, _BATCHES)])
    apart = batches.mean()  # at the steps that both have
    if np.ptp(batches) < 1e-12:
        return (float(10**apart),) * 3 + (0.0 if abs(apart) > 1e-12 else 1.0,)
    test = stats.ttest_1samp(batches, 0.0)
    interval = test.confidence_interval(0.95)
    return float(10**apart), float(10**interval.low), float(10**interval.high), float(test.pvalue)


def _mean(logs: NDArray[np.float64]) -> float:
    return float(np.nanmean(logs)) if np.isfinite(logs).any() else np.nan


def _course(
    logs: list[NDArray[np.float64]], frames: Sequence[pd.DataFrame], layers: NDArray[np.bool_]
) -> pd.Series[float]:
    """The mean over runs and layers, by step."""
    rows = [
        pd.DataFrame(run[:, layers], index=frame.index).mean(axis=1) for run, frame in zip(logs, frames, strict=True)
    ]
    return pd.concat(rows, axis=1).mean(axis=1)


def _course_of(setting: str, logs: list[NDArray[np.float64]], frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of `Comparison.courses` of one setting."""
    means = pd.concat(
        [pd.Series(pd.DataFrame(run, index=frame.index).mean(axis=1)) for run, frame in zip(logs, frames, strict=True)],
        axis=1,
    ).sort_index()
    return pd.DataFrame(
        {"setting": setting, "step": means.index, "mean": 10.0 ** means.mean(axis=1), "deviation": means.std(axis=1)}
    )


def _clusters(
    settings: Mapping[str, Sequence[pd.DataFrame]], common: list[str], procedure: Procedure | None
) -> pd.DataFrame:
    if procedure is None:
        return pd.DataFrame(index=pd.Index(common, name="layer"))
    found: dict[str, pd.Series[int]] = {}
    for name, runs in settings.items():
        try:
            values = procedure.prepare(average(frame[common] for frame in runs).mean).values
        except WstrackError as error:
            raise WstrackError(f"{name!r} cannot be compared: {error}") from None
        if values.shape[1] < 2:
            raise WstrackError(
                f"{name!r} cannot be compared: at least 2 samples are needed for a curve, and there is 1; log more "
                "often: watch(..., every=...)"
            )
        labels = cluster_layers(values, procedure.at_most(len(values.drop_duplicates()))).clustering.labels
        first = next(iter(found.values()), None)
        found[name] = labels if first is None else match_clusters(labels, first.reindex(labels.index).fillna(-1))
    return pd.DataFrame(found).reindex(common).astype("Int64").rename_axis("layer")
