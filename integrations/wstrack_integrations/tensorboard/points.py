"""Points of a tag, and the outer join of many tags by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Points", "Table", "joined"]


@dataclass(frozen=True)
class Points:
    """What was logged under one tag, in the order of logging: steps (int64) and as many numbers (float64)."""

    steps: NDArray[np.int64]
    numbers: NDArray[np.float64]

    def where(self, stand: NDArray[np.bool_]) -> Points:
        """Those for which `stand` is true."""
        return Points(self.steps[stand], self.numbers[stand])


def joined(pieces: Sequence[Points]) -> Points:
    """The points of one tag over several files, in their order."""
    return Points(
        np.concatenate([np.empty(0, np.int64), *(points.steps for points in pieces)]),
        np.concatenate([np.empty(0), *(points.numbers for points in pieces)]),
    )


@dataclass(frozen=True)
class Table:
    """Columns of points side by side: numbers (float64, NaN = not logged) and logged (bool), both steps x columns."""

    steps: NDArray[np.int64]
    numbers: NDArray[np.float64]
    logged: NDArray[np.bool_]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, columns: Sequence[Points], *, also: NDArray[np.int64] | None = None) -> Table:
        """The outer join of `columns` by step, with rows for the steps `also`; the last of equal steps stands."""
        # Most columns have the same steps: sort and look up each distinct sequence once.
        distinct = {points.steps.tobytes(): points.steps for points in columns}
        steps = np.unique(np.concatenate([np.empty(0, np.int64) if also is None else also, *distinct.values()]))
        rows = {key: np.searchsorted(steps, logged) for key, logged in distinct.items()}
        numbers = np.full((len(steps), len(columns)), np.nan, order="F")
        logged = np.zeros(numbers.shape, np.bool_, order="F")
        for column, points in enumerate(columns):
            where = rows[points.steps.tobytes()]
            numbers[where, column] = points.numbers
            logged[where, column] = True
        again = sum(len(points.steps) for points in columns) - int(logged.sum())
        note = f"{again} values were logged again at a step already there (a resumed run); the later ones stand"
        return cls(steps, numbers, logged, (note,) if again else ())
