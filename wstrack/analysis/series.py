"""One series out of one or several runs: which metric, of layers or of blocks, on which scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wstrack.analysis.groups import aggregate, group_layers
from wstrack.errors import WstrackError
from wstrack.metrics import METRICS
from wstrack.runs.run import Run

__all__ = ["aggregated", "choose_metric", "encodable", "matched", "names_of", "settings_of"]


def choose_metric(runs: Sequence[Run], metric: str | None) -> str:
    """The metric to report on: the one asked for, else `rwc`, else the first that the first run holds.

    Raises:
        ValueError: a run does not hold the metric asked for.
        WstrackError: nobody asked for one, and a run holds none of use.
    """
    held = runs[0].metrics
    if metric is None:
        if not held:
            raise WstrackError(f"the run {runs[0].name!r} holds no metric; pull it again with match= (--match)")
        metric = "rwc" if "rwc" in held else held[0]
    for run in runs:
        if metric not in run.series:
            there = ", ".join(run.metrics) or "nothing"
            raise ValueError(f"metric={metric!r} is not in the run {run.name!r}; pass metric= (--metric) of: {there}")
    return metric


def aggregated(run: Run, by: str, metric: str) -> Run:
    """The run with a block in the place of its layers: what changed in all of them, by what all of them were.

    Args:
        run: with the raw sums of its recording.
        by: as in `wstrack.analysis.group_layers`.
        metric: the one to keep.

    Raises:
        ValueError: the run does not hold the sums that the metric needs, or there is but one block.
    """
    needed = METRICS[metric].sums if metric in METRICS else ()
    if not needed or not set(needed) <= set(run.sums):
        came = run.origin.get("source", "a table or a tracker's series")
        raise ValueError(
            f"aggregate={by!r} adds up the raw sums behind {metric}, and the run {run.name!r}, read from {came}, has "
            "none; pull the run's recording, or leave out aggregate= (--aggregate); group= (--group) takes any run"
        )
    ours = run.layers[_with_all(run, needed)]
    blocks = group_layers(ours, by)
    also = metric != "lr" and set(METRICS["lr"].sums) <= set(run.sums)
    also = also and bool(_with_all(run, METRICS["lr"].sums)[_with_all(run, needed)].all())
    kept = [metric, *(["lr"] if also else [])]
    series = {one: aggregate(run.sums, blocks, metric=one, numel=ours["numel"]) for one in kept}
    frame = series[metric]
    if frame.shape[1] < 2:
        raise ValueError(
            f"aggregate={by!r} puts all {len(blocks)} layers of {run.name!r} into one; pass aggregate= (--aggregate) "
            "kind, block, stage or a regular expression that tells some apart"
        )
    layers = ours.groupby(blocks, sort=False)
    table = pd.DataFrame(
        {
            "kind": layers["kind"].agg(lambda kinds: kinds.iloc[0] if (kinds == kinds.iloc[0]).all() else ""),
            "shape": [()] * frame.shape[1],
            "numel": layers["numel"].sum(),
            "depth": np.arange(frame.shape[1]),
            "block": frame.columns,
            "aliases": [()] * frame.shape[1],
            "of": "",
        }
    ).rename_axis("layer")
    series = {one: frame.reindex(run.series[one].index) for one, frame in series.items()}
    return replace(run, series=series, layers=table, sums={})


def _with_all(run: Run, sums: Sequence[str]) -> NDArray[np.bool_]:
    """Which layers of a run have all of some raw sums."""
    there: NDArray[np.bool_] = np.logical_and.reduce([run.layers.index.isin(run.sums[name].columns) for name in sums])
    return there


def matched(runs: Sequence[Run], metric: str, *, common: bool = False) -> tuple[list[pd.DataFrame], list[str]]:
    """The series of each run over the same layers, and the layers that not all runs have.

    Args:
        runs: at least one.
        metric: which.
        common: whether layers that not all runs have may be left out.

    Raises:
        WstrackError: no run has a sample; the runs do not have the same layers in the same order and `common` is
            false; or they have fewer than two in common.
    """
    frames = [run.series[metric] for run in runs]
    if not any(len(frame) for frame in frames):
        raise WstrackError(
            f"no samples of {metric} in {', '.join(run.name for run in runs)}; train longer, or sample "
            "more often: watch(..., every=...)"
        )
    if all(frame.columns.equals(frames[0].columns) for frame in frames):
        return frames, []
    if not common:
        for run, frame in zip(runs[1:], frames[1:], strict=True):
            for ours, theirs in zip_longest(frames[0].columns, frame.columns):
                if ours != theirs:
                    raise WstrackError(
                        f"the runs differ in their layers: {ours!r} in {runs[0].name!r} against {theirs!r} in "
                        f"{run.name!r}; report on each alone, log the same layers (layers=), or hold them against "
                        "each other: compare= (--compare)"
                    )
    everywhere = set(frames[0].columns).intersection(*(frame.columns for frame in frames))
    names = [name for name in frames[0].columns if name in everywhere]
    if len(names) < 2:
        raise WstrackError(f"the runs have {len(names)} layers in common; two or more are needed to compare them")
    others = dict.fromkeys(str(name) for frame in frames for name in frame.columns if name not in everywhere)
    return [frame[names] for frame in frames], list(others)


def names_of(runs: Sequence[Run]) -> list[str]:
    """The names of runs, those that several have with their places."""
    count = Counter(run.name for run in runs)
    return [run.name if count[run.name] == 1 else f"{run.name} ({place})" for place, run in enumerate(runs, 1)]


def settings_of(
    runs: Sequence[Run], frames: Sequence[pd.DataFrame], by: str | Callable[[Run], str]
) -> dict[str, list[pd.DataFrame]]:
    """The series of the runs by setting, in the order in which the settings come.

    Raises:
        ValueError: a run lacks the fact, or there is only one setting.
    """
    settings: dict[str, list[pd.DataFrame]] = {}
    for place, (run, frame) in enumerate(zip(runs, frames, strict=True)):
        if callable(by):
            name = str(by(run))
        elif by == "run":
            name = names_of(runs)[place]
        elif by in run.settings or by in run.origin:
            name = str(run.settings.get(by, run.origin.get(by)))
        else:
            known = ", ".join(dict.fromkeys([*run.settings, *(name for name in run.origin if name != "settings")]))
            raise ValueError(
                f"compare={by!r} is no setting of {run.name!r}; pass compare= (--compare) run, or: {known}"
            )
        settings.setdefault(name, []).append(frame)
    if len(settings) < 2:
        raise ValueError(
            f"compare={by if isinstance(by, str) else 'function'!r} puts all {len(runs)} runs into one setting "
            f"({next(iter(settings))!r}); pass compare= (--compare) what differs between them, or run"
        )
    return settings


def encodable(run: Run) -> Run:
    """The run with halves of surrogate pairs in its names as JSON writes them, for pandas takes no such text."""

    def escaped(values: Iterable[Any]) -> list[Any]:
        return [v.encode(errors="backslashreplace").decode() if isinstance(v, str) else v for v in values]

    def renamed(frame: pd.DataFrame, axis: Literal["index", "columns"]) -> pd.DataFrame:
        names: pd.Index[Any] = getattr(frame, axis)
        return frame.set_axis(pd.Index(escaped(names), dtype=object, name=names.name), axis=axis)

    layers = renamed(run.layers, "index")
    for column in ("kind", "block", "of"):
        layers[column] = pd.Series(escaped(layers[column]), index=layers.index, dtype=object)
    return replace(
        run,
        layers=layers,
        facts=dict(zip(run.facts, escaped(run.facts.values()), strict=True)),
        origin=dict(zip(run.origin, escaped(run.origin.values()), strict=True)),
        series={metric: renamed(frame, "columns") for metric, frame in run.series.items()},
        sums={name: renamed(frame, "columns") for name, frame in run.sums.items()},
        marks=tuple(zip([step for step, _ in run.marks], escaped(name for _, name in run.marks), strict=True)),
    )
