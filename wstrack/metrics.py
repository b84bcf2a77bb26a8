"""What is measured: the raw sums that meters take, and each metric as a pure formula over them.

A meter takes raw sums of each layer; a metric turns them into one number a layer. Sums come first because they add up
over the shards of a layer and over the layers of a block; ratios do not. `SUMS` is the one table of them; the columns
of the fused kernels are in its order. What an optimizer says of a layer stands in `RATES`; what is taken of the
products that adapters add to a weight, which nobody forms, in `PRODUCTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "METRICS",
    "NODES",
    "PRODUCTS",
    "RANKS",
    "RATES",
    "SUMS",
    "TWINS",
    "Metric",
    "Sum",
    "compute",
    "is_of_adapters",
    "memories_needed",
    "suited_scale",
    "sums_needed",
]

Array = NDArray[np.float64]
Sums = Mapping[str, Array]
Memory = Literal["previous", "change", "start"]


@dataclass(frozen=True)
class Sum:
    """A number for each element of a layer, added up over all of them.

    Let w be a layer now, p the same layer at the previous sample, u its change before that, and s the layer when
    watching began. A meter adds up blocks in float32, none as long as the 2^24 to which that counts exactly, and their
    sums in float64: so a count of elements is exact.

    Whether w and p differ is told by their values: 0 is -0, NaN is NaN (a weight that is lost does not move), denormals
    count as any other number, and a complex number is NaN where either part is. bf16(w) is what PyTorch makes of w: the
    nearest bfloat16, of two as near the even one; float64 by way of float32, complex numbers part by part.

    Of the two hashes each sum is modulo 2^32 over a layer, or over what of it lies in one place; several of those are
    added up as they are, and taken modulo 2^32 at last (`fingerprint`). How an element is hashed is told in
    `meters/bits.py`.

    Attributes:
        of: what is added up, for people.
        memory: what it compares w with, and a meter must keep: "previous" is p, "change" u as well, "start" s as well.
    """

    of: str
    memory: Memory = "previous"


SUMS: dict[str, Sum] = {
    "abs_change": Sum("abs(w - p)"),
    "abs_previous": Sum("abs(p)"),
    "sq_change": Sum("abs(w - p)^2"),
    "sq_previous": Sum("abs(p)^2"),
    "ratio": Sum("abs(w - p) / abs(p), where p != 0"),
    "nonzero": Sum("1, where p != 0"),
    "abs_current": Sum("abs(w)"),
    "changed": Sum("1, where w != p"),
    "changed_bf16": Sum("1, where bf16(w) != bf16(p)"),
    "dot": Sum("(w - p) * u", memory="change"),
    "sq_last_change": Sum("abs(u)^2", memory="change"),
    "abs_from_start": Sum("abs(w - s)", memory="start"),
    "abs_start": Sum("abs(s)", memory="start"),
    "bits_low": Sum("hash_1(bits of w, its place in the layer), modulo 2^32"),
    "bits_high": Sum("hash_2(bits of w, its place in the layer), modulo 2^32"),
}

RATES: dict[str, str] = {
    "lr": "the learning rate that the layer's parameter group had at the step",
    "weight_decay": "the weight decay that it had",
    "momentum": "m: b1 of AdamW, the momentum of SGD; not a number of others and of their variants",
    "group": "the number of that group among all that have layers, from 0",
    "plain": "1 of SGD, whose changes are as large as its gradients; 0 of others",
    "gain": "what a gradient moves in all steps together, in learning rates: 1 of AdamW, 1 / (1 - m) of SGD",
    "told": "1",
}
"""What no meter takes: it is read from the optimizer. Added up over the processes that hold a layer, as sums are."""

PRODUCTS: dict[str, str] = {
    "sq_adapters": "norm2(D)^2, D = s B A added up over the adapters of a weight that are in use",
    "sq_adapters_change": "norm2(D - previous D)^2",
    "sq_adapted": "norm2(W)^2, of the weight that they adapt, as it was without them when watching began",
}
"""What is taken of a weight that adapters add to, from their factors: of a matrix that nobody ever forms."""

NODES: dict[str, str] = {
    "nodes": "1, for each node that the layer writes",
    "strengths": "s, the strength of the node: the weights of all its links and its bias, with their signs",
    "sq_deviations": "(s - the mean of all s)^2",
    "sq_unbalanced": "norm2(V^T V - W W^T)^2, V the weight that reads the nodes which W writes",
}
"""What is taken of the nodes that a layer writes, from its weight and those that read them (arXiv 2110.02628)."""

RANKS: dict[str, str] = {"replicas_apart": "1 for each process in which the bits of w are not those of the first"}
"""What processes tell each other that each hold the whole model, as those of DistributedDataParallel do."""

TWINS: dict[str, str] = {
    "abs_apart": "abs(v - w), v and w of two runs at the same step",
    "abs_own": "abs(w)",
    "sq_apart": "abs(v - w)^2",
    "sq_own": "abs(w)^2",
    "differing": "1, where v != w",
    "differs": "1 if the fingerprints of v and w are not the same",
}
"""What is taken of a layer of two runs at one step (`wstrack.diff`), as `SUMS` is of one run at two steps."""


def _share(part: Array, whole: Array) -> Array:
    """The ratio part / whole; where whole is 0: 0 if nothing changed, +inf otherwise."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share: Array = np.divide(part, whole)
    zero = whole == 0
    if zero.any():
        share[zero & (part == 0)] = 0.0
    return share


