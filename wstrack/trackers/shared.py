"""Which series a tracker gets of a run; the recording has them all.

Most metrics go layer by layer, of the layers that have them: a metric of adapters is of the weights that they add to.
Of metrics that layers share (`lr`) a tracker gets the least and the largest. Layers of one parameter group have one
learning rate. A series a layer would double a tracker's keys and say the same again and again; which layers share one
may change while training, so there are no keys for groups either. Of a metric that is nothing to look at
(`fingerprint`) a tracker gets nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wstrack.metrics import METRICS, RATES

if TYPE_CHECKING:
    from wstrack.runs.manifest import Manifest

__all__ = ["by_layer", "left_to_recording", "numbers_of", "series_keys", "width_of"]

_ENDS = ("least", "largest")


def series_keys(metric: str, keys: Sequence[str], has: NDArray[np.bool_]) -> list[str]:
    """The keys of a metric's series in a tracker, given those of the layers (`layer_keys`) and which `has` it.

    Example:
        >>> keys, both = ["0/weight", "2/weight"], np.array([True, True])
        >>> series_keys("rwc", keys, both), series_keys("lora", keys, ~both), series_keys("lr", keys, both)
        (['rwc/0/weight', 'rwc/2/weight'], [], ['lr/least', 'lr/largest'])
    """
    if not _is_charted(metric):
        return []
    return [f"{metric}/{key}" for key in (_ENDS if _is_shared(metric) else compress(keys, has))]


def numbers_of(metric: str, values: NDArray[np.float64], has: NDArray[np.bool_]) -> list[float]:
    """The numbers under these keys, given each layer's; of a layer without one nothing is told.

    Example:
        >>> numbers_of("lr", np.array([0.1, np.nan, 0.01, 0.1]), np.array([True, False, True, True]))
        [0.01, 0.1]
    """
    if not _is_charted(metric):
        return []
    told = np.array([np.fmin.reduce(values), np.fmax.reduce(values)]) if _is_shared(metric) else values[has]
    numbers: list[float] = told.tolist()
    return numbers


def width_of(manifest: Manifest) -> int:
    """How many numbers a tracker gets of a sample layer by layer."""
    return sum(int(manifest.has(metric).sum()) for metric in by_layer(manifest.metrics))


def by_layer(metrics: Iterable[str]) -> list[str]:
    """Those of some metrics that a tracker has layer by layer, each once."""
    return [metric for metric in dict.fromkeys(metrics) if not _is_shared(metric) and _is_charted(metric)]


def left_to_recording(metrics: Iterable[str], *, parts: object = None) -> list[str]:
    """What to say of a run that was read from a tracker's own series; nothing if they are all that was recorded.

    Args:
        metrics: of the run.
        parts: what its manifest says of parts of layers (`origin["parts"]`).

    Example:
        >>> left_to_recording(["rwc", "lr"])
        ['lr of each layer is in the recording only; the tracker has the least and the largest']
    """
    names = " and ".join(metric for metric in dict.fromkeys(metrics) if _is_shared(metric))
    notes = [f"{names} of each layer is in the recording only; the tracker has the least and the largest"] * bool(names)
    notes += [f"{metric} is in the recording only" for metric in dict.fromkeys(metrics) if not _is_charted(metric)]
    if parts == "summarised":
        what = "the least, the median and the largest of them, and the share that is 0"
        notes.append(f"each part of a layer is in the recording only; the tracker has {what}")
    return notes


def _is_charted(metric: str) -> bool:
    return metric not in METRICS or METRICS[metric].charted


def _is_shared(metric: str) -> bool:
    return metric in METRICS and not set(METRICS[metric].sums).isdisjoint(RATES)
