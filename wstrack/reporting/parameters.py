"""The clusters of a report as the parameter groups of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from wstrack.runs.names import unwrapped

__all__ = ["group_parameters", "of_parameters"]


def of_parameters(labels: pd.Series[int], of: pd.Series[str]) -> pd.Series[int]:
    """The clusters of whole layers: one that is cut is in that of most of its parts, for a parameter is in one group.

    Args:
        labels: by layer or part, its cluster.
        of: by part, its layer.

    Example:
        >>> labels = pd.Series({"a[q]": 1, "a[k]": 2, "a[v]": 2, "b": 1})
        >>> of_parameters(labels, pd.Series({"a[q]": "a", "a[k]": "a", "a[v]": "a"})).to_dict()
        {'a': 2, 'b': 1}
    """
    layers = [of.get(name, name) for name in labels.index]
    return labels.groupby(layers, sort=False).agg(lambda those: those.mode().iloc[0])


def group_parameters(model: Any, clusters: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """One group a cluster, and a last one for every other trainable parameter; each parameter once.

    Args:
        model: a torch module, or anything with its `named_parameters()`.
        clusters: by the name of each cluster, its layers.

    Raises:
        TypeError: `model` is no module.
        ValueError: no layer of the clusters is a trainable parameter of the model.
    """
    if not hasattr(model, "named_parameters"):
        raise TypeError(f"model={model!r} has no named_parameters(); pass the torch module that the run was of")
    groups: dict[str, dict[str, Any]] = {name: {"params": [], "name": name, "layers": []} for name in clusters}
    others: dict[str, Any] = {"params": [], "name": "others", "layers": []}
    cluster_of = {layer: name for name, layers in clusters.items() for layer in layers}
    names: dict[int, list[str]] = {}  # a tied weight has several, and any of them may be the one that the run has
    parameters: dict[int, Any] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            names.setdefault(id(parameter), []).append(unwrapped(name, model))
            parameters[id(parameter)] = parameter
    for key, parameter in parameters.items():
        name = next((one for one in names[key] if one in cluster_of), names[key][0])
        group = groups[cluster_of[name]] if name in cluster_of else others
        group["params"].append(parameter)
        group["layers"].append(name)
    if not any(group["params"] for group in groups.values()):
        ours, theirs = next(iter(cluster_of), "none"), next((some[0] for some in names.values()), "none")
        raise ValueError(
            f"model={type(model).__name__} has none of the report's layers ({ours}, ...) among its trainable "
            f"parameters ({theirs}, ...); pass the model that the run was of; with aggregate= "
            "(--aggregate) a report has no layers"
        )
    return [*groups.values(), others]
