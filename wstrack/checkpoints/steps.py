"""After which optimizer step each checkpoint of a series was saved: what it says itself, or else its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wstrack.checkpoints.stored import Checkpoint
from wstrack.errors import WstrackError

__all__ = ["Order", "in_order", "natural"]

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}
_STEP = re.compile(
    r"(?<![a-z])(?:global[_-]?step|train[_-]?step|steps?|iter(?:ation)?s?|it|updates?|checkpoint(?:_\d+)?|ckpt|chkpt"
    r"|batch(?:es)?)[-_=:. ]*0*(\d+)(k|m)?(?![a-z0-9])",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"(?<![a-z])(?:epochs?|ep|e)[-_=:. ]*0*(\d+)()(?![0-9])", re.IGNORECASE)
_NUMBER = re.compile(r"(?<!\d)0*(\d+)(k|m)?(?![0-9])", re.IGNORECASE)
_COPY = re.compile(r"(?<![a-z])(last|best|latest|final)(?![a-z])", re.IGNORECASE)  # names of copies that trainers keep
MOST = 10**15  # steps: what says more, or less than none, does not say steps


@dataclass(frozen=True)
class Order:
    """Checkpoints by ascending step.

    Attributes:
        checkpoints, steps: one each.
        told: where the steps are from, for people.
        counted: whether they are numbers of checkpoints, for nothing says a step.
        notes: which were left out, and why.
    """

    checkpoints: tuple[Checkpoint, ...]
    steps: tuple[int, ...]
    told: str
    counted: bool = False
    notes: tuple[str, ...] = ()

    def behind(self, model: Checkpoint) -> Order:
        """The same behind the model that they began with, which is of step 0."""
        steps = tuple(step + self.counted for step in self.steps)  # numbers of checkpoints begin at 0 too
        return replace(self, checkpoints=(model, *self.checkpoints), steps=(min(0, steps[0] - 1), *steps))


def natural(text: str) -> list[tuple[int, str]]:
    """A key by which people sort names with numbers.

    Example:
        >>> sorted(["layer10", "layer9", "a"], key=natural)
        ['a', 'layer9', 'layer10']
    """
    # Numbers may be longer than Python turns into one; without zeros before them the longer is the larger.
    parts = re.split(r"0*([0-9]+)", text)
    return [(len(part), part) if place % 2 else (-1, part) for place, part in enumerate(parts)]


def in_order(checkpoints: Sequence[Checkpoint], *, as_given: bool = False) -> Order:
    """The checkpoints by the step after which each was saved.

    The first of these that all of them have: the step that a checkpoint holds (Lightning's and the HF Trainer's do), a
    step in its name (`checkpoint-500`, `step_1000`, `epoch=3-step=400`, `iter_2k.pth`), an epoch, the one number that
    tells their names apart. Where there is none they are counted, in natural order of their names.

    Args:
        checkpoints: of one run.
        as_given: whether the order is the user's own: then steps that do not ascend in it are no steps, and counted.

    Raises:
        WstrackError: two of one step.
    """
    names = _apart([one.path for one in checkpoints])
    of_names = [_last(_STEP, name) for name in names]
    mixed = zip(checkpoints, of_names, strict=True)
    ways = (
        ("what the checkpoints say", [one.said.get("global_step") for one in checkpoints]),
        *(
            [("what the checkpoints or their names say", [one.said.get("global_step", step) for one, step in mixed])]
            if any("global_step" in one.said for one in checkpoints)
            else []
        ),
        ("the steps in their names", of_names),
        ("the epochs that the checkpoints say", [one.said.get("epoch") for one in checkpoints]),
        ("the epochs in their names", [_last(_EPOCH, name) for name in names]),
        ("the numbers in their names", [_last(_NUMBER, name) for name in names]),
    )
    twins: WstrackError | None = None
    for told, steps in ways[:-1] if as_given else ways:  # a number alone may be of anything: of a size, say
        known = [place for place, step in enumerate(steps) if step is not None and 0 <= step < MOST]
        if len(known) < 2 or any(not _COPY.search(names[place]) for place in set(range(len(steps))) - set(known)):
            continue
        try:
            kept, notes = _distinct([(int(steps[place] or 0), names[place], place) for place in known])
        except WstrackError as error:
            twins = twins or error
            continue
        notes += [f"{names[place]} is left out, for it has no step" for place in set(range(len(steps))) - set(known)]
        if as_given and [place for _, place in kept] != sorted(place for _, place in kept):
            continue
        return Order(
            tuple(checkpoints[place] for _, place in kept), tuple(step for step, _ in kept), told, notes=tuple(notes)
        )
    if twins is not None and not as_given:
        raise twins
    order = list(range(len(names))) if as_given else sorted(range(len(names)), key=lambda place: natural(names[place]))
    counted = "their order as given" if as_given else "the natural order of their names"
    return Order(tuple(checkpoints[place] for place in order), tuple(range(len(order))), counted, counted=True)


def _distinct(found: list[tuple[int, str, int]]) -> tuple[list[tuple[int, int]], list[str]]:
    """(step, place) by ascending step, copies that trainers keep of another left out.

    Raises:
        WstrackError: two of one step.
    """
    kept: dict[int, tuple[str, int]] = {}
    notes = []
    for step, name, place in sorted(found, key=lambda one: (one[0], bool(_COPY.search(one[1])), natural(one[1]))):
        if step not in kept:
            kept[step] = name, place
        elif _COPY.search(name):
            notes.append(f"{name} is left out: {kept[step][0]} is of the same step, {step:,}")
        else:
            raise WstrackError(
                f"{kept[step][0]} and {name} are both of step {step:,}; give those of one run, by a pattern or a list"
            )
    return [(step, place) for step, (_, place) in kept.items()], notes


def _apart(paths: Sequence[Path]) -> list[str]:
    """What tells paths apart: without the folders that all of them are in."""
    parts = [path.absolute().parts for path in paths]
    common = 0
    while all(len(one) > common + 1 and one[common] == parts[0][common] for one in parts):
        common += 1
    return ["/".join(one[common:]) for one in parts]


def _last(pattern: re.Pattern[str], name: str) -> int | None:
    """The number that a pattern finds last in a name."""
    found = list(pattern.finditer(re.sub(r"(\.(safetensors|index|json|pt|pth|bin|ckpt|tar))+$", "", name)))
    return int(found[-1][1]) * _UNITS[(found[-1][2] or "").lower()] if found and len(found[-1][1]) < 16 else None
