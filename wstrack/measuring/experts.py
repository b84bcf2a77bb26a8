"""Stacked experts: which weights hold one expert behind the other."""

from __future__ import annotations

import re

from wstrack.measuring.parts import Cut
from wstrack.measuring.place import Place

__all__ = ["experts"]

_COUNTS = (
    "num_experts", "num_local_experts", "n_routed_experts", "num_routed_experts", "moe_num_experts", "n_experts",
)  # fmt: skip
_NAMED = re.compile(r"(^|[._])experts?([._\d]|$)", re.IGNORECASE)
_ALONE = re.compile(r"shared|router|gate$|experts?[._]\d", re.IGNORECASE)


def experts(place: Place) -> Cut | None:
    """The cut of a weight into experts; None if it has no stacked ones.

    It has some if its module or one around it is named for experts and its first dimension is their number, which the
    module or a config tells: [experts, ..., ...], as in today's Transformers, torchtitan's GroupedExperts and most
    others, and biases [experts, ...]. The rows of all experts in one matrix (DBRX, MegaBlocks) and the factors of
    peft's adapters of stacked weights are cut too. Routers, shared experts and experts that are modules of their own
    are not.
    """
    shape, module = place.layer.shape, place.module
    if place.factor:  # peft: A has the ranks of each expert one after the other, B the experts of each rank
        count = getattr(module, "num_experts", 1)
        return Cut(count) if place.factor == "A" else Cut(count, dim=1, repeat=shape[1] // count)
    path, kind = place.layer.name.rpartition(".")[0], type(module).__name__
    if not (_NAMED.search(path) or "Expert" in kind) or _ALONE.search(path) or re.search("Shared|Router|Gate", kind):
        return None
    if len(shape) not in (2, 3) or place.stock:
        return None
    counts = place.told(*_COUNTS)
    if shape[0] in counts or (not counts and len(shape) == 3):
        return Cut(shape[0])
    if len(shape) == 2 and module is place.owners[0]:
        return next((Cut(count) for count in reversed(counts) if shape[0] % count == 0), None)
    return None
