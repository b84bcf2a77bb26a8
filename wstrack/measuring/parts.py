"""Parts of layers: how a weight is cut along a dimension, and where in this process's memory each part lies.

A part is what people think of as a layer of its own: an expert of a stacked weight, q, k or v of a fused projection, a
head. Which layers are cut, and how, is told in `cuts.py`; the meters measure the pieces that come of it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cut", "part_name"]


@dataclass(frozen=True)
class Cut:
    """How a layer is cut along one of its dimensions.

    Args:
        into: a number of parts of equal size, or the size of each; they fill the dimension.
        dim: the dimension; 0 = rows, as of the outputs of a Linear layer.
        labels: a name for each of `into`, "0", "1", ... by default. What is named alike is one part.
        repeat: how often all of `into` come, one after the other: `Cut((64, 64, 64), labels=tuple("qkv"), repeat=12)`
            is q, k and v of the first head, then those of the second, ...; of a number of parts, the size of each is
            what is left of the dimension for one time.

    Raises:
        ValueError: sizes below 1, or labels that are not as many.

    Example:
        >>> Cut(2).runs(8), Cut((1, 1), labels=("q", "k"), repeat=2).runs(4)
        ((('0', 4), ('1', 4)), (('q', 1), ('k', 1), ('q', 1), ('k', 1)))
    """

    into: int | tuple[int, ...]
    dim: int = 0
    labels: tuple[str, ...] | None = None
    repeat: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.into, int):
            object.__setattr__(self, "into", tuple(self.into))
        sizes = (self.into,) if isinstance(self.into, int) else self.into
        if not sizes or min(*sizes, self.repeat, 1) < 1:
            raise ValueError(f"{self}: into= and repeat= count from 1")
        count = self.into if isinstance(self.into, int) else len(sizes)
        labels = tuple(map(str, range(count) if self.labels is None else self.labels))
        if len(labels) != count:
            raise ValueError(f"{self}: {count} parts have {len(labels)} labels; give one for each, or none")
        object.__setattr__(self, "labels", labels)

    def runs(self, size: int) -> tuple[tuple[str, int], ...]:
        """What follows one another along a dimension of this size: the label and the size of each.

        Raises:
            ValueError: it does not fill the dimension.
        """
        assert self.labels is not None
        count = self.into if isinstance(self.into, int) else len(self.into)
        sizes = (size // (count * self.repeat),) * count if isinstance(self.into, int) else self.into
        if sum(sizes) * self.repeat != size or not all(sizes):
            of = f"{count} equal parts" if isinstance(self.into, int) else " + ".join(map(str, sizes))
            times = f", {self.repeat} times," if self.repeat > 1 else ""
            raise ValueError(f"{of}{times} do not fill {size}")
        return tuple(zip(self.labels, sizes, strict=True)) * self.repeat


def part_name(layer: str, label: str) -> str:
    """What a part of a layer is called.

    Example:
        >>> part_name("h.0.attn.c_attn.weight", "q")
        'h.0.attn.c_attn.weight[q]'
    """
    return f"{layer}[{label}]"