def _equilibrium(sums: Sums, numel: Array) -> Array:
    rate, decay, momentum, gain = (
        np.divide(sums[name], sums["told"]) for name in ("lr", "weight_decay", "momentum", "gain")
    )
    found: Array = np.sqrt(2 * rate * decay * gain * (1 - momentum) / (1 + momentum))
    return found


def _cosine(sums: Sums, numel: Array) -> Array:
    lengths = np.sqrt(sums["sq_change"]) * np.sqrt(sums["sq_last_change"])
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine: Array = np.clip(sums["dot"] / lengths, -1.0, 1.0)
    return cosine


@dataclass(frozen=True)
class Metric:
    """A number for each layer, from raw sums.

    Attributes:
        formula: in the notation of `Sum`.
        words: the same in words, for a page.
        sums: the raw sums that it needs.
        value: (sums by name, number of elements) -> value; all of shape (..., layers), float64.
        log: whether its values are positive and best seen on a log scale.
        charted: whether its course is something to look at: trackers get a series of it.
    """

    formula: str
    words: str
    sums: tuple[str, ...]
    value: Callable[[Sums, Array], Array]
    log: bool = True
    charted: bool = True


METRICS: dict[str, Metric] = {
    "rwc": Metric(
        "sum abs(w - p) / sum abs(p)",
        "relative weight change: the sum of |new − old| over a layer's weights, divided by the sum of |old|",
        ("abs_change", "abs_previous"),
        lambda sums, numel: _share(sums["abs_change"], sums["abs_previous"]),
    ),
    "rwc_l2": Metric(
        "norm2(w - p) / norm2(p)",
        "relative weight change in the Euclidean norm: ‖new − old‖ of a layer's weights, divided by ‖old‖",
        ("sq_change", "sq_previous"),
        lambda sums, numel: _share(np.sqrt(sums["sq_change"]), np.sqrt(sums["sq_previous"])),
    ),
    # Where every p is 0 the mean is over nothing: 0 if nothing changed, +inf otherwise, as for the other ratios.
    "rwc_elementwise": Metric(
        "mean of abs(w - p) / abs(p) over elements with p != 0",
        "elementwise relative weight change: the mean of |new − old| / |old| over a layer's weights",
        ("ratio", "nonzero", "abs_change"),
        lambda sums, numel: np.where(
            sums["nonzero"] > 0,
            sums["ratio"] / np.maximum(sums["nonzero"], 1.0),
            _share(sums["abs_change"], np.zeros_like(sums["abs_change"])),
        ),
    ),
    "norm": Metric(
        "sum abs(w) / numel",
        "size: the mean of |weight| over a layer's weights",
        ("abs_current",),
        lambda sums, numel: np.divide(sums["abs_current"], np.maximum(numel, 1.0)),
    ),
    # A direction is not defined where either change is zero: NaN.
    "cosine": Metric(
        "cos(w - p, previous w - p)",
        "direction: the cosine of a layer's change with the one before: −1 turns, 1 keeps on",
        ("dot", "sq_change", "sq_last_change"),
        value=_cosine,
        log=False,
    ),
    "distance": Metric(
        "sum abs(w - s) / sum abs(s), s = w when watching began",
        "distance from the start: the sum of |new − first| over a layer's weights, by the sum of |first|",
        ("abs_from_start", "abs_start"),
        lambda sums, numel: _share(sums["abs_from_start"], sums["abs_start"]),
    ),
    "changed": Metric(
        "number of elements with w != p / numel",
        "share that changed: of a layer's weights, how many are another number than before",
        ("changed",),
        lambda sums, numel: np.divide(sums["changed"], np.maximum(numel, 1.0)),
    ),
    "changed_bf16": Metric(
        "number of elements with bf16(w) != bf16(p) / numel",
        "share that changed in bfloat16: of a layer's weights, how many are another number than before once rounded",
        ("changed_bf16",),
        lambda sums, numel: np.divide(sums["changed_bf16"], np.maximum(numel, 1.0)),
    ),
    "fingerprint": Metric(
        "the last 53 of 64 bits of a hash over the bit patterns of w, each with its place in the layer",
        "fingerprint: a number that is another one if any bit of the layer's weights is",
        ("bits_low", "bits_high"),
        lambda sums, numel: sums["bits_low"] % 2.0**32 + 2.0**32 * (sums["bits_high"] % 2.0**21),
        log=False,
        charted=False,
    ),
    "replicas": Metric(
        "number of processes in which the bits of w are not those of the first",
        "replicas apart: in how many processes a layer does not hold the same bits as in the first one",
        ("bits_low", "bits_high", "replicas_apart"),
        lambda sums, numel: sums["replicas_apart"],
        log=False,
    ),
    "strength": Metric(
        "mean s over the nodes that the layer writes, s = the sum of the weights of all links of a node, and its bias",
        "strength: the mean over the layer's nodes of the sum of all weights that lead to a node and from it",
        ("nodes", "strengths"),
        lambda sums, numel: np.divide(sums["strengths"], sums["nodes"]),
        log=False,
    ),
    "fluctuation": Metric(
        "standard deviation of s over the nodes that the layer writes",
        "fluctuation: how unlike the strengths of the layer's nodes are, as a standard deviation",
        ("nodes", "sq_deviations"),
        lambda sums, numel: np.sqrt(np.divide(sums["sq_deviations"], sums["nodes"])),
    ),
    "balance": Metric(
        "norm2(V^T V - W W^T) / sqrt(nodes), V the linear weight that reads the nodes which W writes",
        "balance: how far this linear layer and the next are from balanced; |λ| of a network that is λ-balanced",
        ("nodes", "sq_unbalanced"),
        lambda sums, numel: np.sqrt(np.divide(sums["sq_unbalanced"], sums["nodes"])),
    ),
    "lr": Metric(
        "the learning rate of the layer's parameter group",
        "learning rate: that of the layer's parameter group at the sampled step",
        ("lr", "group", "plain", "told"),
        lambda sums, numel: np.divide(sums["lr"], sums["told"]),
    ),
    "weight_decay": Metric(
        "the weight decay of the layer's parameter group",
        "weight decay: that of the layer's parameter group at the sampled step",
        ("weight_decay", "told"),
        lambda sums, numel: np.divide(sums["weight_decay"], sums["told"]),
    ),
    "lora": Metric(
        "norm2(D) / norm2(W), D = s B A of the adapters of W",
        "size of the adapter: ‖s B A‖ of what adapters add to a weight, divided by ‖weight‖",
        ("sq_adapters", "sq_adapted"),
        lambda sums, numel: _share(np.sqrt(sums["sq_adapters"]), np.sqrt(sums["sq_adapted"])),
    ),
    "lora_change": Metric(
        "norm2(D - previous D) / norm2(W), D = s B A of the adapters of W",
        "change by the adapter: ‖new − old‖ of what adapters add to a weight, divided by ‖weight‖",
        ("sq_adapters_change", "sq_adapted"),
        lambda sums, numel: _share(np.sqrt(sums["sq_adapters_change"]), np.sqrt(sums["sq_adapted"])),
    ),
    "apart": Metric(
        "sum abs(v - w) / sum abs(w), v and w of two runs at the same step",
        "distance of two runs: the sum of |second − first| over a layer's weights at one step, by the sum of |first|",
        ("abs_apart", "abs_own"),
        lambda sums, numel: _share(sums["abs_apart"], sums["abs_own"]),
    ),
    "apart_l2": Metric(
        "norm2(v - w) / norm2(w), v and w of two runs at the same step",
        "distance of two runs in the Euclidean norm: ‖second − first‖ of a layer at the same step, divided by ‖first‖",
        ("sq_apart", "sq_own"),
        lambda sums, numel: _share(np.sqrt(sums["sq_apart"]), np.sqrt(sums["sq_own"])),
    ),
    "differing": Metric(
        "number of elements with v != w / numel, v and w of two runs at the same step",
        "share that differs between two runs: of a layer's weights, how many are not the same number in both",
        ("differing",),
        lambda sums, numel: np.divide(sums["differing"], np.maximum(numel, 1.0)),
    ),
    "differs": Metric(
        "1 if the fingerprints of a layer in two runs are not the same at a step, else 0",
        "whether two runs differ: 1 if a layer does not hold the same bits in both at a step, else 0",
        ("differs",),
        lambda sums, numel: sums["differs"],
        log=False,
    ),
    # Kosson, Messmer and Jaggi, arXiv 2305.17212: AdamW sqrt(2 lr wd (1 - m) / (1 + m)), SGD sqrt(2 lr wd / (1 + m)).
    "equilibrium": Metric(
        "sqrt(2 lr wd gain (1 - m) / (1 + m)), of AdamW and SGD",
        "expected change: the ‖new − old‖ / ‖old‖ of a step that weight decay brings layers to that are normalised",
        ("lr", "weight_decay", "momentum", "gain", "told"),
        _equilibrium,
    ),
}


