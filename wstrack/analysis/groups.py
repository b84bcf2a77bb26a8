"""Layers by what they are: kinds, blocks, stages, or a pattern of the user's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from wstrack.analysis.choice import cluster_layers
from wstrack.analysis.cutoffs import LEAST_OF_A_GROUP
from wstrack.analysis.medians import medians
from wstrack.analysis.procedure import Procedure
from wstrack.analysis.stability import measure_stability
from wstrack.analysis.thirds import early_and_late
from wstrack.metrics import METRICS, compute
from wstrack.runs.manifest import block_of

__all__ = ["GROUPINGS", "Groups", "aggregate", "check_grouping", "group_layers", "grouped", "kinds"]

GROUPINGS = ("kind", "block", "stage", "parent")
_SMALLEST = 6  # layers; fewer cannot be told to be two clusters

# By name, the first that fits; only what the module's type does not tell already.
_PARTS = (
    ("squeeze-excite", r"(^|[._])(se|squeeze_?excit\w*|se_module|_se_(reduce|expand)|se_?layer|fc[12]_se)([._]|$)"),
    ("attention", r"(^|[._])(attn|attention|self_attn|cross_attn|qkv|c_attn|in_proj|out_proj|[qkvo]_proj)([._]|$)"),
    ("embedding", r"(^|[._])(embed\w*|wte|wpe|cls_token|pos_embed\w*|\w*_embeddings?)([._]|$)"),
    ("norm", r"(^|[._])(\w*norm\d*|bn\d*|ln_?\w*)([._]|$)"),
    ("MLP", r"(^|[._])(mlp|ffn|feed_forward|c_fc|fc[12]|intermediate|(up|down|gate)_proj)([._]|$)"),
    ("depthwise", r"(^|[._])(\w*depthwise\w*|\w*conv_dw|dw_?conv\w*)([._]|$)"),
    ("pointwise", r"(^|[._])(\w*pointwise\w*|conv_pwl?|\w*expand_conv|\w*project_conv)([._]|$)"),
)


@dataclass(frozen=True)
class Groups:
    """Layers in groups, and the clusters inside each.

    Attributes:
        by: "kind", "block", "stage", a pattern, or "own" for a mapping or a function.
        labels: by layer, its group.
        table: by group, in the order of their first layers: how many `layers`, the `median` over layers of a layer's
            median value, `late_early_ratio` (of the last third over the first, likewise; NaN where values are
            negative), `k` clusters inside, the `agreement` of halves and the `verdict` on them (as in `Stability`; ""
            where there is one cluster or too few layers to tell); the last three only where clusters were looked for.
        clusters: by layer, its cluster inside its group, from 1; empty where none were looked for.
        p: of the differences between the groups' levels, a Kruskal-Wallis test over layers; NaN with one group.
    """

    by: str
    labels: pd.Series[str]
    table: pd.DataFrame
    clusters: pd.Series[int]
    p: float

    def inside(self, group: str) -> dict[int, list[str]]:
        """By cluster inside a group, its layers in model order; empty where the group is one cluster."""
        ours = self.clusters[self.labels[self.clusters.index] == group]
        found = {int(label): [str(name) for name in ours.index[ours == label]] for label in sorted(set(ours))}
        return found if len(found) > 1 else {}


def group_layers(layers: pd.DataFrame, by: str | Mapping[str, str] | Callable[[str], str] = "kind") -> pd.Series[str]:
    """To which group each layer belongs.

    Args:
        layers: `Run.layers`: by layer name, with the columns `kind` and `of` where they are known. Parts are of the
            kind, the block and the stage of their layer.
        by: "kind" (depthwise, pointwise, squeeze-excite, attention, MLP, norm, embedding, ...: the kind of the module,
            made finer by the layer's name), "block", "stage" (the numbered block above the blocks, or what holds
            them), "parent" (the layer that a part is of; what is no part is among "whole layers"), a regular expression
            (the first group in parentheses, or the whole match; what does not match is "other"), a mapping, or a
            function of the name.

    Raises:
        ValueError: an expression that is not one, or one that no layer matches; "parent", and there are no parts.

    Example:
        >>> names = pd.Index(["layer1.0.conv1.weight", "layer1.0.se.fc1.weight", "layer2.0.conv1.weight"])
        >>> layers = pd.DataFrame({"kind": "conv"}, index=names)
        >>> group_layers(layers).tolist(), group_layers(layers, "stage").tolist()
        (['conv', 'squeeze-excite', 'conv'], ['layer1', 'layer1', 'layer2'])
        >>> group_layers(layers, r"(conv|fc)").tolist()
        ['conv', 'fc', 'conv']
    """
    names = [str(name) for name in layers.index]
    parents = list(layers["of"].fillna("")) if "of" in layers else [""] * len(names)
    wholes = [parent or name for parent, name in zip(parents, names, strict=True)]
    if callable(by):
        found = [by(name) for name in names]
    elif isinstance(by, Mapping):
        found = [by.get(name, "other") for name in names]
    elif by == "kind":
        kinds = layers["kind"].fillna("") if "kind" in layers else [""] * len(names)
        found = [_kind(name, str(kind)) for name, kind in zip(wholes, kinds, strict=True)]
    elif by == "block":
        found = [block_of(name) or _own(name) for name in wholes]
    elif by == "stage":
        found = [_stage(name) for name in wholes]
    elif by == "parent":
        found = _parents(parents)
    else:
        found = _matched(by, names)
    return pd.Series(found, index=layers.index, name="group", dtype=object)


def _kind(name: str, kind: str) -> str:
    if kind in ("depthwise", "embedding", "norm", "bias", "recurrent", "transposed", "attention"):
        return kind
    return next((part for part, pattern in _PARTS if re.search(pattern, name, re.IGNORECASE)), kind or "other")


def _parents(parents: list[str]) -> list[str]:
    if not any(parents):
        raise ValueError(
            "'parent' needs layers that are cut into parts, and there are none; measure parts: watch(parts=...), "
            "or group by kind, block or stage: group= (--group)"
        )
    return [parent or "whole layers" for parent in parents]


def _own(name: str) -> str:
    return name.rpartition(".")[0] or name


def _stage(name: str) -> str:
    block = block_of(name)
    if not block:
        return _own(name)
    above, _, last = block.rpartition(".")
    deeper = re.match(r"\.\d+\.", name[len(block) :])
    return above if last.isdigit() and above and not deeper else block


def check_grouping(by: str) -> re.Pattern[str]:
    """Refuse what is neither one of `GROUPINGS` nor a regular expression."""
    try:
        return re.compile(by)
    except re.error as error:
        raise ValueError(
            f"{by!r} is neither {', '.join(GROUPINGS)} nor a regular expression ({error}); pass one of these as "
            "group= (--group) or aggregate= (--aggregate) of a report, or by="
        ) from error


def _matched(pattern: str, names: list[str]) -> list[str]:
    compiled = check_grouping(pattern)
    matches = [compiled.search(name) for name in names]
    if not any(matches):
        raise ValueError(
            f"{pattern!r} matches no layer (the first is {names[0]!r}); pass {', '.join(GROUPINGS)} or a regular "
            "expression that does as group= (--group) or aggregate= (--aggregate) of a report, or by="
        )
    return ["other" if m is None else (m[1] if compiled.groups and m[1] else m[0]) for m in matches]


def grouped(
    values: pd.DataFrame,
    labels: pd.Series[str],
    procedure: Procedure | None = None,
    *,
    by: str = "own",
    series: pd.DataFrame | None = None,
    comparable: pd.Index[int] | None = None,
    inside: bool = True,
) -> Groups:
    """Cluster the layers of each group by themselves, as the WeightScale authors did with the parts of EfficientNet.

    Where k is to be chosen, it is chosen in each group, so a group may well be one cluster.

    Args:
        values: rows = layers, columns = steps, finite (`Prepared.values`).
        labels: of `group_layers`.
        procedure: how layers are clustered; None = `Procedure()`.
        by: what `labels` are by, for the record.
        series: as it was logged, for the medians; None = take `values`.
        comparable: the steps that late over early is told from (`comparable_steps`); None = all.
        inside: whether to cluster inside the groups.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> values = pd.DataFrame(np.repeat([0.0, 1.0], 6)[:, None] + 0.1 * rng.normal(size=(12, 20)))
        >>> found = grouped(values, pd.Series(["conv"] * 6 + ["norm"] * 6))
        >>> found.table["k"].to_dict(), found.p < 0.01
        ({'conv': 1, 'norm': 1}, True)
    """
    procedure = procedure or Procedure()
    labels = labels.reindex(values.index)
    logged = values.T if series is None else series[values.index].where(np.isfinite(series[values.index]))
    level = medians(logged)
    ratio = early_and_late(logged if comparable is None else logged.loc[comparable])["ratio"]
    clusters = pd.Series(1, index=values.index if inside else [], name="cluster", dtype=np.int64)
    rows = {}
    for group in dict.fromkeys(labels):
        members = labels.index[labels == group]
        row: dict[str, Any] = {
            "layers": len(members),
            "median": float(level[members].median()),
            "late_early_ratio": float(ratio[members].dropna().median()),
        }
        if inside:
            row |= {"k": 1, "agreement": np.nan, "verdict": ""}
        if inside and len(members) >= _SMALLEST:
            row |= _clusters_inside(values.loc[members], procedure, clusters)
        rows[group] = row
    parts = [level[labels.index[labels == group]].dropna() for group in rows]
    parts = [part for part in parts if len(part)]
    p = float("nan")
    if len(parts) > 1 and np.ptp(np.concatenate(parts)) > 0:
        p = float(stats.kruskal(*parts).pvalue)
    return Groups(by, labels, pd.DataFrame.from_dict(rows, orient="index").rename_axis("group"), clusters, p)


def kinds(
    values: pd.DataFrame,
    layers: pd.DataFrame,
    procedure: Procedure,
    *,
    series: pd.DataFrame | None = None,
    comparable: pd.Index[int] | None = None,
) -> Groups | None:
    """The layers by kind, without clusters inside; None unless two kinds have three or more layers.

    Args:
        values, procedure, series, comparable: as in `grouped`.
        layers: `Run.layers`.

    Example:
        >>> layers = pd.DataFrame({"kind": ["conv"] * 3 + ["linear"] * 3}, index=list("abcdef"))
        >>> values = pd.DataFrame(np.eye(6), index=layers.index)
        >>> kinds(values, layers, Procedure()).table["layers"].to_dict()
        {'conv': 3, 'linear': 3}
    """
    labels = group_layers(layers).reindex(values.index)
    if (labels.value_counts() >= LEAST_OF_A_GROUP).sum() < 2:
        return None
    return grouped(values, labels, procedure, by="kind", series=series, comparable=comparable, inside=False)


def _clusters_inside(values: pd.DataFrame, procedure: Procedure, clusters: pd.Series[int]) -> dict[str, Any]:
    """Cluster the layers of one group into `clusters`; what its row of `Groups.table` says of them."""
    if procedure.takes_k and not procedure.chooses_k:  # a group may have fewer layers that differ than were asked for
        procedure = procedure.with_k(min(int(procedure.number), len(values.drop_duplicates())))
    found = cluster_layers(values, procedure)
    clusters[values.index] = found.clustering.labels
    if found.clustering.k < 2:
        return {"k": found.clustering.k}
    resampling = found.choice.resampling if found.choice else None
    held = measure_stability(values, procedure.with_k(found.clustering.k), resampling=resampling)
    return {"k": found.clustering.k} | ({"agreement": held.median, "verdict": held.verdict} if held else {})


def aggregate(
    sums: Mapping[str, pd.DataFrame],
    groups: pd.Series[str],
    *,
    metric: str = "rwc",
    numel: pd.Series[int] | None = None,
) -> pd.DataFrame:
    """One metric of each group, from the raw sums of its layers: sums add up over tensors, ratios do not.

    Args:
        sums: by name of a raw sum (`wstrack.metrics`), index = step, columns = layers.
        groups: by layer, its group.
        metric: a metric of `wstrack.metrics.METRICS` whose sums are there.
        numel: by layer, its number of elements; only `norm` needs it.

    Returns:
        index = step, columns = groups in the order of their first layers; NaN where a layer's sum is missing.

    Raises:
        ValueError: an unknown metric, or a sum that is missing.

    Example:
        >>> sums = {
        ...     "abs_change": pd.DataFrame({"a.0": [1.0], "a.1": [1.0]}),
        ...     "abs_previous": pd.DataFrame({"a.0": [1.0], "a.1": [99.0]}),
        ... }
        >>> aggregate(sums, pd.Series({"a.0": "a", "a.1": "a"}))["a"].tolist()
        [0.02]
    """
    needed = METRICS[metric].sums if metric in METRICS else ()
    missing = [name for name in needed if name not in sums]
    if metric == "norm" and numel is None:
        raise ValueError("metric='norm' is per element; pass numel= (Run.layers['numel'])")
    if not needed or missing:
        there = ", ".join(name for name, one in METRICS.items() if set(one.sums) <= set(sums)) or "none"
        raise ValueError(f"metric={metric!r} cannot be had from these sums; pass metric= one of: {there}")
    names = list(dict.fromkeys(groups))

    def added(frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({name: frame[groups.index[groups == name]].sum(axis=1, skipna=False) for name in names})

    sizes = np.ones(len(names))
    if numel is not None:
        sizes = np.array([float(numel[groups.index[groups == name]].sum()) for name in names])
    frames = {name: added(sums[name]) for name in needed}
    steps = pd.concat(frames, axis=1, sort=True).index  # a run that was watched again may have fewer samples of one sum
    totals = {name: frame.reindex(steps).to_numpy() for name, frame in frames.items()}
    return pd.DataFrame(compute([metric], totals, sizes)[metric], index=steps, columns=pd.Index(names, dtype=object))
