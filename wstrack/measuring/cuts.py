"""Which layers of a model are cut into parts, and how."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from torch import nn

from wstrack.measuring.attention import heads, looks_fused, looks_projecting, qkv
from wstrack.measuring.experts import experts
from wstrack.measuring.parts import Cut
from wstrack.measuring.place import Place, places
from wstrack.runs.manifest import Layer

__all__ = ["How", "Parts", "cuts", "stacked_experts"]

log = logging.getLogger("wstrack")

Word = Literal["experts", "qkv", "heads"]
How = Cut | int | Sequence[int] | Mapping[str, int] | Word
Parts = Word | Sequence[Word] | Mapping[str, How] | Callable[[str, nn.Parameter], How | None]
_Way = Callable[[Place], Cut | None]

# By word: what cuts, what it looks for, and what looks like it though nothing may tell how to cut it.
_WORDS: dict[str, tuple[_Way, str, Callable[[Place], bool]]] = {
    "experts": (
        experts,
        "a stacked weight of several experts; those that are modules of their own are layers as they are",
        lambda place: False,
    ),
    "qkv": (
        qkv,
        "a fused projection; q, k and v that are projections of their own are layers as they are",
        looks_fused,
    ),
    "heads": (heads, "a projection of an attention", looks_projecting),
}


def cuts(model: nn.Module, parts: Parts, layers: Sequence[Layer]) -> dict[str, Cut]:
    """How layers are cut into parts, by name and in the model's order; only those that are cut.

    Args:
        model: any module; a wrapped one too.
        parts: "experts", "qkv" or "heads" (docs/parts.md has what they cut), or several of these, of which the first
            that fits a layer counts; a mapping from a regular expression, searched for in the layers' names, to a
            cut; or a callable (name, parameter) -> a cut, or None for a layer that is not cut. A cut is a `Cut`, a
            number of equal parts or their sizes along dimension 0, a mapping from label to size, or one of the words.
        layers: the model's layers, as `select` gives them.

    Raises:
        ValueError: a word or an expression cuts no layer, an expression is not one, or a cut does not fill its layer.
        TypeError: `parts`, or a cut in it, is none of these.

    Example:
        >>> from wstrack.measuring.layers import select
        >>> model = nn.MultiheadAttention(8, num_heads=2)
        >>> found = cuts(model, "qkv", [layer for layer, _ in select(model)])
        >>> {name: cut.runs(24) for name, cut in found.items()}
        {'in_proj_weight': (('q', 8), ('k', 8), ('v', 8))}
    """
    there = places(model, layers)
    found: dict[str, Cut] = {}
    for said, wanted, way in _ways(parts):
        fits = {place.layer.name: cut for place in there if (cut := way(place)) is not None}
        left = _left(said, [place for place in there if place.layer.name not in fits])
        if not fits:
            some = ", ".join(f"{layer.name} {list(layer.shape)}" for layer in layers[:5])
            raise ValueError(
                f"parts: {said!r} cuts nothing; {left or f'no layer is {wanted}'}. The layers are {some}, ..."
            )
        if left:
            log.warning("parts: %r leaves layers whole; %s", said, left)
        found = {**fits, **found}
    whole = {place.layer.name: _filling(found[place.layer.name], place) for place in there if place.layer.name in found}
    return {name: cut for name, cut in whole.items() if cut is not None}


def stacked_experts(model: nn.Module, layers: Sequence[Layer]) -> str | None:
    """What parts="experts" would do, for who has not said it; None if the model has no stacked experts.

    Example:
        >>> from wstrack.measuring.layers import select
        >>> stacked_experts(nn.Linear(2, 2), [layer for layer, _ in select(nn.Linear(2, 2))]) is None
        True
    """
    there = [(place.layer, cut) for place in places(model, layers) if (cut := experts(place)) is not None]
    count = sum(len({label for label, _ in cut.runs(layer.shape[cut.dim])}) for layer, cut in there)
    if count <= len(there):
        return None
    return (
        f"{len(there)} layers hold stacked experts and are measured whole, all experts together; "
        f'parts="experts" measures each expert too, {count} parts in all'
    )


def _ways(parts: Parts) -> list[tuple[str, str, _Way]]:
    """What is asked for: how it is said, what it looks for, and what cuts."""
    if isinstance(parts, str):
        parts = [parts]
    if isinstance(parts, Mapping):
        return [(said, "called like that, or fits its cut", _named(said, _way(how))) for said, how in parts.items()]
    if callable(parts):
        ask = parts
        return [("the callable", "one for which it returns a cut", lambda place: _asked(ask, place))]
    if not isinstance(parts, Sequence) or not parts or not all(isinstance(word, str) for word in parts):
        raise TypeError(
            f"parts={parts!r}: pass 'experts', 'qkv' or 'heads', a list of them, a mapping {{expression: cut}}, or "
            "a callable (name, parameter) -> cut or None"
        )
    return [(word, _WORDS[word][1] if word in _WORDS else "", _way(word)) for word in parts]


def _way(how: object) -> _Way:
    """What cuts, of a cut as it may be given."""
    if isinstance(how, str):
        if how not in _WORDS:
            raise ValueError(
                f"parts: {how!r} is none of 'experts', 'qkv', 'heads'; for others give {{expression: cut}}"
            )
        return _WORDS[how][0]
    if isinstance(how, Mapping):
        cut = Cut(tuple(how.values()), labels=tuple(map(str, how)))
    elif isinstance(how, Cut):
        cut = how
    elif isinstance(how, int) or (isinstance(how, Sequence) and all(isinstance(size, int) for size in how)):
        cut = Cut(how if isinstance(how, int) else tuple(how))
    else:
        raise TypeError(
            f"parts: {how!r} is no cut; give a number of equal parts, the size of each, a mapping from label to size, "
            "a Cut, or one of 'experts', 'qkv', 'heads'"
        )
    return lambda place: cut


def _named(expression: str, way: _Way) -> _Way:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ValueError(f"parts: {expression!r} is not a regular expression ({error})") from error
    return lambda place: way(place) if pattern.search(place.layer.name) else None


def _asked(ask: Callable[[str, nn.Parameter], How | None], place: Place) -> Cut | None:
    how = ask(place.layer.name, place.weight)
    return None if how is None else _way(how)(place)


def _left(word: str, places: Sequence[Place]) -> str:
    """What a word leaves whole though it looks like what the word is for, and what to do; "" if nothing."""
    looks = [place for place in places if word in _WORDS and _WORDS[word][2](place)]
    if not looks:
        return ""
    layer, kind = looks[0].layer, type(looks[0].owners[0]).__name__
    which = f"{layer.name} {list(layer.shape)} of {kind}" + f" and {len(looks) - 1} more" * (len(looks) > 1)
    unknown = "the order of q, k and v" if word == "qkv" else "the number of heads"
    return (
        f"{unknown} is not known of {which}: say how to cut with parts={{regular expression: cut}}, see docs/parts.md"
    )


def _filling(cut: Cut, place: Place) -> Cut | None:
    """A cut with its dimension counted from the first; None if it makes one part only.

    Raises:
        ValueError: it does not fill the layer.
    """
    name, shape = place.layer.name, place.layer.shape
    if not -len(shape) <= cut.dim < len(shape):
        raise ValueError(
            f"parts: {name} {list(shape)} has no dimension {cut.dim}; narrow the expression, or cut another"
        )
    cut = replace(cut, dim=cut.dim % len(shape))
    try:
        runs = cut.runs(shape[cut.dim])
    except ValueError as error:
        raise ValueError(
            f"parts: {name} {list(shape)} cannot be cut so along dimension {cut.dim}: {error}; give sizes that do, "
            "another dim=, or an expression that does not find this layer"
        ) from error
    return cut if len({label for label, _ in runs}) > 1 else None