def is_of_adapters(name: str) -> bool:
    """Whether a metric or a raw sum is of what adapters add to a weight; all others are of a weight itself.

    Example:
        >>> is_of_adapters("lora"), is_of_adapters("sq_adapted"), is_of_adapters("rwc"), is_of_adapters("mine")
        (True, True, False, False)
    """
    return name in PRODUCTS or (name in METRICS and set(METRICS[name].sums) <= set(PRODUCTS))


def sums_needed(metrics: Iterable[str]) -> tuple[str, ...]:
    """The raw sums that these metrics need, each once: of `SUMS`, `RATES` and `PRODUCTS`.

    Raises:
        ValueError: a metric that there is not.

    Example:
        >>> sums_needed(["rwc", "norm"])
        ('abs_change', 'abs_previous', 'abs_current')
    """
    needed: dict[str, None] = {}
    for name in metrics:
        if name not in METRICS:
            raise ValueError(f"metrics: unknown metric {name!r}; there are {', '.join(METRICS)}")
        needed.update(dict.fromkeys(METRICS[name].sums))
    return tuple(needed)


def memories_needed(sums: Iterable[str]) -> set[Memory]:
    """What a meter must keep of a layer for these raw sums.

    Example:
        >>> sorted(memories_needed(["abs_change", "dot"]))
        ['change', 'previous']
    """
    return {"previous", *(SUMS[name].memory for name in sums)}


def compute(metrics: Iterable[str], sums: Sums, numel: Array) -> dict[str, Array]:
    """The metrics of every layer.

    Args:
        metrics: their names.
        sums: float64 arrays of shape (..., layers), at least those of `sums_needed(metrics)`.
        numel: elements of each layer, shape (layers,).

    Example:
        >>> sums = {"abs_change": np.array([1.0, 0.0, 2.0]), "abs_previous": np.array([10.0, 0.0, 0.0])}
        >>> compute(["rwc"], sums, np.ones(3))["rwc"]
        array([0.1, 0. , inf])
    """
    return {name: METRICS[name].value(sums, numel) for name in metrics}


def suited_scale(values: Array, metric: str) -> Literal["log10", "linear"]:
    """On which scale to look at values: log10 for a size or a ratio; linear for a cosine, and if any is negative.

    Example:
        >>> values = np.array([0.1, 0.01])
        >>> suited_scale(values, "rwc"), suited_scale(-values, "mine"), suited_scale(values, "cosine")
        ('log10', 'linear', 'linear')
    """
    signed = metric in METRICS and not METRICS[metric].log
    return "linear" if signed or (values < 0).any() or not np.any(values > 0) else "log10"
