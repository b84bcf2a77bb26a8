"""The tables of docs/papers/weightscale.md from the runs of train.py: `python compare.py RUNS`.

An interval in brackets is the 95 % interval of a mean over seeds; in rows for all, over the settings above.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from runs import (
    METRICS,
    Preset,
    Trained,
    agreements,
    among_equals,
    grouped,
    mean_and_interval,
    thirds,
    trained,
)
from scipy import stats


def main() -> None:
    """Print every table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="the folder that train.py wrote to")
    parser.add_argument("--harder", default="fashion-mnist")
    parser.add_argument("--easier", default="mnist")
    parser.add_argument("--k", type=int, nargs="+", default=[3, 4], help="numbers of clusters")
    options = parser.parse_args()
    runs = trained(options.runs)
    settings(runs)
    depth(runs)
    parts(runs)
    difficulty(runs, options.harder, options.easier)
    course(runs, options.harder, options.easier)
    stability(runs, options.k)


def settings(runs: list[Trained]) -> None:
    """What was trained, and how well."""
    rows = []
    for key, group in grouped(runs, "model", "optimizer", "data").items():
        first = group[0]
        accuracy = [100 * one.accuracy for one in group]
        layers = len(first.run.layers)
        rows.append((*key, layers, first.images, first.epochs, len(group), f"{np.mean(accuracy):.1f}"))
    table("Runs", "model, optimizer, data, layers, images, epochs, seeds, accuracy %", rows)


def depth(runs: list[Trained]) -> None:
    """Do later layers change more than early ones?"""
    rows = []
    for key, group in grouped(runs, "model", "optimizer", "data").items():
        for metric in METRICS:
            levels = [one.levels(metric) for one in group]
            rho = [stats.spearmanr(range(len(level)), level).statistic for level in levels]
            inner = [stats.spearmanr(range(len(level) - 2), level.iloc[1:-1]).statistic for level in levels]
            equal = [among_equals(one.run, level) for one, level in zip(group, levels, strict=True)]
            ratio = [thirds(level)[2] - thirds(level)[0] for level in levels]
            rows.append((*key, metric, plain(rho), plain(inner), plain(equal), times(ratio)))
    heads = "model, optimizer, data, metric, depth ~ change, without first and last, equal shapes, last / first third"
    table("Later against earlier layers (rank correlations; ratio of thirds)", heads, rows)


def parts(runs: list[Trained]) -> None:
    """Is a large relative change a large change, or a small weight? rwc = mean change / mean weight before it."""
    rows = []
    for key, group in grouped(runs, "model", "optimizer", "data").items():
        both = []
        for one in group:
            scale = one.logs("norm").shift(1).iloc[1:]  # the weights at the previous sample
            moved = one.logs("rwc").iloc[1:] + scale
            both.append([thirds(part.mean())[2] - thirds(part.mean())[0] for part in (moved, scale)])
        rows.append((*key, *(times(list(part)) for part in zip(*both, strict=True))))
    heads = "model, optimizer, data, mean change: last / first third, mean weight: last / first third"
    table("What the ratio of thirds is made of (epoch 2 on)", heads, rows)


def difficulty(runs: list[Trained], harder: str, easier: str) -> None:
    """Do the last layers change more on harder data? The same model and seed on both, compared in pairs."""
    rows = []
    for key, group in grouped(runs, "model", "optimizer").items():
        pairs = paired(group, harder, easier)
        for metric in METRICS if pairs else ():
            gaps = [hard.levels(metric) - easy.levels(metric) for hard, easy in pairs]
            by_third = np.array([thirds(gap) for gap in gaps])
            columns = (*by_third.T, [gap.iloc[-1] for gap in gaps], by_third[:, 2] - by_third[:, 0])
            rows.append((*key, metric, len(pairs), *map(times, columns)))
    heads = "model, optimizer, metric, pairs, first third, middle third, last third, last layer, last / first third"
    table(f"{harder} against {easier}: ratio of the change, by thirds of the layers", heads, rows)


def course(runs: list[Trained], harder: str, easier: str) -> None:
    """When along training does the change of the last third of the layers depend on the data?"""
    rows = []
    for key, group in grouped(runs, "model", "optimizer").items():
        pairs = paired(group, harder, easier)
        if pairs:
            both = [[_last_third_by_epoch(one) for one in pair] for pair in pairs]
            gaps = np.array([[thirds(hard - easy), thirds(hard), thirds(easy)] for hard, easy in both])
            change = [f"{10**mean:.2g}" for data in (1, 2) for mean in gaps[:, data].mean(0)]
            rows.append((*key, *map(times, gaps[:, 0].T), " → ".join(change[:3]), " → ".join(change[3:])))
    heads = f"model, optimizer, first third of epochs, middle third, last third, rwc on {harder}, rwc on {easier}"
    table(f"{harder} against {easier} along training: rwc of the last third of the layers", heads, rows)


def _last_third_by_epoch(one: Trained) -> pd.Series[float]:
    logs = one.logs("rwc")
    return logs.iloc[:, np.array_split(np.arange(logs.shape[1]), 3)[2]].mean(axis=1)


def paired(group: list[Trained], harder: str, easier: str) -> list[tuple[Trained, Trained]]:
    """The runs of one model on both data sets, by seed."""
    by = {(one.data, one.seed): one for one in group}
    seeds = sorted(seed for data, seed in by if data == harder and (easier, seed) in by)
    return [(by[harder, seed], by[easier, seed]) for seed in seeds]


def stability(runs: list[Trained], ks: Sequence[int]) -> None:
    """How far do clusters hold: in halves of a run's epochs, and from seed to seed?"""
    presets: tuple[Preset, ...] = ("weightscale", None)
    for preset in presets:
        rows: list[tuple[object, ...]] = []
        gains: dict[tuple[str, int], list[float]] = {}
        for key, group in grouped(runs, "model", "optimizer", "data").items():
            for k in ks:
                found = [agreements(group, metric, k, preset) for metric in METRICS]
                halves = [ways["random halves"] for ways in found]
                gain = halves[0] - halves[1]
                gains.setdefault((key[1], k), []).append(gain.mean())
                seeds = [f"{ways['runs'].mean():.2f}" for ways in found]
                rows.append((*key, k, *map(plain, halves), plain(gain), *seeds))
        for (optimizer, k), means in gains.items():
            rows.append(("all", optimizer, f"{len(means)} settings", k, "", "", plain(means), "", ""))
        heads = (
            "model, optimizer, data, k, halves: rwc, halves: elementwise, difference, seeds: rwc, seeds: elementwise"
        )
        how = "the authors' procedure" if preset else "wstrack's default (log scale, every layer)"
        table(f"Agreement of clusterings (adjusted Rand index), {how}", heads, rows)


def plain(values: Sequence[float]) -> str:
    """Mean and interval over seeds."""
    mean, low, high = mean_and_interval(values)
    if np.isnan(mean):
        return "–"
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def times(logs: Sequence[float]) -> str:
    """Geometric mean and interval of a ratio, from its logarithms to base 10."""
    mean, low, high = (10**value for value in mean_and_interval(logs))
    return f"× {mean:.2f} [{low:.2f}, {high:.2f}]"


def table(title: str, heads: str, rows: Iterable[tuple[object, ...]]) -> None:
    """A table in Markdown."""
    names = heads.split(", ")
    print(f"\n### {title}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    main()
