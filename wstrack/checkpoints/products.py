"""How much saved adapters add to each weight of the model that they are for: the metrics `lora` and `lora_change`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wstrack.checkpoints.adapters import Adapted
from wstrack.checkpoints.opening import open_checkpoint
from wstrack.checkpoints.stored import Checkpoint, Stored
from wstrack.errors import WstrackError
from wstrack.measuring.adapters import Product
from wstrack.measuring.meters.products import ProductMeter

__all__ = ["adapted_in", "model_of", "take_products"]


def model_of(opened: Sequence[Checkpoint], *, as_given: bool, wanted: bool) -> Checkpoint | None:
    """The model that a series of adapters is for, which is of no step of its own; None if it is no such series.

    Args:
        opened: the checkpoints.
        as_given: whether their order is the user's own: then the model may come first.
        wanted: whether it is needed: then it is looked for where the adapters say it is.

    Raises:
        WstrackError: it is needed, and not there.
    """
    if as_given and not opened[0].adapter and all(one.adapter for one in opened[1:]):
        return opened[0]
    if not wanted or not all(one.adapter for one in opened):
        return None
    said = str(opened[0].adapter.get("base_model_name_or_path") or "")
    if said and Path(said).expanduser().exists():
        return open_checkpoint(Path(said).expanduser())
    paths = ",".join(one.path.name for one in opened[:2])
    raise WstrackError(
        f"metrics: 'lora' is by the norms of the weights that adapters add to, and their model, {said or 'unnamed'}, "
        f"is not here; give it first, as in checkpoints:MODEL,{paths}"
    )


def adapted_in(tensors: Sequence[Sequence[Stored | None]], *, wanted: bool) -> list[int]:
    """The layers that adapters add to, by number.

    Args:
        tensors: for each layer, what each checkpoint holds of it.
        wanted: whether there must be some, of which it can be told how much is added.

    Raises:
        ValueError: there are none; or what is added is no product.
    """
    found = [layer for layer, held in enumerate(tensors) if any(isinstance(one, Adapted) for one in held)]
    if wanted and not found:
        raise ValueError(
            "metrics: 'lora' is of adapters of peft over their model, and there are none in these checkpoints; leave "
            "'lora' and 'lora_change' out: rwc and distance tell how much each weight changed"
        )
    held = [one for layer in found for one in tensors[layer] if isinstance(one, Adapted)]
    if wanted and any(one.magnitude is not None for one in held):
        raise ValueError(
            "metrics: what DoRA adds to a weight is not s B A, and 'lora' is not known for it; leave 'lora' and "
            "'lora_change' out: rwc and distance tell how much each weight changed"
        )
    return found


def take_products(
    tensors: Sequence[Sequence[Stored | None]], squares: NDArray[np.float64], sums: Sequence[str]
) -> NDArray[np.float64]:
    """The raw sums (`wstrack.metrics.PRODUCTS`) of adapted weights, in each checkpoint but the first.

    Args:
        tensors: for each of these weights, what each checkpoint holds of it.
        squares: of their norms without adapters.
        sums: names.

    Returns:
        (checkpoints - 1, weights, sums)
    """
    weights = [_Saved(tuple(held), float(square)) for held, square in zip(tensors, squares, strict=True)]
    meter = ProductMeter(weights, sums)
    meter.snapshot()
    taken = []
    for place in range(1, len(tensors[0])):
        for weight in weights:
            weight.place = place
        taken.append(meter.sample().numpy())
    return np.stack(taken)


@dataclass
class _Saved:
    """An adapted weight as one checkpoint has it after the other."""

    held: tuple[Stored | None, ...]
    square: float
    place: int = 0

    def products(self) -> dict[str, Product] | None:
        """As of a weight in a model: what the one adapter adds that a checkpoint has."""
        one = self.held[self.place]
        if one is None or (isinstance(one, Adapted) and one.magnitude is not None):
            return None
        if not isinstance(one, Adapted):
            return {}
        return {"saved": Product(one.left.matrix()[None], one.right.matrix()[None], one.scale)}
